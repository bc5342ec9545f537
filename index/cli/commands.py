"""The `cas` command: its global options and its list of subcommands."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Final

import click

from index.cli.location import StoreLocation
from index.cli.units import read_size

__all__ = ["cas"]

_MODULES: Final = {
    "init": "write",
    "track": "write",
    "put": "write",
    "ls": "read",
    "log": "read",
    "snapshots": "read",
    "cat": "read",
    "restore": "read",
    "diff": "lineage",
    "who": "lineage",
    "fork": "lineage",
    "rewind": "lineage",
    "rm": "remove",
    "adopt": "adopt",
    "sync": "sync",
    "verify": "verify",
    "repair": "repair",
    "gc": "gc",
    "backup": "recover",
    "recover": "recover",
    "stats": "read",
    "db": "db",
}
"""Commands in the order of the help, each with the module of this package that defines it."""


class _Commands(click.Group):
    """A group that imports a command's module on first use, so that each command starts faster.

    Source: click's documentation, "Complex Applications", "Lazily Loading Subcommands".
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _MODULES:
            return None
        command = getattr(import_module(f"index.cli.{_MODULES[cmd_name]}"), cmd_name)
        assert isinstance(command, click.Command)  # noqa: S101 - a test loads each
        return command


@click.group(
    cls=_Commands,
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
    help="Directory of the store. Default: the nearest .cas here or above, else ./.cas.",
)
@click.option("--index", envvar="CAS_INDEX", metavar="URL", help="Database of the index.")
@click.option("--blobs", envvar="CAS_BLOBS", metavar="URL", help="Location of the blobs.")
@click.option(
    "--cache",
    type=click.Path(path_type=Path),
    envvar="CAS_CACHE",
    metavar="DIR",
    help="Cache remote blobs in this directory. Default: no cache.",
)
@click.option(
    "--cache-size",
    callback=read_size,
    envvar="CAS_CACHE_SIZE",
    metavar="SIZE",
    help="Largest size of the cache. Default: 10GiB.",
)
@click.option(
    "--no-cache", is_flag=True, help="Use no cache. Overrides --cache, CAS_CACHE and cas.toml."
)
@click.version_option(package_name="runcas", prog_name="cas")
@click.pass_context
def cas(
    context: click.Context,
    /,
    store: Path | None,
    index: str | None,
    blobs: str | None,
    *,
    cache: Path | None,
    cache_size: int | None,
    no_cache: bool,
) -> None:
    """Keep every version of every file that a workflow run writes.

    \b
    cas track work/              record the files of a directory
    cas ls                       list the recorded files
    cas restore elsewhere/       write them to another directory
    """  # noqa: D301 - click's own mark-up
    if store is not None and (index is not None or blobs is not None):
        raise click.UsageError("give --store, or --index and --blobs, not both")
    context.obj = StoreLocation(store, index, blobs, cache, cache_size, is_cached=not no_cache)
