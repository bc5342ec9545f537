"""Queries on tags of runs. A row is a move of a tag; of a name, the highest position counts."""

from __future__ import annotations

import math
from collections import defaultdict
from functools import cache
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import and_, exists, func, insert, literal, select

from index.db import tables
from index.db.bulk import dialect_insert
from index.domain.tags import NewRunTag, RunTag

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
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


class _Move(NamedTuple):
    """A move of a tag, as this index has it."""

    run_id: int | None
    run: str | None
    is_removed: bool
    created_at: datetime


def list_lacking(
    connection: Connection,
    session: str,
    run: str,
    rows: Sequence[Mapping[str, Any]],
    *,
    is_copy: bool,
) -> list[Mapping[str, Any]]:
    """Return those of `list_rows` of a run in another index that `merge` is to bring here.

    A tag that names a run here goes on naming one: a move to a run that is elsewhere stays behind
    until that run comes, and so does the removal from a run that the tag does not name here.

    Parameters
    ----------
    session, run
        What they are called here.
    is_copy
        Whether the rows may be about other tags, of a session that is not this one. Then a tag with
        another history stays as it is.
    """
    if not rows:
        return []
    found = connection.execute(
        select(
            _MINE.name,
            _MINE.position,
            _MINE.run_id,
            tables.runs.c.name,
            _MINE.is_removed,
            _MINE.created_at,
        )
        .join(tables.sessions, tables.sessions.c.id == _MINE.session_id)
        .outerjoin(tables.runs, tables.runs.c.id == _MINE.run_id)
        .where(tables.sessions.c.name == session)
    )
    here: defaultdict[str, dict[int, _Move]] = defaultdict(dict)
    for name, position, *move in found:
        here[name][position] = _Move(*move)
    lacking: list[Mapping[str, Any]] = []
    for name, moves in groupby(rows, key=itemgetter("name")):
        lacking += _lacking(list(moves), here[name], run, is_copy=is_copy)
    return lacking


def _lacking(
    rows: Sequence[Mapping[str, Any]], here: Mapping[int, _Move], run: str, *, is_copy: bool
) -> Iterator[Mapping[str, Any]]:
    """Yield what is lacking of the moves of one tag."""
    known = [(row, here[row["position"]]) for row in rows if row["position"] in here]
    if is_copy and any(row["created_at"] != move.created_at for row, move in known):
        return
    last = _last_to_bring(rows, here, run)
    for row in rows:
        move = here.get(row["position"])
        is_new = move is None and row["position"] <= last
        if is_new or (
            move is not None
            and row["is_mine"]
            and (move.run_id, move.created_at) == (None, row["created_at"])
        ):
            yield row


def _last_to_bring(
    rows: Sequence[Mapping[str, Any]], here: Mapping[int, _Move], run: str
) -> int | float:
    newest = max(here, default=0)
    if not newest or here[newest].run is None or here[newest].is_removed:
        return math.inf  # the tag names nothing here
    last = newest
    is_named = here[newest].run == run
    for row in rows:
        if row["position"] > newest:
            if row["is_mine"] and (is_named or not row["is_removed"]):
                last = row["position"]
            is_named = row["is_mine"] and not row["is_removed"]
    return last


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
