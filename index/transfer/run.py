"""Transfer of one run: find the rows that the destination lacks, keep them, then commit them.

The source is read in one transaction, and the rows are kept in a temporary file. So the run is
copied in one state however long its bytes take, no transaction waits for bytes, and a run of a
million versions is not held in memory. At the commit, the run's revision shows whether the
destination has changed since.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from index.commit.write import TOUCH_FRESHNESS, CommitConflict, within_quota
from index.db.queries import (
    blobs,
    counts,
    files,
    inputs,
    parents,
    run_tags,
    runs,
    tags,
    transfer,
)
from index.db.queries.usage import find_usage
from index.db.tables import VERSION_COLUMNS
from index.transfer.compare import DivergedError, compare_snapshots, compare_versions
from index.transfer.lineage import Lineage
from index.transfer.report import SyncOutcome
from index.transfer.soundness import UnsoundError, check_inputs, check_run, sound_versions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from sqlalchemy.engine import Connection

    from index.context import StoreContext
    from index.db.queries.transfer import RunColumns, VersionRow
    from index.domain.names import RunKey
    from index.transfer.delta import Delta

__all__ = ["Examined", "check_room", "examine", "record"]


class _Inputs(NamedTuple):
    """Inputs of a run, by their positions, which never change."""

    after: int
    until: int
    replace: bool
    """Whether they take the place of those that the destination has, which are others."""


@dataclass(frozen=True, slots=True)
class Examined:
    """The comparison of a run in two stores. The missing versions are in a `Delta`."""

    key: RunKey
    outcome: SyncOutcome
    mine: RunColumns | None = None
    theirs: RunColumns | None = None
    snapshots: tuple[tuple[Any, ...], ...] = ()
    """Snapshot rows that the destination lacks."""
    tags: tuple[dict[str, Any], ...] | None = None
    """All moves of tags of the source; None if those of the destination stay."""
    run_tags: tuple[Mapping[str, Any], ...] = ()
    """Moves of tags of the run itself to bring to the destination."""
    is_copy: bool = False
    """Whether the destination's session may be another one, with other tags."""
    is_newer: bool = True
    """Whether what was changed in place takes precedence over that of the destination."""
    inputs: _Inputs | None = None
    """The inputs of the source that the destination lacks."""
    origin_id: int | None = None
    """The destination's id of the run that it was forked from, if the link is missing there."""
    reason: str | None = None


def examine(
    source: StoreContext, destination: StoreContext, key: RunKey, delta: Delta, to: RunKey | None
) -> Examined:
    """Compare a run, and put the rows that the destination lacks into the empty `delta`.

    Parameters
    ----------
    to
        What a copy is called at the destination; None for a sync, where the names are the same.
    """
    is_copy, to = to is not None, to or key
    try:
        found = _examine(source, destination, key, delta, to, is_copy=is_copy)
        return replace(found, key=to)
    except UnsoundError as error:
        reason = str(error)
    except (ValueError, TypeError) as error:  # a value that no column type can hold
        reason = f"a row of it can't be read: {error}"
    return Examined(to, SyncOutcome.DAMAGED, reason=f"its history is damaged: {reason}")


def _examine(
    source: StoreContext,
    destination: StoreContext,
    key: RunKey,
    delta: Delta,
    to: RunKey,
    *,
    is_copy: bool,
) -> Examined:
    with source.database.reading() as ours:
        mine = transfer.find_row(ours, key.session, key.run)
        if mine is None:
            reason = "it was deleted meanwhile"
            return Examined(key, SyncOutcome.FAILED, reason=reason)
        snapshots = transfer.list_snapshots(ours, mine.id)
        shared = (
            transfer.list_snapshots(ours, mine.forked_from_id, until=mine.forked_snapshot)
            if mine.forked_from_id is not None
            else []
        )
        versions = source.database.shielded(transfer.iter_versions(ours, mine.id))
        moves = _moves(ours, mine)
        named = run_tags.list_rows(ours, mine.id)
        check_run(ours, key, mine, snapshots, [*moves, *named])
        with destination.database.reading() as others:
            theirs = transfer.find_row(others, to.session, to.run)
            try:
                new = _compare(
                    mine, snapshots, sound_versions(versions, len(snapshots)), others, theirs, delta
                )
                origin_id = _origin(mine, shared, others, theirs, to.session)
                is_newer = theirs is None or (new is not None and mine.revision > theirs.revision)
                tagged = moves if is_newer and moves != _moves(others, theirs) else None
                lacking = tuple(
                    run_tags.list_lacking(others, to.session, to.run, named, is_copy=is_copy)
                )
                read = _missing_inputs(ours, mine, others, theirs, is_newer=is_newer)
                if read is not None:
                    check_inputs(_rows(ours, mine, read), len(snapshots))
                if is_newer:
                    _check_parent(others, to, mine)
            except DivergedError as diverged:
                reason = (
                    f"both stores have recorded into it: {diverged}; fork it under another id and "
                    "sync the fork, or delete the run that you don't need"
                )
                return Examined(key, SyncOutcome.CONFLICT, mine, theirs, reason=reason)
    if theirs is None:
        outcome = SyncOutcome.COPIED
    elif new is None and read is None and not lacking:
        outcome = SyncOutcome.AHEAD
    elif (
        new
        or delta.versions
        or delta.changes
        or origin_id is not None
        or tagged is not None
        or read is not None
        or lacking
        or (is_newer and _says_more(mine, theirs))
    ):
        outcome = SyncOutcome.UPDATED
    else:
        outcome = SyncOutcome.UNCHANGED
    return Examined(
        key,
        outcome,
        mine,
        theirs,
        tuple(new or ()),
        tagged,
        lacking,
        is_copy,
        is_newer,
        read,
        origin_id,
    )


