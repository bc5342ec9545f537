"""Conditions of SQL for what an expression says of file versions, and of runs that may hold them.

Values are always bound parameters. A comparison reads a version, its run and the tags of that run,
so it says nothing of another session.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import (
    Text,
    and_,
    false,
    func,
    not_,
    or_,
    select,
    true,
    type_coerce,
)

from index.db import tables
from index.db.column_types import PathColumn, encode_path
from index.db.meta_values import add_meta_values, is_missing, meta_value
from index.db.patterns import add_matching, matches
from index.db.queries import run_tags
from index.domain.expressions import Either, Every, needs_meta

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Column, ColumnElement, Select
    from sqlalchemy.engine import Connection

    from index.db.queries.files import Condition
    from index.domain.expressions import Comparison, Expression

__all__ = ["condition_of", "may_hold"]

_LABELS: Final = {
    "type": "file_type",
    "priority": "priority",
    "final": "is_final_output",
    "agent": "generating_agent",
    "phase": "workflow_phase",
    "node": "node_id",
    "step": "step_id",
    "event": "event_id",
    "code": "generating_code_hash",
}
"""Columns that `cas_files` and `cas_counts` have, by their name in an expression."""

_FILES: Final = {
    **{name: name for name in ("path", "size", "version")},
    "name": "path",
    "created": "created_at",
    **_LABELS,
}

_RUNS: Final = {"run": tables.runs.c.name, "status": tables.runs.c.status}


def condition_of(connection: Connection, expression: Expression) -> Condition:
    """Return the condition that an expression is true for a version in `cas_files`."""
    dialect = _prepared(connection)
    files = tables.files.c

    def compare(one: Comparison) -> Condition:
        if one.kind == "tag":
            found = _is_tagged(dialect, one)
            return found if _says_there_is(one) else ~found
        if one.kind == "meta":
            return _compare_meta(dialect, one)
        if one.column in _RUNS:
            run = select(_RUNS[one.column]).where(tables.runs.c.id == files.run_id)
            return _compare(dialect, one, run.scalar_subquery())
        if one.operator == "=" and one.kind == "name":
            return _is_named(dialect, one)
        if one.operator != "~" and one.kind == "name":
            return _compare(dialect, one, _name(dialect))
        return _compare(dialect, one, files[_FILES[one.column]])

    found = _joined(expression, compare)
    return true() if found is None else found


def may_hold(connection: Connection, expression: Expression) -> list[Condition]:
    """Return conditions on `cas_counts` and `cas_runs` of runs that may hold such versions."""
    dialect = _prepared(connection)
    files, run_id = tables.files.c, tables.runs.c.id

    def compare(one: Comparison) -> Condition | None:
        if one.column in _LABELS:
            return _compare(dialect, one, tables.counts.c[_LABELS[one.column]])
        if one.column in _RUNS:
            return _compare(dialect, one, _RUNS[one.column])
        if one.kind == "tag" and _says_there_is(one):
            tags = tables.tags.c
            held = select(tags.id).where(tags.run_id == run_id, _has_name(dialect, one))
            return or_(_any(held), _names_run(dialect, one, run_id))
        if needs_meta(one):
            return _any(select(files.id).where(files.run_id == run_id, files.meta.is_not(None)))
        return None

    found = _joined(expression, compare)
    return [] if found is None else [found]


def _prepared(connection: Connection) -> str:
    """Return the name of the dialect. Add to SQLite the functions that conditions call."""
    dialect = connection.dialect.name
    if dialect == "sqlite":
        driver: Any = connection.connection.driver_connection
        add_matching(driver)
        add_meta_values(driver)
    return dialect


def _joined(
    expression: Expression, compare: Callable[[Comparison], Condition | None]
) -> Condition | None:
    """Return the condition of an expression; None if any row may fulfil it."""
    match expression:
        case Every(parts):
            found = [each for part in parts if (each := _joined(part, compare)) is not None]
            return and_(*found) if found else None
        case Either(parts):
            some = [each for part in parts if (each := _joined(part, compare)) is not None]
            return or_(*some) if len(some) == len(parts) else None
    return compare(expression)


def _compare(dialect: str, one: Comparison, value: ColumnElement[Any]) -> Condition:
    """Return the condition that a value fulfils a comparison. It is unknown for null."""
    found: Condition
    match one.operator:
        case "null":
            found = value.is_(None)
        case "~":
            found = matches(dialect, value, one.kind, str(one.values[0]))
        case "=":
            found = value == one.values[0] if len(one.values) == 1 else value.in_(one.values)
        case _:
            is_text = isinstance(one.values[0], str)
            if is_text and dialect != "sqlite":  # which compares by character
                value = value.collate("C")
            found = value.op(one.operator, is_comparison=True)(one.values[0])
    return not_(found) if one.is_negated else found


def _compare_meta(dialect: str, one: Comparison) -> Condition:
    if one.operator == "null":
        missing = is_missing(dialect, one.keys)
        return not_(missing) if one.is_negated else missing
    return _compare(dialect, one, meta_value(dialect, one.keys, type(one.values[0])))


def _is_named(dialect: str, one: Comparison) -> Condition:
    """Return the condition that the last part of the path is one of some names, or is none.

    To cut out that part costs far more: a call of Python or a regular expression for each row.
    """
    path = tables.files.c.path
    stored = type_coerce(path, Text())
    found: list[Condition] = [false()]
    for name in one.values:
        if "/" not in str(name):
            end = encode_path(f"/{name}")
            is_sqlite = dialect == "sqlite"
            last = func.substr(stored, -len(end)) if is_sqlite else func.right(stored, len(end))
            found += [path == name, last == end]
    return not_(or_(*found)) if one.is_negated else or_(*found)


def _name(dialect: str) -> ColumnElement[Any]:
    """Return the last part of the path, as it is stored."""
    path = type_coerce(tables.files.c.path, Text())
    name = func.cas_name(path) if dialect == "sqlite" else func.substring(path, "[^/]*$")
    return type_coerce(name, PathColumn())


def _says_there_is(one: Comparison) -> bool:
    """Whether a comparison of tags is true for what has such a tag, not for what has none."""
    return one.is_negated == (one.operator == "null")


def _has_name(dialect: str, one: Comparison, name: Column[str] = tables.tags.c.name) -> Condition:
    if one.operator == "null":
        return true()
    return _compare(dialect, replace(one, is_negated=False), name)


def _is_tagged(dialect: str, one: Comparison) -> Condition:
    """Return the condition that a version, a snapshot that holds it, or its run has such a tag."""
    tags, files, newer = tables.tags.c, tables.files.c, tables.tags.alias().c
    moved = select(newer.id).where(
        newer.run_id == tags.run_id, newer.name == tags.name, newer.position > tags.position
    )
    until = or_(files.end_snapshot.is_(None), files.end_snapshot > tags.snapshot)
    found = select(tags.id).where(
        tags.run_id == files.run_id,
        _has_name(dialect, one),
        or_(
            and_(tags.path == files.path, tags.version == files.version),
            and_(tags.snapshot >= files.first_snapshot, until),
        ),
        ~moved.exists(),
    )
    named = _names_run(dialect, one, files.run_id)
    return or_(_any(found.correlate(tables.files)), named)


def _names_run(dialect: str, one: Comparison, run_id: ColumnElement[int]) -> Condition:
    """Return the condition that the run itself has such a tag."""
    moves = tables.run_tags.c
    named = select(moves.id).where(
        moves.run_id == run_id,
        ~moves.is_removed,
        _has_name(dialect, one, moves.name),
        run_tags.is_newest(),
    )
    return _any(named.correlate(tables.files, tables.runs))


def _any(statement: Select[Any]) -> Condition:
    """Return the condition that a subquery finds a row.

    PostgreSQL turns EXISTS into a join, and plans some hundred joins for minutes.
    """
    return statement.limit(1).scalar_subquery().is_not(None)
