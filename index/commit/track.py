"""Tracking of a work directory: read, store, then commit.

Bytes are durable before any row refers to them. One transaction commits everything that a call
found. A crash in between leaves packs that nothing refers to, never a row without its bytes.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Final

from index.commit.committer import Committer
from index.commit.plan import CommitRequest
from index.commit.prepare import check_directory, write_records
from index.commit.write import retry_on_conflict
from index.decorators import relaxed_gc
from index.domain.annotations import Annotations
from index.domain.changes import compare_scan, rebase
from index.domain.run_state import signature_of
from index.errors import WorkDirectoryError
from index.scan.coverage import Coverage
from index.scan.ingest import Observations
from index.scan.scanner import Scan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from cas.catalog import WrittenBatch
    from cas.digest import Digest
    from index.commit.plan import CommitPlan
    from index.context import StoreContext
    from index.domain.names import RunKey
    from index.domain.provenance import Provenance
    from index.domain.run_state import Observed, RunState
    from index.domain.snapshots import Progress, Snapshot

__all__ = ["TrackRequest", "Tracker"]

_ATTEMPTS: Final = 5
"""Attempts at a scan if garbage collection deletes blobs that it relies on. Each failure needs a
collection that finishes during the scan."""


_FINAL: Final = Annotations(is_final_output=True)


@dataclass(frozen=True, slots=True)
class TrackRequest:
    """The arguments of a scan."""

    key: RunKey
    root: str
    provenance: Provenance
    scope: Sequence[str] | None = None
    ignore: Sequence[str] = ()
    hidden: bool = False
    default_ignores: bool = True
    gitignore: bool = False
    prefix: str = ""
    """The path in the run of the work directory; ``""`` if paths in both are the same."""
    final: Sequence[str] = ()
    progress: Callable[[Progress], None] | None = None
    same_directory: bool = False

    @property
    def prefix_length(self) -> int:
        """Number of characters in a path of the run before the path in the work directory."""
        return len(self.prefix) + 1 if self.prefix else 0

    @property
    def scopes_in_run(self) -> Sequence[str] | None:
        """The scope, as paths in the run."""
        if not self.prefix:
            return self.scope
        return [f"{self.prefix}/{path}" for path in self.scope or ()] or [self.prefix]


class Tracker:
    """Tracks work directories. Safe for use by several threads."""

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
        OtherDirectoryError
            When it must be, and is not, the directory of the scan before.
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

    def _track_once(
        self, request: TrackRequest, cached: RunState | None, superseded_records: Sequence[Digest]
    ) -> tuple[Snapshot, RunState]:
        # Taken before the scan: a file changed after this time is always read again.
        started_ns = time.time_ns()
        state = self._committer.load_state(request.key, cached)
        work_dir = os.path.realpath(request.root)
        if request.same_directory:  # before the files are read; the plan checks it again
            check_directory(request.key.run, state.work_dir, work_dir)
        # The batch and what it alone holds are gone before the rows are made.
        plan, written = self._read(request, state, work_dir, started_ns, superseded_records)
        return self._committer.commit(plan, written)

    def _read(
        self,
        request: TrackRequest,
        state: RunState,
        work_dir: str,
        started_ns: int,
        superseded_records: Sequence[Digest],
    ) -> tuple[CommitPlan, WrittenBatch]:
        """Scan the directory; return the plan of its changes, and what was stored for them."""
        coverage = Coverage(
            request.scope,
            ignore=request.ignore,
            hidden=request.hidden,
            default_ignores=request.default_ignores,
            gitignore=request.gitignore,
        )
        final = Coverage(ignore=request.final, hidden=True, default_ignores=False)
        scan = Scan(
            request.root,
            state.directories,
            coverage,
            own=self._context.own_files,
            prefix=request.prefix,
        )
        with self._context.blobs.batch() as batch:
            found = Observations(scan, batch, started_ns=started_ns, progress=request.progress)
            changes = compare_scan(found, scan.missing, scan.unchanged, state)
            present = chain(changes.new.paths, (known.path for known in changes.unchanged))
            # Plan while the last blobs are compressed and written.
            plan = self._committer.plan_commit(
                CommitRequest(
                    request.key,
                    changes,
                    request.provenance,
                    rebased=partial(
                        rebase, seen_by=scan.bit, still_holds=_Looker(request).still_holds
                    ),
                    scope=request.scopes_in_run,
                    skipped=tuple(sorted(scan.skipped)),
                    torn=tuple(sorted(found.torn)),
                    hidden=scan.passed_over["hidden"],
                    ignored=scan.passed_over["ignored"],
                    absent=tuple(scan.absent),
                    bytes_read=found.bytes_read,
                    work_dir=work_dir,
                    is_part=bool(request.prefix),
                    same_directory=request.same_directory,
                    annotations=_final_among(request, final, present),
                    classifier=self._context.classifier,
                ),
                state,
                superseded_records,
            )
            return write_records(batch, plan), batch.finish()


def _final_among(
    request: TrackRequest, patterns: Coverage, paths: Iterable[str]
) -> dict[str, Annotations]:
    """Return that paths of the run are final, where `final` has them or a pattern for them."""
    if not request.final:
        return {}
    names, cut = frozenset(request.final), request.prefix_length
    return {
        path: _FINAL for path in paths if path[cut:] in names or not patterns.covers(path[cut:])
    }


class _Looker:
    """Reads a path again when another commit contradicts a change."""

    def __init__(self, request: TrackRequest) -> None:
        self._root = request.root
        self._cut = request.prefix_length

    def still_holds(self, path: str, seen: Observed | None) -> bool:
        """Whether the path still is as this scan found it."""
        try:
            status = os.lstat(os.path.join(self._root, path[self._cut :]))
        except (FileNotFoundError, NotADirectoryError):
            return seen is None
        except OSError:
            return False
        return seen is not None and seen.signature == signature_of(status)
