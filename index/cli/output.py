"""Output of results as JSON, and words for numbers. One encoder for all commands."""

from __future__ import annotations

import json
from enum import Enum
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import click

from index.domain.results import to_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from index.domain.results import Result

__all__ = [
    "Form",
    "batches",
    "counted",
    "print_json",
    "print_json_lines",
    "print_json_list",
    "print_report",
]

T = TypeVar("T")

_ROWS_AT_ONCE = 2_000
"""Rows of a listing that are printed at once."""


class Form(Enum):
    """How a listing is printed for programs that ask for it."""

    JSON = "json"
    """One document."""
    LINES = "jsonl"
    """One document a line."""


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun, in the plural unless it is one."""
    return f"{number} {noun}" if number == 1 else f"{number} {plural or noun + 's'}"


def print_json(value: object) -> None:
    """Print one JSON document; undecodable bytes become lone surrogates, which JSON allows."""
    click.echo(json.dumps(to_json(value), indent=2))


def batches(rows: Iterable[T]) -> Iterator[list[T]]:
    """Yield the rows of a listing in lists, each before the next one is read."""
    coming = iter(rows)
    while part := list(islice(coming, _ROWS_AT_ONCE)):
        yield part


def print_json_list(values: Iterable[object]) -> None:
    """Print a list as `print_json` does, the first values before the last are read."""
    before = "["
    for part in batches(values):
        documents = (json.dumps(to_json(each), indent=2) for each in part)
        text = ",\n".join(documents).replace("\n", "\n  ")  # text in JSON has no newline of its own
        click.echo(f"{before}\n  {text}", nl=False)
        before = ","
    click.echo("[]" if before == "[" else "\n]")


def print_json_lines(values: Iterable[object]) -> None:
    """Print each value as a JSON document on a line of its own, as `print_json_list` reads them."""
    for part in batches(values):
        click.echo("\n".join(json.dumps(to_json(each)) for each in part))


def print_report(report: Result, **before: object) -> None:
    """Print a report as one JSON document, after the values in `before`."""
    print_json({**before, **report.to_dict()})
