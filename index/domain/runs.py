"""Runs in a listing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

from index.domain.results import Result
from index.domain.units import human_size

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["HTML_RUNS", "RunChange", "RunStatus", "RunSummary", "check_status"]

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
    parent: str | None = None
    """The run that this run was forked from; None if that is deleted."""
    parent_snapshot: int | None = None
    """The snapshot that it was forked at. It stays when the parent is deleted."""
    work_dir: str | None = None
    """The directory of its newest scan; None if it was never scanned, as a new fork."""
    status: RunStatus | None = None
    """How it goes or went, as somebody has said; None if nobody has. See `Run.set_status`."""
    status_reason: str | None = None
    started_at: datetime | None = None
    """When it was last said to be running."""
    ended_at: datetime | None = None
    """When it was said to have ended; None if it has not."""
    agents: tuple[str, ...] = ()
    """The agents of its versions, current and past, sorted."""

    @property
    def html_row(self) -> tuple[object, ...]:
        """The values of a table with the head `HTML_RUNS`."""
        what = (self.session, self.run, self.snapshots, self.files, human_size(self.bytes))
        return *what, self.active_at, self.parent


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
