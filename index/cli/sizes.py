"""Sizes as people write them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from click import Context, Parameter

__all__ = ["parse_size", "read_size"]

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
