"""The catalog interface: lookup of blobs, and of their places in packs.

The index implements it with its tables. `MemoryCatalog` is a dict, for use of `cas` alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeAlias

from cas.digest import Digest
from cas.digest_table import D, DigestTable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from cas.digest_table import Row
    from cas.packs.pack import PackEntry, SealedPack

__all__ = [
    "Catalog",
    "ChunkedBlob",
    "Location",
    "MemoryCatalog",
    "Placement",
    "Places",
    "StoreCatalog",
    "WrittenBatch",
]


_ROWS_AT_ONCE: Final = 10_000
"""Places added at once, some megabytes."""


class Location(NamedTuple):
    """Place of a blob of one entry. A tuple, because batches create thousands."""

    pack: Digest
    offset: int
    stored_size: int
    """Bytes in the pack to read and decode. Small blobs share them, as one frame."""
    size: int
    codec: int
    frame_start: int = 0
    """Where the blob begins in the decoded frame."""
    frame_size: int = 0
    """Bytes of the decoded frame if it is shared; 0 if the blob is alone in it."""

    @classmethod
    def of(cls, pack: Digest, entry: PackEntry) -> Location:
        """Return the place of an entry of a pack."""
        _kind, codec, _digest, offset, stored_size, size, frame_start, frame_size = entry
        return cls(pack, offset, stored_size, size, codec, frame_start, frame_size)


class Places(Mapping[Digest, Location]):
    """The places of many blobs in a few packs, in order of digest."""

    def __init__(self) -> None:
        self._packs: dict[Digest, int] = {}
        self._table = DigestTable("IIIBIII")

    def add(self, pack: Digest, rows: Iterable[Row]) -> None:
        """Add the places in a pack: rows of a digest and what a `Location` has after its pack."""
        number = self._packs.setdefault(pack, len(self._packs))
        placed = ((*row, number) for row in rows)
        while part := list(islice(placed, _ROWS_AT_ONCE)):
            self._table.add_new(part)

    @property
    def packs(self) -> list[Digest]:
        """The packs by number."""
        return list(self._packs)

    def rows(self) -> Iterator[Row]:
        """Yield rows in order of digest: as they were added, and the number of the pack."""
        return iter(self._table)

    def missing(self, digests: Iterable[D]) -> Iterator[D]:
        """Yield those of some digests that have no place."""
        return self._table.missing(digests)

    def __getitem__(self, digest: Digest) -> Location:
        found = self._table.find(digest)
        if found is None:
            raise KeyError(digest)
        _, *place, pack = found
        return Location(self.packs[pack], *place)

    def __iter__(self) -> Iterator[Digest]:
        return (Digest(digest) for digest, *_ in self._table)

    def __len__(self) -> int:
        return len(self._table)


class ChunkedBlob(NamedTuple):
    """A large blob: its chunks, in order."""

    digest: Digest
    size: int
    chunks: tuple[Digest, ...]


Placement: TypeAlias = Location | ChunkedBlob


@dataclass(frozen=True, slots=True)
class WrittenBatch:
    """The durable result of one batch. Nothing refers to it until a catalog records it."""

    packs: tuple[SealedPack, ...]
    blobs: Places
    """New blobs of one entry, new chunks, journal records and chunk lists."""
    chunked: tuple[ChunkedBlob, ...]
    """New large blobs, each once."""
    bytes_stored: int
    """Bytes of all packs, with headers and footers but without journal records."""
    chunk_lists: Mapping[Digest, Digest] = field(default_factory=dict)
    """For each of `chunked`, the digest of its chunk list, which is in `blobs`."""


class Catalog(Protocol):
    """Lookup of blobs by digest. Several threads may call it at once."""

    def find_known(self, digests: Collection[Digest]) -> set[Digest]:
        """Return the digests whose blobs need not be written again."""

    def locate(self, digests: Collection[Digest]) -> Mapping[Digest, Placement]:
        """Return the places of blobs; unknown digests are left out."""

    def register_pack(self, pack: SealedPack) -> None:
        """Register a pack before it is published, while no part of it is visible."""


class StoreCatalog(Catalog, Protocol):
    """The catalog of a whole store."""

    def in_batch(self) -> Catalog:
        """Return the catalog for a batch of this thread. Other threads call it for that one."""

    def note_damaged(self, digest: Digest) -> None:
        """Note that a reader found a blob missing or damaged. Never raises an error of its own."""


class MemoryCatalog:
    """A `Catalog` in memory."""

    def __init__(self) -> None:
        self.placements: dict[Digest, Placement] = {}
        self.packs: dict[Digest, SealedPack] = {}

    def find_known(self, digests: Collection[Digest]) -> set[Digest]:
        return {digest for digest in digests if digest in self.placements}

    def locate(self, digests: Collection[Digest]) -> Mapping[Digest, Placement]:
        return {d: self.placements[d] for d in digests if d in self.placements}

    def register_pack(self, pack: SealedPack) -> None:
        self.packs[pack.name] = pack

    def in_batch(self) -> MemoryCatalog:
        return self

    def note_damaged(self, digest: Digest) -> None:
        """Do nothing: nobody repairs these blobs."""

    def record(self, batch: WrittenBatch) -> None:
        """Record the result of a batch, so that its blobs can be read."""
        self.placements.update(batch.blobs)
        self.placements.update((blob.digest, blob) for blob in batch.chunked)
