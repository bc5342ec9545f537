"""Options that commands share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

import click

from index.cli.completing import completing
from index.cli.location import current_directory
from index.cli.output import Form
from index.cli.progress import log_messages
from index.cli.selectors import read_snapshot
from index.cli.settings import setting
from index.cli.terminal import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from index.api.run import Run
    from index.api.store import ArtifactStore
    from index.domain.runs import RunSummary

__all__ = [
    "LABELS",
    "add_global_options",
    "all_options",
    "at_option",
    "filter_options",
    "global_options",
    "json_option",
    "listing_options",
    "only_run",
    "provenance_options",
    "run_here",
    "run_options",
    "session_option",
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


def only_run(
    store: ArtifactStore, session_id: str, run_id: str | None, *, how: str = "with --run"
) -> Run:
    """Return the run `run_id`, or else the one that `run_here` finds."""
    session = store.session(session_id)
    return session.run(run_here(session.runs(), how) if run_id is None else run_id)


def run_here(runs: Sequence[RunSummary], how: str = "with --run") -> str:
    """Return the run of the innermost directory around the current one, or else the only run.

    Raises click.UsageError, which asks for one, if there are several. `runs` are oldest first;
    `how` says how the command takes one.
    """
    chosen = runs
    if len(runs) > 1:
        here = current_directory()
        around = [each for each in runs if each.work_dir and here.is_relative_to(each.work_dir)]
        longest = max((len(each.work_dir or "") for each in around), default=0)
        chosen = [each for each in around if len(each.work_dir or "") == longest] or runs
    if len(chosen) == 1:
        return chosen[0].run
    shown = ", ".join(printable(each.run) for each in chosen[-_SHOWN_RUNS:])
    raise click.UsageError(f"name the run {how}; the newest are: {shown}")


def run_options(command: Callable[P, R]) -> Callable[P, R]:
    """Add ``--session`` and ``--run``."""
    return all_options(
        session_option(),
        click.option(
            "--run",
            "run_id",
            envvar="CAS_RUN",
            default=setting("run"),
            metavar="ID",
            shell_complete=completing("run"),
            help="Default: the run of this directory, or the session's only run.",
        ),
    )(command)


def session_option() -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return ``--session``."""
    return click.option(
        "--session",
        "session_id",
        envvar="CAS_SESSION",
        default=setting("session"),
        metavar="ID",
        shell_complete=completing("session"),
        help="Default: default.",
    )


def json_option(command: Callable[P, R]) -> Callable[P, R]:
    """Add ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def listing_options(command: Callable[P, R]) -> Callable[P, R]:
    """Add ``--json``, ``--jsonl`` and ``--full``, for a listing."""
    return all_options(
        click.option("--json", "form", flag_value=Form.JSON, type=Form, help="Print JSON."),
        click.option(
            "--jsonl", "form", flag_value=Form.LINES, type=Form, help="Print JSON, a line each."
        ),
        click.option(
            "--full", is_flag=True, help="Whole digests, times and paths on a terminal, too."
        ),
    )(command)


def global_options(command: Callable[P, R]) -> Callable[P, R]:
    """Add ``--quiet``, ``--verbose`` and ``--log-file``."""
    return all_options(
        click.option("-q", "--quiet", is_flag=True, help="Print results and errors only."),
        click.option("-v", "--verbose", count=True, help="Print what happens; -vv with details."),
        click.option(
            "--log-file",
            type=click.Path(path_type=Path, dir_okay=False),
            envvar="CAS_LOG_FILE",
            metavar="FILE",
            help="Append what happens to FILE, a line of JSON each.",
        ),
    )(command)


def add_global_options(command: click.Command) -> None:
    """Let a command, or the commands of a group, take global options after its name."""
    if isinstance(command, click.Group):
        for each in command.commands.values():
            add_global_options(each)
        return
    taken = {name for parameter in command.params for name in parameter.opts}

    @global_options
    @click.option("--store", type=click.Path(path_type=Path), metavar="DIR")
    def more() -> None: ...

    for option in reversed(more.__click_params__):  # type: ignore[attr-defined]  # click's own
        if not taken.intersection(option.opts):
            option.hidden, option.expose_value, option.callback = True, False, _take_global
            option.envvar = None  # it was read before
            command.params.append(option)


def _take_global(context: click.Context, option: click.Parameter, value: object) -> None:
    if context.resilient_parsing and option.name == "store" and value:
        context.find_root().params["store"] = value  # to complete names of it
    if not value or context.resilient_parsing:
        return
    if option.name == "store":
        context.obj = replace(context.obj, store=value, index=None, blobs=None)
        return
    given = context.find_root().params
    given[str(option.name)] = value
    log_messages(context, quiet=given["quiet"], verbose=given["verbose"], file=given["log_file"])


def at_option(command: Callable[P, R]) -> Callable[P, R]:
    """Add ``--at``."""
    return click.option(
        "--at",
        callback=read_snapshot,
        metavar="SNAPSHOT",
        shell_complete=completing("snapshot"),
        help="State at this snapshot: a number or a tag.",
    )(command)


def provenance_options(command: Callable[P, R]) -> Callable[P, R]:
    """Add the options for provenance: phase, agent, node, step, event and code hash."""
    return _provenance_options(command, recorded=True)


def _provenance_options(command: Callable[P, R], *, recorded: bool) -> Callable[P, R]:
    def default(name: str) -> dict[str, Any]:
        # What is recorded has defaults. A selection has none.
        has_one = recorded and name in ("phase", "agent")
        return {"envvar": f"CAS_{name.upper()}", "default": setting(name)} if has_one else {}

    def label(name: str, *options: str, metavar: str = "ID", help: str | None = None) -> Any:  # noqa: A002 - as click's
        complete = completing(name)
        return click.option(
            *options, **default(name), metavar=metavar, help=help, shell_complete=complete
        )

    return all_options(
        label("phase", "--phase", metavar="NAME", help="Workflow phase."),
        label("agent", "--agent", metavar="NAME", help="Generating agent."),
        label("node_id", "--node", "node_id", help="DAG node."),
        label("step_id", "--step", "step_id", help="Step that the node executes."),
        label("event_id", "--event", "event_id", help="Event that led to the file."),
        label("code_hash", "--code-hash", metavar="HASH", help="Hash of the generating code."),
    )(command)


def filter_options(command: Callable[P, R]) -> Callable[P, R]:
    """Add the options that select files: by provenance, type, priority, final and prefix."""
    return _provenance_options(_filter_options(command), recorded=False)


def _filter_options(command: Callable[P, R]) -> Callable[P, R]:
    return all_options(
        click.option(
            "--type",
            "file_type",
            metavar="TYPE",
            shell_complete=completing("file_type"),
            help="plot, data, code, plan, …",
        ),
        click.option(
            "--priority",
            type=click.Choice(["primary", "secondary", "internal"]),
            help="How much a reader of the run needs it.",
        ),
        click.option(
            "--final/--not-final",
            "is_final_output",
            default=None,
            help="Only final outputs, or only others.",
        ),
        click.option(
            "--prefix",
            metavar="TEXT",
            shell_complete=completing("path"),
            help="Only paths that begin with this text.",
        ),
    )(command)


def all_options(*options: Callable[[Any], Any]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator that adds options in this order."""

    def decorate(command: Callable[P, R]) -> Callable[P, R]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate
