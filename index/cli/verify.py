"""The command that looks for damage: verify."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from index.cli.options import json_option
from index.cli.output import counted, print_report
from index.cli.progress import progress_bar
from index.cli.tables import shown_time
from index.cli.terminal import printable
from index.cli.units import read_size
from index.domain.units import human_size

if TYPE_CHECKING:
    from index.domain.faults import Fault, VerifyReport

__all__ = ["FAULT", "holder_text", "verify"]

FAULT: Final = 3
"""Exit code, as in docs/cli.md."""


@click.command()
@click.option("--depth", type=click.Choice(["index", "packs", "bytes"]),
              help="How much to check. Default: packs, or bytes with --max-bytes.")  # fmt: skip
@click.option("--max-bytes", callback=read_size, metavar="SIZE",
              help="Read about this much; the next verification continues from there.")  # fmt: skip
@click.option("--references", is_flag=True,
              help="Also read again what runs have used outside of the store.")  # fmt: skip
@json_option
@click.pass_context
def verify(
    context: click.Context,
    /,
    *,
    depth: str | None,
    max_bytes: int | None,
    references: bool,
    as_json: bool,
) -> None:
    """Find missing or damaged bytes and inconsistent rows.

    Other commands can run meanwhile. Damage is recorded in the index, and `cas repair` repairs it.

    \b
    cas verify --depth index             check the rows against each other and the list of objects
    cas verify                           also check size, header and footer of every pack
    cas verify --depth bytes             also check every byte
    cas verify --max-bytes 10GiB --json  check part of the bytes each night, the oldest first
    """  # noqa: D301
    if max_bytes is not None and depth not in (None, "bytes"):
        raise click.UsageError("--max-bytes goes with --depth bytes")
    with context.obj.open(create=False) as store, progress_bar("verifying", "blobs") as progress:
        report = store.verify(
            depth=depth, max_bytes=max_bytes, references=references, progress=progress
        )
    if as_json:
        print_report(report)
    else:
        _print(report)
    if not report.is_sound:
        context.exit(FAULT)


def holder_text(fault: Fault) -> str:
    """Return which file versions a fault affects: the first one, its agent, and how many more."""
    if not fault.touches:
        return ""
    first = fault.touches[0]
    text = f"{first.session}/{first.run}"
    if first.path is not None:
        text += f": {first.path}@{first.version}"
    if first.agent is not None:
        text += f" by {first.agent}"
    more = fault.touched - 1
    return printable(f"; touches {text}" + (f" and {more} more" if more else ""))


def _print(report: VerifyReport) -> None:
    for fault in report.faults:
        blob = "" if fault.digest is None or str(fault.digest) in fault.subject else (
            f": blob {fault.digest}"
        )  # fmt: skip
        subject = printable(fault.subject)
        click.echo(f"{fault.kind}: {subject}{blob}: {fault.detail}{holder_text(fault)}")
    total = sum(report.counts.values())
    if total > len(report.faults):
        click.echo(f"and {total - len(report.faults)} more")
    what = f"{counted(report.packs_read, 'pack')} of {report.packs}"
    click.echo(
        f"{counted(total, 'fault')}; read {what} with {counted(report.blobs_read, 'blob')},"
        f" {human_size(report.bytes_read)}"
    )
    for line in _remarks(report):
        click.echo(line)


def _remarks(report: VerifyReport) -> list[str]:
    """Return further lines for the owner of the store."""
    lines = []
    if report.packs_left or report.bytes_left:
        left = f"{counted(report.packs_left, 'pack')}, {human_size(report.bytes_left)}"
        lines.append(f"{left} left to read; run it again to continue")
    if report.depth != "bytes":
        what = "no pack was read" if report.depth == "index" else "the bytes of files were not read"
        lines.append(f"{what}: cas verify --depth bytes also checks every byte")
    else:
        since = report.oldest_verified
        when = "some packs never were" if since is None else f"since {shown_time(since, full=True)}"
        lines.append(f"every byte of every pack was verified: {when}")
    if report.recovered:
        lines.append(f"{counted(report.recovered, 'blob')} that had been damaged: intact again")
    if report.orphan_count:
        size = human_size(report.orphan_bytes)
        orphans = counted(report.orphan_count, "object")
        lines.append(f"{orphans} that the index does not know, {size}: harmless")
    if report.without_list:
        large = counted(report.without_list, "large blob")
        lines.append(
            f"{large} could be recovered only from a backup of the index; `cas repair` helps"
        )
    lines += [f"not reached: {printable(each)}" for each in report.unreachable]
    if not report.is_sound:
        lines.append("repair it with `cas repair --from DIR`: a work directory or another store")
    return lines
