"""The command that removes files from a run, or deletes runs and sessions: rm."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from index.cli.completing import completing
from index.cli.options import json_option, only_run, provenance_options, session_option
from index.cli.output import counted, print_json, print_report
from index.cli.settings import setting
from index.cli.terminal import printable
from index.domain.units import human_size
from index.errors import TaggedRunError

if TYPE_CHECKING:
    from index.api.run import Run
    from index.api.session import Session
    from index.cli.location import StoreLocation
    from index.domain.reports import DeletionReceipt

__all__ = ["confirm", "rm"]


@click.command()
@click.argument("paths", metavar="[PATH]...", nargs=-1, shell_complete=completing("path"))
@session_option()
@click.option("--run", "run_id", metavar="ID",
              shell_complete=completing("run"),
              help="The run that has the paths, or to delete.")  # fmt: skip
@click.option("--whole-session", is_flag=True, help="Delete the session with all its runs.")
@click.option("--yes", is_flag=True, help="Delete the run or session without asking.")
@click.option("--force", is_flag=True, help="Delete the run even if it has a tag in its session.")
@provenance_options
@json_option
@click.pass_obj
def rm(
    location: StoreLocation,
    /,
    paths: tuple[str, ...],
    *,
    session_id: str,
    run_id: str | None,
    whole_session: bool,
    yes: bool,
    force: bool,
    as_json: bool,
    **provenance: Any,
) -> None:
    """Remove files from a run, or delete a run or a session.

    Removed files leave the listing as a new snapshot. They keep their history and bytes, and `cas
    rewind` brings them back. The work directory does not change.

    A deleted run takes its history with it, and a session is deleted with all its runs. The
    command asks first, and shows which bytes become garbage. Forks of a deleted run stay complete,
    and its children stay. A run that has a tag in its session (`cas tag --whole-run`) is deleted
    only with --force. `cas gc` removes the bytes.

    \b
    cas rm --run run-7 data/old.csv plots/draft.png
    cas rm --run run-7
    cas rm --session task-12 --whole-session --yes
    """  # noqa: D301
    if paths:
        run_id = run_id or os.environ.get("CAS_RUN") or setting("run")()
        if whole_session or yes or force:
            # In a script, `cas rm --run ID --yes $FILES` must not delete the run if FILES is empty.
            raise click.UsageError(
                "--whole-session, --yes and --force go with deletions, without a PATH"
            )
        _remove(location, session_id, run_id, paths, provenance, as_json=as_json)
        return
    if (run_id is None) != whole_session:
        raise click.UsageError("name paths, the run to delete with --run, or give --whole-session")
    if any(value is not None for value in provenance.values()):
        raise click.UsageError(
            "provenance goes with PATHs to remove; a deletion leaves no snapshot"
        )
    if force and whole_session:
        raise click.UsageError("--force is for a run; a session is deleted with its tags")
    _delete(location, session_id, run_id, yes=yes, force=force, as_json=as_json)


def _remove(
    location: StoreLocation,
    session_id: str,
    run_id: str | None,
    paths: tuple[str, ...],
    provenance: dict[str, str | None],
    *,
    as_json: bool,
) -> None:
    with location.open(create=False) as store:
        run = only_run(store, session_id, run_id)
        removed = run.remove_many(paths, **provenance)
    number = removed[0].end_snapshot
    if as_json:
        head = {"session": session_id, "run": run.id, "snapshot": number}
        print_json({**head, "removed": removed})
        return
    click.echo(
        f"removed {counted(len(removed), 'file')} from {printable(run.id)} in snapshot {number};"
        f" they keep their history, and cas rewind brings them back"
    )


def _delete(
    location: StoreLocation,
    session_id: str,
    run_id: str | None,
    *,
    yes: bool,
    force: bool,
    as_json: bool,
) -> None:
    what = f"session {session_id}"
    with location.open(create=False) as store:
        session = store.session(session_id)
        run = None if run_id is None else session.run(run_id)
        if run is not None:
            what = f"run {run.id} of {what}"
        if not yes:
            _check_there(session, run, force=force)
            confirm(f"delete {printable(what)} with its history?")
        receipt = session.delete() if run is None else run.delete(force=force)
    if as_json:
        print_report(receipt)
    else:
        _print_receipt(what, receipt)


def _print_receipt(what: str, receipt: DeletionReceipt) -> None:
    click.echo(
        f"deleted {printable(what)}: {counted(len(receipt.runs), 'run')},"
        f" {counted(receipt.versions, 'file version')}"
    )
    click.echo(
        f"to go with cas gc: {counted(len(receipt.released), 'content')},"
        f" {human_size(receipt.released_bytes)}, that nothing in the session needs any more"
    )
    if receipt.released:
        click.echo(
            "cas gc marks what has not been used for a day, and removes it a day later;"
            " cas gc --grace 0 removes all of it now"
        )
    if receipt.kept:
        holders = sorted({blob.run for blob in receipt.kept})
        click.echo(
            f"to stay: {counted(len(receipt.kept), 'content')},"
            f" {human_size(receipt.kept_bytes)}, for "
            + ", ".join(printable(holder) for holder in holders)
        )


def _check_there(session: Session, run: Run | None, *, force: bool) -> None:
    """Raise if the session or run can't be deleted, before the user is asked to confirm."""
    if run is None:
        session.runs()
    elif (tags := run.summary().tags) and not force:
        raise TaggedRunError(run.id, tags)


def confirm(question: str) -> None:
    """Ask on the terminal; end the command with an error unless the answer is yes."""
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort:
        agreed = False
    if not agreed:
        raise click.ClickException("nothing was deleted; answer y, or give --yes in scripts")
