"""The command that searches runs: find."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from index.cli.closest import or_closest_labels
from index.cli.completing import completing
from index.cli.options import filter_options, listing_options, session_option
from index.cli.tables import Column, path_column, show
from index.cli.units import read_size, read_time

if TYPE_CHECKING:
    from index.cli.location import StoreLocation
    from index.cli.output import Form

__all__ = ["find"]


@click.command()
@click.argument("pattern", required=False)
@session_option()
@click.option("--all-sessions", is_flag=True, help="Search every session of the store.")
@click.option("--run", metavar="ID",
              shell_complete=completing("run"),
              help="Only in this run, or in those that match, as 'run-*'.")  # fmt: skip
@filter_options
@click.option("--since", callback=read_time, metavar="TIME",
              help="Recorded at this time or later: 2d (two days ago), 2026-05-31, …")  # fmt: skip
@click.option("--until", callback=read_time, metavar="TIME", help="Recorded before this time.")
@click.option("--larger", callback=read_size, metavar="SIZE", help="Of more bytes, as 10MiB.")
@click.option("--smaller", callback=read_size, metavar="SIZE", help="Of less bytes.")
@click.option("--digest", metavar="DIGEST", help="With this digest, or its first digits.")
@click.option("--where", metavar="EXPRESSION",
              help="For which this is true, as 'meta.rmse < 0.1 or final'.")  # fmt: skip
@click.option("--all-versions", is_flag=True, help="Past versions, too.")
@click.option("--limit", type=click.IntRange(min=0), metavar="N", help="List at most N files.")
@listing_options
@click.pass_obj
def find(
    location: StoreLocation,
    /,
    pattern: str | None,
    *,
    session_id: str,
    all_sessions: bool,
    form: Form | None,
    full: bool,
    **selection: Any,
) -> None:
    """Find files in all runs of a session, the oldest run first.

    PATTERN is a part of the name, or a pattern for it with *, ? and [a-z]. With a slash it is for
    the whole path. Only current files are found, unless you say --all-versions.

    The expression of --where compares columns by =, !=, <, <=, >, >=, in (…), is null, and ~ for a
    pattern, and joins comparisons by and, or, not. The columns are path, name, type,
    priority, final, size, version, created, agent, phase, node, step, event, code, run, status,
    tag, and meta.KEY for what was noted.

    \b
    cas find result
    cas find '*.csv' --agent engineer --since 2d
    cas find 'data/**' --run 'run-*' --larger 10MiB
    cas find --digest 4f2a001
    cas find --where 'meta.rmse < 0.1 and agent = "engineer"'
    cas find --where 'status = "failed" and (size >= 1GB or created >= 2d)'
    """  # noqa: D301
    session = (Column("session", rank=0),) if all_sessions else ()
    with location.open(create=False) as store:
        owner = store if all_sessions else store.session(session_id)
        found = owner.find(pattern, **selection)
        found = or_closest_labels(found, owner, selection)
        show(found, (*session, *_FOUND), form, full=full, empty="no file matches")


_FOUND = (
    Column("run", rank=0),
    Column("version", rank=5),
    Column("size", size=True, rank=2),
    Column("type", lambda version: version.file_type, rank=3),
    Column("agent", rank=1),
    Column("node", lambda version: version.node_id, rank=6),
    Column("created", lambda version: version.created_at, rank=2),
    Column("digest", colour="yellow", rank=4),
    path_column(),
)
