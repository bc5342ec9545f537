"""Who had the blobs to which nothing refers any more: told when they are collected."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, exists, func, null, or_, select

from index import tables
from index.bulk import dialect_insert

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from sqlalchemy import Select
    from sqlalchemy.engine import Connection

    from cas.digest import Digest

__all__ = ["forget", "list_referenced", "note_released"]

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
