"""The command that removes unreferenced blobs: gc."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from index.cli.options import json_option
from index.cli.output import counted, print_report
from index.cli.progress import progress_bar
from index.cli.tables import Column, path_column, show, shown_time
from index.cli.terminal import printable
from index.cli.units import read_duration, read_size
from index.domain.units import human_size, show_duration
from index.maintenance.gc.report import Fate, GarbageBlob, Kind, Tally

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import timedelta

    from index.cli.location import StoreLocation
    from index.maintenance.gc.plan import GcPlan
    from index.maintenance.gc.report import GcReport, Orphan

__all__ = ["gc"]

_FAULT: Final = 3
"""Exit code, as in docs/cli.md: something is damaged."""

_WITHOUT_PATH: Final = {
    Kind.RECORD: "records of commits of deleted runs",
    Kind.UNNAMED: "without a name: parts of large files, or never recorded",
}


@click.command()
@click.option(
    "--dry-run", is_flag=True, help="Show what would be removed, with paths; remove nothing."
)
@click.option("--grace", callback=read_duration, metavar="SPAN",
              help="Grace period, as 24h (the default), 7d, 90m or 0.")  # fmt: skip
@click.option("--no-compact", is_flag=True, help="Rewrite no packs.")
@click.option("--max-bytes", callback=read_size, metavar="SIZE",
              help="Copy at most this much to rewrite packs.")  # fmt: skip
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
    """Remove blobs that no run, journal record or backup refers to.

    The command keeps every blob that was used within the grace period. It first marks older
    garbage, and removes it once the grace period has passed again. It rewrites packs that are
    mostly garbage, and merges small ones. Other commands can run meanwhile, and you can interrupt
    it at any point.

    \b
    cas gc --dry-run
    cas gc
    cas gc --grace 0             remove all garbage now
    cas gc --max-bytes 10GiB     copy at most 10 GiB to rewrite packs
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
        print_report(plan, dry_run=True)
        return
    _print_blobs(plan.iter_blobs())
    for pack in plan.packs:
        click.echo(f"pack {pack.name}  {human_size(pack.size)}  to be deleted: {pack.reason}")
    for old in plan.compacted:
        what = f"{human_size(old.live)} live, {human_size(old.dead)} dead"
        click.echo(f"pack {old.name}  {what}  to be rewritten: {old.reason}")
    _print_orphans(plan.orphans)
    grace = show_duration(plan.options.settings.grace)
    tallies = (
        (plan.swept, "to be swept"),
        (plan.condemned, f"to be condemned for {grace}"),
        (plan.waiting, f"condemned less than {grace} ago"),
        (plan.unmarked, "needed again"),
    )
    parts = [f"{_tallied(tally)} {what}" for tally, what in tallies if tally.blobs] or [
        f"no garbage older than {grace}" if plan.options.settings.grace else "no garbage"
    ]
    packs = f"{counted(len(plan.packs), 'pack')} to delete, {len(plan.compacted)} to rewrite"
    click.echo(f"{'; '.join(parts)}; {packs}; {human_size(plan.bytes_freed)} to free")


def _print_blobs(blobs: Iterable[GarbageBlob]) -> None:
    """Print the blobs that have a path, and a tally of those that have none."""
    nameless = {(fate, kind): Tally() for fate in Fate for kind in _WITHOUT_PATH}

    def named() -> Iterator[GarbageBlob]:
        for blob in blobs:
            if blob.path is not None:
                yield blob
                continue
            before = nameless[blob.fate, blob.kind]
            nameless[blob.fate, blob.kind] = Tally(
                before.blobs + 1, before.stored_size + blob.stored_size
            )

    show(named(), _BLOBS, None)
    for (fate, kind), tally in nameless.items():
        if tally.blobs:
            click.echo(f"{fate}  {_tallied(tally)}: {_WITHOUT_PATH[kind]}")


_BLOBS: Final = (
    Column("fate", rank=0),
    Column("session", rank=2),
    Column("run", rank=1),
    Column("agent", rank=3),
    Column("size", size=True, rank=1),
    path_column(),
)


def _print_orphans(orphans: Sequence[Orphan]) -> None:
    for orphan in orphans:
        click.echo(f"{printable(orphan.name)}  {human_size(orphan.size)}  orphan, {orphan.outcome}")


def _print_report(report: GcReport, *, as_json: bool) -> None:
    if as_json:
        print_report(report, dry_run=False)
        return
    _print_orphans(report.orphans)
    for fault in report.damaged:
        what = f"pack {fault.pack}" if fault.digest is None else f"blob {fault.digest}"
        click.echo(f"damaged: {what}: {printable(fault.reason)}; it was not changed", err=True)
    click.echo(
        f"{counted(report.condemned.blobs, 'blob')} condemned, {_tallied(report.swept)} swept, "
        f"{report.unmarked} needed again; {counted(report.packs_deleted, 'pack')} deleted, "
        f"{report.packs_compacted} rewritten; {human_size(max(report.bytes_freed, 0))} freed"
    )
    if report.next_removal is not None:
        click.echo(
            "condemned blobs are removed by the collections that run after"
            f" {shown_time(report.next_removal, full=True)}; --grace 0 removes them at once"
        )


def _tallied(tally: Tally) -> str:
    return f"{counted(tally.blobs, 'blob')} ({human_size(tally.stored_size)})"
