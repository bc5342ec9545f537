"""The commands that read: ls, log, snapshots, cat, restore, stats."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
from click.core import ParameterSource

from index.cli.options import (
    LABELS,
    at_option,
    filter_options,
    json_option,
    only_run,
    provenance_options,
    run_options,
)
from index.cli.output import (
    columns,
    counted,
    print_json,
    print_json_list,
    print_report,
    printable,
    progress_bar,
)
from index.domain.listing import FileOrder
from index.domain.results import to_json
from index.domain.units import human_size
from index.errors import UnknownFileError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from index.api.run import Run
    from index.api.session import Session
    from index.api.store import ArtifactStore
    from index.cli.location import StoreLocation
    from index.domain.listing import DirectoryEntry
    from index.domain.reports import GroupStats
    from index.domain.snapshots import FileVersion
    from index.reading.restore import RestoreWarning

__all__ = ["cat", "log", "ls", "restore", "snapshots", "stats"]

_DIGEST_SHOWN = 12
"""Characters of a digest in listings. ``--json`` and ``log`` print all of them."""


@click.command("ls")
@run_options
@provenance_options
@filter_options
@click.option("--glob", metavar="PATTERN", help="Only paths that match, as 'data/**/*.csv'.")
@at_option
@click.option("--order-by", metavar="ORDER", default="path", show_default=True,
              type=click.Choice(get_args(FileOrder)),
              help="path, appearance, size or created_at; -size is the largest first.")  # fmt: skip
@click.option("--limit", type=click.IntRange(min=0), metavar="N", help="List at most N files.")
@click.option("--after", metavar="PATH", help="Begin after this file: the last one of a page.")
@click.option("--dir", "folder", metavar="PATH",
              help="List one directory and its directories; . is the whole run.")  # fmt: skip
@json_option
@click.pass_obj
def ls(
    location: StoreLocation,
    /,
    *,
    session_id: str,
    run_id: str | None,
    folder: str | None,
    at: int | None,
    limit: int | None,
    after: str | None,
    as_json: bool,
    **selection: Any,
) -> None:
    """List a run's files, in order of their paths. A run of any size begins to appear at once.

    \b
    cas ls
    cas ls --run run-7 --agent engineer --type plot
    cas ls --run run-7 --at 3 --json
    cas ls --glob 'data/**/*.csv' --order-by -size --limit 10
    cas ls --dir data
    """  # noqa: D301
    if folder is not None:
        _refuse_filters()
    with location.open(create=False) as store:
        run = only_run(store, session_id, run_id)
        if folder is not None:
            _print_entries(run.list_dir(folder, at=at, limit=limit, after=after), as_json=as_json)
            return
        # An index has the order of paths. In another one each page would be a pass over the run.
        is_by_path = selection["order_by"].endswith("path")
        listed = run.iter_files if is_by_path else run.files
        versions = listed(at=at, limit=limit, after=after, **selection)
        if as_json:
            print_json_list(versions)
            return
        columns(
            (
                (
                    human_size(version.size),
                    str(version.digest or "-")[:_DIGEST_SHOWN],
                    version.file_type,
                    version.phase,
                    version.agent,
                    _shown_path(version),
                )
                for version in versions
            ),
            right=(0,),
        )


@click.command("log")
@click.argument("path")
@run_options
@json_option
@click.pass_obj
def log(
    location: StoreLocation, path: str, *, session_id: str, run_id: str | None, as_json: bool
) -> None:
    """Show every version of a file: time, provenance and digest.

    \b
    cas log data/result.csv --run run-7
    """  # noqa: D301
    with location.open(create=False) as store:
        versions = only_run(store, session_id, run_id).history(path)
    if as_json:
        print_json(versions)
        return
    columns(
        [
            (
                f"@{version.version}",
                _span(version),
                version.created_at,
                human_size(version.size),
                version.phase,
                version.agent,
                version.node_id,
                version.digest,
            )
            for version in versions
        ],
        right=(3,),
    )


@click.command()
@run_options
@json_option
@click.pass_obj
def snapshots(
    location: StoreLocation, *, session_id: str, run_id: str | None, as_json: bool
) -> None:
    """List a run's snapshots: every scan that changed something.

    \b
    cas snapshots --run run-7
    """  # noqa: D301
    with location.open(create=False) as store:
        found = only_run(store, session_id, run_id).snapshots()
        if as_json:
            print_json(found)
            return
        rows = [
            (
                snapshot.number,
                snapshot.created_at,
                f"+{len(snapshot.lazy_added)} ~{len(snapshot.lazy_changed)}"
                f" -{len(snapshot.lazy_removed)}",
                human_size(snapshot.bytes_stored),
                snapshot.provenance.phase,
                snapshot.provenance.agent,
                snapshot.provenance.node_id,
            )
            for snapshot in found
        ]
    columns(rows, right=(0, 3))


@click.command("cat")
@click.argument("path", metavar="PATH[@VERSION]")
@run_options
@at_option
@click.pass_obj
def cat(
    location: StoreLocation, path: str, *, session_id: str, run_id: str | None, at: int | None
) -> None:
    """Verify a file's bytes and write them to standard output.

    \b
    cas cat data/result.csv --run run-7
    cas cat data/result.csv@1 --run run-7
    """  # noqa: D301
    if sys.__stdout__ is None:
        raise click.UsageError("standard output is closed; the bytes would go nowhere")
    with location.open(create=False) as store:
        run = only_run(store, session_id, run_id)
        name, version = _split_version(run, path, at)
        with run.open(name, version=version, at=at) as stream:
            shutil.copyfileobj(stream, sys.stdout.buffer, 1 << 20)
        sys.stdout.buffer.flush()


@click.command("restore")
@click.argument("destination", metavar="DEST", type=click.Path(path_type=Path))
@click.argument("paths", metavar="[PATH]...", nargs=-1)
@run_options
@at_option
@click.option("--overwrite", is_flag=True, help="Replace what has other content.")
@json_option
@click.pass_obj
def restore(
    location: StoreLocation,
    destination: Path,
    paths: tuple[str, ...],
    *,
    session_id: str,
    run_id: str | None,
    at: int | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write a run's files to DEST, with modes and times. Every byte is verified.

    What DEST does not take besides bytes is reported, and the exit code stays 0. With --overwrite,
    a directory makes way for a file only if the run has held all files in it.

    \b
    cas restore elsewhere/ --run run-7
    cas restore elsewhere/ data plots/a.png --run run-7 --at 3
    """  # noqa: D301
    with location.open(create=False) as store, progress_bar("restoring") as progress:
        result = only_run(store, session_id, run_id).restore(
            destination, paths=paths or None, at=at, overwrite=overwrite, progress=progress
        )
    if as_json:
        print_report(result)
        return
    click.echo(
        f"{counted(result.written, 'file')} written ({human_size(result.bytes_written)}), "
        f"{result.unchanged} there already"
    )
    _print_warnings(result.warnings)
    for path in result.without_bytes:
        click.echo(f"not restored, its bytes were never stored: {printable(path)}", err=True)


