"""The command that records what people have in other tools: import."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from index.cli.completing import completing
from index.cli.options import json_option, session_option
from index.cli.output import counted, print_json
from index.cli.progress import progress_bar
from index.cli.terminal import printable
from index.domain.units import human_size

if TYPE_CHECKING:
    from index.cli.location import StoreLocation
    from index.domain.reports import ImportReport

__all__ = ["import_"]


class _Format(NamedTuple):
    """How one format is imported."""

    noun: str
    module: str
    function: str
    options: frozenset[str] = frozenset()
    """The options that it takes, besides those that all formats take."""


_FORMATS: Final = {
    "steps": _Format("step folders", "index.imports.steps", "read_steps",
                     frozenset({"steps", "as_states"})),
    "dvc": _Format("a DVC repository", "index.imports.dvc", "read_dvc",
                   frozenset({"rev", "cache"})),
    "mlflow": _Format("MLflow runs", "index.imports.mlflow", "read_mlflow"),
    "git": _Format("a git history", "index.imports.git", "read_git", frozenset({"rev"})),
    "ocfl": _Format("an OCFL object", "index.imports.ocfl", "read_ocfl"),
    "bagit": _Format("a bag", "index.imports.bagit", "read_bagit"),
    "bundle": _Format("a bundle", "index.imports.stored", "read_bundle"),
}  # fmt: skip

_OPTIONS: Final = {
    "rev": "--rev",
    "cache": "--dvc-cache",
    "steps": "--step",
    "as_states": "--as-states",
}


@click.command("import")
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.option("--from", "source_format", type=click.Choice(list(_FORMATS)),
              help="What SOURCE is. Default: what it looks like.")  # fmt: skip
@session_option()
@click.option("--run", metavar="ID", shell_complete=completing("run"),
              help="Default: the name of SOURCE; for MLflow, its ids.")  # fmt: skip
@click.option("--rev", metavar="REV", help="Branch, tag or commit of git. Default: HEAD.")
@click.option("--dvc-cache", "cache", type=click.Path(exists=True, path_type=Path), metavar="DIR",
              help="DVC's cache, if it is outside of SOURCE.")  # fmt: skip
@click.option("--step", "steps", multiple=True, metavar="NAME",
              help="Only this folder; may be repeated, in order.")  # fmt: skip
@click.option("--as-states", is_flag=True,
              help="Each folder is the whole work directory after a step.")  # fmt: skip
@json_option
@click.pass_obj
def import_(
    location: StoreLocation,
    /,
    *,
    source: Path,
    source_format: str | None,
    session_id: str,
    run: str | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Record step folders, a git or DVC history, or MLflow runs. SOURCE is only read.

    Each commit, step folder or MLflow run becomes a snapshot. At the end the command compares what
    it recorded with what SOURCE lists, by paths and digests; a difference exits with 3. You can run
    it again: it goes on where it ended, and records what is new.

    A bundle, OCFL object or bag that `cas export` wrote comes back as it was. Those of other
    programs become snapshots, too.

    \b
    cas import project/
    cas import project/ --rev v1.0 --run project-v1
    cas import results/ --from steps --step load --step fit
    cas import mlruns/
    cas import run-7.bundle
    """  # noqa: D301
    if source_format is None:
        source_format = _guessed(source)
        if not as_json:
            noun = _FORMATS[source_format].noun
            click.echo(f"reading {printable(str(source))} as {noun}", err=True)
    chosen = _FORMATS[source_format]
    options = {name: value for name, value in given.items() if value}
    for name in options.keys() - chosen.options:
        raise click.UsageError(f"{_OPTIONS[name]} is not for {chosen.noun}; leave it out")
    read = getattr(import_module(chosen.module), chosen.function)
    with location.open(create=True) as store, progress_bar("importing", "snapshots") as progress:
        found = read(
            store.session(session_id),
            source,
            run=run,
            **options,
            **({"progress": progress} if progress else {}),
        )
    reports: tuple[ImportReport, ...] = found if isinstance(found, tuple) else (found,)
    if as_json:
        print_json(reports)
        return
    for report in reports:
        _print(report)


def _guessed(source: Path) -> str:
    from index.imports.formats import find_format

    found = find_format(source)
    if found not in _FORMATS:
        known = ", ".join(_FORMATS)
        raise click.UsageError(f"say what {printable(str(source))} is: --from {known}")
    return found


def _print(report: ImportReport) -> None:
    for path, reason in report.skipped:
        click.echo(f"skipped {printable(path)}: {printable(reason)}", err=True)
    if not report.snapshots:
        click.echo(f"run {printable(report.run)}: nothing new")
        return
    click.echo(
        f"run {printable(report.run)}: {counted(report.snapshots, 'snapshot')},"
        f" {counted(report.versions, 'file version')}, {human_size(report.bytes)};"
        " the same as in the source"
    )
