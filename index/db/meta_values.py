"""Values in the JSON of `cas_files.meta` in SQL: the same on SQLite and PostgreSQL.

On SQLite the module's function `cas_meta` reads them, as Python does: before release 3.45, SQLite's
own functions find no key that JSON writes with an escape.

PostgreSQL's `jsonb` has no U+0000 and no lone surrogate. Notes with one are not searched, neither
there nor on SQLite; a cast would end the whole search.
"""

from __future__ import annotations

import json
import re
import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Boolean, Double, Numeric, Text, case, cast, func, literal, text, true

from index.db import tables

if TYPE_CHECKING:
    import sqlite3

    from sqlalchemy import ColumnElement

    from index.domain.expressions import Value

__all__ = ["add_meta_values", "is_missing", "meta_value"]

_KEPT: Final = r"\\[^u]|\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}"
r"""Escapes of JSON that say a character: ``\\`` and ``\n``, and two surrogates together."""

_REFUSED: Final = r"\\u(?:0000|d[89a-f])"
"""What is left of those that `jsonb` refuses, without the former."""

_LARGEST: Final = literal(int(sys.float_info.max), Numeric())

_TYPES: Final = {float: "number", str: "string", bool: "boolean"}


def meta_value(dialect: str, keys: tuple[str | int, ...], kind: type[Value]) -> ColumnElement[Any]:
    """Return the value at some keys of a version's notes; null if it is not of this kind.

    Numbers are floats of 64 bits. An integer beyond the largest of these is none.
    """
    name = _TYPES[kind]
    if dialect == "sqlite":
        return func.cas_meta(_text(), json.dumps(keys), name)
    value = _found(keys)
    whole: ColumnElement[Any] = value.op("#>>", return_type=Text())(text("'{}'"))
    of_kind = func.jsonb_typeof(value) == name
    if kind is float:
        number = cast(whole, Numeric)
        return case((of_kind, case((func.abs(number) <= _LARGEST, cast(number, Double)))))
    return case((of_kind, whole if kind is str else cast(whole, Boolean)))


def is_missing(dialect: str, keys: tuple[str | int, ...]) -> ColumnElement[bool]:
    """Return the condition that there is nothing, or null, at some keys of a version's notes."""
    if dialect == "sqlite":
        return func.cas_meta(_text(), json.dumps(keys), "any").is_(None)
    return func.coalesce(func.jsonb_typeof(_found(keys)), "null") == "null"


def _text() -> ColumnElement[str]:
    return cast(tables.files.c.meta, Text)


def _found(keys: tuple[str | int, ...]) -> ColumnElement[Any]:
    """Return the `jsonb` at some keys; null if there is none."""
    from sqlalchemy.dialects.postgresql import JSONB, JSONPATH  # slow to import, and seldom needed

    stored = _text()
    left = func.regexp_replace(stored, _KEPT, "", "gi")
    is_refused = left.op("~*", is_comparison=True)(_REFUSED)
    is_usable = (func.strpos(stored, "\\u") == 0) | ~is_refused
    # Strictly: elsewhere, `[0]` of what is no list is the thing itself.
    steps = (f".{json.dumps(key)}" if isinstance(key, str) else f"[{key}]" for key in keys)
    path = cast(literal(f"strict ${''.join(steps)}"), JSONPATH)
    nothing, is_silent = cast(literal("{}"), JSONB), true()
    document = case((is_usable, cast(stored, JSONB)))
    return func.jsonb_path_query_first(document, path, nothing, is_silent)


def add_meta_values(connection: sqlite3.Connection) -> None:
    """Add the function ``cas_meta(meta, keys, kind)`` to a connection. Idempotent."""
    connection.create_function("cas_meta", 3, _value, deterministic=True)


def _value(meta: str | None, keys: str, kind: str) -> str | float | None:
    value: Any = None if meta is None else _loaded(meta)
    for key in _loaded(keys):
        try:
            value = (
                value[key] if isinstance(value, dict if isinstance(key, str) else list) else None
            )
        except LookupError:
            return None
    if kind == "any":
        return None if value is None else True
    if kind != "number":
        return value if isinstance(value, str if kind == "string" else bool) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) <= sys.float_info.max else None


@lru_cache(maxsize=64)
def _loaded(stored: str) -> Any:  # noqa: ANN401 - any JSON value
    left = re.sub(_KEPT, "", stored, flags=re.IGNORECASE) if "\\u" in stored else ""
    is_refused = re.search(_REFUSED, left, re.IGNORECASE)
    return None if is_refused else json.loads(stored)
