"""Tracking of a work directory, or of a single file: read, store, then commit.

Bytes are durable before any row refers to them. One transaction commits everything that a call
found. A crash in between leaves packs that nothing refers to, never a row without its bytes.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from index.commit.committer import Committer
from index.commit.plan import CommitRequest
from index.commit.write import CommitConflict, retry_on_conflict
from index.decorators import relaxed_gc
from index.domain.annotations import Annotations
from index.domain.changes import compare_scan
from index.domain.run_state import Observed, signature_of
from index.errors import WorkDirectoryError
from index.scan.content import opened
from index.scan.coverage import Coverage
from index.scan.ingest import observe
from index.scan.scanner import Scan

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cas.digest import Digest
    from index.context import StoreContext
    from index.domain.changes import Change
    from index.domain.names import RunKey
    from index.domain.provenance import Provenance
    from index.domain.run_state import RunState
    from index.domain.snapshots import FileVersion, Progress, Snapshot
    from index.scan.content import Content, Source

__all__ = ["PutRequest", "TrackRequest", "Tracker"]

_ATTEMPTS: Final = 5
"""Attempts at a scan if garbage collection deletes blobs that it relies on. Each failure needs a
collection that finishes during the scan."""


@dataclass(frozen=True, slots=True)
class TrackRequest:
    """The arguments of a scan."""

    key: RunKey
    root: str
    provenance: Provenance
    scope: Sequence[str] | None = None
    ignore: Sequence[str] = ()
    progress: Callable[[Progress], None] | None = None


@dataclass(frozen=True, slots=True)
class PutRequest:
    """The arguments of a put."""

    key: RunKey
    path: str
    content: Content
    provenance: Provenance
    file_type: str | None = None
    is_final_output: bool | None = None
    meta: object = None


class Tracker:
    """Tracks work directories and single files. Safe for use by several threads."""

    def __init__(self, context: StoreContext) -> None:
        self._context = context
        self._committer = Committer(context)

    @relaxed_gc()
    def track(self, request: TrackRequest, cached: RunState | None) -> tuple[Snapshot, RunState]:
        """Scan a work directory and commit the changes.

        Parameters
        ----------
        cached
            The state that an earlier call returned, if there was one.

        Raises
        ------
        WorkDirectoryError
            When the directory can't be listed, or is the store's own.
        UnsettledScanError
            When garbage collection deleted blobs that the scan relied on, at every attempt.
        """
        if self._context.owns(request.root):
            raise WorkDirectoryError(request.root, "it is the store itself")

        def attempt(records: Sequence[Digest] | None) -> tuple[Snapshot, RunState]:
            if records is None:
                return self._track_once(request, cached, ())
            return self._track_once(request, None, records)

        return retry_on_conflict(attempt, attempts=_ATTEMPTS, name=request.key.run)

    def put(self, request: PutRequest, cached: RunState | None) -> tuple[FileVersion, RunState]:
        """Commit one file, independent of the work directory; return its version.

        Parameters
        ----------
        cached
            The state that an earlier call returned, if there was one.

        Raises
        ------
        WorkDirectoryError
            When the content is a path that can't be read.
        """
        with opened(request.content) as source:

            def attempt(records: Sequence[Digest] | None) -> tuple[FileVersion, RunState]:
                if records is None:
                    return self._put_once(request, source, cached, ())
                source.rewind()
                return self._put_once(request, source, None, records)

            return retry_on_conflict(attempt, attempts=_ATTEMPTS, name=request.key.run)

    def _put_once(
        self,
        request: PutRequest,
        source: Source,
        cached: RunState | None,
        superseded_records: Sequence[Digest],
    ) -> tuple[FileVersion, RunState]:
        state = self._committer.load_state(request.key, cached)
        with self._context.blobs.batch() as batch:
            digest, size = batch.add_pieces(source.pieces(self._context.blobs.chunk_size))
            seen = Observed(
                path=request.path,
                digest=digest,
                size=size,
                mode=source.mode,
                mtime_ns=source.mtime_ns,
                signature=None,
                trusted=False,
                seen_on_disk=False,
            )
            plan = self._committer.plan_commit(
                CommitRequest(
                    key=request.key,
                    findings=compare_scan([seen], (), (), state),
                    provenance=request.provenance,
                    still_holds=lambda _change: True,  # an explicit put always wins
                    bytes_read=size,
                    annotations=Annotations(
                        request.file_type, request.is_final_output, request.meta
                    ),
                    classifier=self._context.classifier,
                ),
                state,
                superseded_records,
            )
            plan = plan.write_records(batch)
            written = batch.finish()
        _, after = self._committer.commit(plan, written)
        known = after.find(request.path)
        if known is None:
            raise CommitConflict
        return self._committer.get_version(request.key, known.id), after

    def _track_once(
        self, request: TrackRequest, cached: RunState | None, superseded_records: Sequence[Digest]
    ) -> tuple[Snapshot, RunState]:
        # Taken before the scan: a file changed after this time is always read again.
        started_ns = time.time_ns()
        state = self._committer.load_state(request.key, cached)
        coverage = Coverage.of(
            request.root, scope=request.scope, ignore=request.ignore, own=self._context.own_paths
        )
        scan = Scan(request.root, state.directories, coverage)
        with self._context.blobs.batch() as batch:
            found = observe(
                scan,
                batch,
                started_ns=started_ns,
                progress=request.progress,
            )
            # Plan while the last blobs are compressed and written.
            plan = self._committer.plan_commit(
                CommitRequest(
                    request.key,
                    compare_scan(found.files, scan.missing, scan.unchanged, state),
                    request.provenance,
                    still_holds=_Looker(request.root).still_holds,
                    scope=request.scope,
                    skipped=tuple(sorted(scan.skipped)),
                    bytes_read=found.bytes_read,
                    classifier=self._context.classifier,
                ),
                state,
                superseded_records,
            )
            plan = plan.write_records(batch)
            written = batch.finish()
        return self._committer.commit(plan, written)


class _Looker:
    """Reads a path again when another commit contradicts a change."""

    def __init__(self, root: str) -> None:
        self._root = root

    def still_holds(self, change: Change) -> bool:
        """Whether the path still is as this scan found it."""
        try:
            status = os.lstat(os.path.join(self._root, change.path))
        except (FileNotFoundError, NotADirectoryError):
            return change.observed is None
        except OSError:
            return False
        return change.observed is not None and change.observed.signature == signature_of(status)
