"""The `cas` command: its global options and its list of subcommands."""

from __future__ import annotations

from importlib import import_module
from keyword import iskeyword
from pathlib import Path
from typing import Final

import click

from index.cli.location import StoreLocation
from index.cli.options import add_global_options, global_options
from index.cli.progress import log_messages
from index.cli.terminal import colour_wanted
from index.cli.units import read_size

__all__ = ["cas"]

_SECTIONS: Final = {
    "Record": {
        "init": "write",
        "track": "write",
        "watch": "watch",
        "run": "run",
        "put": "write",
        "use": "inputs",
    },
    "Look": {
        "status": "status",
        "runs": "stats",
        "ls": "read",
        "find": "find",
        "log": "read",
        "snapshots": "read",
        "show": "describe",
        "cat": "read",
        "diff": "diff",
        "who": "lineage",
        "lineage": "inputs",
        "stale": "inputs",
        "stats": "stats",
        "serve": "serve",
    },
    "Bring back, name, branch, remove": {
        "restore": "restore",
        "rewind": "lineage",
        "tag": "tag",
        "describe": "describe_run",
        "fork": "lineage",
        "rm": "remove",
        "drop": "retention",
        "hold": "retention",
    },
    "Exchange": {"export": "export", "import": "imports", "sync": "sync", "adopt": "adopt"},
    "Take care of the store": {
        "doctor": "doctor",
        "verify": "verify",
        "repair": "repair",
        "prune": "retention",
        "quota": "retention",
        "gc": "gc",
        "backup": "recover",
        "recover": "recover",
        "db": "db",
    },
    "Set up": {"config": "config", "completion": "completion"},
}
"""Commands in the order of the help, each with the module of this package that defines it."""

_MODULES: Final = {name: module for part in _SECTIONS.values() for name, module in part.items()}

_OTHER_WORDS: Final = {
    "add": ("track", "put"),
    "checkout": ("restore",),
    "commit": ("track",),
    "delete": ("rm",),
    "forget": ("prune",),
    "history": ("log",),
    "list": ("ls", "runs"),
    "remove": ("rm",),
    "save": ("track", "put"),
    "search": ("find",),
}
"""What people type who know other tools."""

_OVERVIEW: Final = """\
cas keeps every version of every file that a workflow run writes, and its maker.

  cas track work/         record the files of the directory work
  cas status              show what a track would record now
  cas ls                  list what was recorded; paths begin in work
  cas log result.csv      list the versions of work/result.csv and their makers
  cas diff 1 2 --text     compare two snapshots
  cas restore             write back what is missing in work

cas --help lists all commands, and cas COMMAND --help shows examples."""


class _Commands(click.Group):
    """A group that imports a command's module on first use, so that each command starts faster.

    Source: click's documentation, "Complex Applications", "Lazily Loading Subcommands".
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _MODULES:
            return None
        function = f"{cmd_name}_" if iskeyword(cmd_name) else cmd_name
        command = getattr(import_module(f"index.cli.{_MODULES[cmd_name]}"), function)
        assert isinstance(command, click.Command)  # noqa: S101 - a test loads each
        add_global_options(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = ctx.resilient_parsing or not args or args[0] in _MODULES
        if not known and not args[0].startswith("-"):
            from difflib import get_close_matches

            close = _OTHER_WORDS.get(args[0]) or get_close_matches(args[0], _MODULES, n=3)
            more = f"did you mean {' or '.join(close)}?" if close else "cas --help lists all"
            ctx.fail(f"there is no command {args[0]!r}; {more}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for section, names in _SECTIONS.items():
            rows = [(name, self.get_command(ctx, name)) for name in names]
            with formatter.section(section):
                formatter.write_dl(
                    [(name, command.get_short_help_str(64)) for name, command in rows if command]
                )


def _print_version(context: click.Context, _option: click.Parameter, value: bool) -> None:  # noqa: FBT001 - a callback of click
    if value and not context.resilient_parsing:
        from importlib.metadata import version

        from cas.packs.pack import PACK_VERSION
        from index.db.schema import HEAD

        click.echo(f"cas {version('runcas')}, format {PACK_VERSION}, schema {HEAD}")
        context.exit()


@click.group(
    cls=_Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
Exit codes: 0 ok, 1 error, 2 usage, 3 integrity fault found, 4 not found,
5 storage unavailable, 6 schema out of date. cas run: that of the command.""",
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
@global_options
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the versions of the program, the format and the schema.",
)
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
    quiet: bool,
    verbose: int,
    log_file: Path | None,
) -> None:
    """Keep every version of every file that a workflow run writes.

    \b
    cas track work/              record the files of a directory
    cas ls                       list the recorded files
    cas restore --to copy/       write them to another directory
    """  # noqa: D301 - click's own mark-up
    context.color = colour_wanted()
    log_messages(context, quiet=quiet, verbose=verbose, file=log_file)
    if store is not None and (index is not None or blobs is not None):
        raise click.UsageError("give --store, or --index and --blobs, not both")
    context.obj = StoreLocation(store, index, blobs, cache, cache_size, is_cached=not no_cache)
    if context.invoked_subcommand is None:
        click.echo(_OVERVIEW)
