"""Queries on tags of runs. A row is a move of a tag; of a name, the highest position counts."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import and_, exists, func, insert, literal, select

from index.db import tables
from index.db.bulk import dialect_insert
from index.domain.tags import NewRunTag, RunTag

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement
    from sqlalchemy.engine import Connection

__all__ = [
    "COLUMNS",
    "append",
    "find_run_name",
    "is_newest",
    "list_lacking",
    "list_moves_of",
    "list_names",
    "list_rows",
    "list_run_tags",
    "merge",
    "newest_position",
]

COLUMNS: Final = ("name", "position", "is_removed", "agent", "created_at")
"""Columns that are the same in every index."""

_MINE: Final = tables.run_tags.c


def newest_position(connection: Connection, session: str, name: str) -> int:
    """Return the position of the newest move of a tag; 0 if there was none."""
    newest = (
        select(func.coalesce(func.max(_MINE.position), 0))
        .join(tables.sessions, tables.sessions.c.id == _MINE.session_id)
        .where(tables.sessions.c.name == session, _MINE.name == name)
    )
    return int(connection.scalars(newest).one())


def append(connection: Connection, run_id: int, moves: Sequence[NewRunTag], now: datetime) -> None:
    """Insert moves by a run whose next revision is claimed.

    Raises IntegrityError if another commit has moved the same tag meanwhile.
    """
    session_id = select(tables.runs.c.session_id).where(tables.runs.c.id == run_id)
    shared = {"session_id": connection.scalar(session_id), "run_id": run_id, "created_at": now}
    rows = [{**move._asdict(), **shared} for move in moves]
    connection.execute(insert(tables.run_tags), rows)


@cache
def is_newest() -> ColumnElement[bool]:
    """Return the condition that a move is the newest of its tag."""
    newer = tables.run_tags.alias()
    return ~exists().where(
        newer.c.session_id == _MINE.session_id,
        newer.c.name == _MINE.name,
        newer.c.position > _MINE.position,
    )


def find_run_name(connection: Connection, session: str, name: str) -> str | None:
    """Return the id of the run that a tag names; None if there is no such tag."""
    found = list_run_tags(connection, session, name)
    return found[0].run if found else None


def list_run_tags(connection: Connection, session: str, name: str | None = None) -> list[RunTag]:
    """Return the tags of the runs of a session, or the one of a name."""
    conditions = [is_newest(), _MINE.run_id.is_not(None), ~_MINE.is_removed]
    return _run_tags(connection, session, name, *conditions)


def list_moves_of(connection: Connection, session: str, name: str) -> list[RunTag]:
    """Return which runs a tag has named, oldest first; none where it was removed."""
    return _run_tags(connection, session, name)


def _run_tags(
    connection: Connection, session: str, name: str | None, *conditions: ColumnElement[bool]
) -> list[RunTag]:
    statement = (
        select(
            tables.sessions.c.name,
            _MINE.name,
            tables.runs.c.name,
            _MINE.is_removed,
            _MINE.agent,
            _MINE.created_at,
        )
        .join(tables.sessions, tables.sessions.c.id == _MINE.session_id)
        .outerjoin(tables.runs, tables.runs.c.id == _MINE.run_id)
        .where(tables.sessions.c.name == session, *conditions)
        .order_by(_MINE.name, _MINE.position)
    )
    if name is not None:
        statement = statement.where(_MINE.name == name)
    return [
        RunTag(session_, tag, None if is_removed else run, agent, created_at)
        for session_, tag, run, is_removed, agent, created_at in connection.execute(statement)
    ]


def list_rows(connection: Connection, run_id: int) -> list[dict[str, Any]]:
    """Return all moves of the tags that a run ever moved, by name and position.

    Each has `COLUMNS`, and `is_mine`: whether it was a commit to this run.
    """
    mine = tables.run_tags.alias()
    shared = and_(mine.c.session_id == _MINE.session_id, mine.c.name == _MINE.name)
    is_mine = func.coalesce(_MINE.run_id == run_id, literal(value=False))
    rows = connection.execute(
        select(*(_MINE[name] for name in COLUMNS), is_mine)
        .where(exists().where(shared, mine.c.run_id == run_id))
        .order_by(_MINE.name, _MINE.position)
    )
    return [dict(zip((*COLUMNS, "is_mine"), row, strict=True)) for row in rows]


def list_names(connection: Connection, run_id: int) -> list[str]:
    """Return the tags that name a run."""
    named = select(_MINE.name).where(_MINE.run_id == run_id, is_newest(), ~_MINE.is_removed)
    return list(connection.scalars(named.order_by(_MINE.name)))


def list_lacking(
    connection: Connection, session: str, rows: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """Return those of `list_rows` of another index that `merge` would bring here."""
    if not rows:
        return []
    found = connection.execute(
        select(_MINE.name, _MINE.position, _MINE.run_id, _MINE.created_at)
        .join(tables.sessions, tables.sessions.c.id == _MINE.session_id)
        .where(tables.sessions.c.name == session)
    )
    here = {(name, position): rest for name, position, *rest in found}

    def is_lacking(row: Mapping[str, Any]) -> bool:
        known = here.get((row["name"], row["position"]))
        return known is None or (row["is_mine"] and known == [None, row["created_at"]])

    return [row for row in rows if is_lacking(row)]


def merge(
    connection: Connection, session_id: int, run_id: int | None, rows: Sequence[Mapping[str, Any]]
) -> None:
    """Insert moves that `list_rows` returned for another index; those that are here stay.

    A move to a run that was not here gets the run once that arrives. A move by another run counts,
    but names nothing until then.

    Parameters
    ----------
    run_id
        The run whose moves they are; None if it is deleted.
    """
    for row in rows:
        owner = run_id if row["is_mine"] else None
        values = {name: row[name] for name in COLUMNS}
        statement = dialect_insert(connection, tables.run_tags).values(
            session_id=session_id, run_id=owner, **values
        )
        key = ["session_id", "name", "position"]
        if owner is None:
            connection.execute(statement.on_conflict_do_nothing(index_elements=key))
            continue
        is_same = and_(_MINE.run_id.is_(None), _MINE.created_at == row["created_at"])
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=key, set_={"run_id": owner}, where=is_same
            )
        )
