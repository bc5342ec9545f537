"""Sync: copy runs to another store, with their rows and the bytes that it lacks.

A run is committed at the destination in one transaction, after its bytes are durable and in the
index there. So an interrupted sync leaves each run as it was or complete, and the next sync
continues.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy.exc import IntegrityError

from cas.errors import BlobNotFoundError, DigestMismatchError
from index.commit.chain import complete_chain, write_history
from index.commit.write import CommitConflict
from index.db.database import is_impossible
from index.db.queries import runs
from index.db.queries.summaries import list_runs
from index.decorators import relaxed_gc
from index.domain.listing import closest
from index.domain.names import RunKey
from index.domain.progress import Progress
from index.domain.results import Result
from index.errors import (
    IndexInterruptedError,
    QuotaExceededError,
    SameStoreError,
    UnknownRunError,
    UnknownRunNameError,
    UnknownSessionError,
)
from index.transfer.blobs import BlobTally, BlobTransfer, count_missing, explain
from index.transfer.delta import Delta
from index.transfer.holds import bring_holds, list_lacking_holds, store_holds
from index.transfer.lineage import has_copies
from index.transfer.order import origins_first
from index.transfer.report import SyncedRun, SyncOutcome, SyncReport
from index.transfer.run import Examined, check_room, examine, record

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from index.context import StoreContext
    from index.domain.holds import Hold
    from index.domain.runs import RunSummary

__all__ = ["SyncPlan", "copy_run", "plan_sync", "select_runs", "sync_runs"]

_LOG: Final = logging.getLogger("index.transfer")

_ATTEMPTS: Final = 20
"""Attempts at a run if others commit to it at the destination."""

_REMEMBERED: Final = 1_000_000
"""Contents that a plan counts once if several runs share them; they take 80 MB of memory."""

_TO_DO: Final = (SyncOutcome.COPIED, SyncOutcome.UPDATED)


@dataclass(frozen=True, slots=True)
class SyncPlan(Result):
    """The plan of a sync, as of its creation. Nothing is written yet."""

    report: SyncReport
    """Blobs and bytes are upper bounds if the runs have more than a million contents."""
    origins: tuple[str | None, ...]
    """The run that each was forked from."""
    source: StoreContext = field(repr=False)
    destination: StoreContext = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the report of the plan as JSON types."""
        return self.report.to_dict()

    @relaxed_gc()
    def execute(self, *, progress: Callable[[Progress], None] | None = None) -> SyncReport:
        """Sync the runs, with changes since the plan; return the report. It is safe to repeat.

        A run that can't be synced stays unchanged, with the reason in the report. The others
        continue.

        Parameters
        ----------
        progress
            Called from time to time with the file versions and bytes so far.

        Raises
        ------
        BackendError, IndexUnavailableError
            When storage or a database fails. Runs synced until then stay.
        """
        totals = (self.report.versions, self.report.bytes_read)
        execution = _Execution(self.source, self.destination, totals, progress)
        done: list[SyncedRun] = []
        touched: set[tuple[str, str | None]] = set()
        for planned, origin in zip(self.report.runs, self.origins, strict=True):
            # A fork whose origin is copied now still needs its link.
            is_due = planned.outcome in _TO_DO or (planned.session, origin) in touched
            key = RunKey(planned.session, planned.run)
            made = execution.sync(key) if is_due else execution.keep(planned, key)
            if made.outcome in _TO_DO:
                touched.add((made.session, made.run))
            done.append(made)
        return execution.report(done)


def select_runs(
    source: StoreContext, *, sessions: Collection[str] | None, names: Collection[str] | None
) -> list[RunSummary]:
    """Return the runs with the given sessions and ids (None for all), each before its forks.

    Raises
    ------
    UnknownSessionError, UnknownRunError, UnknownRunNameError
        When one of them does not exist.
    """
    with source.database.reading() as connection:
        found = list_runs(connection)
        for session in sessions or ():
            if not runs.session_exists(connection, session):
                near = closest(session, (summary.session for summary in found))
                raise UnknownSessionError(session, near)
    chosen = [
        summary
        for summary in found
        if (sessions is None or summary.session in sessions)
        and (names is None or summary.run in names)
    ]
    for name in sorted(set(names or ()) - {summary.run for summary in chosen}):
        near = closest(
            name, (each.run for each in found if sessions is None or each.session in sessions)
        )
        if sessions is not None and len(set(sessions)) == 1:
            raise UnknownRunError(next(iter(sessions)), name, near)
        raise UnknownRunNameError(name, near)
    return origins_first(chosen)


