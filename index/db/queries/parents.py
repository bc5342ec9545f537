"""Queries on the link from a run to the run that it is a part of.

The link is a name: the parent may be recorded later, in this session. It ends when the parent is
deleted. So no statement may rely on the parent to exist.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import literal, select, update

from index.db import tables

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy.engine import Connection

__all__ = ["end_links", "is_below", "list_linked"]


def is_below(connection: Connection, session: str, run: str, top: str) -> bool:
    """Whether a run is another one, or a part of it, or of one of its parts."""
    mine = tables.runs.c
    above = select(literal(run, mine.name.type).label("name")).cte("above", recursive=True)
    # UNION drops what was found before, so links in a circle come to an end.
    above = above.union(
        select(mine.parent)
        .join(tables.sessions, tables.sessions.c.id == mine.session_id)
        .join(above, above.c.name == mine.name)
        .where(tables.sessions.c.name == session, mine.parent.is_not(None))
    )
    found = select(above.c.name).where(above.c.name == top).limit(1)
    return connection.scalar(found) is not None


def list_linked(connection: Connection, session: str, parent: str) -> list[int]:
    """Return the row ids of the runs that are a part of a run, which need not exist."""
    mine = tables.runs.c
    statement = (
        select(mine.id)
        .join(tables.sessions, tables.sessions.c.id == mine.session_id)
        .where(tables.sessions.c.name == session, mine.parent == parent)
        .order_by(mine.id)
    )
    return list(connection.scalars(statement))


def end_links(connection: Connection, dead: Collection[int]) -> None:
    """End the links to runs that are about to be deleted."""
    mine, parent = tables.runs.c, tables.runs.alias().c
    is_dead = (
        select(parent.id)
        .where(
            parent.id.in_(dead), parent.session_id == mine.session_id, parent.name == mine.parent
        )
        .exists()
    )
    connection.execute(update(tables.runs).where(is_dead).values(parent=None))
