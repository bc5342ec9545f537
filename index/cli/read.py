"""The commands that read files: ls, log, snapshots, cat."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Any, get_args

import click
from click.core import ParameterSource

from index.cli.closest import or_closest_labels
from index.cli.completing import completing
from index.cli.options import (
    at_option,
    filter_options,
    listing_options,
    only_run,
    run_options,
)
from index.cli.selectors import split_version
from index.cli.tables import Column, path_column, show
from index.domain.listing import FileOrder
from index.errors import UnknownFileError

if TYPE_CHECKING:
    from index.cli.location import StoreLocation
    from index.cli.output import Form
    from index.domain.listing import DirectoryEntry
    from index.domain.snapshots import FileVersion, Snapshot

__all__ = ["cat", "log", "ls", "snapshots"]

_FILES = (
    Column("size", size=True),
    Column("type", lambda version: version.file_type, rank=3),
    Column("digest", colour="yellow", rank=5),
    Column("phase", rank=4),
    Column("agent", rank=2),
    Column("node", lambda version: version.node_id, rank=6),
    Column("created", lambda version: version.created_at, rank=7),
)


def _shown_path(version: FileVersion) -> str:
    final = " (final)" if version.is_final_output else ""
    return f"{version.path}{'@' if version.is_link else ''}{final}"


@click.command("ls")
@click.argument("directory", metavar="[DIR]", default="", shell_complete=completing("path"))
@run_options
@filter_options
@click.option("--glob", metavar="PATTERN", help="Only paths that match, as 'data/**/*.csv'.")
@at_option
@click.option("-R", "--recursive", is_flag=True, help="Also what is in the directories below.")
@click.option("--order-by", metavar="ORDER", default="path", show_default=True,
              type=click.Choice(get_args(FileOrder)),
              help="path, appearance, size or created_at; -size is the largest first.")  # fmt: skip
@click.option("--limit", type=click.IntRange(min=0), metavar="N", help="List at most N files.")
@click.option("--after", metavar="PATH",
              shell_complete=completing("path"),
              help="Begin after this file: the last one of a page.")  # fmt: skip
@listing_options
@click.pass_obj
def ls(
    location: StoreLocation,
    /,
    *,
    session_id: str,
    run_id: str | None,
    directory: str,
    recursive: bool,
    at: int | str | None,
    limit: int | None,
    after: str | None,
    form: Form | None,
    full: bool,
    **selection: Any,
) -> None:
    """List a directory of a run, by default its top.

    With -R, or an option that selects or orders files, list all files below DIR. A listing of any
    length begins to appear at once. A link is marked with @.

    \b
    cas ls
    cas ls data --run run-7
    cas ls -R --run run-7 --at 3 --json
    cas ls --agent engineer --type plot
    cas ls --glob 'data/**/*.csv' --order-by -size --limit 10
    """  # noqa: D301
    columns = (*_FILES, path_column(_shown_path))
    with location.open(create=False) as store:
        run = only_run(store, session_id, run_id)
        if not recursive and not _selects():
            try:
                entries = run.list_dir(directory, at=at, limit=limit, after=after)
            except UnknownFileError:
                file = run.get(directory, at=at)
                if file is None:
                    raise
                show([file], columns, form, full=full)
            else:
                show(entries, _ENTRIES, form, full=full, empty="no files")
            return
        if directory.strip("/") not in ("", "."):
            if selection["prefix"] is not None:
                raise click.UsageError("DIR is a prefix already; leave out --prefix")
            run.list_dir(directory, at=at, limit=1)  # which says if there is no such directory
            selection["prefix"] = f"{directory.strip('/')}/"
        # An index has the order of paths. In another one each page would be a pass over the run.
        is_by_path = selection["order_by"].endswith("path")
        listed = run.iter_files if is_by_path else run.files
        versions = listed(at=at, limit=limit, after=after, **selection)
        versions = or_closest_labels(versions, run, selection)
        show(versions, columns, form, full=full, empty="no file matches")


def _selects() -> bool:
    """Whether an option is given that the listing of one directory does not have."""
    context = click.get_current_context()
    return any(
        context.get_parameter_source(name) is not ParameterSource.DEFAULT
        for name in context.params
        if name not in _OF_DIRECTORIES
    )


_OF_DIRECTORIES = {
    *("session_id", "run_id", "directory", "recursive", "at", "limit", "after", "form", "full")
}


def _shown_entry(entry: DirectoryEntry) -> str:
    return f"{entry.path}/" if entry.version is None else _shown_path(entry.version)


_ENTRIES = (
    Column("size", lambda entry: entry.bytes, size=True),
    Column("files", lambda entry: entry.files if entry.version is None else None, rank=2),
    Column("type", lambda entry: entry.version and entry.version.file_type, rank=3),
    Column("agent", lambda entry: entry.version and entry.version.agent, rank=2),
    Column("created", lambda entry: entry.version and entry.version.created_at, rank=4),
    path_column(_shown_entry),
)


@click.command("log")
@click.argument("path", shell_complete=completing("path"))
@run_options
@listing_options
@click.pass_obj
def log(
    location: StoreLocation,
    path: str,
    *,
    session_id: str,
    run_id: str | None,
    form: Form | None,
    full: bool,
) -> None:
    """List every version of a file, with its maker.

    \b
    cas log data/result.csv --run run-7
    """  # noqa: D301
    with location.open(create=False) as store:
        versions = only_run(store, session_id, run_id).history(path)
    show(versions, _VERSIONS, form, full=full)


def _span(version: FileVersion) -> str:
    end = "" if version.end_snapshot is None else str(version.end_snapshot)
    return f"{version.first_snapshot}..{end}"


_VERSIONS = (
    Column("version", rank=0),
    Column("snapshots", _span, rank=3),
    Column("created", lambda version: version.created_at, rank=1),
    Column("size", size=True, rank=2),
    Column("phase", rank=4),
    Column("agent", rank=1),
    Column("node", lambda version: version.node_id, rank=4),
    Column("digest", colour="yellow", rank=5),
)


@click.command()
@run_options
@listing_options
@click.pass_obj
def snapshots(
    location: StoreLocation, *, session_id: str, run_id: str | None, form: Form | None, full: bool
) -> None:
    """List a run's snapshots: every scan that changed something.

    \b
    cas snapshots --run run-7
    """  # noqa: D301
    with location.open(create=False) as store:
        found = only_run(store, session_id, run_id).snapshots()
        show(found, _SNAPSHOTS, form, full=full)


def _changes(snapshot: Snapshot) -> str:
    counts = (snapshot.lazy_added, snapshot.lazy_changed, snapshot.lazy_removed)
    return " ".join(f"{mark}{len(each)}" for mark, each in zip("+~-", counts, strict=True))


def _command(snapshot: Snapshot) -> str | None:
    """Return the command line that `cas run` noted."""
    noted = snapshot.notes.get("command") if isinstance(snapshot.notes, dict) else None
    return " ".join(map(str, noted)) if isinstance(noted, list) else None


_SNAPSHOTS = (
    Column("number", rank=0),
    Column("created", lambda snapshot: snapshot.created_at, rank=1),
    Column("changes", _changes, rank=0),
    Column("stored", lambda snapshot: snapshot.bytes_stored, size=True, rank=2),
    Column("phase", lambda snapshot: snapshot.provenance.phase, rank=3),
    Column("agent", lambda snapshot: snapshot.provenance.agent, rank=1),
    Column("node", lambda snapshot: snapshot.provenance.node_id, rank=4),
    Column("command", _command, rank=5),
)


@click.command("cat")
@click.argument(
    "paths",
    metavar="PATH[@VERSION|@TAG]...",
    nargs=-1,
    required=True,
    shell_complete=completing("path"),
)
@run_options
@at_option
@click.pass_obj
def cat(
    location: StoreLocation,
    paths: tuple[str, ...],
    *,
    session_id: str,
    run_id: str | None,
    at: int | str | None,
) -> None:
    """Write files to standard output, verified.

    Several files come one after the other. All are looked up before the first is written.

    \b
    cas cat data/result.csv --run run-7
    cas cat data/result.csv@1 --run run-7
    cas cat data/result.csv@best
    cas cat data/part-1.csv data/part-2.csv > data.csv
    """  # noqa: D301
    if sys.__stdout__ is None:
        raise click.UsageError("standard output is closed; the bytes would go nowhere")
    with location.open(create=False) as store:
        run = only_run(store, session_id, run_id)
        wanted = [split_version(run, path, at) for path in paths]
        if len(wanted) > 1:
            for n, (name, version, moment) in enumerate(wanted):
                found = run.file(name, version=version, at=moment)
                if found.digest is None:
                    run.open(found.path, version=found.version)  # which raises why
                wanted[n] = found.path, found.version, None  # whatever is recorded meanwhile
        for name, version, moment in wanted:
            with run.open(name, version=version, at=moment) as stream:
                shutil.copyfileobj(stream, sys.stdout.buffer, 1 << 20)
        sys.stdout.buffer.flush()
