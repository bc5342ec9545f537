"""Differences of two tables in text (CSV, TSV), by column."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from index.domain.line_diff import Matcher
from index.domain.results import Result

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ColumnDiff", "TableDiff", "compare_tables", "is_table"]

_ENDINGS = (".csv", ".tsv", ".tab")


@dataclass(frozen=True, slots=True)
class ColumnDiff(Result):
    """The cells of a column that differ in the rows that both tables have."""

    name: str
    cells: int
    """Number of cells that differ."""
    largest_change: float | None
    """The largest difference of two numbers in a cell; None if no cell has two."""


@dataclass(frozen=True, slots=True)
class TableDiff(Result):
    """The differences of two tables with a header."""

    rows_before: int
    rows_after: int
    rows_added: int
    rows_removed: int
    rows_changed: int
    """Number of rows in both that differ in a column that both have."""
    key: str | None
    """The column by whose values rows are matched; None if they are matched by their order."""
    columns_added: tuple[str, ...]
    columns_removed: tuple[str, ...]
    columns: tuple[ColumnDiff, ...]
    """Columns of both tables that have cells which differ."""
    rows_reordered: bool = False
    """Whether rows of both tables that are matched by a key come in another order."""
    columns_reordered: bool = False
    """Whether columns of both tables come in another order."""


class _Table(NamedTuple):
    header: list[str]
    rows: list[list[str]]


def is_table(path: str) -> bool:
    """Whether the name of a file says that it is a table in text."""
    return path.lower().endswith(_ENDINGS)


def compare_tables(path: str, before: str, after: str) -> TableDiff | None:
    """Return the differences of two tables; None if one of the texts is none.

    A table has a header of distinct names, and rows of as many cells. Rows are matched by the first
    column if its values are distinct in both tables and mostly the same. Otherwise they are matched
    by their order, as lines of text are.
    """
    one, other = _read(path, before), _read(path, after)
    if one is None or other is None:
        return None
    shared = [name for name in one.header if name in set(other.header)]
    key = _key(one, other)
    if key is not None:
        pairs, removed, added = _by_key(one.rows, other.rows)
        found = {row[0] for row, _ in pairs}
        rows_reordered = [row[0] for row, _ in pairs] != [
            row[0] for row in one.rows if row[0] in found
        ]
    else:
        rows_reordered = False
        pairs, removed, added = _by_order(one, other, shared)
    places = [(one.header.index(name), other.header.index(name)) for name in shared]
    cells = [0] * len(shared)
    largest: list[float | None] = [None] * len(shared)
    changed = 0
    for row, new in pairs:
        differs = False
        for n, (place, new_place) in enumerate(places):
            if row[place] != new[new_place]:
                differs = True
                cells[n] += 1
                change = _change(row[place], new[new_place])
                if change is not None:
                    largest[n] = max(change, largest[n] or 0.0)
        changed += differs
    return TableDiff(
        len(one.rows),
        len(other.rows),
        added,
        removed,
        changed,
        key,
        tuple(name for name in other.header if name not in set(one.header)),
        tuple(name for name in one.header if name not in set(other.header)),
        tuple(ColumnDiff(name, cells[n], largest[n]) for n, name in enumerate(shared) if cells[n]),
        rows_reordered,
        shared != [name for name in other.header if name in set(shared)],
    )


def _read(path: str, text: str) -> _Table | None:
    head = text[: text.find("\n")]
    separator = "\t"
    if path.lower().endswith(".csv"):
        separator = ";" if head.count(";") > head.count(",") else ","
    text = text.removeprefix("\ufeff")
    try:
        rows = [
            row for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator) if row
        ]
    except csv.Error:
        return None
    if not rows:
        return None
    header = rows.pop(0)
    is_whole = len(set(header)) == len(header) and all(len(row) == len(header) for row in rows)
    return _Table(header, rows) if is_whole and len(header) > 1 else None


def _key(one: _Table, other: _Table) -> str | None:
    """Return the first column if it tells the rows of both tables apart."""
    if one.header[0] != other.header[0]:
        return None
    keys, others = {row[0] for row in one.rows}, {row[0] for row in other.rows}
    are_distinct = len(keys) == len(one.rows) and len(others) == len(other.rows)
    are_mostly_shared = 2 * len(keys & others) >= min(len(keys), len(others))
    return one.header[0] if are_distinct and are_mostly_shared else None


def _by_key(
    rows: Sequence[list[str]], others: Sequence[list[str]]
) -> tuple[list[tuple[list[str], list[str]]], int, int]:
    """Return the pairs of rows with the same key, and the numbers of other rows on both sides."""
    found = {row[0]: row for row in rows}
    pairs = [(found[row[0]], row) for row in others if row[0] in found]
    return pairs, len(rows) - len(pairs), len(others) - len(pairs)


def _by_order(
    one: _Table, other: _Table, shared: Sequence[str]
) -> tuple[list[tuple[list[str], list[str]]], int, int]:
    """Return the same for rows that are matched by their order. Equal pairs are left out."""
    lines = [_cells(table, shared) for table in (one, other)]
    pairs: list[tuple[list[str], list[str]]] = []
    removed = added = 0
    for what, a, a_end, b, b_end in Matcher(*lines).get_opcodes():
        if what == "equal":
            continue
        both = min(a_end - a, b_end - b)
        pairs += zip(one.rows[a : a + both], other.rows[b : b + both], strict=True)
        removed += a_end - a - both
        added += b_end - b - both
    return pairs, removed, added


def _cells(table: _Table, shared: Sequence[str]) -> list[tuple[str, ...]]:
    places = [table.header.index(name) for name in shared]
    return [tuple(row[place] for place in places) for row in table.rows]


def _change(before: str, after: str) -> float | None:
    """Return how much two numbers differ; None if they are none."""
    try:
        change = abs(float(after) - float(before))
    except ValueError:
        return None
    return change if math.isfinite(change) else None
