"""The search for bytes of damaged blobs, without writing any."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from cas.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cas.catalog import ChunkedBlob, Location
    from cas.digest import Buffer
    from index.db.queries.verification import VerifiablePack

__all__ = ["Search"]


class Search:
    """A search for the bytes of damaged blobs. It notes what it finds and writes nothing."""

    def __init__(self, wanted: Mapping[Digest, int]) -> None:
        """Begin with the damaged blobs and their sizes."""
        self.wanted: dict[Digest, int] = dict(wanted)
        """The blobs that are still wanted."""
        self._sizes = Counter(wanted.values())
        self.repaired: set[Digest] = set()
        self.bytes_read = 0

    def offer(self, data: Buffer) -> Digest | None:
        """Take bytes if they belong to a wanted blob of one entry; return its digest, else None."""
        if not self.wants_size(len(data)):
            return None
        digest = Digest.of(data)
        return digest if self.take(digest, data) else None

    def take(self, digest: Digest, data: Buffer) -> bool:
        """Take the bytes of a wanted blob of one entry; return False if the digest differs."""
        if self.wanted.get(digest) != len(data) or Digest.of(data) != digest:
            return False
        self.settle(digest)
        return True

    def take_chunk(self, data: Buffer) -> None:
        """Take a chunk of a large blob, before the call of `take_large` for that blob."""

    def take_large(self, blob: ChunkedBlob) -> None:
        """Take the chunks of a damaged large blob, whose whole hash the caller has checked."""
        self.settle(blob.digest)

    def take_entries(
        self, pack: VerifiablePack, entries: Sequence[tuple[Digest, Location]]
    ) -> None:
        """Take intact entries of a pack that are wanted blobs."""
        for digest, _ in entries:
            self.settle(digest)

    def settle(self, digest: Digest) -> None:
        """Note that a blob is repaired."""
        size = self.wanted.pop(digest, None)
        if size is not None:
            self._sizes[size] -= 1
            self.repaired.add(digest)

    def wants_size(self, size: int) -> bool:
        """Whether a blob of this size is wanted."""
        return self._sizes[size] > 0
