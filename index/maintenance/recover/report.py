"""What a recovery found, as its callers get it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from cas.digest import Digest

__all__ = ["DamagedPack", "LostFile", "RecordedStep", "RecoveryReport"]


@dataclass(frozen=True, slots=True)
class RecordedStep:
    """One record of a run's chain."""

    session: str
    run: str
    operation: str
    """commit, fork, rewind or history."""
    snapshot: int | None
    """The number of the snapshot that it tells of, if it tells of one."""
    agent: str | None
    created_at: datetime
    files: int
    """How many new versions it tells of."""
    record: Digest


@dataclass(frozen=True, slots=True)
class DamagedPack:
    """An object that could not be read as a pack, or is not what it is named."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class LostFile:
    """A file version whose bytes are not in storage any more."""

    session: str
    run: str
    path: str
    version: int
    agent: str | None
    digest: Digest


@dataclass(frozen=True, slots=True)
class RecoveryReport:
    """An index that was made anew."""

    packs: int
    blobs: int
    sessions: int
    runs: int
    snapshots: int
    versions: int
    from_backup: datetime | None
    """When the copy of the index was made that this one began with; None if there was none."""
    unconfirmed: tuple[RecordedStep, ...]
    """Taken over though nothing in storage tells whether the commit arrived: each the last one of
    its run, and the only one of its place. All that comes before is certain."""
    never_arrived: tuple[RecordedStep, ...]
    """Left out: others took the place that they were made for."""
    gaps: tuple[RecordedStep, ...]
    """Taken over though the record before is missing: what that one told is not in the index."""
    deleted: tuple[tuple[str, str], ...]
    """Session and run of what was deleted, and stays so."""
    damaged_packs: tuple[DamagedPack, ...]
    damaged_records: tuple[str, ...]
    """What is wrong with records that can't be understood."""
    lost: tuple[LostFile, ...]
    """File versions whose bytes are missing; ``cas repair`` may find them elsewhere."""

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing that storage should have had."""
        return not (self.gaps or self.damaged_packs or self.damaged_records or self.lost)
