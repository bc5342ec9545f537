"""Deleting runs, and what that leaves behind. Only rows: bytes are garbage collection's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import delete, exists, func, null, or_, select

from index.db import tables
from index.db.bulk import dialect_insert
from index.domain.reports import KeptBlob, ReleasedBlob

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from sqlalchemy import Select
    from sqlalchemy.engine import Connection

    from cas.digest import Digest

__all__ = [
    "Doomed",
    "count_versions",
    "delete_runs",
    "delete_session",
    "find_session",
    "forget",
    "ids_of",
    "list_contents",
    "list_doomed",
    "list_kept",
    "list_referenced",
    "list_released",
    "note_released",
]


def find_session(connection: Connection, session: str) -> int | None:
    """Return the row id of a session."""
    return connection.scalar(select(tables.sessions.c.id).where(tables.sessions.c.name == session))


def ids_of(session_id: int) -> Select[Any]:
    """Return the query of a session's runs, to use within others: there may be many."""
    return select(tables.runs.c.id).where(tables.runs.c.session_id == session_id)


class Doomed(NamedTuple):
    """A run that is to be deleted, as it was found."""

    id: int
    session_id: int
    name: str
    revision: int
    newest_record: Digest | None
    created_at: datetime


def list_doomed(
    connection: Connection, session: str, run: str | None, *, lock: bool = False
) -> list[Doomed]:
    """Return a run of a session, or None for all of them, oldest first.

    Parameters
    ----------
    lock
        Whether nobody else may change them until the transaction ends.
    """
    columns = tables.runs.c
    statement = (
        select(*(columns[name] for name in Doomed._fields))
        .join(tables.sessions, tables.sessions.c.id == columns.session_id)
        .where(tables.sessions.c.name == session)
        .order_by(columns.id)
    )
    if run is not None:
        statement = statement.where(columns.name == run)
    if lock:
        statement = statement.with_for_update(of=tables.runs)
    return [Doomed(*row) for row in connection.execute(statement)]


def count_versions(
    connection: Connection, doomed: Collection[int] | Select[Any]
) -> tuple[int, int]:
    """Return how many current files and how many file versions runs have."""
    current, versions = connection.execute(
        select(func.count().filter(tables.files.c.end_snapshot.is_(None)), func.count()).where(
            tables.files.c.run_id.in_(doomed)
        )
    ).one()
    return current, versions


def list_released(
    connection: Connection, session_id: int, doomed: Collection[int]
) -> tuple[ReleasedBlob, ...]:
    """Return the contents that only the doomed runs of a session refer to, by digest."""
    mine = _contents_of(doomed).subquery()
    elsewhere = tables.files.alias()
    # Asked once for each content, not for each version: runs repeat contents by the thousand.
    rows = connection.execute(
        select(mine.c.digest, mine.c.size)
        .where(
            ~select(elsewhere.c.id)
            .join(tables.runs, tables.runs.c.id == elsewhere.c.run_id)
            .where(
                elsewhere.c.digest == mine.c.digest,
                tables.runs.c.session_id == session_id,
                elsewhere.c.run_id.not_in(doomed),
            )
            .exists()
        )
        .order_by(mine.c.digest)
    )
    return tuple(ReleasedBlob(*row) for row in rows)


def list_contents(connection: Connection, session_id: int) -> tuple[ReleasedBlob, ...]:
    """Return every content that a session refers to, by digest."""
    statement = _contents_of(ids_of(session_id)).order_by(tables.files.c.digest)
    return tuple(ReleasedBlob(*row) for row in connection.execute(statement))


def _contents_of(run_ids: Collection[int] | Select[Any]) -> Select[Any]:
    return (
        select(tables.files.c.digest, func.max(tables.files.c.size).label("size"))
        .where(tables.files.c.run_id.in_(run_ids), tables.files.c.digest.is_not(None))
        .group_by(tables.files.c.digest)
    )


def list_kept(
    connection: Connection, session_id: int, doomed: Collection[int]
) -> tuple[KeptBlob, ...]:
    """Return the contents of the doomed runs that others of the session hold, with one of those."""
    holder = tables.files.alias()
    mine = select(tables.files.c.digest).where(tables.files.c.run_id.in_(doomed))
    first = (
        select(
            holder.c.digest,
            func.min(holder.c.id).label("holder_id"),
            func.count(func.distinct(holder.c.run_id)).label("runs"),
        )
        .join(tables.runs, tables.runs.c.id == holder.c.run_id)
        .where(
            tables.runs.c.session_id == session_id,
            holder.c.run_id.not_in(doomed),
            holder.c.digest.in_(mine),
        )
        .group_by(holder.c.digest)
        .subquery()
    )
    rows = connection.execute(
        select(
            first.c.digest,
            tables.files.c.size,
            tables.runs.c.name,
            tables.files.c.path,
            first.c.runs,
        )
        .join(tables.files, tables.files.c.id == first.c.holder_id)
        .join(tables.runs, tables.runs.c.id == tables.files.c.run_id)
        .order_by(first.c.digest)
    )
    return tuple(KeptBlob(*row) for row in rows)


