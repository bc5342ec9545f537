"""The command that shows what a scan would record: status."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from index.cli.location import current_directory
from index.cli.options import json_option, run_here
from index.cli.scans import find_status, opened, scan_of, scan_options, show_status
from index.cli.terminal import printable
from index.errors import UnknownRunError, UnknownSessionError

if TYPE_CHECKING:
    from index.api.store import ArtifactStore
    from index.cli.location import StoreLocation

__all__ = ["status"]

_CHANGED = 1
"""The exit code for a change, with ``--exit-code``; as git's."""


@click.command()
@click.argument("directory", metavar="[DIR]", required=False, type=click.Path(path_type=Path))
@scan_options
@click.option("--exit-code", is_flag=True, help="Exit with 1 if something changed.")
@json_option
@click.pass_obj
def status(
    location: StoreLocation,
    /,
    directory: Path | None,
    *,
    exit_code: bool,
    as_json: bool,
    **options: Any,
) -> int | None:
    """Show what `cas track` would record, and record nothing.

    With DIR, the run is found as `cas track DIR` finds it. Without, the directory is the one that
    the run remembers: that of --run, of the run whose directory you are in, or of the session's
    only run. Give the options that you track with; those in cas.toml hold here, too.

    A file that was only touched counts as unchanged: it is read if its time has changed and its
    size has not. Nothing is written, and no store is made.

    \b
    cas status
    cas status work/
    cas status --run run-7 --json
    cas status work/ --exit-code || cas track work/
    """  # noqa: D301
    session_id = options["session_id"]
    with opened(location) as store:
        if directory is None:
            directory, options["run_id"] = _remembered(store, session_id, options["run_id"])
        run_id, covered = scan_of(directory, **options)
        found = find_status(store, directory, session_id, run_id, covered)
    show_status(found, session_id, run_id, has_store=store is not None, as_json=as_json)
    return _CHANGED if exit_code and found else None


def _remembered(
    store: ArtifactStore | None, session_id: str, run_id: str | None
) -> tuple[Path, str | None]:
    """Return the directory that a run remembers, and the run.

    Without a run and before the first one, it is the current directory.
    """
    here = current_directory()
    try:
        runs = [] if store is None else store.session(session_id).runs()
    except UnknownSessionError:
        if session_id != "default":
            raise
        runs = []
    if run_id is None:
        if not runs:
            return here, None
        run_id = run_here(runs)
    found = next((each for each in runs if each.run == run_id), None)
    if found is None:
        raise UnknownRunError(session_id, run_id)
    if found.work_dir is None:
        raise click.UsageError(f"no directory was tracked as run {printable(run_id)}; give DIR")
    return Path(found.work_dir), run_id
