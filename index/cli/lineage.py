"""The commands for the lineage of runs: who, fork, rewind."""

from __future__ import annotations

from os.path import isfile  # unlike pathlib's, it never raises
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cas.digest import Digest, Hasher
from cas.errors import InvalidDigestError
from index.cli.completing import completing, files_on_disk
from index.cli.options import (
    at_option,
    json_option,
    listing_options,
    only_run,
    run_options,
    session_option,
)
from index.cli.output import print_json, print_report
from index.cli.selectors import read_snapshot
from index.cli.tables import Column, path_column, show
from index.cli.terminal import printable

if TYPE_CHECKING:
    from index.cli.location import StoreLocation
    from index.cli.output import Form

__all__ = ["fork", "rewind", "who"]

_READ_SIZE = 1 << 20


class _NotFoundError(click.ClickException):
    """The thing that the user asked about does not exist."""

    exit_code = 4


@click.command()
@session_option()
@click.option("--all-sessions", is_flag=True, help="Look in every session of the store.")
@click.argument("what", metavar="DIGEST|FILE", shell_complete=files_on_disk)
@listing_options
@click.pass_obj
def who(
    location: StoreLocation,
    *,
    session_id: str,
    all_sessions: bool,
    what: str,
    form: Form | None,
    full: bool,
) -> None:
    """List who made these bytes, the first one first.

    The argument is a digest or at least its first seven digits, a file on disk, or a path in a run.
    For a file on disk the command looks up its bytes under any path. For a path in a run it shows
    everything that was ever produced there.

    \b
    cas who plots/result.png
    cas who 4f2a…
    """  # noqa: D301
    wanted = _what(what)
    with location.open(create=False) as store:
        owner = store if all_sessions else store.session(session_id)
        found = owner.producers(wanted)
    if not found:
        where = "any session" if all_sessions else f"session {session_id!r}"
        raise _NotFoundError(f"nothing in {where} was ever recorded as {printable(str(wanted))!r}")
    session = (Column("session", rank=0),) if all_sessions else ()
    show(found, (*session, *_PRODUCERS), form, full=full)


_PRODUCERS = (
    Column("run", lambda version: f"{version.run}@{version.first_snapshot}", rank=0),
    Column("agent", rank=0),
    Column("created", lambda version: version.created_at, rank=1),
    Column("phase", rank=2),
    Column("node", lambda version: version.node_id, rank=3),
    Column("digest", colour="yellow", rank=4),
    path_column(),
)


@click.command()
@run_options
@at_option
@click.argument("new_run", metavar="NEW_RUN")
@json_option
@click.pass_obj
def fork(
    location: StoreLocation,
    *,
    session_id: str,
    run_id: str | None,
    at: int | str | None,
    new_run: str,
    as_json: bool,
) -> None:
    """Create a new run from a snapshot of another run. No bytes are copied.

    \b
    cas fork run-8 --run run-7 --at 3
    """  # noqa: D301
    with location.open(create=False) as store:
        source = only_run(store, session_id, run_id)
        made = source.fork(new_run, at=at)
        files = made.files()
        number = max((snapshot.number for snapshot in made.snapshots()), default=0)
    if as_json:
        origin = {
            "session": session_id,
            "run": made.id,
            "forked_from": source.id,
            "snapshot": number,
        }
        print_json({**origin, "files": len(files)})
        return
    click.echo(
        f"run {printable(made.id)} begins at snapshot {number} of {printable(source.id)}"
        f" with {len(files)} files"
    )


@click.command()
@run_options
@click.argument("snapshot", callback=read_snapshot, shell_complete=completing("snapshot"))
@json_option
@click.pass_obj
def rewind(
    location: StoreLocation,
    *,
    session_id: str,
    run_id: str | None,
    snapshot: int | str,
    as_json: bool,
) -> None:
    """Return a run to the state of a snapshot, as a new snapshot. The history is kept.

    The work directory does not change. `cas restore --overwrite --delete` makes it equal the run.

    \b
    cas rewind 3 --run run-7
    """  # noqa: D301
    with location.open(create=False) as store:
        run = only_run(store, session_id, run_id)
        made = run.rewind(snapshot)
    if as_json:
        print_report(made, session=session_id, run=run.id)
        return
    click.echo(
        f"snapshot {made.number} of {printable(run.id)} holds what {snapshot} held:"
        f" {len(made.lazy_added)} added, {len(made.lazy_changed)} changed,"
        f" {len(made.lazy_removed)} removed"
    )


def _what(text: str) -> Digest | str:
    try:
        return Digest.parse(text)
    except InvalidDigestError:
        file = Path(text)
    if not isfile(file):
        return text
    hasher = Hasher()
    with file.open("rb") as stream:
        while piece := stream.read(_READ_SIZE):
            hasher.update(piece)
    return hasher.digest()
