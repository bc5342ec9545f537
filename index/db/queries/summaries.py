"""The query that lists runs with what they hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import BigInteger, and_, case, cast, func, select

from index.db import tables
from index.domain.runs import RunSummary

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

__all__ = ["list_runs"]


def list_runs(
    connection: Connection,
    session: str | None = None,
    run: str | None = None,
    *,
    limit: int | None = None,
) -> list[RunSummary]:
    """Return the runs of a session, or of all sessions, by last activity, the newest last.

    What a run holds comes from its kept counts, and its activity from its newest snapshot. So the
    cost does not grow with its versions.

    Parameters
    ----------
    run
        Only runs with this id.
    limit
        Only so many: those that were active last.
    """
    mine, parent, newest = tables.runs.c, tables.runs.alias(), tables.snapshots.alias()
    number = (
        select(func.max(tables.snapshots.c.number))
        .where(tables.snapshots.c.run_id == mine.id)
        .scalar_subquery()
    )
    files, size = (
        select(cast(func.coalesce(func.sum(column), 0), BigInteger))
        .where(tables.counts.c.run_id == mine.id)
        .scalar_subquery()
        for column in (tables.counts.c.files, tables.counts.c.bytes)
    )
    is_later = newest.c.created_at > mine.created_at
    active_at = case((is_later, newest.c.created_at), else_=mine.created_at)
    order = (active_at, mine.created_at, tables.sessions.c.name, mine.name)
    statement = (
        select(
            tables.sessions.c.name,
            mine.name,
            func.coalesce(newest.c.number, 0),
            files,
            size,
            mine.created_at,
            active_at,
            parent.c.name,
            mine.parent_snapshot,
            mine.work_dir,
            *(mine[name] for name in tables.STATUS_COLUMNS),
        )
        .select_from(tables.runs)
        .join(tables.sessions, tables.sessions.c.id == mine.session_id)
        .outerjoin(parent, parent.c.id == mine.parent_run_id)
        .outerjoin(newest, and_(newest.c.run_id == mine.id, newest.c.number == number))
        .order_by(*(column.desc() for column in order))
        .limit(limit)
    )
    if session is not None:
        statement = statement.where(tables.sessions.c.name == session)
    if run is not None:
        statement = statement.where(mine.name == run)
    return [RunSummary(*row) for row in reversed(connection.execute(statement).all())]
