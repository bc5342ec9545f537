"""The commands that record: init, track, put."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from index.cli.completing import completing
from index.cli.location import StoreLocation, check_config, write_config
from index.cli.options import (
    json_option,
    only_run,
    provenance_options,
    run_options,
)
from index.cli.output import print_json
from index.cli.progress import progress_bar
from index.cli.scans import (
    find_status,
    input_option,
    inputs_of,
    opened,
    outcome,
    popped_labels,
    recording_options,
    scan_of,
    show_status,
    tell_skipped,
    tell_torn,
)
from index.cli.terminal import printable
from index.domain.scopes import provenance
from index.domain.units import parse_size
from index.errors import UnknownRunError, UnknownSessionError

if TYPE_CHECKING:
    from typing import BinaryIO

    from index.api.run import Run
    from index.domain.snapshots import Snapshot

__all__ = ["init", "put", "track"]


@click.command()
@click.option("--index", metavar="URL", help="Database of the index; saved in cas.toml.")
@click.option("--blobs", metavar="URL", help="Location of the blobs; saved in cas.toml.")
@click.option("--cache", metavar="DIR", help="Cache of remote blobs; saved in cas.toml.")
@click.option("--cache-size", metavar="SIZE", help="Largest size of the cache; saved in cas.toml.")
@json_option
@click.pass_obj
def init(
    location: StoreLocation,
    /,
    *,
    index: str | None,
    blobs: str | None,
    cache: str | None,
    cache_size: str | None,
    as_json: bool,
) -> None:
    """Create the store. An existing store stays as it is.

    With --index and --blobs, the command saves both URLs and the cache in cas.toml. Commands in
    this directory and below read that file. It contains no password, so you can commit it.

    \b
    cas init
    cas --store /data/artifacts init
    cas init --index postgresql+psycopg://host/db --blobs s3://bucket/prefix
    cas init --index sqlite:///runs.db --blobs s3://bucket/prefix --cache ~/.cache/runcas
    """  # noqa: D301
    location = replace(location, index=index or location.index, blobs=blobs or location.blobs)
    if cache is not None:
        location = replace(location, cache=Path(cache))
    if cache_size is not None:
        location = replace(location, cache_size=parse_size(cache_size))
    file = check_config(location, cache=cache, cache_size=cache_size)
    if file is None and (cache or cache_size):
        raise click.UsageError("--cache goes with --index and --blobs, beside which it is noted")
    with location.open(create=True) as store:
        stats = store.stats()
    if file is not None:
        write_config(location, file, cache=cache, cache_size=cache_size)
    if as_json:
        print_json({"store_id": stats.store_id, "index": stats.index, "blobs": stats.blobs_at})
        return
    click.echo(f"store {stats.store_id} is ready at {printable(stats.blobs_at)}")
    if file is not None:
        click.echo(f"noted in {printable(str(file))}")


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@recording_options
@input_option
@click.option("--dry-run", is_flag=True, help="Only show what would be recorded.")
@json_option
@click.pass_obj
def track(
    location: StoreLocation,
    /,
    directory: Path,
    *,
    final: tuple[str, ...],
    inputs: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Record the present files of a work directory.

    The scan passes over hidden files, what few want (.git, node_modules, *.tmp and the like), what
    files named .casignore say, and the store itself. It tells how many. A table [track] in cas.toml
    sets hidden, default_ignores, gitignore and ignore for all commands below its directory.

    Without --run, the run has the name of the directory. If it holds another directory of that
    name, the command refuses: give --run, or --moved if the directory was moved.

    \b
    cas track work/
    cas track work/ --run run-7 --phase control --agent engineer --node step_1
    cas track work/ --scope data --scope plots --ignore '*.log'
    cas track work/ --final 'reports/*.pdf'
    cas track work/ --ignore '!.hydra/'
    cas track work/ --dry-run
    cas track /scratch/job-7/out --run run-7 --prefix data
    """  # noqa: D301
    begun = time.perf_counter()
    session_id, labels = options["session_id"], popped_labels(options)
    run_id, covered = scan_of(directory, **options)
    if dry_run:
        with opened(location) as there, provenance(**labels):
            found = find_status(there, directory, session_id, run_id, covered)
        has_store = there is not None
        show_status(found, session_id, run_id, has_store=has_store, as_json=as_json)
        return
    with location.open(create=True) as store:
        run = store.session(session_id).run(run_id)
        with progress_bar("tracking") as progress:
            snapshot = run.track(
                directory,
                final=final,
                inputs=inputs_of(directory, covered["prefix"], inputs),
                progress=progress,
                **covered,
                **labels,
            )
    elapsed = time.perf_counter() - begun
    if as_json:
        head = {"session": session_id, "run": run.id}
        print_json({**head, **snapshot.to_dict(), "elapsed_s": round(elapsed, 6)})
        return
    _print_outcome(run, snapshot, elapsed)


