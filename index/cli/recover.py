"""The commands against a lost index: backup and recover."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import click

from index.cli.options import json_option
from index.cli.output import counted, human_size, print_json, printable, progress_bar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from index.cli.location import Place
    from index.maintenance.recover.report import RecordedStep, RecoveryReport

__all__ = ["backup", "recover"]

_FAULT: Final = 3
"""Exit code, as in the table of the README: something could not be recovered."""


@click.command()
@click.option("--keep", type=click.IntRange(min=1), metavar="N",
              help="Copies to keep, this one included. Default: 7.")  # fmt: skip
@json_option
@click.pass_context
def backup(context: click.Context, /, *, keep: int | None, as_json: bool) -> None:
    """Store a copy of the index beside the bytes that it tells of.

    It is of one state, and others may go on writing meanwhile. Of what two copies have in common
    only one is stored. `cas recover` begins with the newest one, which makes recovering a large
    store faster.

    \b
    cas backup
    cas backup --keep 30
    """  # noqa: D301
    place: Place = context.obj
    with place.open(create=False) as store:
        report = store.back_up(keep=keep)
    if as_json:
        print_json({**asdict(report), "digest": str(report.digest)})
        return
    click.echo(
        f"index stored as {report.digest}: {human_size(report.size)}, of which "
        f"{human_size(report.bytes_stored)} new; {counted(report.kept, 'copy', 'copies')} kept"
    )


@click.command()
@click.option("--dry-run", is_flag=True, help="Say what would come back, and write nothing.")
@json_option
@click.pass_context
def recover(context: click.Context, /, *, dry_run: bool, as_json: bool) -> None:
    """Make a lost index anew from storage alone: runs, history, names and who made what.

    It begins with the newest copy of the index that `cas backup` left, if there is one, and goes on
    with the records that each commit leaves. It never writes over an index that is there. Nobody
    may write to the store meanwhile.

    \b
    cas --store artifacts/ recover --dry-run
    cas --store artifacts/ recover
    cas --index postgresql+psycopg://host/db --blobs s3://bucket/prefix recover
    """  # noqa: D301
    place: Place = context.obj
    with progress_bar("recovering", "packs") as progress:
        report = place.recover(dry_run=dry_run, progress=progress)
    if as_json:
        print_json(_json(report, dry_run=dry_run))
    else:
        _print(report, dry_run=dry_run)
    if not report.is_whole:
        context.exit(_FAULT)


def _print(report: RecoveryReport, *, dry_run: bool) -> None:
    for pack in report.damaged_packs:
        click.echo(f"{printable(pack.name)}: {printable(pack.reason)}", err=True)
    for reason in report.damaged_records:
        click.echo(printable(reason), err=True)
    for lost in report.lost:
        who = f" by {lost.agent}" if lost.agent else ""
        where = f"{lost.session}/{lost.run}: {lost.path}@{lost.version}{who}"
        click.echo(f"{printable(where)}: its bytes are missing, blob {lost.digest}", err=True)
    _print_steps(report.gaps, "what came before it is missing")
    _print_steps(report.never_arrived, "left out: its commit never arrived")
    _print_steps(report.unconfirmed, "taken over, though nothing tells whether its commit arrived")
    for session, run in report.deleted:
        click.echo(f"{printable(f'{session}/{run}')}: deleted, and stays so")
    since = report.from_backup
    began = "" if since is None else f"from the copy of {since:%Y-%m-%d %H:%M:%S} UTC on, "
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
        told = f"{step.session}/{step.run}: {name}{who} of {step.created_at:%Y-%m-%d %H:%M:%S} UTC"
        click.echo(f"{printable(told)}: {what}")


def _json(report: RecoveryReport, *, dry_run: bool) -> dict[str, Any]:
    told = asdict(report)
    for name in ("unconfirmed", "never_arrived", "gaps"):
        for step in told[name]:
            step["record"] = str(step["record"])
    for lost in told["lost"]:
        lost["digest"] = str(lost["digest"])
    return {"dry_run": dry_run, "is_whole": report.is_whole, **told}
