"""Sizes and durations as people write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

__all__ = [
    "human_size",
    "in_utc",
    "long_before",
    "parse_duration",
    "parse_size",
    "parse_time",
    "show_duration",
]

_SIZE: Final = re.compile(r"(\d{1,18}(?:\.\d{1,18})?)\s*([KMGTP]?)(i?B)?", re.ASCII | re.IGNORECASE)

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")

_STEPS: Final = ("", "K", "M", "G", "T", "P")


def human_size(size: int) -> str:
    """Return a number of bytes with a unit, at most three digits before the point."""
    amount = float(size)
    for unit in _UNITS:
        if amount < 1024 or unit == _UNITS[-1]:
            return f"{size} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    raise AssertionError


def parse_size(text: str) -> int:
    """Return the bytes that ``10GiB``, ``10G`` (the same), ``10GB`` (thousands) or ``4096`` mean.

    Raises ValueError for any other text, and for a size below one byte.
    """
    from fractions import Fraction  # slow to import, and seldom needed

    found = _SIZE.fullmatch(text.strip())
    if found is not None:
        amount, step, unit = found[1], found[2].upper(), (found[3] or "").upper()
        thousand = 1000 if unit == "B" else 1024
        size = int(Fraction(amount) * thousand ** _STEPS.index(step))
        if size > 0 and (step or unit != "IB"):
            return size
    raise ValueError(f"{text!r} is not a size; write it as 10GiB, 500MB or a number of bytes")


_DURATION: Final = re.compile(r"(\d{1,9})\s*([smhdw])", re.ASCII)

_SPANS: Final = {"w": "weeks", "d": "days", "h": "hours", "m": "minutes", "s": "seconds"}


def parse_duration(text: str) -> timedelta:
    """Return the duration that ``24h``, ``7d``, ``90m``, ``30s``, ``2w`` or ``0`` means.

    Raises ValueError for any other text, and for more than a century.
    """
    if text.strip() == "0":
        return timedelta(0)
    found = _DURATION.fullmatch(text.strip())
    if found is not None:
        unit = timedelta(**{_SPANS[found[2]]: 1})
        if int(found[1]) <= _LONGEST // unit:
            return int(found[1]) * unit
    raise ValueError(f"{text!r} is no span of time; write it as 24h, 7d, 90m, 30s or 0")


def parse_time(text: str, now: datetime) -> datetime:
    """Return the time that ``2d`` (so long before `now`) or a time of ISO 8601 means.

    A time without zone is local, and a date its beginning. Raises ValueError for any other text.
    """
    if _DURATION.fullmatch(text.strip()):
        return now - parse_duration(text)
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(
            f"{text!r} is no time; write it as 2d (two days ago), 2026-05-31 or 2026-05-31T18:00"
        ) from None
    return in_utc(moment)


def in_utc(moment: datetime) -> datetime:
    """Return a time in UTC; the first or last one that there is, if it is beyond these there."""
    try:
        return moment.astimezone(UTC)
    except (ValueError, OverflowError, OSError):  # each of some time, zone or system
        first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
        return first if moment.year == 1 else last


_LONGEST: Final = timedelta(days=36_525)
"""A century: every database can represent a time that long ago."""


def long_before(now: datetime, span: timedelta) -> datetime:
    """Return the time so long before another; the first one that there is, if it is before that."""
    try:
        return now - span
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)


def show_duration(span: timedelta) -> str:
    """Return a duration as text for `parse_duration`, in the largest unit that divides it."""
    if not span:
        return "0"
    for unit, name in _SPANS.items():
        count, rest = divmod(span, timedelta(**{name: 1}))
        if not rest:
            return f"{count}{unit}"
    return f"{span.total_seconds():g}s"
