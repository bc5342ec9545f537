"""Sizes and durations as people write them."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from click import Context, Parameter

__all__ = ["parse_duration", "parse_size", "read_duration", "read_size", "show_duration"]

_SIZE: Final = re.compile(r"(\d{1,18}(?:\.\d{1,18})?)\s*([KMGTP]?)(i?B)?", re.ASCII | re.IGNORECASE)

_STEPS: Final = ("", "K", "M", "G", "T", "P")


def parse_size(text: str) -> int:
    """Return the bytes that ``10GiB``, ``10G`` (the same), ``10GB`` (thousands) or ``4096`` mean.

    ValueError for anything else, and for what is no byte at all.
    """
    from fractions import Fraction  # a size is seldom given, and it brings decimal arithmetic

    found = _SIZE.fullmatch(text.strip())
    if found is not None:
        amount, step, unit = found[1], found[2].upper(), (found[3] or "").upper()
        thousand = 1000 if unit == "B" else 1024
        size = int(Fraction(amount) * thousand ** _STEPS.index(step))
        if size > 0 and (step or unit != "IB"):
            return size
    raise ValueError(f"{text!r} is not a size; write it as 10GiB, 500MB or a number of bytes")


def read_size(_context: Context, _parameter: Parameter, value: str | None) -> int | None:
    """Return the bytes that an option's value means; to be an option's callback."""
    try:
        return None if value is None else parse_size(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


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
