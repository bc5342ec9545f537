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
    """Total size of the current files."""
    versions: int
    """File versions, current and past."""
    version_bytes: int
    """Total size of all versions, before deduplication."""
    distinct_bytes: int
    """Total size after deduplication, before compression."""
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
    """Total size of all file versions, before deduplication."""
    blobs: int
    """Distinct blobs, chunks included."""
    distinct_bytes: int
    """Total size of the distinct blobs, before compression."""
    packs: int
    stored_bytes: int
    """Total size of the live packs."""
    condemned: int
    """Unreferenced blobs that garbage collection deletes after its grace period."""
    condemned_bytes: int
    """Stored bytes of the condemned blobs."""
    dead_bytes: int
    """Bytes in live packs that no blob needs. Garbage collection frees them by rewriting packs."""
    cache_at: str | None = None
    """Directory of the local cache of remote blobs; None if there is none."""
    cache_bytes: int | None = None
    """Size of the cache on disk, as far as it is known without counting."""
    cache_limit_bytes: int | None = None


class ReleasedBlob(NamedTuple):
    """Content that nothing in the session refers to after the deletion."""

    digest: Digest
    size: int


class KeptBlob(NamedTuple):
    """Deleted content that stays because another run of the session holds it."""

    digest: Digest
    size: int
    run: str
    """One of the runs that hold the content."""
    path: str
    """The path where that run first held it."""
    runs: int
    """The number of runs that hold it."""


@dataclass(frozen=True, slots=True)
class DeletionReceipt:
    """The files that a deletion removed, and the contents that it released or kept.

    A receipt covers one session. Garbage collection deletes released content unless another
    session holds the same bytes. A session can't see whether that is so.
    """

    session: str
    runs: tuple[str, ...]
    files: int
    """Number of current files deleted."""
    versions: int
    """Number of file versions deleted, the current ones included."""
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
