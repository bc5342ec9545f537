"""The numbers that garbage collection goes by, each with its reason.

None of them is needed for correctness: with every one of them at zero no committed reference loses
its bytes. They keep work from being done twice, or for nothing.
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
    """What to leave alone for how long, and what is worth rewriting."""

    grace: timedelta = timedelta(hours=24)
    """How long something is left alone after its last use, and again after it was condemned: longer
    than the longest scan, plus any difference of two hosts' clocks. A scan that lost what it relied
    on is done again, which is what this saves."""

    batch: int = 1_000
    """Blobs that one transaction condemns or sweeps: some 20 ms, that SQLite's writers wait."""

    range: int = 10_000
    """Blobs that one statement looks at for references; nobody waits for that."""

    rest: float = 1.0
    """Time to leave SQLite to others after each transaction, in times what that took. SQLite has no
    queue: whoever waits looks again now and then, and would hardly ever find it free."""

    dead_share: float = 0.5
    """The part of a pack that must be dead for it to be rewritten. At a half, each byte written
    frees a byte, so that a store is at most twice as large as what it holds."""

    least_dead: int = 4 << 10
    """Bytes that a rewritten pack must free: a block, less than which a disk gives nothing back."""

    small_pack: int = 8 << 20
    """Bytes below which a pack is small. It is what one request reads at most: larger packs make
    no fewer requests."""

    small_packs: int = 16
    """Small packs that are merged into one once there are so many. A byte is written again at
    most so often, a request each, before its pack is no longer small."""

    late_publisher: timedelta = timedelta(hours=24)
    """How long the row of a dead pack is kept if there was no object to delete. Its writer may be
    about to publish it still; the next collection then finds it. After that it is an orphan."""


@dataclass(frozen=True, slots=True)
class GcOptions:
    """What was asked of one collection."""

    settings: GcSettings = field(default_factory=GcSettings)
    compact: bool = True
    max_bytes: int | None = None
    """Stored bytes that compaction may copy; None for any."""
    remove_orphans: bool = False

    def __post_init__(self) -> None:
        if self.settings.grace < timedelta(0):
            raise ValueError(f"a grace period of {self.settings.grace} is over before it begins")
        if self.max_bytes is not None and self.max_bytes < 0:
            raise ValueError(f"{self.max_bytes} bytes can't be copied")

    def cutoff(self, now: datetime) -> datetime | None:
        """Return since when something must be unused to go; None if no clock is to be asked.

        Of two hosts one may be ahead: without a grace period nothing is left alone for that.
        """
        return now - self.settings.grace if self.settings.grace else None
