"""The command that examines a store and its surroundings: doctor."""

from __future__ import annotations

import textwrap
from collections import Counter
from typing import TYPE_CHECKING, Final

import click

from index.cli.advice import in_commands
from index.cli.options import json_option
from index.cli.output import counted, print_report
from index.cli.tables import Column, show
from index.cli.terminal import is_for_people, printable, terminal_width

if TYPE_CHECKING:
    from index.cli.location import StoreLocation
    from index.maintenance.doctor.report import DoctorReport

__all__ = ["doctor"]

_ERROR: Final = 1
"""Exit code, as in docs/cli.md."""

_COLOURS: Final = {"ok": "green", "warning": "yellow", "problem": "red"}

_LEAST: Final = 30
"""Columns for text, also on a narrow terminal."""


@click.command()
@json_option
@click.pass_context
def doctor(context: click.Context, /, *, as_json: bool) -> None:
    """Examine the store and its surroundings; say what to do.

    The command checks versions, storage, index, schema, permissions, clocks, the filesystem, free
    space, the cache, and when the store was last verified, collected and backed up. It also works
    where the store can't be opened, and changes nothing. Exit code 1: something is a problem.

    \b
    cas doctor
    cas doctor --json
    """  # noqa: D301
    location: StoreLocation = context.obj
    report = location.doctor()
    if as_json:
        print_report(report)
    elif is_for_people():
        _print(report)
    else:
        show(report.findings, _COLUMNS, None)
    if not report.is_well:
        context.exit(_ERROR)


_COLUMNS: Final = (
    Column("level"),
    Column("check"),
    Column("detail", lambda found: in_commands(found.detail)),
    Column("advice", lambda found: found.advice and in_commands(found.advice)),
)


def _print(report: DoctorReport) -> None:
    """Print findings with whole sentences, in lines that fit the terminal."""
    width = max(len(found.check) for found in report.findings)
    before = " " * (7 + 2 + width + 2)
    room = max(terminal_width() - len(before), _LEAST)
    for found in report.findings:
        level = click.style(f"{found.level:<7}", fg=_COLOURS[found.level])
        lines = textwrap.wrap(printable(in_commands(found.detail)), room, break_on_hyphens=False)
        click.echo(f"{level}  {found.check:<{width}}  {lines[0]}")
        advice = "" if found.advice is None else f"-> {printable(in_commands(found.advice))}"
        for line in (*lines[1:], *textwrap.wrap(advice, room, break_on_hyphens=False)):
            click.echo(before + line)
    levels = Counter(str(found.level) for found in report.findings)
    problems, warnings = (counted(levels[name], name) for name in ("problem", "warning"))
    click.echo(f"{problems}, {warnings}, {levels['ok']} ok")
