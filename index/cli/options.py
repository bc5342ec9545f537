"""Options that commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

import click

from index.cli.output import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from index.api.run import Run
    from index.api.store import ArtifactStore

__all__ = [
    "LABELS",
    "at_option",
    "filter_options",
    "json_option",
    "only_run",
    "provenance_options",
    "run_options",
]

P = ParamSpec("P")
R = TypeVar("R")

_SHOWN_RUNS: Final = 10

LABELS: Final = {
    "phase": "phase",
    "agent": "agent",
    "node": "node_id",
    "step": "step_id",
    "event": "event_id",
    "type": "file_type",
}
"""Attributes of files by the name of their option."""


def only_run(store: ArtifactStore, session_id: str, run_id: str | None) -> Run:
    """Return the run `run_id`, or the session's only run if `run_id` is None."""
    session = store.session(session_id)
    if run_id is not None:
        return session.run(run_id)
    names = [summary.run for summary in session.runs()]
    if len(names) == 1:
        return session.run(names[0])
    shown = ", ".join(printable(name) for name in names[-_SHOWN_RUNS:])
    raise click.UsageError(f"name the run with --run; the newest are: {shown}")


def run_options(command: Callable[P, R]) -> Callable[P, R]:
    """Add ``--session`` and ``--run``."""
    return _all(
        click.option("--session", "session_id", default="default", show_default=True, metavar="ID"),
        click.option("--run", "run_id", metavar="ID", help="Default: the session's only run."),
    )(command)


def json_option(command: Callable[P, R]) -> Callable[P, R]:
    """Add ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def at_option(command: Callable[P, R]) -> Callable[P, R]:
    """Add ``--at``."""
    return click.option("--at", type=int, metavar="SNAPSHOT", help="State at this snapshot.")(
        command
    )


def provenance_options(command: Callable[P, R]) -> Callable[P, R]:
    """Add the options for provenance: phase, agent, node, step, event and code hash."""
    return _all(
        click.option("--phase", metavar="NAME", help="Workflow phase."),
        click.option("--agent", metavar="NAME", help="Generating agent."),
        click.option("--node", "node_id", metavar="ID", help="DAG node."),
        click.option("--step", "step_id", metavar="ID"),
        click.option("--event", "event_id", metavar="ID"),
        click.option("--code-hash", metavar="HASH", help="Hash of the generating code."),
    )(command)


def filter_options(command: Callable[P, R]) -> Callable[P, R]:
    """Add the options that select files, besides `provenance_options`."""
    return _all(
        click.option("--type", "file_type", metavar="TYPE", help="plot, data, code, plan, …"),
        click.option("--priority", type=click.Choice(["primary", "secondary", "internal"])),
        click.option(
            "--final/--not-final",
            "is_final_output",
            default=None,
            help="Only final outputs, or only others.",
        ),
        click.option("--prefix", metavar="TEXT", help="Only paths that begin with this text."),
    )(command)


def _all(*options: Callable[[Any], Any]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    def decorate(command: Callable[P, R]) -> Callable[P, R]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate
