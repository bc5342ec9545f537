"""Writing a commit plan in one transaction that the caller opens.

The transaction claims the next revision of the run, by the revision that the plan is relative to.
If another commit was first, it writes nothing; the caller rebases the plan and retries.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import chain
from typing import TYPE_CHECKING, Final, TypeVar

from index.commit.new_versions import NewVersions, new_rows
from index.db.queries import (
    blobs,
    current,
    drops,
    files,
    inputs,
    journal,
    parents,
    run_tags,
    runs,
    tags,
    usage,
)
from index.db.tables import PROVENANCE_COLUMNS
from index.decorators import naming_memory
from index.domain.provenance import Provenance
from index.domain.run_state import RunState
from index.domain.snapshots import LazyVersions, Snapshot
from index.errors import IndexInterruptedError, UnsettledScanError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from cas.catalog import WrittenBatch
    from cas.digest import Digest
    from index.commit.plan import CommitPlan
    from index.db.queries.runs import FoundRun
    from index.domain.names import RunKey
    from index.domain.run_state import KnownFile

__all__ = [
    "CommitConflict",
    "UncertainCommitError",
    "load_state",
    "record",
    "record_blobs",
    "retry_on_conflict",
    "within_quota",
]

T = TypeVar("T")

TOUCH_FRESHNESS: Final = timedelta(hours=1)
"""Reuse writes a new touch time only if a blob's last one is older. This is far below any grace
period of garbage collection, so reused blobs are protected. It is far above the time between two
scans of a run, so reuse costs nothing."""


_PROVENANCE: Final = frozenset(PROVENANCE_COLUMNS.values())


class CommitConflict(Exception):  # noqa: N818 - a signal to plan again, seen by no caller
    """Something that the plan relies on is gone: a blob is swept, a pack dead, a run deleted.

    The scan must be repeated. It stores the lost bytes again.
    """

    records: Sequence[Digest] = ()
    """Records of the failed attempts, for the next attempt to name."""


def retry_on_conflict(
    attempt: Callable[[Sequence[Digest] | None], T], *, attempts: int, name: str
) -> T:
    """Return the result of an attempt to plan and commit; retry after each conflict.

    Parameters
    ----------
    attempt
        Takes None at first, and then `CommitConflict.records` of the attempt before it.

    Raises
    ------
    UnsettledScanError
        When every attempt met a conflict. Its message gives `name`, as that of a MemoryError does.
    """
    records: Sequence[Digest] | None = None
    for _ in range(attempts):
        try:
            with naming_memory(f"record {name!r}"):
                return attempt(records)
        except CommitConflict as conflict:
            records = conflict.records
    raise UnsettledScanError(name)


class UncertainCommitError(Exception):
    """The connection broke during the commit. Only a query can show whether it succeeded."""

    def __init__(self, done: tuple[Snapshot, RunState], snapshot_id: int | None) -> None:
        super().__init__(done, snapshot_id)
        self.done = done
        """The result if the commit succeeded."""
        self.snapshot_id = snapshot_id
        """The snapshot row that exists if it succeeded; None if a retry is safe without one."""


def load_state(
    connection: Connection,
    key: RunKey,
    cached: RunState | None = None,
    paths: Collection[str] | None = None,
) -> RunState:
    """Return the state of the run; `cached` itself if it is still the newest and holds enough.

    Parameters
    ----------
    paths
        Paths whose files, and files in conflict with them, are enough. Then the cost does not
        depend on the size of the run. None for the whole run.
    """
    found, quota = runs.find_with_quota(connection, key.session, key.run)
    used = None if quota is None else usage.find_usage(connection, key.session)
    state = _load(connection, found, cached, paths)
    return state if state.usage == used else replace(state, usage=used)


def _load(
    connection: Connection,
    found: FoundRun | None,
    cached: RunState | None,
    paths: Collection[str] | None,
) -> RunState:
    if found is None:
        return RunState()
    newest = (found.id, found.revision, found.newest_record)
    if cached and (cached.run_id, cached.revision, cached.newest_record) == newest:
        if cached.holds(paths):
            return cached
        if paths is not None:
            return cached.with_files(current.load_concerned(connection, found.id, paths), paths)
    return RunState.of(
        found.id,
        found.revision,
        found.newest_snapshot,
        current.load_current(connection, found.id)
        if paths is None
        else current.load_concerned(connection, found.id, paths),
        newest_record=found.newest_record,
        records=found.records,
        work_dir=found.work_dir,
        loaded=None if paths is None else frozenset(paths),
    )


def record_blobs(
    connection: Connection, written: WrittenBatch, referenced: Iterable[bytes], now: datetime
) -> None:
    """Insert the blobs of a batch, and note that `referenced` blobs are in use.

    Raises CommitConflict if one of the batch's packs was declared dead.
    """
    pack_ids = blobs.make_packs_live(connection, written.packs)
    if pack_ids is None:
        raise CommitConflict
    raced = blobs.insert_blobs(connection, written, pack_ids, now)
    chunks = chain.from_iterable(large.chunks for large in written.chunked)
    used: Iterable[bytes] = chain(referenced, chunks)
    if not raced:  # new blobs need no touch
        whole = {large.digest for large in written.chunked}
        used = (digest for digest in written.blobs.missing(used) if digest not in whole)
    blobs.touch(connection, set(used), now, TOUCH_FRESHNESS)


@contextmanager
def within_quota(connection: Connection, session: str, *, applies: bool = True) -> Iterator[None]:
    """Raise QuotaExceededError if the statements of this block take a session beyond its quota."""
    before = usage.lock_usage(connection, session) if applies else None
    yield
    if before is not None:
        after = usage.find_usage(connection, session)
        before.check(0 if after is None else after.bytes - before.bytes)


def record(
    begin: Callable[[], AbstractContextManager[Connection]],
    plan: CommitPlan,
    written: WrittenBatch,
) -> tuple[Snapshot, RunState] | None:
    """Execute a plan; return None if another commit was first.

    Without changes no transaction is opened.

    Parameters
    ----------
    begin
        Opens a write transaction.
    written
        Everything stored for the plan, its journal records included.

    Raises
    ------
    CommitConflict
        When a pack that it relies on was declared dead.
    UncertainCommitError
        When the connection broke during the commit.
    """
    if not plan.changes_anything:
        return _snapshot(plan, written, recorded=False), plan.state
    attempt: _Attempt | None = None
    done = None
    try:
        with begin() as connection:
            attempt = _Attempt(connection, plan, written)
            done = attempt.run()
    except IndexInterruptedError as error:
        if attempt is None or done is None or not error.may_have_committed:
            raise
        raise UncertainCommitError(done, attempt.snapshot_id) from error
    return done


def _snapshot(plan: CommitPlan, written: WrittenBatch, *, recorded: bool) -> Snapshot:
    request = plan.request
    return Snapshot(
        number=plan.number,
        provenance=request.provenance,
        created_at=plan.now,
        unchanged=len(plan.findings.unchanged),
        skipped=request.skipped,
        bytes_read=request.bytes_read,
        bytes_stored=written.bytes_stored,
        recorded=recorded,
        filled=len(plan.provenance_backfills)
        + sum(not values.keys().isdisjoint(_PROVENANCE) for values in plan.notes.values()),
        notes=request.marks.notes,
        torn=request.torn,
        hidden=request.hidden,
        ignored=request.ignored,
        absent=request.absent,
    )


class _Attempt:
    """One transaction that tries to execute a plan."""

    def __init__(self, connection: Connection, plan: CommitPlan, written: WrittenBatch) -> None:
        self._connection = connection
        self._plan = plan
        self._written = written
        self.snapshot_id: int | None = None

    def run(self) -> tuple[Snapshot, RunState] | None:
        """Return the snapshot and new state, or None if another commit was first."""
        connection, plan = self._connection, self._plan
        request, findings, state = plan.request, plan.findings, plan.state
        run_id = state.run_id
        if request.marks.parent:
            _check_parent(connection, plan, request.marks.parent)
        if run_id is None:
            run_id = runs.ensure_run(connection, request.key.session, request.key.run, plan.now)
        if not runs.advance_revision(
            connection,
            run_id,
            state.revision,
            newest_record=state.newest_record,
            next_record=plan.newest_record,
            settled=plan.settled,
        ):
            return None
        record_blobs(connection, self._written, findings.new.digests, plan.now)
        journal.append(connection, run_id, state.records, plan.records)
        files.refresh(connection, findings.refreshed)
        files.fill_provenance(
            connection, [known.id for known in plan.provenance_backfills], request.provenance
        )
        files.annotate(connection, {known.id: values for known, values in plan.notes.items()})
        snapshot = _snapshot(plan, self._written, recorded=plan.makes_snapshot)
        if snapshot.recorded:
            self.snapshot_id = runs.insert_snapshot(connection, run_id, snapshot, request.scope)
        if request.marks.is_more or plan.inputs:
            self._mark(run_id)
        with within_quota(connection, request.key.session, applies=state.usage is not None):
            new = self._record_versions(run_id)
        after = state.after(
            run_id,
            snapshot.number,
            lambda: chain(_renewed(plan), new.known),
            findings.removed,
            plan.records,
            work_dir=plan.work_dir,
        )
        if not (findings.new or findings.removed):
            return snapshot, after
        was_there = findings.new.bases
        return replace(
            snapshot,
            lazy_added=LazyVersions(
                lambda: new.versions(lambda path: path not in was_there),
                len(new.ids) - len(was_there),
            ),
            lazy_changed=LazyVersions(
                lambda: new.versions(lambda path: path in was_there), len(was_there)
            ),
            lazy_removed=self._removed_versions(findings.removed),
        ), after

    def _mark(self, run_id: int) -> None:
        connection, marks, now = self._connection, self._plan.request.marks, self._plan.now
        if marks.tags:
            tags.append(connection, run_id, marks.tags, now)
        if marks.run_tags:
            run_tags.append(connection, run_id, marks.run_tags, now)
        if marks.run_notes:
            runs.merge_notes_of(connection, run_id, marks.run_notes)
        if marks.drops:
            request = self._plan.request
            drops.check(connection, request.key, run_id, marks.drops)
            drops.drop(connection, run_id, marks.drops, request.provenance.agent, now)
        if self._plan.inputs:
            inputs.append(
                connection,
                run_id,
                self._plan.inputs,
                snapshot=self._plan.state.newest_snapshot,
                provenance=self._plan.request.provenance,
                now=now,
            )

    def _record_versions(self, run_id: int) -> NewVersions:
        plan = self._plan
        found, number, request = plan.findings, plan.number, plan.request
        ended = [known.id for known in chain(found.new.bases.values(), found.removed)]
        files.end_versions(self._connection, ended, number)
        ids = files.insert_versions(
            self._connection,
            new_rows(found.new, plan.kinds, plan.befores, number),
            count=len(found.new),
            run_id=run_id,
            snapshot=number,
            provenance=request.provenance,
            now=plan.now,
        )
        return NewVersions(request, ids, found.new, plan.kinds, plan.befores, number, plan.now)

    def _removed_versions(self, removed: Sequence[KnownFile]) -> LazyVersions:
        key = self._plan.request.key
        versions = files.list_by_id(
            self._connection, key.session, key.run, [known.id for known in removed]
        )
        return LazyVersions.ready(versions)


def _check_parent(connection: Connection, plan: CommitPlan, parent: str) -> None:
    """Raise CommitConflict if others have made the parent a part of the run since the plan."""
    key = plan.request.key
    # Those who link other runs of the session wait for this transaction.
    runs.ensure_session(connection, key.session, plan.now, lock=True)
    if parents.is_below(connection, key.session, parent, key.run):
        raise CommitConflict


def _renewed(plan: CommitPlan) -> Iterator[KnownFile]:
    """Yield the versions that stay, with new stat values, provenance or final output flag."""
    renewed = {
        known.id: known._replace(
            signature=seen.signature if seen.trusted else None,
            mode=seen.mode,
            mtime_ns=seen.mtime_ns,
            seen_by=known.seen_by | seen.seen_by,
        )
        for known, seen in plan.findings.refreshed
    }
    for known in plan.provenance_backfills:
        version = renewed.get(known.id, known)
        renewed[known.id] = version._replace(
            provenance=version.provenance.over(plan.request.provenance)
        )
    for known, values in plan.notes.items():
        version = renewed.get(known.id, known)
        claimed = Provenance(
            **{name: values.get(column) for name, column in PROVENANCE_COLUMNS.items()}
        )
        renewed[known.id] = version._replace(
            provenance=claimed.over(version.provenance),
            is_final_output=values.get("is_final_output", version.is_final_output),
        )
    yield from renewed.values()
