"""The commands for the schema of the index: db upgrade, current, check."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from index.cli.options import json_option
from index.cli.output import print_json
from index.cli.terminal import printable

if TYPE_CHECKING:
    from index.cli.location import StoreLocation

__all__ = ["db"]


@click.group("db")
def db() -> None:
    """Show, check and upgrade the schema of the index."""


@db.command("upgrade")
@json_option
@click.pass_obj
def db_upgrade(location: StoreLocation, *, as_json: bool) -> None:
    """Upgrade the schema to the one of this release, in one transaction."""
    from index.db import schema

    database = location.open_database()
    before = schema.current(database)
    schema.upgrade(database)
    database.close()
    if as_json:
        print_json({"before": before, "current": schema.HEAD, "head": schema.HEAD})
    else:
        click.echo(f"the index {printable(database.url)} has schema {schema.HEAD}")


@db.command("current")
@json_option
@click.pass_obj
def db_current(location: StoreLocation, *, as_json: bool) -> None:
    """Show the schema of the index, and the one that this release needs."""
    from index.db import schema

    database = location.open_database()
    current = schema.current(database)
    database.close()
    if as_json:
        print_json({"current": current, "head": schema.HEAD})
    else:
        click.echo(f"{printable(current or 'none')} (this release works with {schema.HEAD})")


@db.command("check")
@json_option
@click.pass_obj
def db_check(location: StoreLocation, *, as_json: bool) -> None:
    """Check the schema. If it is out of date, exit with code 6 and name the command to run."""
    from index.db import schema

    database = location.open_database()
    schema.check(database)
    database.close()
    if as_json:
        print_json({"current": schema.HEAD, "head": schema.HEAD})
    else:
        click.echo(f"the index {printable(database.url)} has schema {schema.HEAD}, as it should")
