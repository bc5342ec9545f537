"""Runs in a listing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

from index.domain.annotations import as_stored
from index.domain.results import Result
from index.domain.units import human_size

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

__all__ = [
    "HTML_RUNS",
    "RunChange",
    "RunStatus",
    "RunSummary",
    "check_notes",
    "check_status",
    "merge_notes",
    "with_depths",
]

RunStatus: TypeAlias = Literal["running", "finished", "failed", "cancelled"]

HTML_RUNS: Final = ("session", "run", "snapshots", "files", "size", "active", "forked from")


@dataclass(frozen=True, slots=True)
class RunSummary(Result):
    """A run in a listing."""

    session: str
    run: str
    snapshots: int
    files: int
    """Current files."""
    bytes: int
    """Their total size."""
    created_at: datetime
    active_at: datetime
    """When its newest snapshot was made, or the run itself if that was later, as a new fork."""
    forked_from: str | None = None
    """The run that this run was forked from; None if that is deleted."""
    forked_snapshot: int | None = None
    """The snapshot that it was forked at. It stays when that run is deleted."""
    work_dir: str | None = None
    """The directory of its newest scan; None if it was never scanned, as a new fork."""
    status: RunStatus | None = None
    """How it goes or went, as somebody has said; None if nobody has. See `Run.set_status`."""
    status_reason: str | None = None
    started_at: datetime | None = None
    """When it was last said to be running."""
    ended_at: datetime | None = None
    """When it was said to have ended; None if it has not."""
    parent: str | None = None
    """The run that it is a part of, as somebody has said. It need not exist yet."""
    notes: dict[str, Any] | None = field(default=None, hash=False)
    """What was noted of it, by name: see `Run.describe`."""
    tags: tuple[str, ...] = ()
    """The tags of the session that name this run itself, sorted: see `Session.tag_run`."""
    agents: tuple[str, ...] = ()
    """The agents of its versions, current and past, sorted."""

    @property
    def html_row(self) -> tuple[object, ...]:
        """The values of a table with the head `HTML_RUNS`."""
        what = (self.session, self.run, self.snapshots, self.files, human_size(self.bytes))
        return *what, self.active_at, self.forked_from


@dataclass(frozen=True, slots=True)
class RunChange(Result):
    """A run that was made, changed or deleted: what `Session.follow` yields."""

    session: str
    run: str
    snapshot: int
    """The number of its newest snapshot; 0 if it has none."""
    revision: int
    """It goes up with every commit to the run, also one without a snapshot."""
    deleted: bool = False
    """Whether the run is gone. The numbers are then the last ones that were seen."""


def check_status(status: str) -> None:
    """Raise ValueError for a status that no run has."""
    if status not in get_args(RunStatus):
        known = ", ".join(get_args(RunStatus))
        raise ValueError(f"a run's status is one of {known}, not {status!r}")


def check_notes(notes: object) -> dict[str, Any]:
    """Return notes of a run as JSON will return them; raise InvalidMetaError if it can't."""
    if not isinstance(notes, Mapping):
        raise TypeError(f"notes of a run are a mapping by name, not {notes!r}")
    for name in notes:
        if not isinstance(name, str):
            raise TypeError(f"notes of a run have text as names, not {name!r}")
    checked: dict[str, Any] = as_stored("notes", dict(notes))
    return checked


def merge_notes(before: Mapping[str, Any] | None, changed: Mapping[str, Any]) -> dict[str, Any]:
    """Return notes with those changed that others give. A value of None removes a note."""
    return {
        name: value for name, value in {**(before or {}), **changed}.items() if value is not None
    }


def with_depths(runs: Iterable[RunSummary]) -> list[tuple[RunSummary, int]]:
    """Return runs with each before its children, and with the number of runs that it is below.

    Otherwise they stay in order. A run whose parent is not among them begins a tree.
    """
    by_name = {(each.session, each.run): each for each in runs}
    children: dict[tuple[str, str] | None, list[RunSummary]] = {}
    for each in by_name.values():
        parent = (each.session, each.parent or "")
        children.setdefault(parent if parent in by_name else None, []).append(each)
    found: dict[tuple[str, str], tuple[RunSummary, int]] = {}

    def walk(roots: Iterable[RunSummary]) -> None:
        waiting = [(root, 0) for root in roots]
        while waiting:
            run, depth = waiting.pop()
            key = (run.session, run.run)
            if key not in found:
                found[key] = run, depth
                waiting += [(each, depth + 1) for each in reversed(children.get(key, ()))]

    walk(reversed(children.get(None, ())))
    walk(each for key, each in by_name.items() if key not in found)  # two stores made a circle
    return list(found.values())
