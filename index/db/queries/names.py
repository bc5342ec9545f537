"""Queries on names that exist: for errors that name the closest ones, and for completion."""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Text, literal, select, type_coerce

from index.db import tables
from index.db.column_types import encode_path
from index.db.queries.files import visible_at
from index.db.queries.listings import has_prefix
from index.db.queries.run_tags import find_run_name, list_run_tags
from index.db.queries.runs import find_run
from index.db.queries.tags import find_tag
from index.domain.listing import closest
from index.errors import UnknownRunError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Column, ColumnElement
    from sqlalchemy.engine import Connection

    from index.db.queries.runs import FoundRun

__all__ = ["list_entries", "list_names", "unknown_run"]

_LABELS: Final[dict[str, Column[Any]]] = {
    **{name: tables.counts.c[column] for name, column in tables.PROVENANCE_COLUMNS.items()},
    "file_type": tables.counts.c.file_type,
}
"""Columns of labels that have few values, by attribute of a version."""

_COMPARED: Final = 300
"""Names that are compared with one that does not exist: the newest. Each takes 17 µs."""

_AFTER_SLASH: Final = "0"
"""In byte order, what is below a directory comes before its path with this in the slash's place."""


def unknown_run(connection: Connection, session: str, run: str) -> UnknownRunError:
    """Return the error for a run that a session does not have, with the closest ones it has."""
    mine = tables.runs.c
    statement = (
        select(mine.name)
        .join(tables.sessions, tables.sessions.c.id == mine.session_id)
        .where(tables.sessions.c.name == session)
        .order_by(mine.created_at.desc())
    )
    found: Sequence[str]
    if run.startswith("@"):
        found = _list_run_tags(connection, session, "@")
    else:
        found = connection.scalars(statement.limit(_COMPARED)).all()
    return UnknownRunError(session, run, closest(run, found))


def list_names(
    connection: Connection, kind: str, begin: str, session: str, run: str | None, *, limit: int
) -> Sequence[str]:
    """Return names of a kind that begin with a text; see `index.reading.completion`."""
    if run is not None and run.startswith("@"):
        run = find_run_name(connection, session, run[1:]) or run
    if kind == "session":
        return _list_sessions(connection, begin, limit=limit)
    if kind == "run" and begin.startswith("@"):
        return _list_run_tags(connection, session, begin)[:limit]
    if kind == "run":
        return _list_runs(connection, session, begin, limit=limit)
    if kind in _LABELS:
        return _list_labels(connection, kind, session, run, begin=begin, limit=limit)
    mine = _find_run(connection, session, run)
    if mine is None:
        return ()
    tags = _list_tags(connection, mine.id, begin) if kind in ("snapshot", "tag") else []
    if kind == "tag":
        return tags[:limit]
    if kind == "snapshot":
        numbers = map(str, range(mine.newest_snapshot, 0, -1))
        offered = chain(tags, (each for each in numbers if each.startswith(begin)))
        return list(islice(offered, limit))
    return _list_paths(connection, mine.id, begin, limit)


def _find_run(connection: Connection, session: str, run: str | None) -> FoundRun | None:
    if run is None:
        only = _list_runs(connection, session, limit=2)
        if len(only) != 1:
            return None
        (run,) = only
    return find_run(connection, session, run)


def _list_paths(connection: Connection, run_id: int, begin: str, limit: int) -> list[str]:
    """Return paths and directories. A directory that is alone stands for what is in it.

    So a shell does not think that it is done, and end the word.
    """
    found = list_entries(connection, run_id, begin, limit)
    while len(found) == 1 and found[0].endswith("/"):
        found = list_entries(connection, run_id, found[0], limit)
    return found


def _list_tags(connection: Connection, run_id: int, begin: str) -> list[str]:
    name = tables.tags.c.name
    statement = select(name).where(tables.tags.c.run_id == run_id, _begins(name, begin)).distinct()
    return [
        each
        for each in connection.scalars(statement.order_by(name))
        if find_tag(connection, run_id, each) is not None
    ]


def _list_run_tags(connection: Connection, session: str, begin: str) -> list[str]:
    """Return the tags of runs as they are written in the place of a run's id."""
    found = (f"@{tag.name}" for tag in list_run_tags(connection, session))
    return [each for each in found if each.startswith(begin)]


def _list_sessions(connection: Connection, begin: str = "", *, limit: int) -> Sequence[str]:
    name = tables.sessions.c.name
    statement = select(name).where(_begins(name, begin)).order_by(name).limit(limit)
    return connection.scalars(statement).all()


def _list_runs(
    connection: Connection, session: str, begin: str = "", *, limit: int
) -> Sequence[str]:
    mine = tables.runs.c
    statement = (
        select(mine.name)
        .join(tables.sessions, tables.sessions.c.id == mine.session_id)
        .where(tables.sessions.c.name == session, _begins(mine.name, begin))
        .order_by(mine.name)
        .limit(limit)
    )
    return connection.scalars(statement).all()


def _list_labels(
    connection: Connection,
    label: str,
    session: str,
    run: str | None = None,
    *,
    begin: str,
    limit: int,
) -> Sequence[str]:
    column = _LABELS[label]
    statement = (
        select(column)
        .join(tables.runs, tables.runs.c.id == tables.counts.c.run_id)
        .join(tables.sessions, tables.sessions.c.id == tables.runs.c.session_id)
        .where(tables.sessions.c.name == session, column.is_not(None), _begins(column, begin))
        .distinct()
        .order_by(column)
        .limit(limit)
    )
    if run is not None:
        statement = statement.where(tables.runs.c.name == run)
    return connection.scalars(statement).all()


def list_entries(connection: Connection, run_id: int, begin: str, limit: int) -> list[str]:
    """Return current paths that begin with a text; a directory stands for the files in it.

    Each takes one step in an index, however many files a directory has.
    """
    path = tables.files.c.path
    raw = type_coerce(path, Text())
    mine = (tables.files.c.run_id == run_id, visible_at(None), *has_prefix(begin))
    found: list[str] = []
    after: ColumnElement[bool] | None = None
    while len(found) < limit:
        more = () if after is None else (after,)
        next_one = connection.scalar(select(path).where(*mine, *more).order_by(path).limit(1))
        if next_one is None:
            break
        name, slash, _ = next_one[len(begin) :].partition("/")
        entry = f"{begin}{name}{slash}"
        found.append(entry)
        if slash:
            after = raw >= encode_path(f"{begin}{name}") + _AFTER_SLASH
        else:
            after = path > literal(entry, path.type)
    return found


def _begins(column: Column[Any], text: str) -> ColumnElement[bool]:
    return column.startswith(text, autoescape=True)
