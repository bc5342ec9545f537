"""Queries that list runs: with what they hold, or only how far they are."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import BigInteger, Text, and_, case, cast, func, literal, select, tuple_

from index.db import tables
from index.db.queries.run_tags import is_newest
from index.domain.names import RunKey
from index.domain.runs import RunSummary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, FromClause
    from sqlalchemy.engine import Connection

__all__ = ["RunState", "list_run_states", "list_runs"]

_AGENT: Final = tables.PROVENANCE_COLUMNS["agent"]
_NEWEST: Final = tables.snapshots.alias()
_ORIGIN: Final = tables.runs.alias()


class RunState(NamedTuple):
    """How far a run is."""

    id: int
    """Of its row: a run that was deleted and made again has another one."""
    revision: int
    snapshot: int
    """The number of the newest one, or 0."""


def list_run_states(connection: Connection, session: str | None) -> dict[RunKey, RunState]:
    """Return how far each run of a session, or of all sessions, is."""
    mine = tables.runs.c
    newest = (
        select(func.coalesce(func.max(tables.snapshots.c.number), 0))
        .where(tables.snapshots.c.run_id == mine.id)
        .scalar_subquery()
    )
    statement = select(tables.sessions.c.name, mine.name, mine.id, mine.revision, newest).join(
        tables.sessions, tables.sessions.c.id == mine.session_id
    )
    if session is not None:
        statement = statement.where(tables.sessions.c.name == session)
    rows = connection.execute(statement)
    return {RunKey(session, run): RunState(*state) for session, run, *state in rows}


def list_runs(
    connection: Connection,
    session: str | None = None,
    run: str | None = None,
    *,
    limit: int | None = None,
    before: RunSummary | None = None,
    like: str | None = None,
    status: str | None = None,
    agent: str | None = None,
    parent: str | None = None,
) -> list[RunSummary]:
    """Return the runs of a session, or of all sessions, by last activity, the newest last.

    What a run holds comes from its kept counts, and its activity from its newest snapshot. So the
    cost does not grow with its versions. The counts are read only for the runs of the result.

    Parameters
    ----------
    run
        Only the run with this id.
    limit
        Only so many: those that were active last.
    before
        Only runs that come before this one in the order.
    like
        Only runs whose id fulfils `IdPattern.like`. Databases differ in whether case matters.
    status
        Only runs with this status.
    agent
        Only runs that have a version by this agent, current or past.
    parent
        Only runs that are a part of the run with this id.
    """
    mine, newest = tables.runs.c, _NEWEST
    number = (
        select(func.max(tables.snapshots.c.number))
        .where(tables.snapshots.c.run_id == mine.id)
        .scalar_subquery()
    )
    is_later = newest.c.created_at > mine.created_at
    active_at = case((is_later, newest.c.created_at), else_=mine.created_at)
    order: tuple[ColumnElement[Any], ...]
    order = (active_at, mine.created_at, tables.sessions.c.name, mine.name)
    page = (
        select(
            mine.id,
            tables.sessions.c.name.label("session"),
            func.coalesce(newest.c.number, 0).label("snapshots"),
            active_at.label("active_at"),
        )
        .select_from(tables.runs)
        .join(tables.sessions, tables.sessions.c.id == mine.session_id)
        .outerjoin(newest, and_(newest.c.run_id == mine.id, newest.c.number == number))
        .order_by(*(column.desc() for column in order))
        .limit(limit)
    )
    if session is not None:
        page = page.where(tables.sessions.c.name == session)
    if run is not None:
        page = page.where(mine.name == run)
    if before is not None:
        place = (before.active_at, before.created_at, before.session, before.run)
        values = (literal(value, column.type) for value, column in zip(place, order, strict=True))
        page = page.where(tuple_(*order) < tuple_(*values))
    if like is not None:
        page = page.where(mine.name.like(like, escape="\\"))
    if status is not None:
        page = page.where(mine.status == status)
    if agent is not None:
        kept = tables.counts.c
        by_agent = (kept.run_id == mine.id, kept[_AGENT] == agent, kept.versions > 0)
        page = page.where(select(kept.run_id).where(*by_agent).exists())
    if parent is not None:
        page = page.where(mine.parent == parent)
    return _summaries(connection, page.subquery())


@cache
def _held(*, is_server: bool) -> tuple[ColumnElement[Any], ...]:
    """Return what a summary says of what a run holds, and of its tags and agents as JSON."""
    mine, kept, moves = tables.runs.c, tables.counts.c, tables.run_tags.c
    as_json = func.json_agg if is_server else func.json_group_array
    files, size = (
        select(cast(func.coalesce(func.sum(column), 0), BigInteger))
        .where(kept.run_id == mine.id)
        .scalar_subquery()
        for column in (kept.files, kept.bytes)
    )
    named = (
        select(cast(as_json(moves.name), Text))
        .where(moves.run_id == mine.id, ~moves.is_removed, is_newest())
        .scalar_subquery()
    )
    agents = (
        select(cast(as_json(kept[_AGENT].distinct()), Text))
        .where(kept.run_id == mine.id, kept.versions > 0, kept[_AGENT].is_not(None))
        .scalar_subquery()
    )
    return files, size, named, agents


def _summaries(connection: Connection, page: FromClause) -> list[RunSummary]:
    mine = tables.runs.c
    files, size, named, agents = _held(is_server=connection.dialect.name == "postgresql")
    order = (page.c.active_at, mine.created_at, page.c.session, mine.name)
    rows = connection.execute(
        select(
            page.c.session,
            mine.name,
            page.c.snapshots,
            files,
            size,
            mine.created_at,
            page.c.active_at,
            _ORIGIN.c.name,
            mine.forked_snapshot,
            mine.work_dir,
            *(mine[name] for name in tables.DESCRIPTION_COLUMNS),
            named,
            agents,
        )
        .select_from(page)
        .join(tables.runs, mine.id == page.c.id)
        .outerjoin(_ORIGIN, _ORIGIN.c.id == mine.forked_from_id)
        .order_by(*order)
    )
    return [_summary(row) for row in rows]


def _summary(row: Sequence[Any]) -> RunSummary:
    *columns, parent, notes, tags, agents = row
    lists = (tuple(sorted(json.loads(each or "[]"))) for each in (tags, agents))
    values = (*columns, parent or None, notes, *lists)
    return RunSummary(*values)
