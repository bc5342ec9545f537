"""The commands for what was made from what: use, lineage, stale."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from cas.digest import Digest
from index.cli.completing import completing
from index.cli.options import (
    json_option,
    listing_options,
    only_run,
    provenance_options,
    run_options,
    session_option,
)
from index.cli.output import counted, print_json
from index.cli.settings import setting
from index.cli.tables import Column, path_column, show
from index.cli.terminal import page, printable

if TYPE_CHECKING:
    from index.api.session import Session
    from index.cli.location import StoreLocation
    from index.cli.output import Form
    from index.domain.inputs import Input, InputSource
    from index.domain.lineage import Direction
    from index.domain.snapshots import FileVersion

__all__ = ["lineage", "stale", "use"]


@click.command()
@click.argument("words", metavar="[INPUT]...", nargs=-1, shell_complete=completing("path"))
@run_options
@click.option(
    "--from", "source_run", metavar="ID", shell_complete=completing("run"),
    help="The run that has the paths. Default: the run that has read them.",
)  # fmt: skip
@click.option("--keep-as", metavar="PATH", help="Keep a copy of the one input at this path.")
@provenance_options
@listing_options
@click.pass_obj
def use(
    location: StoreLocation,
    /,
    words: tuple[str, ...],
    *,
    session_id: str,
    run_id: str | None,
    source_run: str | None,
    keep_as: str | None,
    form: Form | None,
    full: bool,
    **labels: str | None,
) -> None:
    """Note what a node, step or agent has read, before its results are recorded.

    An INPUT is a path of a run, as it is now; PATH@VERSION or PATH@TAG; a digest; or something
    outside of the store: a URI, or an absolute path. That is read now, and only its digest is
    noted, unless you say --keep-as. Without INPUT, the command lists what was noted.

    \b
    cas use data/result.csv --node plot
    cas use data/result.csv@1 --from run-7 --run run-8 --node plot
    cas use /data/raw.csv --keep-as data/raw.csv
    cas use
    """  # noqa: D301
    if keep_as is not None and len(words) != 1:
        raise click.UsageError("--keep-as goes with one input")
    with location.open(create=False) as store:
        session, run = store.session(session_id), only_run(store, session_id, run_id)
        if not words:
            noted = run.inputs(**_given(labels))
        else:
            sources = [_source(session, source_run or run.id, word) for word in words]
            noted = run.use(*sources, keep_as=keep_as, **labels)
        show(noted, _INPUTS, form, full=full, empty=f"run {printable(run.id)} has no inputs")


def _given(labels: dict[str, str | None]) -> dict[str, Any]:
    """Return the labels of the command line: what has a default for recording selects nothing."""
    source = click.get_current_context().get_parameter_source
    return {name: value for name, value in labels.items()
            if source(name) == click.core.ParameterSource.COMMANDLINE}  # fmt: skip


def _source(session: Session, run_id: str, word: str) -> InputSource:
    if "://" in word or word.startswith("/"):
        return word
    return _file(session, run_id, word)


def _file(session: Session, run_id: str, word: str) -> FileVersion | Digest:
    from index.domain.snapshots import FileVersion

    meaning = session.resolve(word, run=run_id).value
    if not isinstance(meaning, FileVersion | Digest):
        raise click.UsageError(f"{word!r} is no file; name a path, or its digest")
    return meaning


def _start(session: Session, run_id: str | None, word: str) -> FileVersion | Digest | str:
    """Return what a word means; of a path with a mark, in the run that recorded it last."""
    path, at, _ = word.rpartition("@")
    if run_id is None and at and path and not session.producers(word, limit=1):
        made = session.producers(path)
        last = max(made, default=None, key=lambda v: (v.end_snapshot is None, v.created_at, v.id))
        run_id = None if last is None else last.run
    return word if run_id is None else _file(session, run_id, word)


def _read(noted: Input) -> str:
    if noted.path is None:
        return noted.uri or str(noted.digest)
    return f"{noted.path}@{noted.version}"


_INPUTS = (
    Column("node", lambda noted: noted.node_id, rank=1),
    Column("step", lambda noted: noted.step_id, rank=4),
    Column("agent", rank=2),
    Column("phase", rank=5),
    Column("from", lambda noted: noted.source_run, rank=2),
    Column("size", size=True, rank=3),
    Column("created", lambda noted: noted.created_at, rank=3),
    Column("digest", colour="yellow", rank=3),
    path_column(_read, "input"),
)


@click.command()
@click.argument("word", metavar="PATH[@VERSION]|DIGEST", shell_complete=completing("path"))
@session_option()
@click.option(
    "--run", "run_id", envvar="CAS_RUN", default=setting("run"), metavar="ID",
    shell_complete=completing("run"), help="Default: the run that recorded the path last.",
)  # fmt: skip
@click.option("--up", "direction", flag_value="up", default="up", help="What it comes from.")
@click.option("--down", "direction", flag_value="down", help="What was made from it.")
@click.option("--both", "direction", flag_value="both", help="Both.")
@click.option("--depth", type=click.IntRange(min=0), metavar="N", help="At most N steps.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=10_000, metavar="N",
    help="At most N versions. Default: 10000.",
)  # fmt: skip
@click.option(
    "--format", "form", type=click.Choice(["tree", "dot", "mermaid", "json"]), default="tree",
    help="A tree, a graph to draw, or JSON. Default: tree.",
)  # fmt: skip
@json_option
@click.pass_obj
def lineage(
    location: StoreLocation,
    /,
    word: str,
    *,
    session_id: str,
    run_id: str | None,
    direction: Direction,
    depth: int | None,
    limit: int,
    form: str,
    as_json: bool,
) -> None:
    """Show what a file was made from, or what was made from it, over all runs.

    Runs note what they read with `cas use`, `cas run --input` and `cas track --input`. Each line
    has a version, its run, and in brackets who made it. A line with = is an earlier version with
    the same bytes.

    \b
    cas lineage plots/result.png
    cas lineage data/result.csv --run run-7 --down
    cas lineage plots/result.png --format mermaid
    """  # noqa: D301
    from index.cli.graph import as_dot, as_mermaid, iter_tree

    with location.open(create=False) as store:
        session = store.session(session_id)
        of = _start(session, run_id, word)
        found = session.lineage(of, direction=direction, depth=depth, limit=limit)
    if as_json or form == "json":
        print_json(found)
        return
    lines = {"tree": iter_tree, "dot": as_dot, "mermaid": as_mermaid}[form](found)
    page(lines) if form == "tree" else click.echo("\n".join(lines))
    if not found.complete:
        click.echo(
            f"there is more than {counted(len(found.versions), 'version')};"
            " --depth and --limit say how much is shown",
            err=True,
        )


@click.command()
@click.argument("path", required=False, shell_complete=completing("path"))
@session_option()
@click.option("--run", "run_id", metavar="ID", shell_complete=completing("run"),
              help="Only what a file of this run has made stale.")  # fmt: skip
@listing_options
@click.pass_obj
def stale(
    location: StoreLocation,
    /,
    path: str | None,
    *,
    session_id: str,
    run_id: str | None,
    form: Form | None,
    full: bool,
) -> None:
    """List what to make again: files that were made from a version which has a newer one.

    With PATH, only what was made from that file, directly or through others.

    \b
    cas stale
    cas stale data/result.csv --run run-7
    """  # noqa: D301
    with location.open(create=False) as store:
        found = store.session(session_id).stale(path, run=run_id)
        show(found, _STALE, form, full=full, empty="nothing is stale")


def _named(version: FileVersion) -> str:
    return f"{version.path}@{version.version}"


_STALE = (
    Column("run", lambda found: found.version.run, rank=0),
    Column("version", lambda found: found.version.version, rank=2),
    Column("made from", lambda found: _named(found.used), rank=1, is_path=True),
    Column("newer", lambda found: found.newer.version, rank=1),
    Column("digest", lambda found: found.version.digest, colour="yellow", rank=3),
    path_column(lambda found: found.version.path),
)
