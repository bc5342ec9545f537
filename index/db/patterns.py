"""Patterns of names in SQL: the same text matches on SQLite and PostgreSQL.

On SQLite functions of this module compare. For PostgreSQL a pattern becomes a regular
expression, over paths in the form in which the index stores them (`encode_path`).
"""

from __future__ import annotations

import fnmatch
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Text, and_, func, type_coerce

from index.db.column_types import decode_path, encode_path
from index.domain.listing import TOKEN, WILDCARDS, compile_glob, name_pattern

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from sqlalchemy import ColumnElement

    from index.domain.expressions import Kind

__all__ = ["add_matching", "matches"]

_ODD: Final = r"\\x[0-9a-f]{2}"
"""A byte of a path that is not UTF-8, as it is stored."""

_STORED: Final = rf"(?:\\\\|{_ODD}|[^\\])"
"""A character of a stored path."""

_STORED_IN_NAME: Final = rf"(?:\\\\|{_ODD}|[^/\\])"


def matches(
    dialect: str, column: ColumnElement[Any], kind: Kind, pattern: str
) -> ColumnElement[bool]:
    """Return the condition that text matches a pattern; unknown if there is no text.

    Without wildcards, the pattern matches where it occurs; with them, only the whole text. Names
    are compared in the column of paths.

    Parameters
    ----------
    kind
        That of the text: ``path``, ``name``, or any other for plain text.
    """
    is_path = kind in ("path", "name")
    part = pattern
    if WILDCARDS.search(pattern):
        # A slash after `**` need not be there.
        part = max((name for each in WILDCARDS.split(pattern) for name in each.split("/")), key=len)
    stored = encode_path(part) if is_path else part
    text = type_coerce(column, Text()) if is_path else column
    if dialect == "sqlite":
        contains = func.instr(text, stored) > 0
        bound = encode_path(pattern) if is_path else pattern  # lone surrogates can't be bound
        whole = func.cas_matches(text, kind, bound) == 1
    else:
        contains = func.strpos(text, stored) > 0
        whole = text.op("~", is_comparison=True)(_expression(kind, pattern))
    # The first takes a tenth of the time. Plain text that holds the pattern matches it.
    is_plain = not is_path and not WILDCARDS.search(pattern)
    return contains if is_plain else and_(contains, whole) if stored else whole


def add_matching(connection: sqlite3.Connection) -> None:
    """Add ``cas_matches(text, kind, pattern)`` and ``cas_name(path)`` to a connection.

    Idempotent.
    """
    connection.create_function("cas_name", 1, _name, deterministic=True)
    connection.create_function("cas_matches", 3, _matches, deterministic=True)


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _matches(text: str | None, kind: Kind, pattern: str) -> bool | None:
    return None if text is None else bool(_matcher(kind, pattern)(text))


@lru_cache(maxsize=64)
def _matcher(kind: Kind, pattern: str) -> Callable[[str], object]:
    """Return what compares a text with a pattern, both as the index stores them."""
    if kind not in ("path", "name"):
        if WILDCARDS.search(pattern):
            return re.compile(fnmatch.translate(pattern)).match
        return lambda text: pattern in text
    pattern = decode_path(pattern)
    if kind == "name":
        match = name_pattern(pattern).matches
    elif WILDCARDS.search(pattern):
        match = compile_glob(pattern).fullmatch
    else:
        return lambda path: pattern in decode_path(path)
    return lambda path: match(decode_path(path))


def _expression(kind: Kind, pattern: str) -> str:
    """Return the regular expression of PostgreSQL for a pattern."""
    if not WILDCARDS.search(pattern):
        text = re.escape(encode_path(pattern))
        return f"^{_STORED}*{text}" + ("[^/]*$" if kind == "name" else "")
    if kind not in ("path", "name"):
        return f"^{_translated(pattern, any_one='.')}$"
    *parts, last = pattern.split("/")
    folders = "".join(
        "(?:[^/]+/)*" if part == "**" else f"{_translated(part, any_one=_STORED_IN_NAME)}/"
        for before, part in zip(["", *parts], parts, strict=False)
        if not before == part == "**"  # one says the same as several
    )
    end = ".+" if last == "**" and kind == "path" else _translated(last, any_one=_STORED_IN_NAME)
    return ("^" if kind == "path" else "^(?:.*/)?") + f"{folders}{end}$"


def _translated(part: str, *, any_one: str) -> str:
    return "".join(_one(token[0], any_one) for token in TOKEN.finditer(part))


def _one(text: str, any_one: str) -> str:
    is_path = any_one != "."
    if text[0] == "*":
        return f"{any_one}*"
    if text == "?":
        return any_one
    if len(text) == 1:
        return re.escape(encode_path(text) if is_path else text)
    is_negated = text[1] == "!"
    ranges = _ranges(text[1 + is_negated : -1])
    if not ranges:
        return any_one if is_negated else "(?!)"
    within = [(low, high) for low, high in map(_without_surrogates, ranges) if low <= high]
    inside = "".join(f"{_escaped(low)}-{_escaped(high)}" for low, high in within)
    one = f"[{'^' * is_negated}{inside}]" if inside else "." if is_negated else "(?!)"
    if not is_path:
        return one
    one = rf"(?![/\\]){one}"
    # A stored path has two characters for a backslash, and four for a byte that is not UTF-8.
    longer = [r"\\\\"] if _holds(ranges, "\\") != is_negated else []
    odd = [n for n in range(0x80, 0x100) if _holds(ranges, chr(0xDC00 + n)) != is_negated]
    longer += [_ODD] if len(odd) == 0x80 else [rf"\\x{n:02x}" for n in odd]
    return f"(?:{'|'.join([one, *longer])})"


def _ranges(inside: str) -> list[tuple[str, str]]:
    """Return the ranges of a set as `fnmatch` reads them: ``z-a`` is empty."""
    found, at = [], 0
    while at < len(inside):
        is_range = inside[at + 1 : at + 2] == "-" and at + 2 < len(inside)
        low, high = inside[at], inside[at + 2 if is_range else at]
        found += [(low, high)] if low <= high else []
        at += 3 if is_range else 1
    return found


def _without_surrogates(bounds: tuple[str, str]) -> tuple[str, str]:
    """Return the bounds of what a database has of a range: text there has no lone surrogate."""
    low, high = bounds
    if "\ud800" <= low <= "\udfff":
        low = "\ue000"
    if "\ud800" <= high <= "\udfff":
        high = "\ud7ff"
    return low, high


def _holds(ranges: list[tuple[str, str]], one: str) -> bool:
    return any(low <= one <= high for low, high in ranges)


def _escaped(one: str) -> str:
    return one if one.isalnum() or not one.isascii() else f"\\{one}"
