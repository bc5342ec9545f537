"""What the byte layer asks of whoever knows which blobs exist and where they are.

The index answers from its tables. `MemoryCatalog` answers from a dict, for use of `cas` alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from cas.digest import Digest
    from cas.packs.pack import SealedPack

__all__ = [
    "Catalog",
    "ChunkedBlob",
    "Location",
    "MemoryCatalog",
    "Placement",
    "WrittenBatch",
]


class Location(NamedTuple):
    """Where the bytes of a blob of one entry are; a tuple, since batches make thousands."""

    pack: Digest
    offset: int
    stored_size: int
    size: int
    codec: int


class ChunkedBlob(NamedTuple):
    """A large blob: the chunks that make it up, in order."""

    digest: Digest
    size: int
    chunks: tuple[Digest, ...]


Placement: TypeAlias = Location | ChunkedBlob


@dataclass(frozen=True, slots=True)
class WrittenBatch:
    """What one batch made durable; nothing refers to it until a catalog records it."""

    packs: tuple[SealedPack, ...]
    blobs: Mapping[Digest, Location]
    """Blobs of one entry and chunks that the catalog did not know, records and chunk lists."""
    chunked: tuple[ChunkedBlob, ...]
    """Large blobs that the catalog did not know, each once."""
    bytes_stored: int
    """Bytes of all packs, their headers and footers included, but for what records take."""
    chunk_lists: Mapping[Digest, Digest] = field(default_factory=dict)
    """For each of `chunked` the digest of its list, which is among `blobs`."""


class Catalog(Protocol):
    """Knows which blobs exist and where; called from several threads at once."""

    def find_known(self, digests: Collection[Digest]) -> set[Digest]:
        """Return those of `digests` that need not be written again."""

    def locate(self, digests: Collection[Digest]) -> Mapping[Digest, Placement]:
        """Return where blobs are, without those that are not known."""

    def register_pack(self, pack: SealedPack) -> None:
        """Note that a pack is about to be published; called before any of it is visible."""


class MemoryCatalog:
    """A `Catalog` in a dict."""

    def __init__(self) -> None:
        self.placements: dict[Digest, Placement] = {}
        self.packs: dict[Digest, SealedPack] = {}

    def find_known(self, digests: Collection[Digest]) -> set[Digest]:
        return {digest for digest in digests if digest in self.placements}

    def locate(self, digests: Collection[Digest]) -> Mapping[Digest, Placement]:
        return {d: self.placements[d] for d in digests if d in self.placements}

    def register_pack(self, pack: SealedPack) -> None:
        self.packs[pack.name] = pack

    def record(self, batch: WrittenBatch) -> None:
        """Make what a batch wrote readable."""
        self.placements.update(batch.blobs)
        self.placements.update((blob.digest, blob) for blob in batch.chunked)
