"""The command that imports the files of an old tracker: adopt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from index.cli.options import json_option
from index.cli.output import counted, print_report
from index.cli.progress import progress_bar
from index.cli.terminal import printable

if TYPE_CHECKING:
    from index.cli.location import StoreLocation

__all__ = ["adopt"]


def _read_moves(
    _context: click.Context, _parameter: click.Parameter, given: tuple[str, ...]
) -> dict[str, str]:
    """Read the values of ``--moved``."""
    moved = {}
    for text in given:
        old, mark, new = text.partition("=")
        if not (mark and new and old.startswith("/")):
            raise click.BadParameter(f"{text!r} is not OLD=NEW, an absolute directory and another")
        if old in moved:
            raise click.BadParameter(f"{old!r} is given twice; say where it is now")
        moved[old] = new
    return moved


@click.command()
@click.option("--from", "url", required=True, metavar="URL", help="The application's database.")
@click.option("--session", default="default", show_default=True, metavar="ID",
              help="Session of rows that name none.")  # fmt: skip
@click.option(
    "--root", metavar="DIR", help="Directory of the runs; may contain {session} and {run}."
)
@click.option("--moved", multiple=True, callback=_read_moves, metavar="OLD=NEW",
              help="Paths of OLD are now in NEW; may be repeated.")  # fmt: skip
@json_option
@click.pass_obj
def adopt(
    location: StoreLocation,
    *,
    url: str,
    session: str,
    root: str | None,
    moved: dict[str, str],
    as_json: bool,
) -> None:
    """Import the `files` table of an old tracker. The old database is only read.

    The command stores the bytes of files that still exist. It keeps the metadata of missing files.
    You can run it again: it skips what is imported already.

    \b
    cas adopt --from sqlite:///app.db
    cas adopt --from sqlite:///app.db --root '/srv/tasks/{run}'
    cas adopt --from sqlite:///app.db --moved /home/old/tasks=/srv/tasks
    """  # noqa: D301
    with location.open(create=True) as store, progress_bar("adopting") as progress:
        report = store.adopt(url, session=session, root=root, moved=moved, progress=progress)
    if as_json:
        print_report(report)
        return
    click.echo(
        f"{counted(report.runs, 'run')}: {counted(report.adopted, 'file')} adopted,"
        f" {report.without_bytes} kept without bytes, {report.already_known} known already,"
        f" {counted(report.duplicates, 'duplicate row')},"
        f" {report.changed_since} changed since they were recorded"
    )
    for path, reason in report.skipped:
        click.echo(f"skipped {printable(path)}: {printable(reason)}", err=True)
    for path in report.torn:
        click.echo(f"torn {printable(path)}: it changed each time it was read", err=True)
