"""Tracking a work directory, or recording a single file: read, store, then record.

Bytes are durable before any row refers to them; everything that one call found is recorded in one
transaction. A crash in between leaves packs that nothing refers to, never a row without its bytes.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from index.annotations import Annotations
from index.collector import seldom_collecting
from index.commit import Committer
from index.delta import compare
from index.errors import UnsettledScanError, WorkDirectoryError
from index.ingest import observe
from index.recording import SupersededError
from index.requests import CommitRequest
from index.scanner import Scan
from index.signatures import signature_of
from index.source import opened
from index.state import Observed
from index.worktree import Coverage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from cas.digest import Digest
    from cas.store import BlobStore
    from index.classification import Classifier
    from index.database import Database
    from index.delta import Change
    from index.provenance import Provenance
    from index.records import FileVersion, Progress, Snapshot
    from index.requests import RunKey
    from index.source import Content, Source
    from index.state import RunState

__all__ = ["PutRequest", "TrackRequest", "TrackingService"]

_ATTEMPTS: Final = 5
"""How often a scan is done again because something it rested on was collected meanwhile; each time
takes a garbage collection that finishes during the scan."""


@dataclass(frozen=True, slots=True)
class TrackRequest:
    """One scan, as the caller asked for it."""

    key: RunKey
    root: str
    provenance: Provenance
    scope: Sequence[str] | None = None
    ignore: Sequence[str] = ()
    progress: Callable[[Progress], None] | None = None


@dataclass(frozen=True, slots=True)
class PutRequest:
    """One file to record, as the caller asked for it."""

    key: RunKey
    path: str
    content: Content
    provenance: Provenance
    file_type: str | None = None
    is_final_output: bool | None = None
    meta: object = None


class TrackingService:
    """Records work directories and single files. Safe for use by several threads."""

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        clock: Callable[[], datetime],
        *,
        own_paths: Sequence[str],
        classifier: Classifier,
    ) -> None:
        """Bind the service to its storage.

        Parameters
        ----------
        own_paths
            Local paths that belong to the store; they are never tracked.
        classifier
            Says what kind of file a path is.
        """
        self._blobs = blobs
        self._classifier = classifier
        self._committer = Committer(database, blobs, clock)
        self._own_paths = own_paths

    @seldom_collecting()
    def track(self, request: TrackRequest, cached: RunState | None) -> tuple[Snapshot, RunState]:
        """Scan a work directory and record what changed.

        Parameters
        ----------
        cached
            The state that an earlier call returned, if there was one.

        Raises
        ------
        WorkDirectoryError
            When the directory can't be listed, or is the store's own.
        UnsettledScanError
            When garbage collection took what the scan relied on, each of several times.
        """
        if self.owns(request.root):
            raise WorkDirectoryError(request.root, "it is the store itself")
        given_up: Sequence[Digest] = ()
        for _ in range(_ATTEMPTS):
            try:
                return self._track_once(request, cached, given_up)
            except SupersededError as superseded:
                given_up = superseded.records
                cached = None
        raise UnsettledScanError(request.key.run)

    def put(self, request: PutRequest, cached: RunState | None) -> tuple[FileVersion, RunState]:
        """Record one file, whatever lies in the work directory; return the version it has then.

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
            given_up: Sequence[Digest] = ()
            for _ in range(_ATTEMPTS):
                try:
                    return self._put_once(request, source, cached, given_up)
                except SupersededError as superseded:
                    given_up = superseded.records
                    source.rewind()
                    cached = None
        raise UnsettledScanError(request.key.run)

    def _put_once(
        self,
        request: PutRequest,
        source: Source,
        cached: RunState | None,
        given_up: Sequence[Digest],
    ) -> tuple[FileVersion, RunState]:
        state = self._committer.load_state(request.key, cached)
        with self._blobs.batch() as batch:
            digest, size = batch.add_pieces(source.pieces(self._blobs.chunk_size))
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
            prepared = self._committer.prepare(
                CommitRequest(
                    key=request.key,
                    findings=compare([seen], (), (), state),
                    provenance=request.provenance,
                    still_holds=lambda _change: True,  # an explicit put is the last word
                    bytes_read=size,
                    annotations=Annotations(
                        request.file_type, request.is_final_output, request.meta
                    ),
                    classifier=self._classifier,
                ),
                state,
                given_up,
            )
            prepared = prepared.hand_over(batch)
            written = batch.finish()
        _, after = self._committer.commit(prepared, written)
        known = after.find(request.path)
        if known is None:
            raise SupersededError
        return self._committer.get_version(request.key, known.id), after

    def _track_once(
        self, request: TrackRequest, cached: RunState | None, given_up: Sequence[Digest]
    ) -> tuple[Snapshot, RunState]:
        # Before anything is looked at: a file changed later than this is not trusted unread.
        started_ns = time.time_ns()
        state = self._committer.load_state(request.key, cached)
        coverage = Coverage.of(
            request.root, scope=request.scope, ignore=request.ignore, own=self._own_paths
        )
        scan = Scan(request.root, state.directories, coverage)
        with self._blobs.batch() as batch:
            found = observe(
                scan,
                batch,
                started_ns=started_ns,
                progress=request.progress,
            )
            # While the last blobs are compressed and written.
            prepared = self._committer.prepare(
                CommitRequest(
                    request.key,
                    compare(found.files, scan.missing, scan.unchanged, state),
                    request.provenance,
                    still_holds=_Looker(request.root).still_holds,
                    scope=request.scope,
                    skipped=tuple(sorted(scan.skipped)),
                    bytes_read=found.bytes_read,
                    classifier=self._classifier,
                ),
                state,
                given_up,
            )
            prepared = prepared.hand_over(batch)
            written = batch.finish()
        return self._committer.commit(prepared, written)

    def owns(self, path: str) -> bool:
        """Whether a path is the store's, or lies inside it."""
        real = os.path.realpath(path)
        stores = [os.path.realpath(own) for own in self._own_paths]
        return any(real == store or real.startswith(f"{store}/") for store in stores)


class _Looker:
    """Looks at a path again, for a change that another scan's commit contradicts."""

    def __init__(self, root: str) -> None:
        self._root = root

    def still_holds(self, change: Change) -> bool:
        """Whether the path is now as this scan found it."""
        try:
            status = os.lstat(os.path.join(self._root, change.path))
        except (FileNotFoundError, NotADirectoryError):
            return change.observed is None
        except OSError:
            return False
        return change.observed is not None and change.observed.signature == signature_of(status)
