"""The command itself: its global options, and what it is made of."""

from __future__ import annotations

from pathlib import Path

import click

from index.cli.adopt import adopt
from index.cli.places import Place
from index.cli.read import cat, log, ls, restore, snapshots, stats
from index.cli.schema import db
from index.cli.sync import sync
from index.cli.tree import diff, fork, rewind, rm, who
from index.cli.write import init, put, track

__all__ = ["cas"]


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
Exit codes: 0 ok, 1 error, 2 usage, 3 integrity fault found, 4 not found,
5 storage unavailable, 6 schema out of date.""",
)
@click.option(
    "--store",
    type=click.Path(path_type=Path),
    envvar="CAS_STORE",
    metavar="DIR",
    help="Directory of the store. Default: the nearest .cas upward, else ./.cas.",
)
@click.option("--index", envvar="CAS_INDEX", metavar="URL", help="Database of the index.")
@click.option("--blobs", envvar="CAS_BLOBS", metavar="URL", help="Where the blobs are.")
@click.version_option(package_name="runcas", prog_name="cas")
@click.pass_context
def cas(context: click.Context, store: Path | None, index: str | None, blobs: str | None) -> None:
    """Keep every version of every file that a workflow run writes.

    \b
    cas track work/              record what a directory holds now
    cas ls                       list what is recorded
    cas restore elsewhere/       get it back
    """  # noqa: D301 - click's own mark-up
    if store is not None and (index is not None or blobs is not None):
        raise click.UsageError("give --store, or --index and --blobs, not both")
    context.obj = Place(store, index, blobs)


_COMMANDS = (
    init, track, put, ls, log, snapshots, cat, restore,
    diff, who, fork, rewind, rm, adopt, sync, stats, db,
)  # fmt: skip
for command in _COMMANDS:
    cas.add_command(command)
