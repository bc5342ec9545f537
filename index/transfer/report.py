"""Reports of sync plans and of syncs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from index.domain.results import Result

__all__ = ["SyncOutcome", "SyncReport", "SyncedRun"]


class SyncOutcome(StrEnum):
    """The outcome of a run, done or planned."""

    COPIED = "copied"
    """The destination had no run with this id."""
    UPDATED = "updated"
    """The destination had an earlier state; newer versions were added."""
    UNCHANGED = "unchanged"
    """The destination has everything that the source has."""
    AHEAD = "ahead"
    """The destination has later snapshots of its own, and all snapshots that the source has."""
    CONFLICT = "conflict"
    """The destination has a run with this id and another history. It stays unchanged."""
    DAMAGED = "damaged"
    """Bytes are missing or damaged, or rows are inconsistent. Nothing of the run was copied."""
    FAILED = "failed"
    """Others kept changing the run, or the session's quota is full. Sync again later."""


@dataclass(frozen=True, slots=True)
class SyncedRun(Result):
    """A run in the report or the plan of a sync."""

    session: str
    run: str
    outcome: SyncOutcome
    snapshots: int = 0
    """Number of snapshots that are new at the destination."""
    versions: int = 0
    """Number of file versions that are new at the destination."""
    reason: str | None = None
    """The reason why it was not synced, and what to do."""


@dataclass(frozen=True, slots=True)
class SyncReport(Result):
    """The results of a sync, or of its plan."""

    runs: tuple[SyncedRun, ...]
    """The runs in the order of syncing, each before its forks."""
    blobs: int
    """Number of blobs and chunks that the destination lacked."""
    bytes_read: int
    """Bytes read at the source, before compression."""
    bytes_stored: int
    """Bytes of the packs written; 0 in a plan."""

    derived: ClassVar = ("versions",)

    def of(self, outcome: SyncOutcome) -> tuple[SyncedRun, ...]:
        """Return the runs with this outcome."""
        return tuple(run for run in self.runs if run.outcome is outcome)

    @property
    def unsynced(self) -> tuple[SyncedRun, ...]:
        """The runs that were not synced, each with a reason."""
        return tuple(run for run in self.runs if run.reason is not None)

    @property
    def versions(self) -> int:
        """Total number of file versions that are new at the destination."""
        return sum(run.versions for run in self.runs)
