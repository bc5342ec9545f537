"""The command that tracks a directory while a run goes on: watch."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from cas.errors import CasError
from index.cli.advice import in_commands
from index.cli.scans import outcome, popped_labels, recording_options, scan_of, tell_skipped
from index.cli.terminal import printable
from index.cli.units import read_duration
from index.errors import ArtifactIndexError

if TYPE_CHECKING:
    from datetime import timedelta

    from index.api.run import Run
    from index.cli.location import StoreLocation
    from index.domain.snapshots import Snapshot

__all__ = ["watch"]


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@recording_options
@click.option(
    "--quiet-period",
    callback=read_duration,
    default="2s",
    show_default=True,
    metavar="TIME",
    help="Record when nothing has changed for so long.",
)
@click.option(
    "--max-delay",
    callback=read_duration,
    default="60s",
    show_default=True,
    metavar="TIME",
    help="Record after so long even if changes go on.",
)
@click.pass_obj
def watch(
    location: StoreLocation,
    /,
    directory: Path,
    *,
    quiet_period: timedelta,
    max_delay: timedelta,
    final: tuple[str, ...],
    **options: Any,
) -> None:
    """Record a work directory again and again while a run goes on.

    The command records the present files, and then waits for changes. It needs
    `pip install 'runcas[watch]'`. Each snapshot has a line. If a scan fails, the command says why,
    and scans again after --max-delay. Ctrl-C ends it with a last scan, and exit code 0; a second
    Ctrl-C ends it at once.

    Changes made by another host are seen only by the last scan, if DIR is on a network filesystem:
    set WATCHFILES_FORCE_POLLING=1 there.

    \b
    cas watch work/
    cas watch work/ --run run-7 --agent engineer --quiet-period 10s
    cas watch work/ --ignore '*.log' --max-delay 5m
    """  # noqa: D301
    from index.scan.events import load_watch

    session_id, labels = options["session_id"], popped_labels(options)
    run_id, covered = scan_of(directory, **options)
    load_watch(str(directory))  # without it, no store is made
    how = {**covered, **labels, "final": final}
    waits = {
        "quiet_period": quiet_period.total_seconds(),
        "max_delay": max_delay.total_seconds(),
    }
    with location.open(create=True) as store:
        run = store.session(session_id).run(run_id)
        printer = _Printer(run)
        try:
            _watch(run, directory, printer, **how, **waits)
        except KeyboardInterrupt:  # also for SIGTERM, which service managers send
            click.echo("a last scan follows; Ctrl-C again ends at once", err=True)
            last = run.track(directory, **how)
            printer.show(last)
            click.echo(f"{printable(run_id)}: ended at snapshot {last.number}")


def _watch(
    run: Run, directory: Path, printer: _Printer, *, max_delay: float, **how: Any
) -> NoReturn:
    """Track until Ctrl-C, whatever becomes of a scan after the first."""
    while True:
        try:
            for snapshot in run.watch(directory, max_delay=max_delay, **how):
                printer.show(snapshot)
        except (CasError, ArtifactIndexError) as error:
            if not printer.scans:
                raise
            sentence = printable(in_commands(str(error)))
            click.echo(f"error: {sentence}; the next scan is in {max_delay:g} s", err=True)
        time.sleep(max_delay)


class _Printer:
    """Prints what each scan of a watch has that those before had not."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._skipped: frozenset[object] = frozenset()
        self.scans = 0

    def show(self, snapshot: Snapshot) -> None:
        """Print a line for a new snapshot, and what an earlier scan has not skipped."""
        skipped, torn, absent = snapshot.skipped, snapshot.torn, snapshot.absent
        before, self._skipped = self._skipped, frozenset((*skipped, *absent))
        tell_skipped(
            [each for each in skipped if each not in before],
            torn,
            [path for path in absent if path not in before],
        )
        if snapshot.recorded or not self.scans:
            click.echo(outcome(self._run, snapshot))
        self.scans += 1