@relaxed_gc()
def plan_sync(
    source: StoreContext,
    destination: StoreContext,
    *,
    sessions: Collection[str] | None = None,
    names: Collection[str] | None = None,
) -> SyncPlan:
    """Compare two stores and return the plan of a sync; write nothing.

    Raises
    ------
    SameStoreError
        When both stores have the same index.
    UnknownSessionError, UnknownRunError, UnknownRunNameError
        When a session or run does not exist.
    """
    chosen = _check(source, destination, sessions, names)
    planned = []
    arriving: set[tuple[str, str | None]] = set()
    seen: set[bytes] = set()
    blobs = size = 0
    for summary in chosen:
        with Delta() as delta:
            key = RunKey(summary.session, summary.run)
            found = _examine(source, destination, key, delta, None)
            if _lacks_origin(found) and (summary.session, summary.forked_from) in arriving:
                found = replace(found, outcome=SyncOutcome.UPDATED)
            if found.outcome in _TO_DO:
                arriving.add((summary.session, summary.run))
            planned.append(_synced_run(found, delta))
            for batch in delta.batches() if found.outcome in _TO_DO else ():
                fresh = {d: size for d, size in batch.contents().items() if d[:8] not in seen}
                if len(seen) < _REMEMBERED:
                    seen.update(digest[:8] for digest in fresh)
                more = count_missing(source, destination, fresh)
                blobs, size = blobs + more[0], size + more[1]
    return SyncPlan(
        SyncReport(tuple(planned), blobs, size, bytes_stored=0),
        tuple(summary.forked_from for summary in chosen),
        source,
        destination,
    )


@relaxed_gc()
def sync_runs(
    source: StoreContext,
    destination: StoreContext,
    *,
    sessions: Collection[str] | None = None,
    names: Collection[str] | None = None,
) -> SyncReport:
    """Sync without a plan, which would compare everything twice. Raises as `plan_sync` does."""
    chosen = _check(source, destination, sessions, names)
    execution = _Execution(source, destination, (0, 0), None)
    return execution.report([execution.sync(RunKey(each.session, each.run)) for each in chosen])


@relaxed_gc()
def copy_run(
    source: StoreContext,
    destination: StoreContext,
    key: RunKey,
    to: RunKey,
    progress: Callable[[Progress], None] | None = None,
    *,
    with_work_dir: bool,
) -> SyncReport:
    """Sync one run, which may have another session and id at the destination; return the report.

    Parameters
    ----------
    with_work_dir
        Whether the destination is to know the run's work directory.

    Raises
    ------
    SameStoreError
        When both stores have the same index.
    """
    _refuse_same(source, destination)
    execution = _Execution(source, destination, (0, 0), progress, with_work_dir=with_work_dir)
    return execution.report([execution.sync(key, to)])


def _check(
    source: StoreContext,
    destination: StoreContext,
    sessions: Collection[str] | None,
    names: Collection[str] | None,
) -> list[RunSummary]:
    _refuse_same(source, destination)
    return select_runs(source, sessions=sessions, names=names)


def _refuse_same(source: StoreContext, destination: StoreContext) -> None:
    if source.database.is_same(destination.database):
        raise SameStoreError(source.database.url)


