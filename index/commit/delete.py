"""Deletion of runs and sessions, with a receipt. Garbage collection deletes the bytes later.

Before a deletion, a journal record of it is stored. It outlives the runs, so that a rebuilt index
does not bring them back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from index.commit.chain import store_entry
from index.commit.write import CommitConflict, record_blobs, retry_on_conflict
from index.db.catalog import TransactionCatalog
from index.db.queries import blobs, deletion, holds, journal, names, run_tags
from index.db.queries.deletion import note_released
from index.domain.reports import DeletionReceipt
from index.errors import TaggedRunError, UnknownSessionError
from index.journal.encoding import encode_record
from index.journal.entries import DeletionEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy.engine import Connection

    from cas.digest import Digest
    from index.context import StoreContext
    from index.db.queries.deletion import DeadRun
    from index.domain.names import RunKey

__all__ = ["delete_run", "delete_run_within", "delete_session", "delete_unchanged"]

T = TypeVar("T")

_ATTEMPTS: Final = 20
"""Attempts, if others keep committing while the journal record is stored."""


class _Finder(Protocol):
    """Finds the runs to delete; with `lock`, others can't change them afterwards."""

    def __call__(self, connection: Connection, *, lock: bool = False) -> list[DeadRun]: ...


def delete_run(context: StoreContext, key: RunKey, *, force: bool) -> DeletionReceipt:
    """Delete a run; its forks stay.

    Raises
    ------
    UnknownRunError
        When it does not exist.
    TaggedRunError
        When a tag of its session names it, unless `force` is true.
    HeldError
        When the run or session is held.
    """
    return _delete(
        context,
        key.session,
        _finder(key.session, key.run),
        lambda connection, dead: _delete_run(connection, key, dead),
        name=key.run,
        force=force,
    )


def _finder(session: str, run: str | None) -> _Finder:
    """Return what finds a run to delete, or all of a session; HeldError if one is held."""

    def find(connection: Connection, *, lock: bool = False) -> list[DeadRun]:
        dead = deletion.list_dead(connection, session, run, lock=lock)
        if dead or run is None:  # a run that does not exist is not held either
            holds.check(connection, session, None if run is None else [each.id for each in dead])
        return dead

    return find


def _delete_run(connection: Connection, key: RunKey, dead: Sequence[DeadRun]) -> DeletionReceipt:
    if not dead:
        raise names.unknown_run(connection, key.session, key.run)
    return _delete_dead(connection, key.session, dead)


def _delete_dead(connection: Connection, session: str, dead: Sequence[DeadRun]) -> DeletionReceipt:
    gone, session_id = [run.id for run in dead], dead[0].session_id
    files, versions = deletion.count_versions(connection, gone)
    released = deletion.list_released(connection, session_id, gone)
    kept = deletion.list_kept(connection, session_id, gone)
    note_released(connection, gone)
    deletion.delete_runs(connection, gone)
    return DeletionReceipt(
        session, tuple(run.name for run in dead), files, versions, released, kept
    )


def delete_unchanged(
    context: StoreContext, session: str, expected: Mapping[str, int]
) -> DeletionReceipt | None:
    """Delete those runs that still have the expected revision and are not held, at once.

    Return the receipt; None if there is none of them.

    Parameters
    ----------
    expected
        Revisions by run, of so many as fit one statement.
    """

    def find(connection: Connection, *, lock: bool = False) -> list[DeadRun]:
        found = deletion.list_dead(connection, session, [*expected], lock=lock)
        found = [run for run in found if run.revision == expected[run.name]]
        held = {hold.run for hold in holds.list_holds(connection, session)} if found else set()
        return [] if None in held else [run for run in found if run.name not in held]

    return _delete(
        context,
        session,
        find,
        lambda connection, dead: _delete_dead(connection, session, dead) if dead else None,
        name=session,
        force=True,  # a tag that was set since has raised the revision
    )


