"""Queries on holds of sessions and runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, or_, select, update

from index.db import tables
from index.domain.holds import Hold
from index.errors import HeldError

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from sqlalchemy import ColumnElement
    from sqlalchemy.engine import Connection

__all__ = ["check", "insert_hold", "list_holds", "list_holds_of", "release"]


def list_holds(
    connection: Connection, session: str, *conditions: ColumnElement[bool], past: bool = False
) -> list[Hold]:
    """Return the holds of a session and its runs, oldest first; with `past` released ones, too."""
    columns = tables.holds.c
    names = ("reason", "agent", "created_at", "released_at", "release_reason", "released_by")
    statement = (
        select(tables.sessions.c.name, tables.runs.c.name, *(columns[name] for name in names))
        .join(tables.sessions, tables.sessions.c.id == columns.session_id)
        .outerjoin(tables.runs, tables.runs.c.id == columns.run_id)
        .where(tables.sessions.c.name == session, *conditions)
        .order_by(columns.created_at, columns.id)
    )
    if not past:
        statement = statement.where(columns.released_at.is_(None))
    return [Hold(*row) for row in connection.execute(statement)]


def list_holds_of(
    connection: Connection, session: str, run: str, *, past: bool = False
) -> list[Hold]:
    """Return the holds of a run: its own, and those of its whole session."""
    concerned = or_(tables.holds.c.run_id.is_(None), tables.runs.c.name == run)
    return list_holds(connection, session, concerned, past=past)


def check(connection: Connection, session: str, run_ids: Collection[int] | None) -> None:
    """Raise HeldError if a session is held, or one of these runs of it (None for any)."""
    run_id = tables.holds.c.run_id
    concerned = [] if run_ids is None else [or_(run_id.is_(None), run_id.in_(run_ids))]
    for hold in list_holds(connection, session, *concerned):
        raise HeldError(session, hold.run, hold.reason, f"{hold.created_at:%Y-%m-%d}")


def insert_hold(
    connection: Connection,
    session_id: int,
    run_id: int | None,
    *,
    reason: str,
    agent: str | None,
    now: datetime,
) -> None:
    """Insert a hold of a session, or of one run of it, unless the same one is in force.

    A sync that was interrupted may have stored a record of the same hold before.
    """
    columns = tables.holds.c
    values = {"session_id": session_id, "run_id": run_id, "reason": reason, "created_at": now}
    same = (columns[name].is_not_distinct_from(value) for name, value in values.items())
    known = select(columns.id).where(*same, columns.released_at.is_(None))
    if connection.execute(known).first() is None:
        connection.execute(insert(tables.holds).values(**values, agent=agent))


def release(
    connection: Connection,
    session_id: int,
    run_id: int | None,
    *,
    reason: str,
    agent: str | None,
    now: datetime,
) -> None:
    """Release the holds of a session, or of one run of it. Others stay."""
    columns = tables.holds.c
    values: dict[str, Any] = {"released_at": now, "release_reason": reason, "released_by": agent}
    connection.execute(
        update(tables.holds)
        .where(
            columns.session_id == session_id,
            columns.run_id.is_(None) if run_id is None else columns.run_id == run_id,
            columns.released_at.is_(None),
        )
        .values(**values)
    )
