"""The commands. Each parses, calls the library once, and prints."""

from __future__ import annotations

import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from index import schema
from index.cli.options import (
    Place,
    at_option,
    filter_options,
    json_option,
    only_run,
    provenance_options,
    run_options,
)
from index.cli.output import (
    columns,
    human_size,
    print_json,
    printable,
    progress_bar,
    snapshot_json,
    version_json,
)
from index.errors import UnknownFileError

if TYPE_CHECKING:
    from typing import BinaryIO

    from index.records import FileVersion, Snapshot
    from index.run import Run

__all__ = ["cas"]

_DIGEST_SHOWN = 12
"""Characters of a digest in listings; ``--json`` and ``log`` have all."""


@click.group(
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
    help="Directory of the store. Default: the nearest .cas upward, else ./.cas.",
)
@click.option("--index", envvar="CAS_INDEX", metavar="URL", help="Database of the index.")
@click.option("--blobs", envvar="CAS_BLOBS", metavar="URL", help="Where the blobs are.")
@click.version_option(package_name="runcas", prog_name="cas")
@click.pass_context
def cas(context: click.Context, store: Path | None, index: str | None, blobs: str | None) -> None:
    """Keep every version of every file that a workflow run writes.

    \b
    cas track work/              record what a directory holds now
    cas ls                       list what is recorded
    cas restore elsewhere/       get it back
    """  # noqa: D301 - click's own mark-up
    if store is not None and (index is not None or blobs is not None):
        raise click.UsageError("give --store, or --index and --blobs, not both")
    context.obj = Place(store, index, blobs)


@cas.command()
@json_option
@click.pass_obj
def init(place: Place, *, as_json: bool) -> None:
    """Create the store; harmless if it is there.

    \b
    cas init
    cas --store /data/artifacts init
    """  # noqa: D301
    with place.open(create=True) as store:
        stats = store.stats()
    if as_json:
        print_json({"store_id": stats.store_id, "index": stats.index, "blobs": stats.blobs_at})
    else:
        click.echo(f"store {stats.store_id} is ready at {printable(stats.blobs_at)}")


@cas.command()
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--session", "session_id", default="default", show_default=True, metavar="ID")
@click.option("--run", "run_id", metavar="ID", help="Default: the directory's name.")
@provenance_options
@click.option("--scope", multiple=True, metavar="DIR", help="Look only here; may be repeated.")
@click.option("--ignore", multiple=True, metavar="PATTERN", help="As in .gitignore; repeatable.")
@json_option
@click.pass_obj
def track(
    place: Place,
    /,
    directory: Path,
    *,
    session_id: str,
    run_id: str | None,
    scope: tuple[str, ...],
    ignore: tuple[str, ...],
    as_json: bool,
    **told: Any,
) -> None:
    """Record what a work directory holds now.

    Hidden entries and __pycache__ are passed over, and so is the store itself.

    \b
    cas track work/
    cas track work/ --run run-7 --phase control --agent engineer --node step_1
    cas track work/ --scope data --scope plots --ignore '*.tmp'
    """  # noqa: D301
    begun = time.perf_counter()
    with place.open(create=True) as store:
        run = store.session(session_id).run(run_id or directory.absolute().resolve().name)
        with progress_bar("tracking") as progress:
            snapshot = run.track(
                directory, scope=scope or None, ignore=ignore, progress=progress, **told
            )
    elapsed = time.perf_counter() - begun
    if as_json:
        head = {"session": session_id, "run": run.id}
        print_json({**head, **snapshot_json(snapshot), "elapsed_s": round(elapsed, 6)})
        return
    _print_outcome(run, snapshot, elapsed)


