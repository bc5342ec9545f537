"""Deletion of runs and sessions, with a receipt. Garbage collection deletes the bytes later.

Before a deletion, a journal record of it is stored. It outlives the runs, so that a rebuilt index
does not bring them back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from index.commit.chain import store_entry
from index.commit.write import CommitConflict, record_blobs, retry_on_conflict
from index.db.catalog import TransactionCatalog
from index.db.queries import blobs, deletion, journal, names
from index.db.queries.deletion import note_released
from index.domain.reports import DeletionReceipt
from index.errors import UnknownSessionError
from index.journal.encoding import encode_record
from index.journal.entries import DeletionEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy.engine import Connection

    from cas.digest import Digest
    from index.context import StoreContext
    from index.db.queries.deletion import DeadRun
    from index.domain.names import RunKey

__all__ = ["delete_run", "delete_run_within", "delete_session"]

_ATTEMPTS: Final = 20
"""Attempts, if others keep committing while the journal record is stored."""


def delete_run(context: StoreContext, key: RunKey) -> DeletionReceipt:
    """Delete a run; its forks stay. Raises UnknownRunError if it does not exist."""
    return _delete(
        context, key.session, key.run, lambda connection, dead: _delete_run(connection, key, dead)
    )


def _delete_run(connection: Connection, key: RunKey, dead: Sequence[DeadRun]) -> DeletionReceipt:
    if not dead:
        raise names.unknown_run(connection, key.session, key.run)
    ((run_id, session_id, *_),) = dead
    files, versions = deletion.count_versions(connection, [run_id])
    released = deletion.list_released(connection, session_id, [run_id])
    kept = deletion.list_kept(connection, session_id, [run_id])
    note_released(connection, [run_id])
    deletion.delete_runs(connection, [run_id])
    return DeletionReceipt(key.session, (key.run,), files, versions, released, kept)


def delete_run_within(
    connection: Connection, context: StoreContext, key: RunKey
) -> tuple[DeletionReceipt, Callable[[], None]]:
    """Delete a run in the caller's write transaction.

    Return the receipt, and what to call before the transaction commits: it makes the journal
    record of the deletion durable. If it were durable now and the caller rolled back, a recovery
    would delete a run that exists.
    """
    dead = deletion.list_dead(connection, key.session, key.run, lock=True)
    receipt = _delete_run(connection, key, dead)
    (gone,) = dead

    def keep_record() -> None:
        if deletion.is_present(connection, gone.id):
            return  # a savepoint was rolled back
        entry = _entry(context, key.session, dead)
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
        session_id = deletion.find_session(connection, session)
        if session_id is None:
            raise UnknownSessionError(session)
        names = tuple(run.name for run in dead)
        files, versions = deletion.count_versions(connection, deletion.ids_of(session_id))
        released = deletion.list_contents(connection, session_id)
        note_released(connection, deletion.ids_of(session_id))
        deletion.delete_session(connection, session_id)
        return DeletionReceipt(session, names, files, versions, released, ())

    return _delete(context, session, None, delete)


def _delete(
    context: StoreContext,
    session: str,
    run: str | None,
    delete: Callable[[Connection, Sequence[DeadRun]], DeletionReceipt],
) -> DeletionReceipt:
    """Store a record of the runs to delete (None for all), then delete exactly these."""

    def attempt(_records: Sequence[Digest] | None) -> DeletionReceipt:
        with context.database.reading() as connection:
            dead = deletion.list_dead(connection, session, run)
        if not dead:  # no such run, or no runs in the session
            with context.database.writing() as connection:
                return delete(connection, dead)
        entry = _entry(context, session, dead)
        written, record = store_entry(context.blobs, entry)
        with context.database.writing() as connection:
            if deletion.list_dead(connection, session, run, lock=True) != dead:
                raise CommitConflict
            record_blobs(connection, written, (), entry.created_at)
            journal.insert_loose(connection, record)
            return delete(connection, dead)

    return retry_on_conflict(attempt, attempts=_ATTEMPTS, name=run or session)


def _entry(context: StoreContext, session: str, dead: Sequence[DeadRun]) -> DeletionEntry:
    return DeletionEntry(
        created_at=context.clock(),
        session=session,
        runs=[(run.name, _text(run.newest_record), run.created_at.isoformat()) for run in dead],
    )


def _text(digest: Digest | None) -> str | None:
    return None if digest is None else str(digest)
