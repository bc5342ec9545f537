"""The command that runs a command and records what it made: run."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from index.cli.completing import completing
from index.cli.scans import (
    input_option,
    inputs_of,
    popped_labels,
    recording_options,
    scan_of,
    tell_skipped,
)
from index.cli.terminal import printable
from index.domain.tags import check_run_word

if TYPE_CHECKING:
    from index.api.command import RecordedCommand
    from index.cli.location import StoreLocation

__all__ = ["run"]


@click.command(context_settings={"allow_interspersed_args": False})
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path),
    default=".",
    metavar="DIR",
    help="Directory to record. Default: the current one, in which the command runs.",
)
@recording_options
@input_option
@click.option(
    "--env",
    "variables",
    multiple=True,
    metavar="NAME",
    help="Note the value of this environment variable; may be repeated.",
)
@click.option("--parent", metavar="ID", shell_complete=completing("run"),
              help="The run that this run is a part of.")  # fmt: skip
@click.argument("command", nargs=-1, required=True, metavar="COMMAND [ARG]...")
@click.pass_obj
def run(
    location: StoreLocation,
    /,
    directory: Path,
    *,
    variables: tuple[str, ...],
    parent: str | None,
    command: tuple[str, ...],
    final: tuple[str, ...],
    inputs: tuple[str, ...],
    **options: Any,
) -> int:
    """Run a command, and record what it makes and changes.

    The directory is recorded before the command, attributed to nobody, and after it with the
    provenance that you give. That snapshot notes the command line, without passwords, and its exit
    status, start, duration, directory, host, user and git commit: see `cas snapshots --json`. It is
    made even if no file has changed. The run notes its newest command: see `cas describe`.

    The command has the terminal, the standard streams and Ctrl-C for itself. What a command that
    fails or is interrupted has left is recorded, too. The exit code is that of the command; 127 if
    it is not found, 126 if it can't be started, 128 and a number if a signal killed it. The command
    comes after all options; -- may stand between them.

    \b
    cas run python train.py --epochs 3
    cas run --dir work --run run-7 --agent engineer --node step_1 -- python plots.py
    cas run --env OMP_NUM_THREADS ./simulate
    cas run --input data/raw.csv --node clean python clean.py
    cas run --run trial-3 --parent sweep-1 python train.py
    """  # noqa: D301
    from index.api.command import check_command

    check_command(command)  # first, as the other arguments: a mistyped one must not create a store
    session_id, labels = options["session_id"], popped_labels(options)
    run_id, covered = scan_of(directory, **options)
    covered["same_directory"] = not options["moved"]  # the scan before is not shown
    if parent is not None:
        check_run_word(parent)
    with location.open(create=True) as store:
        recorded = store.session(session_id).run(run_id)
        if parent is not None:
            recorded.describe(parent=parent)
        sys.stdout.flush()
        done = recorded.record(
            command,
            directory,
            environment={name: os.environ.get(name) for name in variables},
            final=final,
            inputs=inputs_of(directory, covered["prefix"], inputs),
            **covered,
            **labels,
        )
    if not click.get_current_context().find_root().params.get("quiet"):
        _print_outcome(run_id, done)
    return done.exit_status


def _print_outcome(run_id: str, done: RecordedCommand) -> None:
    """Print a line on standard error: standard output is the command's."""
    snapshot = done.snapshot
    tell_skipped(snapshot.skipped, snapshot.torn, snapshot.absent)
    reason = "" if done.reason is None else f" ({done.reason})"
    click.echo(
        f"{printable(run_id)}: snapshot {snapshot.number}, {len(snapshot.lazy_added)} added,"
        f" {len(snapshot.lazy_changed)} changed, {len(snapshot.lazy_removed)} removed;"
        f" {done.status}{reason} after {snapshot.notes['duration_s']:.2f} s",
        err=True,
    )
