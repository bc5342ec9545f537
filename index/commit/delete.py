"""Deleting runs and sessions, with a receipt. Bytes are left to garbage collection.

What was deleted is noted in storage first, in a record that outlives it: an index that is made anew
does not bring it back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from index.commit.chain import store_entry
from index.commit.write import CommitConflict, record_blobs, retry_on_conflict
from index.db.queries import deletion, journal
from index.db.queries.deletion import note_released
from index.domain.reports import DeletionReceipt
from index.errors import UnknownRunError, UnknownSessionError
from index.journal.entries import DeletionEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy.engine import Connection

    from cas.digest import Digest
    from index.context import StoreContext
    from index.db.queries.deletion import Doomed
    from index.domain.names import RunKey

__all__ = ["delete_run", "delete_session"]

_ATTEMPTS: Final = 20
"""How often it begins anew because somebody committed while its record was stored."""


def delete_run(context: StoreContext, key: RunKey) -> DeletionReceipt:
    """Delete a run; its forks stay. UnknownRunError if there is none."""

    def delete(connection: Connection, doomed: Sequence[Doomed]) -> DeletionReceipt:
        if not doomed:
            raise UnknownRunError(key.session, key.run)
        ((run_id, session_id, *_),) = doomed
        files, versions = deletion.count_versions(connection, [run_id])
        released = deletion.list_released(connection, session_id, [run_id])
        kept = deletion.list_kept(connection, session_id, [run_id])
        note_released(connection, [run_id])
        deletion.delete_runs(connection, [run_id])
        return DeletionReceipt(key.session, (key.run,), files, versions, released, kept)

    return _delete(context, key.session, key.run, delete)


def delete_session(context: StoreContext, session: str) -> DeletionReceipt:
    """Delete a session with its runs, forks included. UnknownSessionError if there is none."""

    def delete(connection: Connection, doomed: Sequence[Doomed]) -> DeletionReceipt:
        session_id = deletion.find_session(connection, session)
        if session_id is None:
            raise UnknownSessionError(session)
        names = tuple(run.name for run in doomed)
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
    delete: Callable[[Connection, Sequence[Doomed]], DeletionReceipt],
) -> DeletionReceipt:
    """Note what will be deleted of a session, one run or None for all, and delete just that."""

    def attempt(_records: Sequence[Digest] | None) -> DeletionReceipt:
        with context.database.reading() as connection:
            doomed = deletion.list_doomed(connection, session, run)
        if not doomed:  # nothing was ever recorded in it, if it is there at all
            with context.database.writing() as connection:
                return delete(connection, doomed)
        entry = DeletionEntry(
            created_at=context.clock(),
            session=session,
            runs=[
                (run.name, _text(run.newest_record), run.created_at.isoformat()) for run in doomed
            ],
        )
        written, record = store_entry(context.blobs, entry)
        with context.database.writing() as connection:
            if deletion.list_doomed(connection, session, run, lock=True) != doomed:
                raise CommitConflict
            record_blobs(connection, written, (), entry.created_at)
            journal.insert_loose(connection, record)
            return delete(connection, doomed)

    return retry_on_conflict(attempt, attempts=_ATTEMPTS, name=run or session)


def _text(digest: Digest | None) -> str | None:
    return None if digest is None else str(digest)