def delete_run_within(
    connection: Connection, context: StoreContext, key: RunKey, *, force: bool
) -> tuple[DeletionReceipt, Callable[[], None]]:
    """Delete a run in the caller's write transaction.

    Return the receipt, and what to call before the transaction commits: it makes the journal
    record of the deletion durable. If it were durable now and the caller rolled back, a recovery
    would delete a run that exists.
    """
    dead = _finder(key.session, key.run)(connection, lock=True)
    moves = _moves(connection, dead, force=force)
    receipt = _delete_run(connection, key, dead)
    (gone,) = dead

    def keep_record() -> None:
        if deletion.is_present(connection, gone.id):
            return  # a savepoint was rolled back
        entry = _entry(context, key.session, dead, moves)
        with context.blobs.batch(TransactionCatalog(connection)) as batch:
            record = batch.add_record(encode_record(entry))
            written = batch.finish()
        for pack in written.packs:
            blobs.insert_pending_pack(connection, pack, entry.created_at)
        record_blobs(connection, written, (), entry.created_at)
        journal.insert_loose(connection, record)

    return receipt, keep_record


def delete_session(context: StoreContext, session: str) -> DeletionReceipt:
    """Delete a session with all its runs. Raises UnknownSessionError if it does not exist."""

    def delete(connection: Connection, dead: Sequence[DeadRun]) -> DeletionReceipt:
        found = deletion.find_session(connection, session, lock=True)
        if found is None:
            raise UnknownSessionError(session)
        session_id = found.id
        holds.check(connection, session, None)
        names = tuple(run.name for run in dead)
        files, versions = deletion.count_versions(connection, deletion.ids_of(session_id))
        released = deletion.list_contents(connection, session_id)
        note_released(connection, deletion.ids_of(session_id))
        deletion.delete_session(connection, session_id)
        return DeletionReceipt(session, names, files, versions, released, ())

    return _delete(
        context, session, _finder(session, None), delete, name=session, is_session=True, force=True
    )


def _delete(
    context: StoreContext,
    session: str,
    find: _Finder,
    delete: Callable[[Connection, Sequence[DeadRun]], T],
    *,
    name: str,
    force: bool,
    is_session: bool = False,
) -> T:
    """Store a record of the runs to delete, then delete exactly these.

    Parameters
    ----------
    is_session
        Whether the session is deleted with them.
    """

    def attempt(_records: Sequence[Digest] | None) -> T:
        with context.database.reading() as connection:
            dead = find(connection)
            is_there = dead or (is_session and deletion.find_session(connection, session))
            # Of a session, the tags go, too. A later move would be a conflict below.
            moves = () if is_session else _moves(connection, dead, force=force)
        if not is_there:
            return context.database.write(lambda connection: delete(connection, dead))
        entry = _entry(context, session, dead, moves, is_session=is_session)
        written, record = store_entry(context.blobs, entry)

        def commit(connection: Connection) -> T:
            if find(connection, lock=True) != dead:
                raise CommitConflict
            record_blobs(connection, written, (), entry.created_at)
            journal.insert_loose(connection, record)
            return delete(connection, dead)

        return context.database.write(commit)

    return retry_on_conflict(attempt, attempts=_ATTEMPTS, name=name)


def _moves(
    connection: Connection, dead: Sequence[DeadRun], *, force: bool
) -> list[tuple[Any, ...]]:
    """Return the moves of tags that go with runs, for the record of the deletion.

    Raises TaggedRunError if a tag names one of the runs, unless `force` is true.
    """
    moves: list[tuple[Any, ...]] = []
    for run in dead:
        names = () if force else run_tags.list_names(connection, run.id)
        if names:
            raise TaggedRunError(run.name, tuple(names))
        moves += (
            (*(row[name] for name in run_tags.COLUMNS[:-1]), row["created_at"].isoformat())
            for row in run_tags.list_rows(connection, run.id)
            if row["is_mine"]
        )
    return moves


def _entry(
    context: StoreContext,
    session: str,
    dead: Sequence[DeadRun],
    moves: Sequence[Sequence[Any]],
    *,
    is_session: bool = False,
) -> DeletionEntry:
    return DeletionEntry(
        created_at=context.clock(),
        session=session,
        runs=[run.recorded() for run in dead],
        run_tags=moves,
        is_session=is_session,
    )