def _print_warnings(warnings: Iterable[RestoreWarning]) -> None:
    """Print one line for each reason: some filesystems refuse the same for every file."""
    paths: dict[str, list[str]] = {}
    for path, reason in warnings:
        paths.setdefault(reason, []).append(path)
    for reason, named in paths.items():
        more = f" and {len(named) - 1} more" if len(named) > 1 else ""
        click.echo(f"warning: {printable(named[0])}{more}: {printable(reason)}", err=True)


@click.command("stats")
@click.option("--session", "session_id", metavar="ID", help="Only this session's runs.")
@click.option("--run", "run_id", metavar="ID", help="One run in detail.")
@click.option("--by", multiple=True, type=click.Choice([*LABELS, "session", "run"]),
              help="Files and bytes by this; may be repeated.")  # fmt: skip
@json_option
@click.pass_obj
def stats(
    location: StoreLocation,
    *,
    session_id: str | None,
    run_id: str | None,
    by: tuple[str, ...],
    as_json: bool,
) -> None:
    """Show locations, sizes and what deduplication saves.

    \b
    cas stats
    cas stats --session session-1 --run run-7
    cas stats --run run-7 --by phase --by agent
    """  # noqa: D301
    with location.open(create=False) as store:
        if by:
            owner: ArtifactStore | Session | Run = store
            if run_id is not None:
                owner = store.session(session_id or "default").run(run_id)
            elif session_id is not None:
                owner = store.session(session_id)
            _print_groups(owner.stats_by(*(LABELS.get(label, label) for label in by)), as_json)  # type: ignore[arg-type]  # its literals
            return
        if run_id is not None:
            found = store.session(session_id or "default").run(run_id).stats().to_dict()
        else:
            found = store.stats().to_dict()
            listed = store.runs() if session_id is None else store.session(session_id).runs()
            found["run_list"] = to_json(listed)
    if as_json:
        print_json(found)
        return
    listed = found.pop("run_list", [])
    if found.get("cache_at") is None:
        found = {name: value for name, value in found.items() if not name.startswith("cache_")}
    columns([(name, _shown_value(name, value)) for name, value in found.items()])
    if listed:
        click.echo()
        columns(
            [(s["session"], s["run"], f"{s['snapshots']} snapshots", s["work_dir"]) for s in listed]
        )


def _refuse_filters() -> None:
    """Refuse options that the listing of a directory does not have."""
    context = click.get_current_context()
    allowed = {"session_id", "run_id", "folder", "at", "limit", "after", "as_json"}
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if name not in allowed and source is not ParameterSource.DEFAULT:
            raise click.UsageError(f"{parameter.opts[0]} selects files; leave out --dir for it")


def _print_entries(entries: Sequence[DirectoryEntry], *, as_json: bool) -> None:
    if as_json:
        print_json(entries)
        return
    columns(
        [
            (
                human_size(entry.bytes),
                counted(entry.files, "file") if entry.version is None else entry.version.file_type,
                entry.version and entry.version.agent,
                f"{entry.path}/" if entry.version is None else _shown_path(entry.version),
            )
            for entry in entries
        ],
        right=(0,),
    )


def _print_groups(groups: Sequence[GroupStats], as_json: bool) -> None:  # noqa: FBT001
    if as_json:
        print_json(groups)
        return
    columns(
        [
            (*group.labels.values(), counted(group.files, "file"), human_size(group.bytes))
            for group in groups
        ],
    )


def _split_version(run: Run, path: str, at: int | None) -> tuple[str, int | None]:
    """Split ``PATH@VERSION``; a path may contain an ``@`` itself."""
    name, mark, number = path.rpartition("@")
    if not mark or not number.isdecimal() or at is not None:
        return path, None
    try:
        run.history(path)
    except UnknownFileError:
        return name, int(number)
    return path, None


def _shown_path(version: FileVersion) -> str:
    final = " (final)" if version.is_final_output else ""
    return f"{version.path}{'@' if version.is_link else ''}{final}"


def _span(version: FileVersion) -> str:
    end = "" if version.end_snapshot is None else str(version.end_snapshot)
    return f"{version.first_snapshot}..{end}"


def _shown_value(name: str, value: object) -> str:
    if isinstance(value, dict):
        counts = (f"{printable(str(key)) or '-'} {count}" for key, count in value.items())
        return ", ".join(counts) or "-"
    if isinstance(value, int) and "bytes" in name:
        return f"{human_size(value)} ({value})"
    return printable(str(value))
