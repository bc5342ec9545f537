"""Output of results: lines for people, JSON for programs."""

from __future__ import annotations

import json
import logging
import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING

import click

from cas.waiting import WAITS
from index.domain.results import to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from index.domain.results import Result
    from index.domain.snapshots import Progress

__all__ = [
    "columns",
    "counted",
    "print_json",
    "print_json_list",
    "print_report",
    "printable",
    "progress_bar",
    "show_waits",
]

_ROWS_AT_ONCE = 2_000
"""Rows of a listing that are printed at once."""

_SHOWN_AFTER_S = 2.0
"""A wait that is over sooner is not worth a line."""


def printable(text: str) -> str:
    """Return text with all characters escaped that a terminal would interpret or can't encode."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


class _WaitLines(logging.Handler):
    """Prints one line for each long wait for storage, a database or a lock."""

    def __init__(self) -> None:
        super().__init__()
        self._until: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        subject, waited, pause = (getattr(record, name) for name in ("subject", "waited", "pause"))
        before = self._until.get(subject, 0.0) if waited else 0.0
        self._until[subject] = waited + pause
        if before < _SHOWN_AFTER_S <= waited + pause:
            click.echo(f"{printable(record.getMessage())} …", err=True)


def show_waits() -> None:
    """Print a line on stderr when a command has waited for two seconds."""
    logger = logging.getLogger(WAITS)
    logger.setLevel(logging.INFO)
    logger.handlers = [_WaitLines()]


def columns(rows: Iterable[Sequence[object]], *, right: Sequence[int] = ()) -> None:
    """Print rows with aligned columns; those in `right` are aligned to the right.

    The last column is not padded. None and empty text are shown as a dash, times to the second, in
    UTC. Of many rows the first are printed before the last are read; a column may get wider later.
    """
    coming = iter(rows)
    widths: list[int] = []
    while table := [[_cell(value) for value in row] for row in islice(coming, _ROWS_AT_ONCE)]:
        widths = widths or [0] * (len(table[0]) - 1)
        widths = [max(width, *(len(row[n]) for row in table)) for n, width in enumerate(widths)]
        lines = (
            "  ".join(
                [
                    *(
                        cell.rjust(width) if n in right else cell.ljust(width)
                        for n, (cell, width) in enumerate(zip(row, widths, strict=False))
                    ),
                    row[-1],
                ]
            )
            for row in table
        )
        click.echo("\n".join(lines))


def _cell(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"
    return printable("-" if value is None else str(value) or "-")


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun, in the plural unless it is one."""
    return f"{number} {noun}" if number == 1 else f"{number} {plural or noun + 's'}"


def print_json(value: object) -> None:
    """Print one JSON document; undecodable bytes become lone surrogates, which JSON allows."""
    click.echo(json.dumps(to_json(value), indent=2))


def print_json_list(values: Iterable[object]) -> None:
    """Print a list as `print_json` does, the first values before the last are read."""
    coming = iter(values)
    before = "["
    while part := [json.dumps(to_json(each), indent=2) for each in islice(coming, _ROWS_AT_ONCE)]:
        text = ",\n".join(part).replace("\n", "\n  ")  # text in JSON has no newline of its own
        click.echo(f"{before}\n  {text}", nl=False)
        before = ","
    click.echo("[]" if before == "[" else "\n]")


def print_report(report: Result, **before: object) -> None:
    """Print a report as one JSON document, after the values in `before`."""
    print_json({**before, **report.to_dict()})


@contextmanager
def progress_bar(label: str, noun: str = "files") -> Iterator[Callable[[Progress], None] | None]:
    """Show progress on a terminal's stderr; yield None where there is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich import progress as rich_progress
    from rich.console import Console

    with rich_progress.Progress(
        rich_progress.TextColumn(label),
        rich_progress.BarColumn(),
        rich_progress.TextColumn(f"{{task.fields[files]}} {noun}"),
        rich_progress.DownloadColumn(binary_units=True),
        rich_progress.TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as bar:
        task = bar.add_task(label, total=None, files=0)

        def show(progress: Progress) -> None:
            bar.update(
                task,
                completed=progress.bytes,
                total=progress.bytes_total,
                files=progress.files,
            )

        yield show
