"""A large blob as a seekable stream."""

from __future__ import annotations

import io
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from itertools import accumulate
from typing import TYPE_CHECKING

from cas.digest import Hasher
from cas.spans import SPAN_SIZE, check_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from cas.catalog import ChunkedBlob, Location
    from cas.digest import Buffer, Digest

__all__ = ["ChunkedStream", "joined"]


def joined(pieces: Iterable[Buffer], size: int) -> bytes:
    """Return pieces of `size` bytes together as one. Nothing is in memory twice.

    A BytesIO writes into bytes that nobody else has, and returns them without a copy.
    """
    whole = io.BytesIO(bytes(size))
    for piece in pieces:
        whole.write(piece)
    whole.truncate()
    return whole.getvalue()


class ChunkedStream(io.RawIOBase):
    """A stream that reads the chunk at the position, and prefetches on sequential reads.

    Random reads fetch single chunks. Sequential reads prefetch up to 8 MiB. The chunks that were
    used last are kept, verified, up to the same size.
    """

    def __init__(
        self,
        blob: ChunkedBlob,
        locations: Sequence[Location],
        *,
        fetch: Callable[[Digest, Location], Buffer],
        read_in_order: Callable[
            [Iterable[tuple[Digest, Location]]], Iterable[tuple[Digest, Buffer]]
        ],
    ) -> None:
        """Open a large blob whose chunks have known locations.

        Parameters
        ----------
        locations
            Locations of the blob's chunks, in order.
        fetch
            Returns one verified chunk.
        read_in_order
            Yields verified chunks in the order of its argument.
        """
        self._blob = blob
        self._locations = locations
        self._fetch = fetch
        self._read_in_order = read_in_order
        self._ends = list(accumulate(location.size for location in self._locations))
        self._position = 0
        self._kept: OrderedDict[int, Buffer] = OrderedDict()
        """Verified chunks by number; the one that was used last is the last."""
        self._size = 0
        """Bytes of them."""
        self._following = -1
        """The number after the chunks that were loaded last."""
        self._loaded = 0
        """Bytes of those."""
        self._in_a_row = 0
        """How often in a row the needed chunk followed them."""
        self._whole = Hasher()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._blob.size}[whence]
        if base + offset < 0:
            raise ValueError(f"position {base + offset} is before the start")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Buffer) -> int:  # type: ignore[override]  # a narrower buffer type
        # Never past the end of a chunk: what is asked for may be more than is needed.
        piece = self._piece(len(buffer))
        memoryview(buffer)[: len(piece)] = piece
        return len(piece)

    def readall(self) -> bytes:
        pieces = iter(lambda: self._piece(self._blob.size), b"")
        return joined(pieces, max(self._blob.size - self._position, 0))

    def _piece(self, size: int) -> memoryview:
        """Return at most `size` bytes from the position on, of one chunk, and move it."""
        if self._position >= self._blob.size:
            return memoryview(b"")
        number = bisect_right(self._ends, self._position)
        chunk = memoryview(self._chunk(number))
        start = self._position - (self._ends[number] - len(chunk))
        piece = chunk[start : start + size]
        self._position += len(piece)
        return piece

    def _chunk(self, number: int) -> Buffer:
        if number in self._kept:
            self._kept.move_to_end(number)
        else:
            self._load(number)
        data = self._kept[number]
        if self._whole.size == self._ends[number] - len(data):  # read from the start until here
            whole = self._whole.copy()
            whole.update(data)
            if whole.size == self._blob.size:
                check_whole(self._blob, whole)
            self._whole = whole
        return data

    def _load(self, number: int) -> None:
        """Read a chunk, and more after it if the reads are sequential."""
        self._in_a_row = self._in_a_row + 1 if number == self._following else 0
        # One read may cross the end of a chunk; a third chunk in a row means sequential reads.
        wanted = 2 * self._loaded if self._in_a_row > 1 else 0
        stop = self._last(number, wanted)
        digests, locations = self._blob.chunks[number:stop], self._locations[number:stop]
        self._following, self._loaded = stop, sum(location.size for location in locations)
        # Release others first, so that at most 8 MiB are in memory.
        while self._kept and self._size + self._loaded > SPAN_SIZE:
            self._size -= len(self._kept.popitem(last=False)[1])
        if len(digests) == 1:
            chunks: Iterable[Buffer] = (self._fetch(digests[0], locations[0]),)
        else:
            pairs = zip(digests, locations, strict=True)
            chunks = [data for _, data in self._read_in_order(pairs)]
        for place, data in enumerate(chunks, number):
            self._size += len(data) - len(self._kept.pop(place, b""))
            self._kept[place] = data

    def _last(self, number: int, wanted: int) -> int:
        """Return the chunk to stop before, to read `wanted` bytes from `number` on, or 8 MiB."""
        start = self._ends[number] - self._locations[number].size
        enough = bisect_left(self._ends, start + wanted) + 1
        return max(number + 1, min(enough, bisect_right(self._ends, start + SPAN_SIZE)))
