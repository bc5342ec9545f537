"""What a deletion tells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from cas.digest import Digest

__all__ = ["DeletionReceipt", "KeptBlob", "ReleasedBlob"]


class ReleasedBlob(NamedTuple):
    """Content that nothing in the session refers to any more."""

    digest: Digest
    size: int


class KeptBlob(NamedTuple):
    """Content of something deleted that stays, since another run of the session holds it."""

    digest: Digest
    size: int
    run: str
    """One of the runs that hold it."""
    path: str
    """Where that run first held it."""
    runs: int
    """How many runs hold it."""


@dataclass(frozen=True, slots=True)
class DeletionReceipt:
    """What a deletion deleted, and what becomes of the bytes.

    It speaks of one session, as everything does: garbage collection removes what is released unless
    another session holds the same bytes, which is not this one's to know.
    """

    session: str
    runs: tuple[str, ...]
    files: int
    """Current files that were deleted."""
    versions: int
    """File versions that were deleted, the current ones included."""
    released: tuple[ReleasedBlob, ...]
    kept: tuple[KeptBlob, ...]

    @property
    def released_bytes(self) -> int:
        """Bytes of the released contents, before compression."""
        return sum(blob.size for blob in self.released)

    @property
    def kept_bytes(self) -> int:
        """Bytes of the contents that stay, before compression."""
        return sum(blob.size for blob in self.kept)