def _missing_inputs(
    ours: Connection,
    mine: RunColumns,
    others: Connection,
    theirs: RunColumns | None,
    *,
    is_newer: bool,
) -> _Inputs | None:
    """Return the inputs to transfer; None if those of the destination stay as they are.

    Inputs are only ever added. So the newest one that both could have tells whether one side has
    all those of the other.
    """
    until = inputs.count(ours, mine.id)
    there = 0 if theirs is None else inputs.count(others, theirs.id)
    common = min(until, there)
    newest = _Inputs(common - 1, common, replace=False)
    if (
        theirs is None
        or not common
        or [*_rows(ours, mine, newest)] == [*_rows(others, theirs, newest)]
    ):
        return _Inputs(there, until, replace=False) if until > there else None
    return _Inputs(0, until, replace=True) if is_newer else None


def _rows(connection: Connection, run: RunColumns, wanted: _Inputs) -> Iterator[list[Any]]:
    return inputs.iter_rows(connection, run.id, after=wanted.after, until=wanted.until)


def _check_parent(others: Connection, key: RunKey, mine: RunColumns) -> None:
    """Raise DivergedError if the run can't be a part of its parent at the destination."""
    if mine.parent and parents.is_below(others, key.session, mine.parent, key.run):
        raise DivergedError(f"its parent {mine.parent!r} is a part of it there")


def _moves(connection: Connection, run: RunColumns | None) -> tuple[dict[str, Any], ...]:
    return () if run is None else tuple(tags.list_rows(connection, run.id))


def _says_more(mine: RunColumns, theirs: RunColumns) -> bool:
    """Whether the newer source has another status of the run. A new work directory can wait."""
    before = {"work_dir": mine.work_dir, **theirs.settled}
    return not mine.settled.items() <= before.items()


def _compare(
    mine: RunColumns,
    snapshots: Sequence[tuple[Any, ...]],
    versions: Iterable[VersionRow],
    others: Connection,
    theirs: RunColumns | None,
    delta: Delta,
) -> Sequence[tuple[Any, ...]] | None:
    """Return the snapshots that the destination lacks (None if it is ahead); fill `delta`."""
    known = transfer.list_snapshots(others, theirs.id) if theirs else []
    compare_snapshots(snapshots, known)
    found = compare_versions(
        versions,
        transfer.iter_versions(others, theirs.id) if theirs else (),
        newest=(len(snapshots), len(known)),
        is_newer=theirs is None or mine.revision > theirs.revision,
    )
    for row, there, changes in found:
        if there is None:
            delta.insert(row)
        else:
            delta.change(there.id, changes)
    return snapshots[len(known) :] if len(known) <= len(snapshots) else None


def _origin(
    mine: RunColumns,
    snapshots: Sequence[tuple[Any, ...]],
    others: Connection,
    theirs: RunColumns | None,
    session: str,
) -> int | None:
    """Return the destination's id of the run it was forked from; None if no link is missing.

    Raises DivergedError if it was forked from another run there.

    Parameters
    ----------
    snapshots
        The snapshots that the run shares with the run that it was forked from.
    """
    if theirs is not None:
        if theirs.forked_snapshot is not None and mine.forked_snapshot != theirs.forked_snapshot:
            raise DivergedError("it was forked at another snapshot there")
        if theirs.forked_from is not None:
            if mine.forked_from not in (None, theirs.forked_from):
                raise DivergedError(f"it was forked from {theirs.forked_from!r} there")
            return None
    if mine.forked_from is None:
        return None
    origin = transfer.find_row(others, session, mine.forked_from)
    if origin is None:
        return None
    try:
        known = transfer.list_snapshots(others, origin.id, until=mine.forked_snapshot)
        compare_snapshots(snapshots, known)
    except DivergedError:
        return None  # another run with that id
    return origin.id