@cas.command()
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--as", "path", metavar="PATH", help="Path in the run. Default: FILE as given.")
@run_options
@provenance_options
@click.option("--type", "file_type", metavar="TYPE", help="Default: judged by the path.")
@click.option("--final", "is_final_output", is_flag=True, default=None, help="A final output.")
@json_option
@click.pass_obj
def put(
    place: Place,
    /,
    file: Path,
    *,
    path: str | None,
    session_id: str,
    run_id: str | None,
    as_json: bool,
    **told: Any,
) -> None:
    """Record a single file, from anywhere; - reads standard input.

    \b
    cas put report.pdf --run run-7 --final
    cas put /tmp/out.csv --as data/out.csv --run run-7 --agent engineer
    """  # noqa: D301
    from_stdin = str(file) == "-"
    if from_stdin and path is None:
        raise click.UsageError("standard input needs a path in the run: --as PATH")
    content: BinaryIO | Path = sys.stdin.buffer if from_stdin else file
    name = path or (file.name if file.is_absolute() or ".." in file.parts else str(file))
    with place.open(create=True) as store:
        run = store.session(session_id).run(run_id) if run_id else only_run(store, session_id, None)
        version = run.put(name, content, **told)
    if as_json:
        print_json(version_json(version))
    else:
        click.echo(f"{printable(version.path)} version {version.version}  {version.digest}")


@cas.command("ls")
@run_options
@provenance_options
@filter_options
@at_option
@json_option
@click.pass_obj
def ls(
    place: Place, /, *, session_id: str, run_id: str | None, as_json: bool, **selection: Any
) -> None:
    """List a run's files, in order of first appearance.

    \b
    cas ls
    cas ls --run run-7 --agent engineer --type plot
    cas ls --run run-7 --at 3 --json
    """  # noqa: D301
    with place.open(create=False) as store:
        versions = only_run(store, session_id, run_id).files(**selection)
    if as_json:
        print_json([version_json(version) for version in versions])
        return
    columns(
        [
            (
                human_size(version.size),
                str(version.digest)[:_DIGEST_SHOWN],
                version.file_type,
                printable(version.phase or "-"),
                printable(version.agent or "-"),
                _shown_path(version),
            )
            for version in versions
        ],
        right=(0,),
    )


@cas.command("log")
@click.argument("path")
@run_options
@json_option
@click.pass_obj
def log(place: Place, path: str, *, session_id: str, run_id: str | None, as_json: bool) -> None:
    """Show every version of a file: when, by whom, which bytes.

    \b
    cas log data/result.csv --run run-7
    """  # noqa: D301
    with place.open(create=False) as store:
        versions = only_run(store, session_id, run_id).history(path)
    if as_json:
        print_json([version_json(version) for version in versions])
        return
    columns(
        [
            (
                f"@{version.version}",
                _span(version),
                f"{version.created_at:%Y-%m-%d %H:%M:%S}",
                human_size(version.size),
                printable(version.phase or "-"),
                printable(version.agent or "-"),
                printable(version.node_id or "-"),
                str(version.digest),
            )
            for version in versions
        ],
        right=(3,),
    )


@cas.command()
@run_options
@json_option
@click.pass_obj
def snapshots(place: Place, *, session_id: str, run_id: str | None, as_json: bool) -> None:
    """List a run's snapshots: every scan that changed something.

    \b
    cas snapshots --run run-7
    """  # noqa: D301
    with place.open(create=False) as store:
        found = only_run(store, session_id, run_id).snapshots()
    if as_json:
        print_json([snapshot_json(snapshot) for snapshot in found])
        return
    columns(
        [
            (
                str(snapshot.number),
                f"{snapshot.created_at:%Y-%m-%d %H:%M:%S}",
                f"+{len(snapshot.added)} ~{len(snapshot.changed)} -{len(snapshot.removed)}",
                human_size(snapshot.bytes_stored),
                printable(snapshot.provenance.phase or "-"),
                printable(snapshot.provenance.agent or "-"),
                printable(snapshot.provenance.node_id or "-"),
            )
            for snapshot in found
        ],
        right=(0, 3),
    )


@cas.command("cat")
@click.argument("path", metavar="PATH[@VERSION]")
@run_options
@at_option
@click.pass_obj
def cat(place: Place, path: str, *, session_id: str, run_id: str | None, at: int | None) -> None:
    """Write a file's bytes to standard output, verified.

    \b
    cas cat data/result.csv --run run-7
    cas cat data/result.csv@1 --run run-7
    """  # noqa: D301
    with place.open(create=False) as store:
        run = only_run(store, session_id, run_id)
        name, version = _split_version(run, path, at)
        with run.open(name, version=version, at=at) as stream:
            shutil.copyfileobj(stream, sys.stdout.buffer, 1 << 20)
        sys.stdout.buffer.flush()


