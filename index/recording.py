"""Writing what a scan or a put found into one transaction that somebody else begins and ends.

The transaction claims the run's next revision with the one its findings are relative to. Where
another commit was first nothing is written, and the caller rebases the findings and tries again.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from index.annotations import Annotations
from index.classification import DEFAULT_CLASSIFIER
from index.delta import to_fill
from index.errors import IndexInterruptedError
from index.new_versions import NewVersions
from index.records import LazyVersions, Snapshot
from index.repository import blobs, files, runs
from index.state import RunState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from cas.catalog import WrittenBatch
    from index.classification import Classifier
    from index.delta import Change, Findings
    from index.provenance import Provenance
    from index.records import Skipped
    from index.state import KnownFile

__all__ = [
    "CommitRequest",
    "RunKey",
    "SupersededError",
    "UncertainCommitError",
    "load_state",
    "record",
    "record_blobs",
]

TOUCH_FRESHNESS: Final = timedelta(hours=1)
"""How old a blob's last touch may be before reuse writes a new one. Far below any grace period of
garbage collection, so that reuse protects, and far above a run's pace, so that it costs nothing."""


class SupersededError(Exception):
    """What the findings rest on is gone: a blob was swept, a pack declared dead, a run deleted.

    The scan must be done again; what it stores then is stored anew.
    """


class UncertainCommitError(Exception):
    """The database went away with the commit; only a look at it tells whether it arrived."""

    def __init__(self, done: tuple[Snapshot, RunState], snapshot_id: int | None) -> None:
        super().__init__(done, snapshot_id)
        self.done = done
        """What is so if it arrived."""
        self.snapshot_id = snapshot_id
        """The row that is there if it arrived; None if it made none, and can be done again."""


@dataclass(frozen=True, slots=True)
class RunKey:
    """A run by its caller's ids."""

    session: str
    run: str


@dataclass(frozen=True, slots=True)
class CommitRequest:
    """What is to be recorded, and on whose account."""

    key: RunKey
    findings: Findings
    written: WrittenBatch
    provenance: Provenance
    still_holds: Callable[[Change], bool]
    """Whether a change is what the path holds at this moment; see `index.delta.rebase`."""
    scope: Sequence[str] | None = None
    skipped: tuple[Skipped, ...] = ()
    bytes_read: int = 0
    annotations: Annotations = field(default_factory=Annotations)
    classifier: Classifier = DEFAULT_CLASSIFIER


def load_state(connection: Connection, key: RunKey, cached: RunState | None = None) -> RunState:
    """Return the run's state; `cached` itself if it is still the newest."""
    found = runs.find_run(connection, key.session, key.run)
    if found is None:
        return RunState()
    if cached and (cached.run_id, cached.revision) == (found.id, found.revision):
        return cached
    known = files.load_current(connection, found.id)
    return RunState.of(found.id, found.revision, found.newest_snapshot, known)


def record_blobs(
    connection: Connection, written: WrittenBatch, referenced: Iterable[bytes], now: datetime
) -> None:
    """Record what a batch wrote, and that what is `referenced` is in use.

    SupersededError if one of its packs was declared dead.
    """
    pack_ids = blobs.make_packs_live(connection, written.packs)
    if pack_ids is None:
        raise SupersededError
    raced = blobs.insert_blobs(connection, written, pack_ids, now)
    used = set(referenced)
    for large in written.chunked:
        used.update(large.chunks)
    if not raced:
        used -= written.blobs.keys()
        used -= {large.digest for large in written.chunked}
    blobs.touch(connection, used, now, TOUCH_FRESHNESS)


def record(
    begin: Callable[[], AbstractContextManager[Connection]],
    look: Callable[[], AbstractContextManager[Connection]],
    request: CommitRequest,
    findings: Findings,
    state: RunState,
    clock: Callable[[], datetime],
) -> tuple[Snapshot, RunState] | None:
    """Record findings relative to `state`; return None if another commit was first.

    Without anything to record no transaction is begun, except for the first time that a run is
    seen.

    Parameters
    ----------
    begin, look
        Open a transaction to write in, and one to read in.

    Raises
    ------
    SupersededError
        When a pack that the request rests on was declared dead.
    UncertainCommitError
        When the database went away with the commit.
    """
    fills = to_fill(findings.unchanged, request.provenance)
    notes = _notes(look, request, findings)
    changed = findings.changes or findings.refreshed or fills or notes
    if state.run_id is not None and not changed:
        return _unrecorded(request, findings, state, clock()), state
    attempt: _Attempt | None = None
    done = None
    try:
        with begin() as connection:
            attempt = _Attempt(connection, request, findings, state, clock())
            done = attempt.run(fills, notes)
    except IndexInterruptedError as error:
        if attempt is None or done is None or not error.may_have_committed:
            raise
        raise UncertainCommitError(done, attempt.snapshot_id) from error
    return done


def _notes(
    look: Callable[[], AbstractContextManager[Connection]],
    request: CommitRequest,
    findings: Findings,
) -> dict[int, dict[str, Any]]:
    """Return what annotations change of versions whose content is recorded, by file id."""
    if not request.annotations.given or not findings.unchanged:
        return {}
    ids = [known.id for known in findings.unchanged]
    with look() as connection:
        versions = files.list_by_id(connection, request.key.session, request.key.run, ids)
    said = request.annotations
    changed = ((version.id, said.over(version, request.classifier)) for version in versions)
    return {file_id: values for file_id, values in changed if values}


