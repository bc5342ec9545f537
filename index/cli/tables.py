"""Listings: tables that fit the terminal for people, whole values between tabs for programs."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

import click

from cas.digest import Digest
from index.cli.output import Form, batches, print_json_lines, print_json_list
from index.cli.terminal import is_for_people, page, printable, terminal_width, text_width
from index.domain.results import to_json
from index.domain.units import human_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

__all__ = ["Column", "path_column", "show", "show_facts", "shown_time"]

_DIGEST_SHOWN: Final = 12
"""Characters of a digest in tables. Of a million blobs, two share as many in one of 560 stores."""

_RECENT: Final = ((60, 1, "s"), (3_600, 60, "min"), (86_400, 3_600, "h"))
"""For ages below so many seconds: the seconds of a unit, and its name."""

_ELLIPSIS: Final = "…"
_GAP: Final = "  "
_LEAST: Final = 8
"""Columns of the terminal below which no text is cut."""

_LEAST_PATH: Final = 20


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: the name of what it shows, and how.

    In order of their importance, the first is the most important. A narrow terminal shows the last
    ones less.
    """

    name: str
    """The word for it, as in options and JSON."""
    value: Callable[[Any], object] | None = None
    """Returns the value for a row; by default, the attribute of that name."""
    size: bool = False
    """Whether the value is a number of bytes."""
    colour: str | None = None
    is_path: bool = False
    """Whether it is cut in the middle, so that both ends of a path are seen."""
    rank: int = 1
    """Which columns a narrow terminal leaves out first: those of the highest rank. 0 is never."""

    def of(self, row: object) -> object:
        """Return the value for a row."""
        return attrgetter(self.name)(row) if self.value is None else self.value(row)


_FACT: Final = Column("")


def path_column(value: Callable[[Any], object] | None = None, name: str = "path") -> Column:
    """Return the column of paths, which is the last one of a table."""
    return Column(name, value, is_path=True, rank=0)


def show(
    rows: Iterable[object],
    columns: Sequence[Column],
    form: Form | None,
    *,
    full: bool = False,
    empty: str | None = None,
) -> None:
    """Print a listing, the first rows before the last are read.

    Parameters
    ----------
    form
        JSON, or one JSON document a line. None for a table: on a terminal with a header, aligned,
        in local time, cut to fit; elsewhere with tabs between whole values.
    full
        Whether the table has whole digests, paths and times on a terminal too.
    empty
        What a terminal shows if there are no rows; None for nothing.
    """
    if form is not None:
        (print_json_list if form == Form.JSON else print_json_lines)(rows)
    elif is_for_people():
        page(_table(rows, columns, full=full, empty=empty))
    else:
        for part in batches(rows):
            lines = ("\t".join([_plain(column.of(row)) for column in columns]) for row in part)
            click.echo("\n".join(lines))


def show_facts(facts: Mapping[str, object]) -> None:
    """Print names and values, a line each: aligned on a terminal, elsewhere with a tab between.

    Values are those of JSON. For people, times are local and sizes have a unit.
    """
    if not is_for_people():
        for name, value in facts.items():
            click.echo(f"{printable(name)}\t{_plain(_in_a_line(name, value))}")
        return
    labels = {name: printable(name.replace("_", " ")) for name in facts}
    width = max(map(len, labels.values()), default=0)
    for name, value in facts.items():
        label = click.style(labels[name].ljust(width), bold=True)
        shown = _shown(_for_people(name, _in_a_line(name, value)), _FACT, full=True)
        click.echo(f"{label}{_GAP}{shown}")


