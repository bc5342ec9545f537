"""The command that names snapshots and versions: tag."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from index.cli.completing import completing
from index.cli.options import at_option, listing_options, only_run, run_options
from index.cli.output import Form, print_json, print_json_lines
from index.cli.selectors import split_version
from index.cli.settings import setting
from index.cli.tables import Column, show
from index.cli.terminal import printable

if TYPE_CHECKING:
    from index.api.run import Run
    from index.cli.location import StoreLocation
    from index.domain.tags import Tag

__all__ = ["tag"]


@click.command()
@click.argument("name", required=False, shell_complete=completing("tag"))
@click.argument("path", metavar="[PATH[@VERSION]]", required=False,
                shell_complete=completing("path"))  # fmt: skip
@run_options
@at_option
@click.option("-d", "--delete", is_flag=True, help="Remove the tag. What it names stays.")
@click.option("--history", is_flag=True, help="List what the tag has named.")
@click.option("--agent", envvar="CAS_AGENT", default=setting("agent"), metavar="NAME",
              help="Who says so.")  # fmt: skip
@listing_options
@click.pass_obj
def tag(
    location: StoreLocation,
    /,
    *,
    name: str | None,
    path: str | None,
    session_id: str,
    run_id: str | None,
    at: int | str | None,
    delete: bool,
    history: bool,
    agent: str | None,
    form: Form | None,
    full: bool,
) -> None:
    """Name a snapshot, or a version of a file.

    Without NAME, the command lists the tags of a run. A tag names the newest snapshot, or that of
    --at. With PATH it names a version of that file. A tag that exists moves. Other commands take
    its name wherever they take a snapshot.

    \b
    cas tag best
    cas tag submitted --at 3 --run run-7
    cas tag result data/result.csv@1
    cas ls --at best
    cas tag --history best
    cas tag -d best
    """  # noqa: D301
    if name is None and (delete or history or at is not None):
        raise click.UsageError("name the tag")
    if delete + history + (path is not None or at is not None) > 1:
        raise click.UsageError("--delete and --history take the name of a tag, and nothing else")
    with location.open(create=False) as store:
        run = only_run(store, session_id, run_id)
        if name is None:
            show(run.tags(), _TAGS, form, full=full, empty=f"run {printable(run.id)} has no tags")
        elif history:
            show(run.tag_history(name), _TAGS, form, full=full)
        elif delete:
            _print_tag(run.untag(name, agent=agent), form)
        else:
            _print_tag(_set(run, name, path, at, agent), form)


def _set(run: Run, name: str, path: str | None, at: int | str | None, agent: str | None) -> Tag:
    if path is None:
        return run.tag(name, at=at, agent=agent)
    plain, version, at = split_version(run, path, at)
    return run.tag(name, path=plain, version=version, at=at, agent=agent)


def _names(found: Tag) -> str | None:
    if found.path is not None:
        return f"{found.path}@{found.version}"
    return None if found.snapshot is None else f"snapshot {found.snapshot}"


_TAGS = (
    Column("name", rank=0, colour="yellow"),
    Column("names", _names, rank=0, is_path=True),
    Column("agent", rank=2),
    Column("created", lambda found: found.created_at, rank=1),
)


def _print_tag(found: Tag, form: Form | None) -> None:
    if form == Form.JSON:
        print_json(found)
        return
    if form == Form.LINES:
        print_json_lines([found])
        return
    names = _names(found)
    what = "is removed" if names is None else f"names {printable(names)}"
    click.echo(f"tag {found.name} of {printable(found.run)} {what}")
