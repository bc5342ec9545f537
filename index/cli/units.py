"""Options of commands that take a size, a duration or a time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from index.domain.units import parse_duration, parse_size, parse_time

if TYPE_CHECKING:
    from datetime import timedelta

    from click import Context, Parameter

__all__ = ["read_duration", "read_size", "read_time"]


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


def read_time(_context: Context, _parameter: Parameter, value: str | None) -> datetime | None:
    """Return the time that an option's value means; a callback for click options."""
    try:
        return None if value is None else parse_time(value, datetime.now(UTC))
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