def delete_runs(connection: Connection, doomed: Collection[int]) -> None:
    """Delete runs with all their rows; copies of their versions elsewhere stay."""
    connection.execute(delete(tables.runs).where(tables.runs.c.id.in_(doomed)))


def delete_session(connection: Connection, session_id: int) -> None:
    """Delete a session with all its rows. Copies never lie in another session."""
    connection.execute(delete(tables.sessions).where(tables.sessions.c.id == session_id))


_NAMES = ("session", "run", "path", "agent")


def note_released(connection: Connection, doomed: Collection[int] | Select[Any]) -> None:
    """Note who had what runs, which are about to be deleted, leave to nobody.

    Of each content the first version, and of each record of a commit the first run that has it.
    Before the runs are deleted: as long as they refer to a blob, nobody can take it away from under
    its note.
    """
    for found in (_contents(doomed), _records(doomed)):
        names = found.selected_columns.keys()
        insert = dialect_insert(connection, tables.released).from_select(names, found)
        connection.execute(
            insert.on_conflict_do_update(
                index_elements=["digest"], set_={name: insert.excluded[name] for name in _NAMES}
            )
        )


def _contents(doomed: Collection[int] | Select[Any]) -> Select[Any]:
    version = tables.files.alias()
    other = tables.files.alias()
    mine = (
        select(tables.files.c.digest, func.min(tables.files.c.id).label("first"))
        .where(tables.files.c.run_id.in_(doomed), tables.files.c.digest.is_not(None))
        .group_by(tables.files.c.digest)
        .subquery()
    )
    # Asked once for each content, not for each version: runs repeat contents by the thousand.
    is_shared = exists().where(other.c.digest == mine.c.digest, other.c.run_id.not_in(doomed))
    return (
        select(
            mine.c.digest,
            tables.sessions.c.name.label("session"),
            tables.runs.c.name.label("run"),
            version.c.path,
            version.c.generating_agent.label("agent"),
        )
        .join(version, version.c.id == mine.c.first)
        .join(tables.runs, tables.runs.c.id == version.c.run_id)
        .join(tables.sessions, tables.sessions.c.id == tables.runs.c.session_id)
        .where(~is_shared)
        .order_by(mine.c.digest)  # rows come in the order of the key they are kept by
    )


def _records(doomed: Collection[int] | Select[Any]) -> Select[Any]:
    other = tables.records.alias()
    mine = (
        select(tables.records.c.digest, func.min(tables.records.c.run_id).label("run_id"))
        .where(tables.records.c.run_id.in_(doomed))
        .group_by(tables.records.c.digest)
        .subquery()
    )
    is_shared = exists().where(other.c.digest == mine.c.digest, other.c.run_id.not_in(doomed))
    return (
        select(
            mine.c.digest,
            tables.sessions.c.name.label("session"),
            tables.runs.c.name.label("run"),
            null().label("path"),
            null().label("agent"),
        )
        .join(tables.runs, tables.runs.c.id == mine.c.run_id)
        .join(tables.sessions, tables.sessions.c.id == tables.runs.c.session_id)
        .where(~is_shared)
        .order_by(mine.c.digest)
    )


def list_referenced(connection: Connection, limit: int) -> list[Digest]:
    """Return noted blobs that file versions or runs refer to again, at most so many."""
    noted = tables.released.c.digest
    is_needed = or_(
        exists().where(tables.files.c.digest == noted),
        exists().where(tables.records.c.digest == noted),
    )
    return list(connection.scalars(select(noted).where(is_needed).limit(limit)))


def forget(connection: Connection, digests: Sequence[Digest]) -> int:
    """Forget who had blobs before; what a deletion notes right now is left. Return how many."""
    noted = tables.released.c.digest
    chosen = select(noted).where(noted.in_(digests)).with_for_update(skip_locked=True)
    gone = connection.scalars(chosen).all()
    connection.execute(delete(tables.released).where(noted.in_(gone)))
    return len(gone)
