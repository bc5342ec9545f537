"""Deleting runs and sessions, with a receipt. Bytes are left to garbage collection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from index.errors import UnknownRunError, UnknownSessionError
from index.records import DeletionReceipt
from index.repository import deletion, runs

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

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
        receipt = _receipt(connection, key.session, session_id, {found.id: key.run})
        deletion.delete_runs(connection, [found.id])
    return receipt


def delete_session(database: Database, session: str) -> DeletionReceipt:
    """Delete a session with its runs, forks included. UnknownSessionError if there is none."""
    with database.writing() as connection:
        session_id = deletion.find_session(connection, session)
        if session_id is None:
            raise UnknownSessionError(session)
        doomed = deletion.run_ids(connection, session_id)
        receipt = _receipt(connection, session, session_id, doomed)
        deletion.delete_session(connection, session_id)
    return receipt


def _receipt(
    connection: Connection, session: str, session_id: int, doomed: dict[int, str]
) -> DeletionReceipt:
    files, versions = deletion.count_versions(connection, list(doomed))
    return DeletionReceipt(
        session=session,
        runs=tuple(doomed.values()),
        files=files,
        versions=versions,
        released=deletion.list_released(connection, session_id, list(doomed)),
        kept=deletion.list_kept(connection, session_id, list(doomed)),
    )
