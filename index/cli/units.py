"""Options of commands that take a size or a duration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from index.domain.units import parse_duration, parse_size

if TYPE_CHECKING:
    from datetime import timedelta

    from click import Context, Parameter

__all__ = ["read_duration", "read_size"]


def read_size(_context: Context, _parameter: Parameter, value: str | None) -> int | None:
    """Return the size in bytes that an option's value means; a callback for click options."""
    try:
        return None if value is None else parse_size(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def read_duration(_context: Context, _parameter: Parameter, value: str | None) -> timedelta | None:
    """Return the duration that an option's value means; a callback for click options."""
    try:
        return None if value is None else parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
