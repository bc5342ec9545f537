"""The commands that show runs and the store in numbers: runs, stats."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

from index.cli.completing import completing
from index.cli.options import LABELS, listing_options
from index.cli.output import Form, print_json, print_json_lines
from index.cli.tables import Column, show, show_facts
from index.cli.terminal import is_for_people
from index.domain.runs import with_depths

if TYPE_CHECKING:
    from collections.abc import Sequence

    from index.api.run import Run
    from index.api.session import Session
    from index.api.store import ArtifactStore
    from index.cli.location import StoreLocation
    from index.domain.reports import GroupStats

__all__ = ["runs", "stats"]


@click.command()
@click.option("--session", "session_id", metavar="ID",
              shell_complete=completing("session"),
              help="Only this session's runs.")  # fmt: skip
@click.option(
    "--limit", type=click.IntRange(min=0), metavar="N", help="Only the N that were active last."
)
@click.option("--parent", metavar="ID",
              shell_complete=completing("run"),
              help="Only runs that are a part of this one.")  # fmt: skip
@click.option("--tree", is_flag=True, help="Each run before the runs that are a part of it.")
@listing_options
@click.pass_obj
def runs(
    location: StoreLocation,
    /,
    *,
    session_id: str | None,
    limit: int | None,
    parent: str | None,
    tree: bool,
    form: Form | None,
    full: bool,
) -> None:
    """List the runs of the store, or of a session. The last one was active last.

    With --tree, a terminal indents runs below the run that they are a part of: `cas describe
    --parent` says so.

    \b
    cas runs
    cas runs --tree
    cas runs --session task-12 --parent sweep-1
    cas runs --limit 10
    cas runs --session task-12 --json
    """  # noqa: D301
    with location.open(create=False) as store:
        owner = store if session_id is None else store.session(session_id)
        found = owner.runs(limit=limit, parent=parent)
    columns: tuple[Column, ...] = _RUNS
    if tree:
        depths = dict(with_depths(found))
        found = [*depths]
        if is_for_people():
            indented = Column("run", lambda run: "  " * depths[run] + run.run, rank=0)
            columns = tuple(indented if each.name == "run" else each for each in _RUNS)
    empty = "there are no runs yet" if parent is None else "no run is a part of it"
    show(found, columns, form, full=full, empty=empty)


_RUNS = (
    Column("session", rank=1),
    Column("run", rank=0),
    Column("status", rank=1),
    Column("snapshots", rank=3),
    Column("files", rank=1),
    Column("bytes", size=True, rank=2),
    Column("active", lambda run: run.active_at, rank=1),
    Column("tags", lambda run: ", ".join(run.tags) or None, rank=3, colour="yellow"),
    Column("parent", rank=4),
    Column("forked_from", rank=5),
    Column("work_dir", is_path=True, rank=5),
)


@click.command("stats")
@click.option("--session", "session_id", metavar="ID",
              shell_complete=completing("session"),
              help="Only this session's runs, each in a line.")  # fmt: skip
@click.option("--run", "run_id", metavar="ID",
              shell_complete=completing("run"),
              help="One run in detail.")  # fmt: skip
@click.option("--by", multiple=True, type=click.Choice([*LABELS, "session", "run"]),
              help="Files and bytes by this; may be repeated.")  # fmt: skip
@click.option("--prometheus", is_flag=True, help="Print metrics in the format of OpenMetrics.")
@listing_options
@click.pass_obj
def stats(
    location: StoreLocation,
    *,
    session_id: str | None,
    run_id: str | None,
    by: tuple[str, ...],
    prometheus: bool,
    form: Form | None,
    full: bool,
) -> None:
    """Show locations, sizes and what deduplication saves.

    \b
    cas stats
    cas stats --session session-1
    cas stats --session session-1 --run run-7
    cas stats --run run-7 --by phase --by agent
    cas stats --prometheus
    """  # noqa: D301
    if prometheus and (by or form or run_id is not None or session_id is not None):
        raise click.UsageError("--prometheus is about the whole store, and takes no other option")
    with location.open(create=False) as store:
        if prometheus:
            click.echo(store.stats().to_openmetrics(), nl=False)
            return
        if session_id is not None and run_id is None:
            by = by or ("run",)
        if by:
            owner: ArtifactStore | Session | Run = store
            if run_id is not None:
                owner = store.session(session_id or "default").run(run_id)
            elif session_id is not None:
                owner = store.session(session_id)
            groups = owner.stats_by(*(LABELS.get(label, label) for label in by))  # type: ignore[arg-type]  # its literals
            _print_groups(groups, tuple(dict.fromkeys(by)), form, full=full)
            return
        if run_id is not None:
            found = store.session(session_id or "default").run(run_id).stats().to_dict()
        else:
            found = store.stats().to_dict()
    if form is not None:
        (print_json if form == Form.JSON else print_json_lines)(
            found if form == Form.JSON else [found]
        )
        return
    if found.get("cache_at") is None:
        found = {name: value for name, value in found.items() if not name.startswith("cache_")}
    show_facts(found)


def _print_groups(
    groups: Sequence[GroupStats], by: Sequence[str], form: Form | None, *, full: bool
) -> None:
    columns = [Column(name, partial(_label, LABELS.get(name, name)), rank=0) for name in by]
    numbers = (Column("files", rank=0), Column("bytes", size=True, rank=0))
    show(groups, (*columns, *numbers, Column("versions")), form, full=full)


def _label(name: str, group: GroupStats) -> object:
    return group.labels[name]
