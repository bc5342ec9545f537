"""Deleting runs and sessions, with a receipt. Bytes are left to garbage collection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from index.errors import UnknownRunError, UnknownSessionError
from index.records import DeletionReceipt
from index.repository import deletion, runs
from index.repository.released import note_released

if TYPE_CHECKING:
    from index.database import Database
    from index.recording import RunKey

__all__ = ["delete_run", "delete_session"]


def delete_run(database: Database, key: RunKey) -> DeletionReceipt:
    """Delete a run; its forks stay. UnknownRunError if there is none."""
    with database.writing() as connection:
        found = runs.find_run(connection, key.session, key.run)
        session_id = deletion.find_session(connection, key.session)
        if found is None or session_id is None:
            raise UnknownRunError(key.session, key.run)
        doomed = [found.id]
        files, versions = deletion.count_versions(connection, doomed)
        released = deletion.list_released(connection, session_id, doomed)
        kept = deletion.list_kept(connection, session_id, doomed)
        note_released(connection, doomed)
        deletion.delete_runs(connection, doomed)
    return DeletionReceipt(key.session, (key.run,), files, versions, released, kept)


def delete_session(database: Database, session: str) -> DeletionReceipt:
    """Delete a session with its runs, forks included. UnknownSessionError if there is none."""
    with database.writing() as connection:
        session_id = deletion.find_session(connection, session)
        if session_id is None:
            raise UnknownSessionError(session)
        names = deletion.run_names(connection, session_id)
        files, versions = deletion.count_versions(connection, deletion.ids_of(session_id))
        released = deletion.list_contents(connection, session_id)
        note_released(connection, deletion.ids_of(session_id))
        deletion.delete_session(connection, session_id)
    return DeletionReceipt(session, names, files, versions, released, ())