def check_room(destination: StoreContext, found: Examined, delta: Delta) -> None:
    """Raise QuotaExceededError if the destination's session may not hold what it lacks."""
    with destination.database.reading() as connection:
        used = find_usage(connection, found.key.session)
        if used is None or used.quota_bytes is None:
            return
        run_id = 0 if found.theirs is None else found.theirs.id
        distinct = counts.Distinct(connection, run_id)
        for batch in delta.batches():
            distinct.add(batch.contents().items())
        used.check(distinct.bytes)


def record(
    source: StoreContext,
    destination: StoreContext,
    found: Examined,
    delta: Delta,
    holds: Sequence[Callable[[Connection], None]],
    *,
    has_copies: bool,
) -> None:
    """Commit the rows that the destination lacks in one transaction. Their bytes are stored.

    Parameters
    ----------
    holds
        What writes each hold of the run that the destination lacks.
    has_copies
        Whether the session has copies by fork or rewind in either store.

    Raises
    ------
    CommitConflict, IntegrityError
        When the run or its bytes have changed since the comparison.
    """
    mine = found.mine
    assert mine is not None  # noqa: S101 - it was found, or there is nothing to record
    with destination.database.writing() as connection:
        session_id = runs.ensure_session(
            connection, found.key.session, mine.session_created_at, lock=True
        )
        run_id = _claimed(connection, session_id, found, mine)
        for hold in holds:
            hold(connection)
        if found.origin_id is not None:
            transfer.link_origin(connection, run_id, found.origin_id, mine.forked_snapshot)
        transfer.insert_snapshots(connection, run_id, found.snapshots)
        if found.tags is not None:
            tags.replace(connection, run_id, found.tags)
        if found.inputs is not None:
            _record_inputs(source, mine, found.inputs, connection, run_id)
        moves = run_tags.list_lacking(  # again, as others may have moved the tags meanwhile
            connection, found.key.session, found.key.run, found.run_tags, is_copy=found.is_copy
        )
        run_tags.merge(connection, session_id, run_id, moves)
        lineage = Lineage(source.database, mine.id, connection, session_id, has_copies=has_copies)
        for batch in delta.batches():
            blobs.touch(connection, batch.contents(), destination.clock(), TOUCH_FRESHNESS)
            # Ends come first, because at most one version of a path is current.
            transfer.update_versions(connection, batch.updates)
            ids = lineage.place(batch.inserts)
            whole = [
                (*row[: len(VERSION_COLUMNS)], *own)
                for row, own in zip(batch.inserts, ids, strict=True)
            ]
            with within_quota(connection, found.key.session):
                files.insert_whole(connection, run_id, (*VERSION_COLUMNS, "id", "origin_id"), whole)


def _record_inputs(
    source: StoreContext, mine: RunColumns, wanted: _Inputs, connection: Connection, run_id: int
) -> None:
    if wanted.replace:
        inputs.remove(connection, run_id)
    left = wanted.until - wanted.after
    with source.database.reading() as ours:
        for rows in _rows(ours, mine, wanted):
            inputs.insert_whole(connection, run_id, rows)
            left -= len(rows)
    if left > 0:
        raise CommitConflict  # the source has deleted the run meanwhile


def _claimed(connection: Connection, session_id: int, found: Examined, mine: RunColumns) -> int:
    """Claim the run at the destination, unchanged since the comparison; return its id."""
    theirs = found.theirs
    if theirs is None:
        run_id = runs.insert_run(
            connection,
            session_id,
            found.key.run,
            mine.created_at,
            revision=mine.revision,
            forked_snapshot=mine.forked_snapshot,
            settled=mine.settled,
        )
        if run_id is None:
            raise CommitConflict
        return run_id
    # Always a higher revision: a cached state may belong to the old one.
    higher = max(theirs.revision + 1, mine.revision)
    settled = mine.settled if found.is_newer else {}
    if not transfer.claim_run(connection, theirs.id, theirs.revision, higher, settled):
        raise CommitConflict
    return theirs.id
