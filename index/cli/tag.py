"""The command that names snapshots, versions and runs: tag."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from index.cli.completing import completing
from index.cli.options import at_option, listing_options, only_run, run_options
from index.cli.output import Form, print_json, print_json_lines
from index.cli.selectors import split_version
from index.cli.settings import setting
from index.cli.tables import Column, show
from index.cli.terminal import printable

if TYPE_CHECKING:
    from index.api.run import Run
    from index.api.store import ArtifactStore
    from index.cli.location import StoreLocation
    from index.domain.tags import Tag

__all__ = ["tag"]


@click.command()
@click.argument("name", required=False, shell_complete=completing("tag"))
@click.argument("path", metavar="[PATH[@VERSION]]", required=False,
                shell_complete=completing("path"))  # fmt: skip
@run_options
@at_option
@click.option("--whole-run", is_flag=True,
              help="Name the run itself: --run @NAME in its session.")  # fmt: skip
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
    whole_run: bool,
    delete: bool,
    history: bool,
    agent: str | None,
    form: Form | None,
    full: bool,
) -> None:
    """Name a snapshot, a version of a file, or a run.

    Without NAME, the command lists the tags of a run. A tag names the newest snapshot, or that of
    --at. With PATH it names a version of that file. A tag that exists moves. Other commands take
    its name wherever they take a snapshot.

    With --whole-run, the tag names one run of the session. @NAME stands for it wherever a run is
    named, and `cas rm` deletes that run only with --force.

    \b
    cas tag best
    cas tag submitted --at 3 --run run-7
    cas tag result data/result.csv@1
    cas ls --at best
    cas tag --history best
    cas tag -d best
    cas tag --whole-run best --run trial-3
    cas ls --run @best
    """  # noqa: D301
    if name is None and (delete or history or at is not None):
        raise click.UsageError("name the tag")
    if delete + history + (path is not None or at is not None) > 1:
        raise click.UsageError("--delete and --history take the name of a tag, and nothing else")
    if whole_run and (path is not None or at is not None):
        raise click.UsageError("--whole-run names the run itself; leave out PATH and --at")
    source = click.get_current_context().get_parameter_source("run_id")
    if whole_run and (name is None or delete or history) and source is ParameterSource.COMMANDLINE:
        raise click.UsageError("a tag of --whole-run is of the session; leave out --run")
    with location.open(create=False) as store:
        if whole_run:
            _tag_run(store, session_id, run_id, name, form, delete=delete, history=history,
                     agent=agent, full=full)  # fmt: skip
            return
        run = only_run(store, session_id, run_id)
        if name is None:
            show(run.tags(), _TAGS, form, full=full, empty=f"run {printable(run.id)} has no tags")
        elif history:
            show(run.tag_history(name), _TAGS, form, full=full)
        elif delete:
            _print_tag(run.untag(name, agent=agent), form)
        else:
            _print_tag(_set(run, name, path, at, agent), form)


def _tag_run(
    store: ArtifactStore,
    session_id: str,
    run_id: str | None,
    name: str | None,
    form: Form | None,
    *,
    delete: bool,
    history: bool,
    agent: str | None,
    full: bool,
) -> None:
    session = store.session(session_id)
    if name is None:
        empty = f"no run of session {printable(session_id)} has a tag"
        show(session.run_tags(), _RUN_TAGS, form, full=full, empty=empty)
    elif history:
        show(session.run_tag_history(name), _RUN_TAGS, form, full=full)
    else:
        if delete:
            made = session.untag_run(name, agent=agent)
        else:
            made = session.tag_run(name, only_run(store, session_id, run_id).id, agent=agent)
        if form == Form.JSON:
            print_json(made)
            return
        if form == Form.LINES:
            print_json_lines([made])
            return
        what = "is removed" if made.run is None else f"names the run {printable(made.run)}"
        click.echo(f"tag {made.name} of session {printable(session_id)} {what}")


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


_RUN_TAGS = (
    Column("name", rank=0, colour="yellow"),
    Column("run", rank=0),
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