def _in_a_line(name: str, value: object) -> object:
    """Return a fact whose parts, if it has some, are in one line of text."""
    if isinstance(value, dict) and name.startswith("files_by_"):
        return ", ".join(f"{key or '-'} {count}" for key, count in value.items())
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return " ".join(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


def _for_people(name: str, value: object) -> object:
    """Return a fact with its time as a time, and its size with a unit."""
    if isinstance(value, str) and name.endswith(("_at", "_since")):
        with suppress(ValueError):
            return datetime.fromisoformat(value)
    if isinstance(value, int) and not isinstance(value, bool) and _IS_SIZE.search(name):
        return human_size(value) if value < _KIB else f"{human_size(value)} ({value:,})"
    return value


_KIB: Final = 1024

_IS_SIZE: Final = re.compile(r"(^|_)(bytes|size)(_|$)")


def shown_time(value: datetime, *, full: bool = False) -> str:
    """Return a time for people: how long ago if it is within a day, else local time with zone."""
    if not full:
        age = (datetime.now(UTC) - value).total_seconds()
        for below, unit, name in _RECENT:
            if 0 <= age < below:
                return f"{int(age / unit)} {name} ago"
    local = value.astimezone()
    return f"{local:%Y-%m-%d %H:%M:%S}{local:%z}" if full else f"{local:%Y-%m-%d %H:%M}{local:%z}"


def _plain(value: object) -> str:
    """Return a value for programs, as in JSON; nothing for None."""
    if value is None:
        return ""
    found = value if isinstance(value, str | int) else to_json(value)
    if isinstance(found, bool):
        return str(found).lower()
    return printable(str(found))


def _shown(value: object, column: Column, *, full: bool) -> str:
    if value is None or value == "":
        return "-"
    if column.size:
        assert isinstance(value, int)  # noqa: S101 - for the type checker
        return human_size(value)
    if isinstance(value, datetime):
        return shown_time(value, full=full)
    if isinstance(value, Digest):
        return str(value) if full else str(value)[:_DIGEST_SHOWN]
    if isinstance(value, Enum):
        value = value.value
    return printable(str(value))


def _table(
    rows: Iterable[object], columns: Sequence[Column], *, full: bool, empty: str | None
) -> Iterator[str]:
    before: list[Column] = []
    widths: list[int] = []
    for part in batches(rows):
        values = [[column.of(row) for column in columns] for row in part]
        table = [
            [_shown(value, column, full=full) for value, column in zip(row, columns, strict=True)]
            for row in values
        ]
        # What no row has is not shown.
        there = [
            n
            for n, column in enumerate(columns)
            if column.rank == 0 or any(row[n] not in (None, "") for row in values)
        ]
        taken = {n: max(text_width(row[n]) for row in table) for n in there}
        taken = {n: max(width, len(columns[n].name)) for n, width in taken.items()}
        there, fitted = (there, taken) if full else _fit(there, taken, columns)
        shown = [columns[n] for n in there]
        cells = [[row[n] for n in there] for row in table]
        right = [all(isinstance(row[n], int) or row[n] is None for row in values) for n in there]
        if shown != before:
            before, widths = shown, [fitted[n] for n in there]
            header = [column.name.replace("_", " ").upper() for column in shown]
            yield click.style(_line(header, shown, widths, right), bold=True)
        widths = [max(pair) for pair in zip(widths, (fitted[n] for n in there), strict=True)]
        for row in cells:
            yield _line(row, shown, widths, right, coloured=True)
    if empty is not None and not before:
        yield empty


def _fit(
    there: list[int], taken: dict[int, int], columns: Sequence[Column]
) -> tuple[list[int], dict[int, int]]:
    """Return which columns are shown, and the width of each, so that lines fit the terminal."""
    room = terminal_width()
    least = {
        n: min(width, _LEAST_PATH if columns[n].is_path else _LEAST) for n, width in taken.items()
    }
    for n in sorted(there, key=lambda n: (-columns[n].rank, -n)):
        if sum(least[n] for n in there) + len(_GAP) * (len(there) - 1) <= room:
            break
        if columns[n].rank:
            there = [other for other in there if other != n]
    fitted = {n: taken[n] for n in there}
    over = sum(fitted.values()) + len(_GAP) * (len(there) - 1) - room
    # The widest give first, and all of them their last letters only if nothing else helps.
    for least_of in (least, dict.fromkeys(there, 1)):
        for n in sorted(there, key=lambda n: -fitted[n]):
            given = max(0, min(over, fitted[n] - least_of[n]))
            fitted[n] -= given
            over -= given
    return there, fitted


def _line(
    row: Sequence[str],
    columns: Sequence[Column],
    widths: Sequence[int],
    right: Sequence[bool],
    *,
    coloured: bool = False,
) -> str:
    parts = []
    for n, (text, column, width) in enumerate(zip(row, columns, widths, strict=True)):
        text = _cut(text, width, middle=column.is_path)
        room = " " * (width - text_width(text))
        if coloured and column.colour is not None and text != "-":
            text = click.style(text, fg=column.colour)
        if right[n]:
            parts.append(room + text)
        else:
            parts.append(text if n == len(row) - 1 else text + room)
    return _GAP.join(parts)


def _cut(text: str, width: int, *, middle: bool) -> str:
    if text_width(text) <= width:
        return text
    from rich.cells import set_cell_size

    kept = width - 1
    if not middle:
        return set_cell_size(text, kept) + _ELLIPSIS
    end = text[-1:]
    for character in reversed(text[:-1]):
        if text_width(character + end) > kept - kept // 2:
            break
        end = character + end
    return set_cell_size(text, kept - text_width(end)) + _ELLIPSIS + end
