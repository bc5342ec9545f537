"""Spans of time as people write them."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from click import Context, Parameter

__all__ = ["parse_duration", "read_duration", "show_duration"]

_DURATION: Final = re.compile(r"(\d{1,9})\s*([smhdw])", re.ASCII)
_UNITS: Final = {"w": "weeks", "d": "days", "h": "hours", "m": "minutes", "s": "seconds"}


def parse_duration(text: str) -> timedelta:
    """Return what ``24h``, ``7d``, ``90m``, ``30s``, ``2w`` or ``0`` mean.

    ValueError for anything else, and for more than a century.
    """
    if text.strip() == "0":
        return timedelta(0)
    found = _DURATION.fullmatch(text.strip())
    if found is not None:
        unit = timedelta(**{_UNITS[found[2]]: 1})
        if int(found[1]) <= _LONGEST // unit:
            return int(found[1]) * unit
    raise ValueError(f"{text!r} is no span of time; write it as 24h, 7d, 90m, 30s or 0")


_LONGEST: Final = timedelta(days=36_525)
"""A moment so long ago can be told by every database."""


def show_duration(span: timedelta) -> str:
    """Return a span as `parse_duration` reads it, in the largest unit that fits it."""
    if not span:
        return "0"
    for unit, name in _UNITS.items():
        count, rest = divmod(span, timedelta(**{name: 1}))
        if not rest:
            return f"{count}{unit}"
    return f"{span.total_seconds():g}s"


def read_duration(_context: Context, _parameter: Parameter, value: str | None) -> timedelta | None:
    """Return the span that an option's value means; to be an option's callback."""
    try:
        return None if value is None else parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
