"""Settings of garbage collection, each with its reason.

Correctness does not depend on them: even if all are zero, no committed reference loses its bytes.
They avoid work that is repeated or useless.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["GcOptions", "GcSettings"]


@dataclass(frozen=True, slots=True)
class GcSettings:
    """Grace periods, batch sizes, and limits for rewriting packs."""

    grace: timedelta = timedelta(hours=24)
    """How long a blob is kept after its last use, and again after it was condemned. It should be
    longer than the longest scan plus the difference of two hosts' clocks. A shorter period makes
    scans repeat when they lose blobs that they rely on."""

    batch: int = 1_000
    """Blobs that one transaction condemns or sweeps. SQLite's writers wait about 20 ms for it."""

    range: int = 10_000
    """Blobs that one statement checks for references. No writer waits for it."""

    rest: float = 1.0
    """Pause after each transaction on SQLite, as a multiple of its duration. SQLite has no queue:
    waiting writers poll, and without pauses they would hardly ever find it free."""

    dead_share: float = 0.5
    """The share of a pack that must be dead before it is rewritten. At one half, each byte written
    frees at least one byte, and a store is at most twice as large as its contents."""

    least_dead: int = 4 << 10
    """Bytes that rewriting a pack must free: one disk block, the least that a disk can free."""

    small_pack: int = 8 << 20
    """Packs below this many bytes are small. One request reads at most this much, so larger packs
    would not save requests."""

    small_packs: int = 16
    """Small packs are merged when there are this many. A byte is rewritten at most this many times,
    with one request each, before its pack is no longer small."""

    late_publisher: timedelta = timedelta(hours=24)
    """How long the row of a dead pack is kept if there was no object to delete. Its writer may
    still publish the object; the next collection then finds it. After this it is an orphan."""


@dataclass(frozen=True, slots=True)
class GcOptions:
    """The options of a collection."""

    settings: GcSettings = field(default_factory=GcSettings)
    compact: bool = True
    max_bytes: int | None = None
    """Stored bytes that compaction may copy; None for no limit."""
    remove_orphans: bool = False

    def __post_init__(self) -> None:
        if self.settings.grace < timedelta(0):
            raise ValueError(f"a grace period of {self.settings.grace} is over before it begins")
        if self.max_bytes is not None and self.max_bytes < 0:
            raise ValueError(f"{self.max_bytes} bytes can't be copied")

    def cutoff(self, now: datetime) -> datetime | None:
        """Return the time since which a blob must be unused; None without a grace period.

        Clocks of two hosts may differ. Without a grace period, the times of blobs are ignored, so
        this does not matter.
        """
        return now - self.settings.grace if self.settings.grace else None
