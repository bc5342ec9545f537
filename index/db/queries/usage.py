"""Queries on the bytes that a session holds, and on its quota."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select, update

from index.db import tables
from index.domain.usage import Usage

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

__all__ = ["find_usage", "lock_usage", "set_quota"]


def find_usage(connection: Connection, session: str) -> Usage | None:
    """Return how much a session holds and may hold; None if there is no such session."""
    kept, mine = tables.counts.c, tables.sessions.c
    held = (
        select(func.coalesce(func.sum(kept.distinct_bytes), 0))
        .join(tables.runs, tables.runs.c.id == kept.run_id)
        .where(tables.runs.c.session_id == mine.id)
        .scalar_subquery()
    )
    found = connection.execute(select(held, mine.quota_bytes).where(mine.name == session)).first()
    return None if found is None else Usage(session, int(found[0]), found[1])


def lock_usage(connection: Connection, session: str) -> Usage | None:
    """Return as `find_usage` does; None without a quota.

    With a quota, other transactions that call it wait, so that no two count the same free bytes.
    """
    mine = tables.sessions.c
    statement = select(mine.quota_bytes).where(mine.name == session, mine.quota_bytes.is_not(None))
    if connection.scalar(statement.with_for_update(key_share=True)) is None:
        return None
    return find_usage(connection, session)


def set_quota(connection: Connection, session: str, quota: int | None) -> None:
    """Set the quota of a session; None for none."""
    columns = tables.sessions.c
    connection.execute(
        update(tables.sessions).where(columns.name == session).values(quota_bytes=quota)
    )
