"""The commands that protect against a lost index: backup and recover."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from index.cli.advice import in_commands
from index.cli.options import json_option
from index.cli.output import counted, print_report
from index.cli.progress import progress_bar
from index.cli.tables import shown_time
from index.cli.terminal import printable
from index.domain.units import human_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from index.cli.location import StoreLocation
    from index.maintenance.recover.report import RecordedStep, RecoveryReport

__all__ = ["backup", "recover"]

_FAULT: Final = 3
"""Exit code, as in docs/cli.md: something could not be recovered."""


@click.command()
@click.option("--keep", type=click.IntRange(min=1), metavar="N",
              help="Number of copies to keep, including this one. Default: 7.")  # fmt: skip
@json_option
@click.pass_context
def backup(context: click.Context, /, *, keep: int | None, as_json: bool) -> None:
    """Store a copy of the index beside the blobs.

    The copy is consistent, and writers can go on meanwhile. Copies are deduplicated. `cas recover`
    starts from the newest copy, which makes recovering a large store faster.

    \b
    cas backup
    cas backup --keep 30
    """  # noqa: D301
    location: StoreLocation = context.obj
    with location.open(create=False) as store, progress_bar("copying") as progress:
        report = store.back_up(keep=keep, progress=progress)
    if as_json:
        print_report(report)
        return
    click.echo(
        f"index stored as {report.digest}: {human_size(report.size)}, "
        f"{human_size(report.bytes_stored)} new; {counted(report.kept, 'copy', 'copies')} kept"
    )


@click.command()
@click.option("--dry-run", is_flag=True, help="Show what would be recovered; write nothing.")
@json_option
@click.pass_context
def recover(context: click.Context, /, *, dry_run: bool, as_json: bool) -> None:
    """Rebuild a lost index from storage.

    The command recovers runs, history, names and provenance. It starts from the newest copy of the
    index that `cas backup` stored, if there is one. It then replays the journal records of later
    commits. It never overwrites an existing index. Stop all writers to the store first.

    \b
    cas --store artifacts/ recover --dry-run
    cas --store artifacts/ recover
    cas --index postgresql+psycopg://host/db --blobs s3://bucket/prefix recover
    """  # noqa: D301
    location: StoreLocation = context.obj
    with progress_bar("recovering", "packs") as progress:
        report = location.recover(dry_run=dry_run, progress=progress)
    if as_json:
        print_report(report, dry_run=dry_run)
    else:
        _print(report, dry_run=dry_run)
    if not report.is_whole:
        context.exit(_FAULT)


def _print(report: RecoveryReport, *, dry_run: bool) -> None:
    for pack in report.damaged_packs:
        click.echo(f"{printable(pack.name)}: {printable(pack.reason)}", err=True)
    for reason in report.damaged_records:
        click.echo(printable(in_commands(reason)), err=True)
    for lost in report.lost:
        who = f" by {lost.agent}" if lost.agent else ""
        where = f"{lost.session}/{lost.run}: {lost.path}@{lost.version}{who}"
        click.echo(f"{printable(where)}: its bytes are missing, blob {lost.digest}", err=True)
    _print_steps(report.gaps, "what came before it is missing")
    _print_steps(report.never_arrived, "left out: its commit never arrived")
    _print_steps(report.unconfirmed, "recovered, but nothing shows whether its commit arrived")
    for session, run in report.deleted:
        click.echo(f"{printable(f'{session}/{run}')}: was deleted, and stays deleted")
    since = report.from_backup
    began = "" if since is None else f"from the copy of {shown_time(since, full=True)} on, "
    what = (
        f"{counted(report.sessions, 'session')}, {counted(report.runs, 'run')}, "
        f"{counted(report.snapshots, 'snapshot')}, {counted(report.versions, 'file version')}, "
        f"{counted(report.blobs, 'blob')} in {counted(report.packs, 'pack')}"
    )
    click.echo(f"{began}{'would be ' if dry_run else ''}recovered: {what}")
    if report.lost:
        click.echo("look for the missing bytes with `cas repair --from DIR`")


def _print_steps(steps: Sequence[RecordedStep], what: str) -> None:
    for step in steps:
        name = step.operation if step.snapshot is None else f"snapshot {step.snapshot}"
        who = f" by {step.agent}" if step.agent else ""
        commit = (
            f"{step.session}/{step.run}: {name}{who} of {shown_time(step.created_at, full=True)}"
        )
        click.echo(f"{printable(commit)}: {what}")
