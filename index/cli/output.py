"""Output of results: lines for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from dataclasses import asdict, fields, is_dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from cas.digest import Digest
from index.domain.manifest import to_json
from index.domain.snapshots import FileVersion, Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from index.domain.snapshots import Progress

__all__ = [
    "columns",
    "counted",
    "human_size",
    "plain",
    "print_json",
    "print_report",
    "printable",
    "progress_bar",
]

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def printable(text: str) -> str:
    """Return text with all characters escaped that a terminal would interpret or can't encode."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def human_size(size: int) -> str:
    """Return a number of bytes with a unit, at most three digits before the point."""
    amount = float(size)
    for unit in _UNITS:
        if amount < 1024 or unit == _UNITS[-1]:
            break
        amount /= 1024
    return f"{size} B" if unit == "B" else f"{amount:.1f} {unit}"


def columns(rows: Sequence[Sequence[object]], *, right: Sequence[int] = ()) -> None:
    """Print rows with aligned columns; those in `right` are aligned to the right.

    The last column is not padded. None and empty text are shown as a dash, times to the second.
    """
    if not rows:
        return
    table = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(row[n]) for row in table) for n in range(len(table[0]) - 1)]
    for row in table:
        cells = [
            cell.rjust(width) if n in right else cell.ljust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=False))
        ]
        click.echo("  ".join([*cells, row[-1]]))


def _cell(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    return printable("-" if value is None else str(value) or "-")


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun, in the plural unless it is one."""
    return f"{number} {noun}" if number == 1 else f"{number} {plural or noun + 's'}"


def print_json(value: object) -> None:
    """Print one JSON document; undecodable bytes become lone surrogates, which JSON allows."""
    click.echo(json.dumps(plain(value), indent=2))


def print_report(report: object, **before: object) -> None:
    """Print a report as one JSON document, after the values in `before`."""
    print_json({**before, **plain(report)})


def plain(value: Any) -> Any:
    """Return a report, or a value of one, as JSON types."""
    if isinstance(value, FileVersion):
        return to_json(value)
    if isinstance(value, Snapshot):
        return _snapshot(value)
    if isinstance(value, Digest):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if hasattr(value, "_asdict"):
        return plain(value._asdict())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def _snapshot(snapshot: Snapshot) -> dict[str, Any]:
    """Return a snapshot in JSON's types, without the session and run it belongs to."""
    return {
        "snapshot": snapshot.number,
        "recorded": snapshot.recorded,
        "created_at": plain(snapshot.created_at),
        **asdict(snapshot.provenance),
        "added": plain(snapshot.added),
        "changed": plain(snapshot.changed),
        "removed": plain(snapshot.removed),
        "unchanged": snapshot.unchanged,
        "filled": snapshot.filled,
        "skipped": plain(snapshot.skipped),
        "bytes_read": snapshot.bytes_read,
        "bytes_stored": snapshot.bytes_stored,
    }


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
