"""The command that restores damaged blobs: repair."""

from __future__ import annotations

from contextlib import ExitStack
from os.path import isdir, isfile  # unlike pathlib's, they never raise
from pathlib import Path
from typing import TYPE_CHECKING

import click

from index.cli.location import location_at
from index.cli.options import json_option
from index.cli.output import counted, print_report
from index.cli.progress import progress_bar
from index.cli.terminal import printable
from index.cli.verify import FAULT, holder_text
from index.domain.units import human_size

if TYPE_CHECKING:
    from index.api.store import ArtifactStore
    from index.maintenance.repair.repair import RepairReport

__all__ = ["repair"]


@click.command()
@click.option("--from", "sources", multiple=True, type=click.Path(path_type=Path),
              metavar="DIR|STORE|cas.toml",
              help="Directory or store to search for the bytes; may be repeated.")  # fmt: skip
@click.option("--verify", "depth", type=click.Choice(["index", "packs", "bytes"]),
              help="Verify the store to this depth first.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Show what could be repaired; write nothing.")
@json_option
@click.pass_context
def repair(
    context: click.Context,
    /,
    *,
    sources: tuple[Path, ...],
    depth: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Restore damaged blobs from any remaining copy of their bytes.

    The command repairs what `cas verify` has found damaged. Use --verify to verify first. It always
    searches the store's own packs and its cache. In a directory it finds files by content, not by
    name, so any copy of the work directory will do. It deletes nothing: it copies a damaged object
    that is no longer needed to damaged/ in the store.

    \b
    cas repair --from work/
    cas repair --verify bytes --from work/ --from /backup/artifacts
    cas repair --from team/cas.toml --dry-run
    """  # noqa: D301
    with ExitStack() as stack:
        store = stack.enter_context(context.obj.open_alone(create=False))
        places = [_source(stack, name, context) for name in sources]
        if depth is not None:
            with progress_bar("verifying", "blobs") as progress:
                store.verify(depth=depth, progress=progress)
        with progress_bar("repairing", "blobs") as progress:
            report = store.repair(*places, dry_run=dry_run, progress=progress)
    if as_json:
        print_report(report)
    else:
        _print(report, is_verified=depth is not None)
    if not report.is_complete:
        context.exit(FAULT)


def _source(stack: ExitStack, name: Path, context: click.Context) -> ArtifactStore | Path:
    """Open `name` if it is a store. A directory that contains a store is an ordinary directory."""
    if isfile(name) or isfile(name / "cas.json"):
        return stack.enter_context(location_at(name, context.obj).open_alone(create=False))
    if not isdir(name):
        raise click.UsageError(f"--from {printable(str(name))}: there is no such directory")
    return name


def _print(report: RepairReport, *, is_verified: bool) -> None:
    for fault in report.lost:
        click.echo(f"lost: {fault.subject}: {fault.detail}{holder_text(fault)}")
    if report.lost_count > len(report.lost):
        click.echo(f"and {report.lost_count - len(report.lost)} more")
    for name in report.set_aside:
        click.echo(f"set aside: {name}")
    done = "could be repaired" if report.dry_run else "repaired"
    click.echo(
        f"{counted(report.damaged, 'damaged blob')}: {report.repaired} {done},"
        f" {report.lost_count} lost; {report.salvaged} salvaged from damaged packs,"
        f" {counted(report.lists, 'chunk list')} written,"
        f" {human_size(report.bytes_read)} read, {human_size(report.bytes_stored)} stored"
    )
    if report.chains:
        click.echo(f"records of {counted(report.chains, 'run')} rewritten from the index")
    if report.forgotten:
        what = counted(report.forgotten, "copy of the index or note of a deletion",
                       "copies of the index or notes of deletions")  # fmt: skip
        click.echo(f"{what} could not be read, and dropped; `cas backup` makes a new copy")
    if report.lost_count:
        click.echo("give more sources with `--from`; reading a lost blob raises an error")
    elif not report.damaged and not is_verified:
        click.echo("no damage is known; `cas repair --verify bytes` verifies first")
