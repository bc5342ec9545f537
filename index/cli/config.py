"""The command that shows the configuration: config."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from index.cli.options import listing_options
from index.cli.settings import Setting, iter_settings
from index.cli.tables import Column, show

if TYPE_CHECKING:
    from collections.abc import Iterator

    from index.cli.location import StoreLocation
    from index.cli.output import Form

__all__ = ["config"]


@click.command()
@listing_options
@click.pass_obj
def config(location: StoreLocation, /, *, form: Form | None, full: bool) -> None:
    """Show each setting and where it comes from.

    An option of a command overrides an environment variable, which overrides the nearest cas.toml
    in this directory or above.

    \b
    cas config
    CAS_AGENT=engineer cas config --json
    """  # noqa: D301
    show(_rows(location), _COLUMNS, form, full=full)


_COLUMNS = (Column("name", rank=0), Column("value"), Column("source", is_path=True, rank=0))


def _rows(location: StoreLocation) -> Iterator[Setting]:
    for each in iter_settings(location):
        value = each.value
        if isinstance(value, list):
            value = " ".join(value)
        elif isinstance(value, bool):
            value = str(value).lower()
        yield each._replace(value=None if value is None else str(value))
