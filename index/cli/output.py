"""Output of results: lines for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from index.domain.manifest import to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from index.domain.snapshots import Progress, Snapshot

__all__ = [
    "columns",
    "counted",
    "human_size",
    "print_json",
    "printable",
    "progress_bar",
    "snapshot_json",
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


def columns(rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> None:
    """Print rows with aligned columns. Columns in `right` are right-aligned."""
    if not rows:
        return
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]) - 1)]
    for row in rows:
        cells = [
            cell.rjust(width) if n in right else cell.ljust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=False))
        ]
        click.echo("  ".join([*cells, row[-1]]))


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun, in the plural unless it is one."""
    return f"{number} {noun}" if number == 1 else f"{number} {plural or noun + 's'}"


def print_json(value: object) -> None:
    """Print one JSON document. Undecodable bytes in names become lone surrogates."""
    click.echo(json.dumps(value, default=_plain, indent=2))


def snapshot_json(snapshot: Snapshot) -> dict[str, Any]:
    """Return a snapshot as JSON's types, without the session and run it belongs to."""
    return {
        "snapshot": snapshot.number,
        "recorded": snapshot.recorded,
        "created_at": snapshot.created_at,
        **asdict(snapshot.provenance),
        "added": [to_json(version) for version in snapshot.added],
        "changed": [to_json(version) for version in snapshot.changed],
        "removed": [to_json(version) for version in snapshot.removed],
        "unchanged": snapshot.unchanged,
        "filled": snapshot.filled,
        "skipped": [skipped._asdict() for skipped in snapshot.skipped],
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


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{value!r} has no JSON form")