@click.command()
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path, allow_dash=True))
@click.option(
    "--as",
    "path",
    metavar="PATH",
    shell_complete=completing("path"),
    help="Path in the run. Default: that of FILE in the run's directory, or FILE.",
)
@run_options
@provenance_options
@click.option(
    "--type",
    "file_type",
    metavar="TYPE",
    help="Default: as before, or derived from the path. '' derives it again.",
)
@click.option(
    "--final/--not-final",
    "is_final_output",
    default=None,
    help="Whether the file is a final output. Default: as before.",
)
@click.option(
    "--expected-version",
    type=click.IntRange(min=0),
    metavar="N",
    help="Fail unless the file replaces this version; 0 for a new file.",
)
@json_option
@click.pass_obj
def put(
    location: StoreLocation,
    /,
    file: Path,
    *,
    path: str | None,
    session_id: str,
    run_id: str | None,
    as_json: bool,
    **labels: Any,
) -> None:
    """Record one file from any directory. Use - to read standard input.

    A file in the directory of the run gets the path that `cas track` gives it.

    If the file changes each time it is read, the command records what it read last, and says so.

    \b
    cas put report.pdf --run run-7 --final
    cas put /tmp/out.csv --as data/out.csv --run run-7 --agent engineer
    cas put notes.md --run run-7 --expected-version 3
    """  # noqa: D301
    from_stdin = str(file) == "-"
    if from_stdin and path is None:
        raise click.UsageError("standard input needs a path in the run: --as PATH")
    if from_stdin and sys.stdin is None:
        raise click.UsageError("standard input is closed; give a file, or something to read")
    content: BinaryIO | Path = sys.stdin.buffer if from_stdin else file
    if not from_stdin:
        from index.scan.content import opened

        with opened(file):
            pass  # a missing file must not create a store
    with location.open(create=True) as store:
        run = store.session(session_id).run(run_id) if run_id else only_run(store, session_id, None)
        with progress_bar("storing", "file") as progress:
            version = run.put(path or _path_in(run, file), content, progress=progress, **labels)
    if as_json:
        print_json(version)
        return
    click.echo(f"{printable(version.path)} version {version.version}  {version.digest}")
    if version.torn:
        tell_torn(version.path)
    if version.refused is not None:
        recorded = asdict(version.provenance)
        differing = ", ".join(
            f"{name} {printable(value)} ({printable(recorded[name] or '-')} is recorded)"
            for name, value in asdict(version.refused).items()
            if value is not None
        )
        click.echo(f"not taken for the same content: {differing}", err=True)


def _path_in(run: Run, file: Path) -> str:
    """Return the path of a file in the directory of a run; elsewhere as it is given, or its name.

    A link is not followed if it is the file itself: a scan of the directory does not, either.
    """
    with suppress(UnknownSessionError, UnknownRunError):
        directory = run.summary().work_dir
        place = Path(os.path.realpath(file.parent), file.name)
        if directory is not None and place.is_relative_to(directory):
            return place.relative_to(directory).as_posix()
    return file.name if file.is_absolute() or ".." in file.parts else str(file)


def _print_outcome(run: Run, snapshot: Snapshot, elapsed: float) -> None:
    tell_skipped(snapshot.skipped, snapshot.torn, snapshot.absent)
    click.echo(f"{outcome(run, snapshot)} in {elapsed:.2f} s")
