"""Reports on runs, stores and deletions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from cas.digest import Digest

__all__ = ["DeletionReceipt", "KeptBlob", "ReleasedBlob", "RunStats", "StoreStats"]


@dataclass(frozen=True, slots=True)
class RunStats:
    """A run in numbers."""

    session: str
    run: str
    snapshots: int
    files: int
    """Current files."""
    bytes: int
    """Of the current files."""
    versions: int
    """File versions, current and past."""
    version_bytes: int
    """Of all versions, as if each were stored by itself."""
    distinct_bytes: int
    """Of the distinct contents among all versions, before compression."""
    files_by_type: dict[str, int]
    files_by_agent: dict[str | None, int]
    files_by_phase: dict[str | None, int]
    files_by_step: dict[str | None, int]
    files_by_node: dict[str | None, int]
    files_by_priority: dict[str, int]
    final_outputs: int


@dataclass(frozen=True, slots=True)
class StoreStats:
    """A whole store in numbers."""

    store_id: str
    index: str
    blobs_at: str
    sessions: int
    runs: int
    versions: int
    version_bytes: int
    """Of all file versions, as if each were stored by itself."""
    blobs: int
    """Distinct blobs, chunks included."""
    distinct_bytes: int
    """Of the distinct blobs, before compression."""
    packs: int
    stored_bytes: int
    """Of the packs that are live."""
    condemned: int
    """Blobs that nothing refers to, and that garbage collection takes after its grace period."""
    condemned_bytes: int
    """Stored bytes of these."""
    dead_bytes: int
    """Of live packs, what no blob needs: garbage collection frees it by rewriting them."""
    cache_at: str | None = None
    """Directory of the local cache of remote blobs; None if there is none."""
    cache_bytes: int | None = None
    """What the cache takes on disk, as far as is known without counting."""
    cache_limit_bytes: int | None = None


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
