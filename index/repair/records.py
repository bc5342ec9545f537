"""What a repair tells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from index.verification.records import Fault

__all__ = ["RepairReport"]


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What a repair did, or would do if it is a dry run."""

    dry_run: bool
    damaged: int
    """Blobs that were known to be damaged."""
    mended: int
    """Of these, and of large blobs: whole again."""
    rescued: int
    """Blobs that were right, and carried out of damaged packs."""
    lists: int
    """Large blobs whose list of chunks was written to storage anew."""
    chains: int
    """Runs whose records of commits were damaged, and were written anew from the index."""
    forgotten: int
    """Copies of the index, and notes of deletions, that could not be read any more."""
    unneeded: int
    """Damaged blobs that nothing refers to: they are not known to the index any more."""
    set_aside: tuple[str, ...]
    """Damaged objects to which no row leads any more; copies of them are under ``damaged/``."""
    bytes_read: int
    """From directories and other stores."""
    bytes_stored: int
    lost: tuple[Fault, ...]
    """The first thousand blobs that are still damaged, with the file versions they touch."""
    lost_count: int

    @property
    def is_complete(self) -> bool:
        """Whether nothing is damaged any more, as far as is known."""
        return not self.lost_count
