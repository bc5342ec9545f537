"""Tables as text: CSV and its relatives."""

from __future__ import annotations

import csv
import re
from datetime import date, datetime
from itertools import islice
from typing import TYPE_CHECKING, Final

from index.web.previews.content import UnreadableError
from index.web.previews.preview import Preview
from index.web.previews.texts import read_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from index.web.previews.content import Content

__all__ = ["MOST_COLUMNS", "MOST_ROWS", "column_type", "short_cell", "show"]

MOST_ROWS: Final = 100
MOST_COLUMNS: Final = 50
_CELL: Final = 200
"""Characters of a cell that are shown."""

_DELIMITERS: Final = ",;\t|"
_SAMPLE: Final = 20
"""Rows by which the delimiter is found."""

_INTEGER: Final = re.compile(r"[+-]?\d{1,4000}")
_NUMBER: Final = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?(?:nan|inf)", re.I)
_BOOLEANS: Final = frozenset({"true", "false", "yes", "no"})
_MISSING: Final = frozenset({"", "na", "n/a", "null", "none"})


def show(content: Content, _head: bytes) -> Preview:
    """Return the first rows of a table, with a guess of what each column holds."""
    found = read_text(content)
    text = found.text if found.is_whole else found.text[: found.text.rfind("\n") + 1]
    rows = [row for row in _rows(text, _delimiter(content.ending, text)) if row]
    if not rows:
        raise UnreadableError("No whole row of this table is small enough to show.")
    head, *body = rows
    width = max(map(len, rows[: MOST_ROWS + 1]))
    names = [*head, *(f"column {number + 1}" for number in range(len(head), width))][:MOST_COLUMNS]
    shown = [
        [*map(short_cell, row[:MOST_COLUMNS]), *[None] * (len(names) - len(row))]
        for row in body[:MOST_ROWS]
    ]
    columns = [
        {
            "name": short_cell(name),
            "type": column_type([row[number] for row in body[:MOST_ROWS] if number < len(row)]),
        }
        for number, name in enumerate(names)
    ]
    note = f"The first {MOST_COLUMNS} of {width:,} columns." if width > MOST_COLUMNS else found.note
    fields = {
        "columns": columns,
        "rows": shown,
        "rows_total": len(body) if found.is_whole else None,
    }
    is_cut = not found.is_whole or len(body) > MOST_ROWS or width > MOST_COLUMNS
    return Preview("table", is_cut, note, fields)


def short_cell(text: str) -> str:
    """Return the beginning of a cell."""
    return text if len(text) <= _CELL else f"{text[:_CELL]}…"


def column_type(cells: Sequence[str]) -> str:
    """Return what all cells of a column are: integer, number, boolean, date, or else text."""
    values = [cell.strip() for cell in cells]
    values = [value for value in values if value.lower() not in _MISSING]
    if not values:
        return "text"
    if all(_INTEGER.fullmatch(value) for value in values):
        return "integer"
    if all(_NUMBER.fullmatch(value) for value in values):
        return "number"
    if all(value.lower() in _BOOLEANS for value in values):
        return "boolean"
    return "date" if all(map(_is_date, values)) else "text"


def _delimiter(ending: str, text: str) -> str:
    """Return the delimiter that gives the first rows the most columns, all the same number."""
    if ending in (".tsv", ".tab"):
        return "\t"

    def columns(delimiter: str) -> tuple[bool, int]:
        widths = [len(row) for row in islice(_rows(text[: 64 << 10], delimiter), _SAMPLE) if row]
        return len(set(widths)) == 1, min(widths, default=0)

    found = {delimiter: columns(delimiter) for delimiter in _DELIMITERS}
    usable = {delimiter: each for delimiter, each in found.items() if each[1] > 1}
    return max(usable, key=lambda delimiter: usable[delimiter]) if usable else ","


def _rows(text: str, delimiter: str) -> list[list[str]]:
    csv.field_size_limit(len(text) + 1)
    return [*csv.reader(text.splitlines(keepends=True), delimiter=delimiter)]


def _is_date(text: str) -> bool:
    for parse in (date.fromisoformat, datetime.fromisoformat):
        try:
            parse(text)
        except ValueError:
            continue
        return True
    return False
