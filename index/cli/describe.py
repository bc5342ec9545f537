"""The command that shows everything known of one thing: show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from index.cli.completing import completing
from index.cli.options import json_option, run_here, run_options
from index.cli.output import print_json
from index.cli.tables import Column, path_column, show_facts
from index.cli.tables import show as show_table
from index.cli.terminal import printable
from index.errors import UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cas.digest import Digest
    from index.api.meaning import Meaning
    from index.api.session import Session
    from index.api.store import ArtifactStore
    from index.cli.location import StoreLocation
    from index.domain.snapshots import FileVersion

__all__ = ["show"]

_PLACES: Final = 20
"""Places of the same bytes that are listed."""


@click.command()
@click.argument("word", metavar="RUN|SNAPSHOT|TAG|PATH[@VERSION|@TAG]|DIGEST",
                shell_complete=completing("run", "path"))  # fmt: skip
@run_options
@json_option
@click.pass_obj
def show(
    location: StoreLocation, /, word: str, *, session_id: str, run_id: str | None, as_json: bool
) -> None:
    """Show everything known of a run, a snapshot, a file or its bytes.

    RUN is a run, N a snapshot, RUN@N a snapshot of another run, PATH a file as it is now, PATH@N a
    version of it. In the place of N, a tag is what it names, and in the place of RUN, @TAG is the
    run that a tag names. A digest, or at least its first seven digits, stands for the bytes: who
    made them, and where they are. RUN@, @N and ./PATH mean nothing else; a word that may mean
    several things is refused with these.

    \b
    cas show data/result.csv
    cas show data/result.csv@1
    cas show 3 --run run-7
    cas show run-7
    cas show 4f2a001
    """  # noqa: D301
    with location.open(create=False) as store:
        session = store.session(session_id)
        try:
            meaning = session.resolve(word, run=run_id)
        except UnknownNameError:
            if run_id is not None:
                raise
            meaning = session.resolve(word, run=run_here(session.runs()))
        facts = _described(store, session, meaning)
    if as_json:
        print_json(facts)
    else:
        _print(facts)


def _described(store: ArtifactStore, session: Session, meaning: Meaning) -> dict[str, Any]:
    """Return what ``--json`` prints of a thing: its kind, what it is, and what belongs to it."""
    from cas.digest import Digest
    from index.domain.snapshots import FileVersion, Snapshot

    value, run = meaning
    if isinstance(value, Digest):
        return {"kind": "digest", "digest": value, **_of_bytes(store, session, value)}
    if isinstance(value, FileVersion):
        more = {} if value.digest is None else _of_bytes(store, session, value.digest)
        return {"kind": "file", **value.to_dict(), **more}
    assert run is not None, "only a digest has none"  # noqa: S101
    if isinstance(value, Snapshot):
        return {"kind": "snapshot", "session": session.id, "run": run.id, **value.to_dict()}
    return {"kind": "run", **run.summary().to_dict(), **run.stats().to_dict()}


def _of_bytes(store: ArtifactStore, session: Session, digest: Digest) -> dict[str, Any]:
    """Return how bytes are stored, who made them, and the first places where they are."""
    places = [*session.find(digest=digest, all_versions=True, limit=_PLACES + 1)]
    return {
        "stored": store.stored(digest),
        "producers": session.producers(digest)[:_PLACES],
        "places": places[:_PLACES],
        "more_places": len(places) > _PLACES,
    }


def _print(facts: dict[str, Any]) -> None:
    """Print what is known: a line for each fact, then tables of what belongs to it."""
    changes = {mark: facts.pop(name, ()) for name, mark in _CHANGES.items()}
    tables = {name: facts.pop(name, ()) for name in ("producers", "places")}
    more = facts.pop("more_places", False)
    stored = facts.pop("stored", None)
    if stored is not None:
        facts |= {name: value for name, value in stored.to_dict().items() if name not in facts}
        facts["verified_at"] = facts["verified_at"] or "never"
    if _ids(tables["producers"]) == _ids(tables["places"]):
        del tables["places"]
    if isinstance(facts.get("notes"), dict):
        facts |= {f"notes.{name}": value for name, value in facts.pop("notes").items()}
    show_facts(
        {
            name: value
            for name, value in facts.items()
            if name not in _OF_PROGRAMS and _is_worth_a_line(value)
        }
    )
    for mark, versions in changes.items():
        for version in versions:
            click.echo(f"{mark} {printable(version['path'])}")
    for name, versions in tables.items():
        if versions:
            click.echo(f"\n{name}:")
            show_table(versions, _HELD, None)
    if more:
        click.echo(f"and more: cas find --all-versions --digest {facts['digest']}")


def _is_worth_a_line(value: object) -> bool:
    """Whether there is something to say: also not of files by a label that none has."""
    return any(value) if isinstance(value, dict) else value not in (None, "", False, [])


def _ids(versions: Sequence[FileVersion]) -> list[int]:
    return [version.id for version in versions]


_OF_PROGRAMS: Final = {
    *("id", "mtime_ns"),
    *("recorded", "filled", "hidden", "ignored", "absent"),  # only the scan itself knows these
}
"""Facts that only JSON has."""

_CHANGES: Final = {"added": "+", "changed": "~", "removed": "-"}

_HELD = (
    Column("run", rank=0),
    Column("version", rank=1),
    Column("agent", rank=1),
    Column("phase", rank=3),
    Column("node", lambda version: version.node_id, rank=3),
    Column("created", lambda version: version.created_at, rank=2),
    path_column(),
)
