"""The command that writes files back: restore."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from index.cli.completing import completing
from index.cli.options import at_option, json_option, only_run, run_options
from index.cli.output import counted, print_report
from index.cli.progress import progress_bar
from index.cli.terminal import printable
from index.domain.units import human_size

if TYPE_CHECKING:
    from collections.abc import Iterable

    from index.cli.location import StoreLocation
    from index.reading.restore import RestoreWarning

__all__ = ["restore"]


@click.command("restore")
@click.argument("destination", metavar="DEST", type=click.Path(path_type=Path))
@click.argument("paths", metavar="[PATH]...", nargs=-1, shell_complete=completing("path"))
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
