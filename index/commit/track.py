"""Tracking of a work directory: read, store, then commit. Or only look what that would record.

Bytes are durable before any row refers to them. One transaction commits everything that a call
found. A crash in between leaves packs that nothing refers to, never a row without its bytes.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, Self

from index.commit.committer import Committer
from index.commit.plan import CommitRequest
from index.commit.prepare import check_directory, limit, write_records
from index.commit.write import retry_on_conflict
from index.decorators import relaxed_gc
from index.domain.annotations import Annotations
from index.domain.changes import compare_scan, rebase, to_fill, with_displaced
from index.domain.marks import NO_MARKS
from index.domain.names import as_paths, check_local, check_scan_path
from index.domain.run_state import signature_of
from index.domain.status import Status, StatusEntry
from index.errors import WorkDirectoryError
from index.scan.coverage import Coverage
from index.scan.ingest import Observations
from index.scan.scanner import Scan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from cas.catalog import WrittenBatch
    from cas.digest import Digest
    from index.commit.plan import CommitPlan
    from index.context import OwnFiles, StoreContext
    from index.domain.marks import Marks
    from index.domain.names import RunKey
    from index.domain.progress import Progress
    from index.domain.provenance import Provenance
    from index.domain.run_state import Observed, RunState
    from index.domain.snapshots import Snapshot

__all__ = ["TrackRequest", "Tracker", "look"]

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
    marks: Marks = NO_MARKS

    @classmethod
    def of(
        cls,
        key: RunKey,
        work_dir: str | os.PathLike[str],
        provenance: Provenance,
        *,
        scope: Sequence[str] | None = None,
        ignore: Sequence[str] = (),
        prefix: str | os.PathLike[str] | None = None,
        final: Sequence[str | os.PathLike[str]] = (),
        **others: Any,  # noqa: ANN401 - the other fields
    ) -> Self:
        """Return a request with arguments as `Run.track` takes them. Raises for invalid paths."""
        return cls(
            key,
            check_local(work_dir),
            provenance,
            scope=None if scope is None else as_paths("scope", scope),
            ignore=as_paths("ignore", ignore),
            prefix="" if prefix is None else check_scan_path(prefix),
            final=as_paths("final", final),
            **others,
        )

    @property
    def coverage(self) -> Coverage:
        """What the scan covers, with nothing read yet."""
        return Coverage(
            self.scope,
            ignore=self.ignore,
            hidden=self.hidden,
            default_ignores=self.default_ignores,
            gitignore=self.gitignore,
        )

    def scan(self, state: RunState, own: OwnFiles) -> Scan:
        """Return the pass over the directory, which has not begun."""
        return Scan(self.root, state.directories, self.coverage, own=own, prefix=self.prefix)

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
        self._refuse_own(request)

        def attempt(records: Sequence[Digest] | None) -> tuple[Snapshot, RunState]:
            if records is None:
                return self._track_once(request, cached, ())
            return self._track_once(request, None, records)

        return retry_on_conflict(attempt, attempts=_ATTEMPTS, name=request.key.run)

    @relaxed_gc()
    def status(self, request: TrackRequest, cached: RunState | None) -> tuple[Status, RunState]:
        """Return what `track` would record, and the state that it was compared with.

        Raises
        ------
        WorkDirectoryError, OtherDirectoryError
            As `track` does.
        """
        self._refuse_own(request)
        state = self._committer.load_state(request.key, cached)
        return look(request, state, self._context.own_files), state

    def _refuse_own(self, request: TrackRequest) -> None:
        if self._context.owns(request.root):
            raise WorkDirectoryError(request.root, "it is the store itself")

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
        final = Coverage(ignore=request.final, hidden=True, default_ignores=False)
        scan = request.scan(state, self._context.own_files)
        with self._context.blobs.batch() as batch:
            limit(batch, state.usage)
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
                    marks=request.marks,
                    classifier=self._context.classifier,
                ),
                state,
                superseded_records,
            )
            return write_records(batch, plan), batch.finish()


def look(request: TrackRequest, state: RunState, own: OwnFiles) -> Status:
    """Return what a scan would record in a run of this state. Nothing is written anywhere.

    Files are read only where their size is that of the known version and their times are not.
    """
    started_ns = time.time_ns()
    work_dir = os.path.realpath(request.root)
    if request.same_directory:
        check_directory(request.key.run, state.work_dir, work_dir)
    scan = request.scan(state, own)
    found = Observations(scan, None, started_ns=started_ns, progress=request.progress)
    changes = compare_scan(found, scan.missing, scan.unchanged, state)
    changes = with_displaced(changes, state)
    new = [
        StatusEntry(seen.path, seen.base.version if seen.base else 0, seen.size)
        for seen in changes.new
    ]
    return Status(
        work_dir=work_dir,
        snapshot=state.newest_snapshot,
        added=tuple(entry for entry in new if not entry.version),
        changed=tuple(entry for entry in new if entry.version),
        removed=tuple(StatusEntry(known.path, known.version, None) for known in changes.removed),
        unchanged=len(changes.unchanged),
        touched=sum(
            (known.mode, known.mtime_ns) != (seen.mode, seen.mtime_ns)
            for known, seen in changes.refreshed
        ),
        filled=len(to_fill(changes.unchanged, request.provenance)),
        hidden=scan.passed_over["hidden"],
        ignored=scan.passed_over["ignored"],
        skipped=tuple(sorted(scan.skipped)),
        absent=tuple(scan.absent),
        bytes_read=found.bytes_read,
    )


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
