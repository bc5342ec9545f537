"""The command that writes a run in the formats of others: export."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote

import click

from index.cli.completing import completing
from index.cli.options import at_option, json_option, only_run, session_option
from index.cli.output import counted, print_report
from index.cli.progress import progress_bar
from index.cli.settings import setting
from index.cli.terminal import printable
from index.domain.units import human_size
from index.export import FORMATS

if TYPE_CHECKING:
    from index.cli.location import StoreLocation
    from index.domain.reports import ExportReport
    from index.export import Format

__all__ = ["export"]


@click.command()
@click.argument(
    "run_id",
    metavar="[RUN]",
    required=False,
    envvar="CAS_RUN",
    default=setting("run"),
    shell_complete=completing("run"),
)
@click.option("--as", "name", required=True, type=click.Choice([*FORMATS]), help="The format.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="TARGET",
    help="The new file or directory; - for standard output. Default: named after the run.",
)
@click.option(
    "--profile",
    type=click.Choice(["process", "workflow", "provenance"]),
    help="rocrate: what describes the run. Default: provenance if it has nodes or steps.",
)
@click.option("--title", metavar="TEXT", help="rocrate: a name for people.")
@click.option("--description", metavar="TEXT", help="rocrate: what it is.")
@click.option("--licence", metavar="URL|TEXT", help="rocrate: the licence of the files.")
@click.option(
    "--syntax",
    type=click.Choice(["json", "provn", "jsonld", "xml"]),
    help="prov: the syntax. Default: what the name of the target ends with, or JSON.",
)
@click.option(
    "--anonymise",
    is_flag=True,
    help="Replace ids, agents and hosts in a provenance document, but not in files or paths.",
)
@click.option(
    "--key-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="With --anonymise: a secret; each export with it has the same replacements.",
)
@session_option()
@at_option
@json_option
@click.pass_obj
def export(
    location: StoreLocation,
    /,
    run_id: str | None,
    *,
    name: str,
    output: Path | None,
    anonymise: bool,
    key_file: Path | None,
    session_id: str,
    at: int | str | None,
    as_json: bool,
    **given: str | None,
) -> None:
    """Write a run in a format that other programs read.

    Without RUN, the run of this directory, or the session's only run. Every byte is verified. The
    new file or directory must not exist; it appears when it is complete.

    \b
    zip, tar     the files, as they are or were at a snapshot
    bundle       one file with the whole history, for another store
    ocfl         an OCFL 1.1 object, a version for each snapshot
    bagit        a bag with the whole history, or with one snapshot
    rocrate      an RO-Crate: these files, and who made them from what; a
                 directory, or a zip file if TARGET ends with .zip
    prov         who made which version from what, as W3C PROV
    openlineage  the same as OpenLineage events, one a line

    `cas import` brings back a bundle, an OCFL object and a bag as they were.

    \b
    cas export run-7 --as zip
    cas export run-7 --as tar --at 1 -o first.tar
    cas export run-7 --as bundle -o run-7.bundle
    cas export run-7 --as ocfl -o run-7-archive
    cas export --as bagit --at 3
    cas export run-7 --as rocrate -o crate --licence CC-BY-4.0
    cas export run-7 --as prov -o run-7.provn --anonymise
    """  # noqa: D301
    kind = FORMATS[name]
    options = _options(kind, name, given, anonymise=anonymise, key_file=key_file)
    if at is not None:
        if not kind.takes_at:
            raise click.UsageError(
                f"--as {name} holds the whole history and takes no --at; to export a part of it,"
                " fork the run at the snapshot and export the fork"
            )
        options["at"] = at
    with location.open(create=False) as store:
        run = only_run(store, session_id, run_id, how="as the argument RUN")
        hidden = options.get("pseudonyms")
        named = run.id if hidden is None else hidden.of("run", run.id)
        target = _target(kind, name, output, named, as_json=as_json)
        with progress_bar("exporting") as progress:
            report = kind.exporter(name)(run, target, progress=progress, **options)
    if as_json:
        print_report(report)
    else:
        _print(report, is_stream=not isinstance(target, Path))


def _options(
    kind: Format,
    name: str,
    given: dict[str, str | None],
    *,
    anonymise: bool,
    key_file: Path | None,
) -> dict[str, Any]:
    """Return what only some formats take."""
    options: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if key_file is not None and not anonymise:
        raise click.UsageError("--key-file is of --anonymise; give that, too")
    if anonymise:
        from index.export import Pseudonyms

        secret = None if key_file is None else key_file.read_bytes()
        if secret == b"":
            raise click.UsageError(f"--key-file {key_file} is empty; put some random bytes into it")
        options["pseudonyms"] = Pseudonyms(secret)
    for option in options:
        if option not in kind.options:
            shown = "anonymise" if option == "pseudonyms" else option
            others = ", ".join(each for each, other in FORMATS.items() if option in other.options)
            raise click.UsageError(f"--as {name} takes no --{shown}; it is for {others}")
    return options


def _target(
    kind: Format, name: str, output: Path | None, run: str, *, as_json: bool
) -> Path | BinaryIO:
    if output is None:
        plain = quote(run, safe=" ")  # an id is any text; with the ending it is never ".."
        return Path(f"{plain}{kind.ending}")
    if str(output) != "-":
        return output
    if not kind.is_file:
        raise click.UsageError(f"--as {name} makes a directory; name a new one with -o DIR")
    if as_json:
        raise click.UsageError("--json goes to standard output, too; name a file with -o FILE")
    if sys.stdout.isatty():
        raise click.UsageError("-o - would write the export to the terminal; redirect it")
    return sys.stdout.buffer


def _print(report: ExportReport, *, is_stream: bool) -> None:
    what = f"{counted(report.files, 'file')} ({human_size(report.bytes)})"
    if report.files == 0:
        what = counted(report.snapshots, "snapshot")
    elif report.snapshots > 1:
        what = f"{counted(report.snapshots, 'snapshot')}, {what}"
    where = "standard output" if is_stream else printable(report.target)
    click.echo(f"{where}: {what} exported as {report.format}", err=is_stream)
    for path, reason in report.left_out:
        click.echo(f"left out {printable(path)}: {printable(reason)}", err=True)