@cas.command("restore")
@click.argument("destination", metavar="DEST", type=click.Path(path_type=Path))
@click.argument("paths", metavar="[PATH]...", nargs=-1)
@run_options
@at_option
@click.option("--overwrite", is_flag=True, help="Replace files that have other content.")
@json_option
@click.pass_obj
def restore(
    place: Place,
    destination: Path,
    paths: tuple[str, ...],
    *,
    session_id: str,
    run_id: str | None,
    at: int | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write a run's files below DEST, with modes and times, every byte verified.

    \b
    cas restore elsewhere/ --run run-7
    cas restore elsewhere/ data plots/a.png --run run-7 --at 3
    """  # noqa: D301
    with place.open(create=False) as store, progress_bar("restoring") as progress:
        result = only_run(store, session_id, run_id).restore(
            destination, paths=paths or None, at=at, overwrite=overwrite, progress=progress
        )
    if as_json:
        print_json(asdict(result))
        return
    click.echo(
        f"{result.written} files written ({human_size(result.bytes_written)}), "
        f"{result.unchanged} were there already"
    )


@cas.command("stats")
@click.option("--session", "session_id", metavar="ID", help="Only this session's runs.")
@click.option("--run", "run_id", metavar="ID", help="One run in detail.")
@json_option
@click.pass_obj
def stats(place: Place, *, session_id: str | None, run_id: str | None, as_json: bool) -> None:
    """Show where things are, how much there is and what deduplication saves.

    \b
    cas stats
    cas stats --session session-1 --run run-7
    """  # noqa: D301
    with place.open(create=False) as store:
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
    columns([(name, _shown_value(name, value)) for name, value in found.items()])
    if listed:
        click.echo()
        columns(
            [
                (printable(s["session"]), printable(s["run"]), f"{s['snapshots']} snapshots")
                for s in listed
            ]
        )


@cas.group("db")
def db() -> None:
    """Look after the index's schema."""


@db.command("upgrade")
@click.pass_obj
def db_upgrade(place: Place) -> None:
    """Bring the schema to what this release works with, in one transaction."""
    database = place.open_database()
    schema.upgrade(database)
    click.echo(f"the index {database.url} has schema {schema.HEAD}")
    database.close()


@db.command("current")
@json_option
@click.pass_obj
def db_current(place: Place, *, as_json: bool) -> None:
    """Show the schema that the index has, and the one that this release works with."""
    database = place.open_database()
    current = schema.current(database)
    database.close()
    if as_json:
        print_json({"current": current, "head": schema.HEAD})
    else:
        click.echo(f"{current or 'none'} (this release works with {schema.HEAD})")


@db.command("check")
@click.pass_obj
def db_check(place: Place) -> None:
    """Fail with exit code 6 and the command to run unless the schema is the right one."""
    database = place.open_database()
    schema.check(database)
    click.echo(f"the index {database.url} has schema {schema.HEAD}, as it should")
    database.close()


def _print_outcome(run: Run, snapshot: Snapshot, elapsed: float) -> None:
    for skipped in snapshot.skipped:
        click.echo(f"skipped {printable(skipped.path)}: {printable(skipped.reason)}", err=True)
    state = f"snapshot {snapshot.number}" if snapshot.recorded else "nothing new"
    click.echo(
        f"{printable(run.id)}: {state}, {len(snapshot.added)} added, "
        f"{len(snapshot.changed)} changed, {len(snapshot.removed)} removed, "
        f"{snapshot.unchanged} unchanged, {len(snapshot.skipped)} skipped; "
        f"{human_size(snapshot.bytes_read)} read, {human_size(snapshot.bytes_stored)} stored "
        f"in {elapsed:.2f} s"
    )


def _split_version(run: Run, path: str, at: int | None) -> tuple[str, int | None]:
    """Tell ``PATH@VERSION`` from a path that has an ``@`` of its own."""
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
    return f"{printable(version.path)}{'@' if version.is_link else ''}{final}"


def _span(version: FileVersion) -> str:
    end = "" if version.end_snapshot is None else str(version.end_snapshot)
    return f"{version.first_snapshot}..{end}"


def _shown_value(name: str, value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{printable(str(key))} {count}" for key, count in value.items()) or "-"
    if isinstance(value, int) and "bytes" in name:
        return f"{human_size(value)} ({value})"
    return printable(str(value))
