"""The report of a recovery."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from index.domain.results import Result

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
    """The number of its snapshot; None if it has none."""
    agent: str | None
    created_at: datetime
    files: int
    """The number of new versions in it."""
    record: Digest


@dataclass(frozen=True, slots=True)
class DamagedPack:
    """An object that is not a readable pack, or has a wrong name."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class LostFile:
    """A file version whose bytes are missing from storage."""

    session: str
    run: str
    path: str
    version: int
    agent: str | None
    digest: Digest


@dataclass(frozen=True, slots=True)
class RecoveryReport(Result):
    """The results of rebuilding an index."""

    packs: int
    blobs: int
    sessions: int
    runs: int
    snapshots: int
    versions: int
    from_backup: datetime | None
    """When the backup was made that the recovery started from; None if there was none."""
    unconfirmed: tuple[RecordedStep, ...]
    """Records applied although storage can't prove that their commits succeeded. Each is the last
    of its run, and the only one at its position. All earlier records are certain."""
    never_arrived: tuple[RecordedStep, ...]
    """Records left out because other commits took their position."""
    gaps: tuple[RecordedStep, ...]
    """Records applied although the record before is missing. Its changes are not in the index."""
    deleted: tuple[tuple[str, str], ...]
    """Session and name of deleted runs. They stay deleted."""
    damaged_packs: tuple[DamagedPack, ...]
    damaged_records: tuple[str, ...]
    """The faults of records that can't be read."""
    lost: tuple[LostFile, ...]
    """File versions whose bytes are missing. ``cas repair`` may find them elsewhere."""

    derived: ClassVar = ("is_whole",)

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing from storage."""
        return not (self.gaps or self.damaged_packs or self.damaged_records or self.lost)
