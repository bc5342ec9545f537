"""The command that writes files back: restore."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from index.cli.completing import completing
from index.cli.options import at_option, json_option, only_run, run_options
from index.cli.output import counted, print_report
from index.cli.progress import progress_bar
from index.cli.settings import track_settings
from index.cli.terminal import page, printable
from index.domain.units import human_size
from index.errors import UnknownFileError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from index.cli.location import StoreLocation
    from index.domain.reports import RestoreResult, RestoreWarning

__all__ = ["restore"]

_MARKS = {"created": ("+", "green"), "replaced": ("~", "yellow"), "deleted": ("-", "red")}


class _NoSuchPathError(click.ClickException):
    """A path that the run does not have, perhaps meant as the destination."""

    exit_code = 4


@click.command("restore")
@click.argument("paths", metavar="[PATH]...", nargs=-1, shell_complete=completing("path"))
@click.option(
    "--to",
    "destination",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write to this directory. Default: the run's own, of its newest scan.",
)
@run_options
@at_option
@click.option("--overwrite", is_flag=True, help="Replace what has other content.")
@click.option("--delete", "delete", flag_value="recorded",
              help="Delete what the snapshot lacks and the run once recorded.")  # fmt: skip
@click.option("--delete-all", "delete", flag_value="all",
              help="Also delete what was never recorded and is not passed over.")  # fmt: skip
@click.option("--ignore", envvar="CAS_IGNORE", multiple=True, metavar="PATTERN",
              help="With --delete-all, keep these, as in .gitignore; may be repeated.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Only show what would be done; touch nothing.")
@json_option
@click.pass_obj
def restore(
    location: StoreLocation,
    /,
    destination: Path | None,
    paths: tuple[str, ...],
    *,
    session_id: str,
    run_id: str | None,
    at: int | str | None,
    delete: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Write files back, with modes and times. Every byte is verified.

    Without PATH, all files of the run. Without --to, into the run's own directory: missing files
    come back, and files with other content stop the command unless you say --overwrite. With it,
    a directory makes way for a file only if the run has held all files in it.

    --delete makes the directory equal the snapshot. A file goes only if the run has recorded this
    content at this path and its bytes are intact, so that you can restore it again. --delete-all
    also deletes other files, but not what `cas track` passes over. Try it with --dry-run. What the
    directory does not take besides bytes is reported, and the exit code stays 0.

    \b
    cas restore                            what is missing in the run's directory
    cas restore data/result.csv --overwrite
    cas restore --at 3 --overwrite --delete --dry-run
    cas restore --to elsewhere/ --run run-7
    cas restore --to elsewhere/ data plots/a.png --run run-7 --at best
    """  # noqa: D301
    options["delete"] = "all" if delete == "all" else delete is not None
    options["ignore"] = track_settings(ignore=options["ignore"])["ignore"]
    with location.open(create=False) as store, progress_bar("restoring") as progress:
        run = only_run(store, session_id, run_id)
        try:
            result = run.restore(
                destination, paths=paths or None, at=at, progress=progress, **options
            )
        except UnknownFileError as error:
            if destination is not None:
                raise
            raise _NoSuchPathError(f"{error}; write to a directory with --to DIR") from error
    if as_json:
        print_report(result)
        return
    if result.dry_run:
        page(_changes(result))
    click.echo(_summary(result, in_place=destination is None))
    _print_warnings(result.warnings)
    for path in result.without_bytes:
        click.echo(f"not restored, the store has no bytes of it: {printable(path)}", err=True)
    for path in result.kept:
        click.echo(f"kept, the run can't bring back its content: {printable(path)}", err=True)


def _changes(result: RestoreResult) -> Iterator[str]:
    lost = frozenset(result.unrecorded)
    for change, path, size in result.changes:
        mark, colour = _MARKS[change]
        what = ", what is there was never recorded" if path in lost else ""
        yield click.style(f"{mark} {printable(path)}  {human_size(size)}{what}", fg=colour)


def _summary(result: RestoreResult, *, in_place: bool) -> str:
    files = f"{counted(result.written, 'file')} {'to be ' if result.dry_run else ''}written"
    parts = [f"{files} ({human_size(result.bytes_written)})"]
    if result.deleted:
        parts.append(f"{result.deleted} {'to be ' if result.dry_run else ''}deleted")
    parts.append(f"{result.unchanged} there already")
    where = f"{printable(result.destination)}: " if in_place else ""
    return where + ", ".join(parts)


def _print_warnings(warnings: Iterable[RestoreWarning]) -> None:
    """Print one line for each reason: some filesystems refuse the same for every file."""
    paths: dict[str, list[str]] = {}
    for path, reason in warnings:
        paths.setdefault(reason, []).append(path)
    for reason, named in paths.items():
        more = f" and {len(named) - 1} more" if len(named) > 1 else ""
        click.echo(f"warning: {printable(named[0])}{more}: {printable(reason)}", err=True)
