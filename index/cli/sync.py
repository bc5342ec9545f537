"""The command that copies runs between stores: sync."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from cas.temporary import using_temporary_files
from index.cli.advice import in_commands
from index.cli.completing import completing
from index.cli.location import StoreLocation, location_at
from index.cli.options import json_option
from index.cli.output import counted, print_report
from index.cli.progress import progress_bar
from index.cli.terminal import printable
from index.domain.names import check_id
from index.domain.units import human_size
from index.errors import StoreNotFoundError
from index.transfer.report import SyncOutcome

if TYPE_CHECKING:
    from index.api.store import ArtifactStore
    from index.transfer.report import SyncReport

__all__ = ["sync"]

_UNSYNCED: Final = 1
_FAULT: Final = 3
"""Exit codes, as in docs/cli.md: some runs could not be synced; some runs are damaged."""


@click.command()
@click.argument("source", type=click.Path(path_type=Path, allow_dash=True))
@click.argument("dest", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--session", "sessions", multiple=True, metavar="ID",
              shell_complete=completing("session"),
              help="Only these sessions; may be repeated.")  # fmt: skip
@click.option("--run", "runs", multiple=True, metavar="ID",
              shell_complete=completing("run"),
              help="Only runs with these ids; may be repeated.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Show what would be copied; write nothing.")
@json_option
@click.pass_context
def sync(
    context: click.Context,
    /,
    *,
    source: Path,
    dest: Path,
    sessions: tuple[str, ...],
    runs: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
) -> None:
    """Copy runs with their history to another store.

    The command copies only the bytes that DEST lacks.

    SOURCE and DEST are each the directory of a store, a cas.toml file, a directory that contains a
    cas.toml or a .cas, or - for the store that other commands use. The command creates DEST if it
    does not exist. It removes and replaces nothing in DEST: if both stores have recorded into a
    run, it reports a conflict and skips the run. If you interrupt it, run it again to continue.

    \b
    cas sync .cas /backup/artifacts
    cas sync - team/cas.toml --session task-12 --run run-7
    cas sync team/cas.toml copy/ --dry-run
    """  # noqa: D301
    for kind, ids in (("session", sessions), ("run", runs)):
        for given in ids:
            check_id(kind, given)
    chosen = {"sessions": sessions or None, "runs": runs or None}
    with ExitStack() as stack:
        ours = stack.enter_context(location_at(source, context.obj).open_alone(create=False))
        ours.check_runs(**chosen)  # a mistyped name must not create a store
        theirs = _destination(stack, location_at(dest, context.obj), dry_run=dry_run)
        if dry_run:
            report = ours.plan_sync(theirs, **chosen).report
        else:
            with progress_bar("syncing") as progress:
                report = ours.sync_to(theirs, progress=progress, **chosen)
    _print(report, dry_run=dry_run, as_json=as_json)
    if report.of(SyncOutcome.DAMAGED):
        context.exit(_FAULT)
    if report.unsynced:
        context.exit(_UNSYNCED)


def _destination(stack: ExitStack, location: StoreLocation, *, dry_run: bool) -> ArtifactStore:
    """Open the destination. A dry run uses an empty temporary store if it does not exist."""
    if not dry_run:
        return stack.enter_context(location.open_alone(create=True))
    try:
        return stack.enter_context(location.open_alone(create=False))
    except StoreNotFoundError:
        with using_temporary_files():
            nowhere = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        return stack.enter_context(StoreLocation(nowhere, None, None).open_alone(create=True))


def _print(report: SyncReport, *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        print_report(report, dry_run=dry_run)
        return
    for run in report.runs:
        name = f"{printable(run.session)}/{printable(run.run)}"
        if run.reason is not None:
            click.echo(f"{name}: {run.outcome}: {printable(in_commands(run.reason))}", err=True)
        elif run.outcome in (SyncOutcome.COPIED, SyncOutcome.UPDATED):
            what = f"{counted(run.snapshots, 'snapshot')}, {counted(run.versions, 'file version')}"
            click.echo(f"{name}: {'to be ' if dry_run else ''}{run.outcome}, {what}")
    counts = ((outcome, len(report.of(outcome))) for outcome in SyncOutcome)
    tally = [f"{count} {outcome}" for outcome, count in counts if count] or ["no runs"]
    lacking = f"{counted(report.blobs, 'blob')}, {human_size(report.bytes_read)}"
    end = f"{lacking} to send" if dry_run else (
        f"{lacking} sent, {human_size(report.bytes_stored)} stored"
    )  # fmt: skip
    click.echo(f"{', '.join(tally)}; {end}")
