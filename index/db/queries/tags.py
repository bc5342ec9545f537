"""Queries on tags. A row is a move of a tag; the newest one of a name says where it points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import delete, func, insert, or_, select

from index.db import tables
from index.domain.tags import NewTag, Tag

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy.engine import Connection

__all__ = ["append", "find_tag", "list_moves", "list_rows", "list_tags", "replace"]

COLUMNS: Final = tuple(
    column.name for column in tables.tags.c if column.name not in ("id", "run_id")
)
"""Columns that are the same in every index."""


def append(connection: Connection, run_id: int, moves: Sequence[NewTag], now: datetime) -> None:
    """Insert moves of tags of a run whose next revision is claimed."""
    columns = tables.tags.c
    newest = select(func.coalesce(func.max(columns.position), 0)).where(columns.run_id == run_id)
    first = connection.scalars(newest).one() + 1
    rows = [
        {"run_id": run_id, "position": position, "created_at": now, **move._asdict()}
        for position, move in enumerate(moves, first)
    ]
    connection.execute(insert(tables.tags), rows)


def find_tag(connection: Connection, run_id: int, name: str) -> NewTag | None:
    """Return where a tag of a run points; None if there is no such tag."""
    columns = tables.tags.c
    found = connection.execute(
        select(columns.name, columns.snapshot, columns.path, columns.version, columns.agent)
        .where(columns.run_id == run_id, columns.name == name)
        .order_by(columns.position.desc())
        .limit(1)
    ).first()
    if found is None or (found.snapshot is None and found.path is None):
        return None
    return NewTag(*found)


def list_tags(connection: Connection, session: str, run: str | None = None) -> list[Tag]:
    """Return the tags of a session, or of one run, by run and name."""
    newer = tables.tags.alias()
    columns = tables.tags.c
    is_newest = ~(
        select(newer.c.id)
        .where(
            newer.c.run_id == columns.run_id,
            newer.c.name == columns.name,
            newer.c.position > columns.position,
        )
        .exists()
    )
    names_something = or_(columns.snapshot.is_not(None), columns.path.is_not(None))
    return _tags(connection, session, run, is_newest, names_something)


def list_moves(connection: Connection, session: str, run: str, name: str) -> list[Tag]:
    """Return where a tag has pointed, oldest first; at nothing where it was removed."""
    return _tags(connection, session, run, tables.tags.c.name == name)


def _tags(connection: Connection, session: str, run: str | None, *conditions: Any) -> list[Tag]:  # noqa: ANN401 - conditions of SQLAlchemy
    columns = tables.tags.c
    statement = (
        select(
            tables.sessions.c.name,
            tables.runs.c.name,
            *(columns[name] for name in ("name", "snapshot", "path", "version", "agent")),
            columns.created_at,
        )
        .join(tables.runs, tables.runs.c.id == columns.run_id)
        .join(tables.sessions, tables.sessions.c.id == tables.runs.c.session_id)
        .where(tables.sessions.c.name == session, *conditions)
        .order_by(tables.runs.c.name, columns.name, columns.position)
    )
    if run is not None:
        statement = statement.where(tables.runs.c.name == run)
    rows: Iterable[Any] = connection.execute(statement)
    return [Tag(*row) for row in rows]


def list_rows(connection: Connection, run_id: int) -> list[dict[str, Any]]:
    """Return the moves of all tags of a run, by `COLUMNS`, oldest first."""
    columns = tables.tags.c
    rows = connection.execute(
        select(*(columns[name] for name in COLUMNS))
        .where(columns.run_id == run_id)
        .order_by(columns.position)
    )
    return [dict(zip(COLUMNS, row, strict=True)) for row in rows]


def replace(connection: Connection, run_id: int, rows: Sequence[Mapping[str, Any]]) -> None:
    """Replace the moves of a run by those that `list_rows` returned for another index."""
    connection.execute(delete(tables.tags).where(tables.tags.c.run_id == run_id))
    if rows:
        connection.execute(insert(tables.tags), [{**row, "run_id": run_id} for row in rows])