class _Execution:
    """A sync in progress."""

    def __init__(
        self,
        source: StoreContext,
        destination: StoreContext,
        totals: tuple[int, int],
        progress: Callable[[Progress], None] | None,
        *,
        with_work_dir: bool = True,
    ) -> None:
        self._source = source
        self._destination = destination
        self._progress = progress
        self._with_work_dir = with_work_dir
        self._versions = 0
        self._totals = totals
        self._has_copies: dict[str, bool] = {}
        self._tally = BlobTally()

    def report(self, done: Sequence[SyncedRun]) -> SyncReport:
        """Return the report of the runs, with the blobs and bytes sent."""
        tally = self._tally
        return SyncReport(tuple(done), tally.blobs, tally.bytes_read, tally.bytes_stored)

    def keep(self, run: SyncedRun, key: RunKey, to: RunKey | None = None) -> SyncedRun:
        """Bring what an interrupted sync left out of a run that is up to date; return it."""
        if run.reason is None:
            complete_chain(self._destination, to or key)
            bring_holds(self._destination, self._lacking_holds(key, to))
        return run

    def sync(self, key: RunKey, to: RunKey | None = None) -> SyncedRun:
        """Sync one run with its holds, also while others change it; return its outcome.

        Parameters
        ----------
        to
            What a copy is called at the destination; None for a sync of the store.
        """
        uncertain: SyncedRun | None = None
        for _ in range(_ATTEMPTS):
            with Delta() as delta:
                found = _examine(self._source, self._destination, key, delta, to)
                run = _synced_run(found, delta)
                if run.outcome not in _TO_DO:
                    # The commit whose answer was lost has succeeded.
                    return self.keep(
                        uncertain if uncertain and run.reason is None else run, key, to
                    )
                try:
                    made = self._bring(run, found, delta, key, to)
                except IndexInterruptedError as error:
                    if not error.may_have_committed:
                        raise
                    uncertain = run
                    continue
            if made is not None:
                return made
        reason = "others kept recording into it meanwhile; try again when that is over"
        there = to or key
        return SyncedRun(there.session, there.run, SyncOutcome.FAILED, reason=reason)

    def _bring(
        self, run: SyncedRun, found: Examined, delta: Delta, key: RunKey, to: RunKey | None
    ) -> SyncedRun | None:
        """Bring what a run lacks; return its outcome, or None if others were first."""
        try:
            check_room(self._destination, found, delta)
            self._bring_bytes(delta)
            self._record(found, delta, key, to)
            write_history(self._destination, found.key)
        except (CommitConflict, UnknownSessionError):
            return None
        except IntegrityError as error:
            if not is_impossible(error):
                return None
            first, *_ = str(error.orig).splitlines()  # the others have the values of the row
            reason = f"its history is damaged: {first}"
            return SyncedRun(run.session, run.run, SyncOutcome.DAMAGED, reason=reason)
        except QuotaExceededError as error:
            return SyncedRun(run.session, run.run, SyncOutcome.FAILED, reason=str(error))
        except (BlobNotFoundError, DigestMismatchError) as error:
            reason = explain(error, delta)
            return SyncedRun(run.session, run.run, SyncOutcome.DAMAGED, reason=reason)
        self._versions += run.versions
        self._report()
        extra = {"session": run.session, "run": run.run, "versions": run.versions}
        text = "run %s of session %s: %d versions synced"
        _LOG.info(text, run.run, run.session, run.versions, extra=extra)
        return run

    def _lacking_holds(self, key: RunKey, to: RunKey | None) -> list[Hold]:
        return list_lacking_holds(self._source, self._destination, key, to)

    def _record(self, found: Examined, delta: Delta, key: RunKey, to: RunKey | None) -> None:
        session, ours, theirs = found.key.session, self._source, self._destination
        if found.mine is not None and not self._with_work_dir:
            found = replace(found, mine=found.mine._replace(work_dir=None))
        if delta.has_copies:
            self._has_copies[session] = True
        elif session not in self._has_copies:
            self._has_copies[session] = theirs.database.with_retries(
                lambda: has_copies((ours.database, key.session), (theirs.database, session))
            )
        holds = store_holds(theirs, self._lacking_holds(key, to), found)
        theirs.database.with_retries(
            lambda: record(ours, theirs, found, delta, holds, has_copies=self._has_copies[session])
        )

    def _bring_bytes(self, delta: Delta) -> None:
        with BlobTransfer(self._source, self._destination, self._tally, self._report) as bytes_:
            for contents in delta.contents():
                bytes_.bring(contents)
            bytes_.finish()

    def _report(self) -> None:
        if self._progress is not None:
            versions, size = self._totals
            self._progress(
                Progress(
                    self._versions,
                    self._tally.bytes_read,
                    max(versions, self._versions),
                    max(size, self._tally.bytes_read),
                )
            )


def _examine(
    source: StoreContext, destination: StoreContext, key: RunKey, delta: Delta, to: RunKey | None
) -> Examined:
    def look() -> Examined:
        delta.clear()
        return examine(source, destination, key, delta, to)

    return source.database.with_retries(look)


def _lacks_origin(found: Examined) -> bool:
    """Whether a fork lacks only the link to its origin."""
    unchanged = found.outcome is SyncOutcome.UNCHANGED
    return unchanged and found.theirs is not None and found.theirs.forked_from is None


def _synced_run(found: Examined, delta: Delta) -> SyncedRun:
    is_due = found.outcome in _TO_DO
    return SyncedRun(
        found.key.session,
        found.key.run,
        found.outcome,
        len(found.snapshots) if is_due else 0,
        delta.versions if is_due else 0,
        found.reason,
    )
