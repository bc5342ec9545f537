"""What a sync tells of what it would do, and of what it did."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["SyncOutcome", "SyncReport", "SyncedRun"]


class SyncOutcome(StrEnum):
    """What became of a run, or would become of it."""

    COPIED = "copied"
    """The destination had no run of that id."""
    UPDATED = "updated"
    """It had what the source had earlier; what came since was added."""
    UNCHANGED = "unchanged"
    """It has all that the source has."""
    AHEAD = "ahead"
    """It has all that the source has, and later snapshots of its own."""
    CONFLICT = "conflict"
    """It has a run of that id with another history, which was left alone."""
    DAMAGED = "damaged"
    """Bytes are missing or damaged, or rows can't be so; nothing of the run was recorded."""
    FAILED = "failed"
    """Others kept changing it meanwhile; a later sync will do."""


@dataclass(frozen=True, slots=True)
class SyncedRun:
    """A run in the report or the plan of a sync."""

    session: str
    run: str
    outcome: SyncOutcome
    snapshots: int = 0
    """Snapshots that are new at the destination."""
    versions: int = 0
    """File versions that are new there."""
    reason: str | None = None
    """Why it was not synced, and what to do."""


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What a sync did, or by the plan would do."""

    runs: tuple[SyncedRun, ...]
    """In the order of syncing: a run before its forks."""
    blobs: int
    """Blobs and chunks that the destination lacked."""
    bytes_read: int
    """Read at the source, before compression."""
    bytes_stored: int
    """Of the packs that were written; 0 in a plan."""

    def of(self, outcome: SyncOutcome) -> tuple[SyncedRun, ...]:
        """Return the runs that this became of."""
        return tuple(run for run in self.runs if run.outcome is outcome)

    @property
    def unsynced(self) -> tuple[SyncedRun, ...]:
        """The runs that are not at the destination as they are here, each with a reason."""
        return tuple(run for run in self.runs if run.reason is not None)

    @property
    def versions(self) -> int:
        """File versions that are new at the destination."""
        return sum(run.versions for run in self.runs)
