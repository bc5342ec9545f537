"""The command that removes what nothing refers to: gc."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from index.cli.options import json_option
from index.cli.output import (
    columns,
    counted,
    human_size,
    plain,
    print_json,
    print_report,
    printable,
    progress_bar,
)
from index.cli.units import read_duration, read_size, show_duration
from index.maintenance.gc.report import Fate, GarbageBlob, Kind, Tally

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import timedelta

    from index.cli.location import StoreLocation
    from index.maintenance.gc.plan import GcPlan
    from index.maintenance.gc.report import GcReport, Orphan

__all__ = ["gc"]

_FAULT: Final = 3
"""Exit code, as in the table of the README: something is damaged."""

_WITHOUT_PATH: Final = {
    Kind.RECORD: "records of commits of deleted runs",
    Kind.UNNAMED: "without a name: parts of large files, or never recorded",
}

_SHOWN_AT_ONCE: Final = 1_000
"""Lines whose columns are aligned together."""


@click.command()
@click.option("--dry-run", is_flag=True, help="Say what would go, with paths, and remove nothing.")
@click.option("--grace", callback=read_duration, metavar="SPAN",
              help="How long garbage is kept: 24h (the default), 7d, 90m, or 0.")  # fmt: skip
@click.option("--no-compact", is_flag=True, help="Rewrite no packs.")
@click.option("--max-bytes", callback=read_size, metavar="SIZE",
              help="Copy no more than this to rewrite packs.")  # fmt: skip
@click.option("--remove-orphans", is_flag=True,
              help="Remove packs in storage that the index does not know.")  # fmt: skip
@json_option
@click.pass_context
def gc(
    context: click.Context,
    /,
    *,
    dry_run: bool,
    grace: timedelta | None,
    no_compact: bool,
    max_bytes: int | None,
    remove_orphans: bool,
    as_json: bool,
) -> None:
    """Remove the bytes that no run, record or backup refers to any more.

    What was used within the grace period is left alone; older garbage is marked first, and goes
    when the period has passed again. Packs that are mostly garbage are rewritten, small ones
    merged. Others may track, read and collect meanwhile, and it can be interrupted at any point.

    \b
    cas gc --dry-run
    cas gc
    cas gc --grace 0             now, all that nothing refers to
    cas gc --max-bytes 10GiB     at most so much rewriting
    """  # noqa: D301
    location: StoreLocation = context.obj
    with location.open(create=False) as store:
        plan = store.plan_gc(
            grace=grace,
            compact=not no_compact,
            max_bytes=max_bytes,
            remove_orphans=remove_orphans,
        )
        if dry_run:
            _print_plan(plan, as_json=as_json)
            return
        with progress_bar("collecting") as progress:
            report = plan.execute(progress=progress)
    _print_report(report, as_json=as_json)
    if report.damaged:
        context.exit(_FAULT)


def _print_plan(plan: GcPlan, *, as_json: bool) -> None:
    if as_json:
        print_json(_plan_json(plan))
        return
    _print_blobs(plan.iter_blobs())
    for pack in plan.packs:
        click.echo(f"pack {pack.name}  {human_size(pack.size)}  to be deleted: {pack.reason}")
    for old in plan.compacted:
        what = f"{human_size(old.live)} live, {human_size(old.dead)} dead"
        click.echo(f"pack {old.name}  {what}  to be rewritten: {old.reason}")
    _print_orphans(plan.orphans)
    grace = show_duration(plan.options.settings.grace)
    told = (
        (plan.swept, "to be swept"),
        (plan.condemned, f"to be condemned for {grace}"),
        (plan.waiting, f"condemned less than {grace} ago"),
        (plan.pardoned, "needed again"),
    )
    parts = [f"{_tallied(tally)} {what}" for tally, what in told if tally.blobs] or ["no garbage"]
    packs = f"{counted(len(plan.packs), 'pack')} to delete, {len(plan.compacted)} to rewrite"
    click.echo(f"{'; '.join(parts)}; {packs}; {human_size(plan.bytes_freed)} to free")


def _print_blobs(blobs: Iterable[GarbageBlob]) -> None:
    """Print what has a path, and how much has none."""
    nameless = {(fate, kind): Tally() for fate in Fate for kind in _WITHOUT_PATH}
    waiting: list[Sequence[object]] = []
    for blob in blobs:
        if blob.path is None:
            before = nameless[blob.fate, blob.kind]
            nameless[blob.fate, blob.kind] = Tally(
                before.blobs + 1, before.stored_size + blob.stored_size
            )
            continue
        waiting.append(
            (
                blob.fate,
                f"{blob.session or '-'}/{blob.run or '-'}",
                blob.agent,
                human_size(blob.size),
                blob.path,
            )
        )
        if len(waiting) == _SHOWN_AT_ONCE:
            columns(waiting, right=(3,))
            waiting.clear()
    columns(waiting, right=(3,))
    for (fate, kind), tally in nameless.items():
        if tally.blobs:
            click.echo(f"{fate}  {_tallied(tally)}: {_WITHOUT_PATH[kind]}")


def _print_orphans(orphans: Sequence[Orphan]) -> None:
    for orphan in orphans:
        click.echo(f"{printable(orphan.name)}  {human_size(orphan.size)}  orphan, {orphan.outcome}")


def _print_report(report: GcReport, *, as_json: bool) -> None:
    if as_json:
        print_report(report, dry_run=False, bytes_freed=report.bytes_freed)
        return
    _print_orphans(report.orphans)
    for fault in report.damaged:
        what = f"pack {fault.pack}" if fault.digest is None else f"blob {fault.digest}"
        click.echo(f"damaged: {what}: {printable(fault.reason)}; it was left as it is", err=True)
    click.echo(
        f"{counted(report.condemned.blobs, 'blob')} condemned, {_tallied(report.swept)} swept, "
        f"{report.pardoned} needed again; {counted(report.packs_deleted, 'pack')} deleted, "
        f"{report.packs_compacted} rewritten; {human_size(max(report.bytes_freed, 0))} freed"
    )


def _tallied(tally: Tally) -> str:
    return f"{counted(tally.blobs, 'blob')} ({human_size(tally.stored_size)})"


def _plan_json(plan: GcPlan) -> dict[str, Any]:
    return {
        "dry_run": True,
        "grace_s": plan.options.settings.grace.total_seconds(),
        "bytes_freed": plan.bytes_freed,
        "swept": plan.swept,
        "condemned": plan.condemned,
        "waiting": plan.waiting,
        "pardoned": plan.pardoned,
        "packs": plan.packs,
        "compacted": plan.compacted,
        "orphans": plan.orphans,
        "blobs": [{**plain(blob), "kind": blob.kind} for blob in plan.iter_blobs()],
    }
