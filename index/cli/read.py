"""The commands that read: ls, log, snapshots, cat, restore, stats."""

from __future__ import annotations

import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from index.cli.options import (
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
    human_size,
    print_json,
    print_report,
    printable,
    progress_bar,
)
from index.errors import UnknownFileError

if TYPE_CHECKING:
    from index.api.run import Run
    from index.cli.location import StoreLocation
    from index.domain.snapshots import FileVersion

__all__ = ["cat", "log", "ls", "restore", "snapshots", "stats"]

_DIGEST_SHOWN = 12
"""Characters of a digest in listings. ``--json`` and ``log`` print all of them."""


@click.command("ls")
@run_options
@provenance_options
@filter_options
@at_option
@json_option
@click.pass_obj
def ls(
    location: StoreLocation,
    /,
    *,
    session_id: str,
    run_id: str | None,
    as_json: bool,
    **selection: Any,
) -> None:
    """List a run's files, in order of first appearance.

    \b
    cas ls
    cas ls --run run-7 --agent engineer --type plot
    cas ls --run run-7 --at 3 --json
    """  # noqa: D301
    with location.open(create=False) as store:
        versions = only_run(store, session_id, run_id).files(**selection)
    if as_json:
        print_json(versions)
        return
    columns(
        [
            (
                human_size(version.size),
                str(version.digest or "-")[:_DIGEST_SHOWN],
                version.file_type,
                version.phase,
                version.agent,
                _shown_path(version),
            )
            for version in versions
        ],
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
    columns(
        [
            (
                snapshot.number,
                snapshot.created_at,
                f"+{len(snapshot.added)} ~{len(snapshot.changed)} -{len(snapshot.removed)}",
                human_size(snapshot.bytes_stored),
                snapshot.provenance.phase,
                snapshot.provenance.agent,
                snapshot.provenance.node_id,
            )
            for snapshot in found
        ],
        right=(0, 3),
    )


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
@click.option("--overwrite", is_flag=True, help="Replace files that have other content.")
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
    for path in result.without_bytes:
        click.echo(f"not restored, its bytes were never stored: {printable(path)}", err=True)


@click.command("stats")
@click.option("--session", "session_id", metavar="ID", help="Only this session's runs.")
@click.option("--run", "run_id", metavar="ID", help="One run in detail.")
@json_option
@click.pass_obj
def stats(
    location: StoreLocation, *, session_id: str | None, run_id: str | None, as_json: bool
) -> None:
    """Show locations, sizes and what deduplication saves.

    \b
    cas stats
    cas stats --session session-1 --run run-7
    """  # noqa: D301
    with location.open(create=False) as store:
        found: dict[str, Any]
        if run_id is not None:
            found = asdict(store.session(session_id or "default").run(run_id).stats())
        else:
            found = asdict(store.stats())
            listed = store.runs() if session_id is None else store.session(session_id).runs()
            found["run_list"] = [asdict(summary) for summary in listed]
    if as_json:
        print_json(found)
        return
    listed = found.pop("run_list", [])
    if found.get("cache_at") is None:
        found = {name: value for name, value in found.items() if not name.startswith("cache_")}
    columns([(name, _shown_value(name, value)) for name, value in found.items()])
    if listed:
        click.echo()
        columns([(s["session"], s["run"], f"{s['snapshots']} snapshots") for s in listed])


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
        return ", ".join(f"{printable(str(key))} {count}" for key, count in value.items()) or "-"
    if isinstance(value, int) and "bytes" in name:
        return f"{human_size(value)} ({value})"
    return printable(str(value))
