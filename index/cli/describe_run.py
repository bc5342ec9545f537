"""The command that says what a run is: describe."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, get_args

import click

from index.cli.completing import completing
from index.cli.options import json_option, only_run, run_options
from index.cli.output import print_json
from index.cli.tables import show_facts
from index.domain.runs import RunStatus
from index.domain.tags import check_run_word

if TYPE_CHECKING:
    from collections.abc import Sequence

    from index.cli.location import StoreLocation

__all__ = ["describe"]


@click.command()
@run_options
@click.option("--parent", metavar="ID", shell_complete=completing("run"),
              help="The run that this run is a part of; '' for none.")  # fmt: skip
@click.option("--note", "notes", multiple=True, metavar="NAME=VALUE",
              help="Note a JSON value, or text; NAME= removes it; may be repeated.")  # fmt: skip
@click.option("--status", type=click.Choice(get_args(RunStatus)), help="How the run goes.")
@click.option("--reason", metavar="TEXT", help="Why it has this status.")
@json_option
@click.pass_obj
def describe(
    location: StoreLocation,
    /,
    *,
    session_id: str,
    run_id: str | None,
    parent: str | None,
    notes: tuple[str, ...],
    status: RunStatus | None,
    reason: str | None,
    as_json: bool,
) -> None:
    """Say what a run is: its parent, status and notes.

    With --run, the run is created if it does not exist. Its parent, the run that it is a part of,
    need not exist yet. `cas run` says the status and notes the command by itself. Without an
    option, the command shows what was said.

    \b
    cas describe --run trial-3 --parent sweep-1 --note rate=0.1
    cas describe --run trial-3 --status failed --reason 'out of memory'
    cas describe --run trial-3
    """  # noqa: D301
    if reason is not None and status is None:
        raise click.UsageError("--reason goes with --status")
    noted = _notes(notes)
    is_said = bool(noted) or parent is not None or status is not None
    if parent:
        check_run_word(parent)  # first: a mistyped one must not create a store
    with location.open(create=is_said and run_id is not None) as store:
        if run_id is None:
            run = only_run(store, session_id, run_id)
        else:
            run = store.session(session_id).run(run_id)
        if noted or parent is not None:
            run.describe(parent=parent, notes=noted or None)
        found = run.summary() if status is None else run.set_status(status, reason=reason)
    facts = {name: value for name, value in found.to_dict().items() if name in _SAID}
    if as_json:
        print_json(facts)
        return
    notes_of = facts.pop("notes") or {}
    facts |= {f"notes.{name}": value for name, value in notes_of.items()}
    show_facts({name: value for name, value in facts.items() if value not in (None, [])})


_SAID = (
    *("session", "run", "status", "status_reason", "started_at", "ended_at"),
    *("parent", "tags", "notes"),
)


def _notes(given: Sequence[str]) -> dict[str, Any]:
    notes: dict[str, Any] = {}
    for text in given:
        name, mark, value = text.partition("=")
        if not (name and mark):
            raise click.UsageError(f"--note takes NAME=VALUE, not {text!r}")
        notes[name] = _value(value) if value else None
    return notes


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text