def _unrecorded(
    request: CommitRequest, findings: Findings, state: RunState, now: datetime
) -> Snapshot:
    return Snapshot(
        number=state.newest_snapshot,
        provenance=request.provenance,
        created_at=now,
        unchanged=len(findings.unchanged),
        skipped=request.skipped,
        bytes_read=request.bytes_read,
        bytes_stored=request.written.bytes_stored,
        recorded=False,
    )


class _Attempt:
    """One transaction that tries to record findings against one state."""

    def __init__(
        self,
        connection: Connection,
        request: CommitRequest,
        findings: Findings,
        state: RunState,
        now: datetime,
    ) -> None:
        self._connection = connection
        self._request = request
        self._findings = findings
        self._state = state
        self._now = now
        self.snapshot_id: int | None = None

    def run(
        self, fills: Sequence[KnownFile], notes: Mapping[int, dict[str, Any]]
    ) -> tuple[Snapshot, RunState] | None:
        """Return what was recorded, or None if another commit was first."""
        key, state = self._request.key, self._state
        run_id = state.run_id
        if run_id is None:
            run_id = runs.ensure_run(self._connection, key.session, key.run, self._now)
        if not runs.advance_revision(self._connection, run_id, state.revision):
            return None
        referenced = {c.observed.digest for c in self._findings.changes if c.observed}
        record_blobs(self._connection, self._request.written, referenced, self._now)
        files.refresh(self._connection, self._findings.refreshed)
        files.fill_provenance(
            self._connection, [known.id for known in fills], self._request.provenance
        )
        for file_id, values in notes.items():
            files.annotate(self._connection, file_id, values)
        changed = bool(self._findings.changes)
        # The first scan of a run is always recorded, so that an empty directory is a known state.
        recorded = changed or state.run_id is None
        number = state.newest_snapshot + 1 if recorded else state.newest_snapshot
        snapshot = Snapshot(
            number=number,
            provenance=self._request.provenance,
            created_at=self._now,
            unchanged=len(self._findings.unchanged),
            skipped=self._request.skipped,
            bytes_read=self._request.bytes_read,
            bytes_stored=self._request.written.bytes_stored,
            recorded=recorded,
            filled=len(fills),
        )
        if recorded:
            self.snapshot_id = runs.insert_snapshot(
                self._connection, run_id, _head(snapshot), self._request.scope
            )
        new, removed = self._record_versions(run_id, number)
        renewed = self._renewed(fills)
        after = state.after(run_id, number, [*renewed, *new.known], removed)
        if not changed:
            return snapshot, after
        was_there = {change.path for change in self._findings.changes if change.base}
        changed_again = len(was_there) - len(removed)
        return replace(
            snapshot,
            lazy_added=LazyVersions(
                lambda: new.versions(lambda path: path not in was_there),
                len(new.rows) - changed_again,
            ),
            lazy_changed=LazyVersions(
                lambda: new.versions(lambda path: path in was_there), changed_again
            ),
            lazy_removed=self._removed_versions(removed),
        ), after

    def _record_versions(self, run_id: int, number: int) -> tuple[NewVersions, list[KnownFile]]:
        changes = self._findings.changes
        ended = [change.base for change in changes if change.base]
        files.end_versions(self._connection, [known.id for known in ended], number)
        fresh = [c.path for c in changes if c.base is None]
        histories = (
            files.load_histories(self._connection, run_id, fresh)
            if fresh and self._state.newest_snapshot
            else {}
        )
        request, said = self._request, self._request.annotations
        final = bool(said.is_final_output)
        rows = []
        for path, base, seen in changes:
            if seen is None:
                continue
            if base is not None:
                newest, appeared = base.version, base.appeared_in
            else:
                newest, appeared = histories.get(path, (0, number))
            file_type = said.file_type or request.classifier.classify(path)
            priority = request.classifier.prioritise(file_type, is_final_output=final)
            rows.append((path, newest + 1, seen, file_type, priority, appeared))
        ids = files.insert_versions(
            self._connection,
            rows,
            run_id=run_id,
            snapshot=number,
            provenance=request.provenance,
            now=self._now,
            is_final_output=final,
            meta=said.meta,
        )
        removed = [c.base for c in changes if c.observed is None and c.base]
        return NewVersions(request, ids, rows, number, self._now), removed

    def _removed_versions(self, removed: Sequence[KnownFile]) -> LazyVersions:
        key = self._request.key
        versions = files.list_by_id(
            self._connection, key.session, key.run, [known.id for known in removed]
        )
        return LazyVersions.ready(versions)

    def _renewed(self, fills: Sequence[KnownFile]) -> Iterator[KnownFile]:
        """Yield the versions that stay, as refreshing and filling left them."""
        renewed = {
            known.id: known._replace(
                signature=seen.signature if seen.trusted else None,
                mode=seen.mode,
                mtime_ns=seen.mtime_ns,
                seen_on_disk=True,
            )
            for known, seen in self._findings.refreshed
        }
        told = self._request.provenance
        for known in fills:
            version = renewed.get(known.id, known)
            renewed[known.id] = version._replace(
                phase=version.phase or told.phase,
                agent=version.agent or told.agent,
                step_id=version.step_id or told.step_id,
                event_id=version.event_id or told.event_id,
                code_hash=version.code_hash or told.code_hash,
            )
        yield from renewed.values()


def _head(snapshot: Snapshot) -> runs.SnapshotHead:
    return runs.SnapshotHead(
        snapshot.number,
        snapshot.provenance,
        snapshot.created_at,
        snapshot.unchanged,
        snapshot.skipped,
        snapshot.bytes_read,
        snapshot.bytes_stored,
    )
