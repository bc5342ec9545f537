"""A large blob as a seekable stream."""

from __future__ import annotations

import io
from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING

from cas.digest import Hasher
from cas.spans import SPAN_SIZE, check_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from cas.catalog import ChunkedBlob, Location
    from cas.digest import Buffer, Digest

__all__ = ["ChunkedStream"]


class ChunkedStream(io.RawIOBase):
    """A stream that reads the chunk at the position, and prefetches on sequential reads.

    Random reads fetch single chunks. Sequential reads prefetch up to 8 MiB.
    """

    def __init__(
        self,
        blob: ChunkedBlob,
        locations: Sequence[Location],
        read_in_order: Callable[
            [Iterable[tuple[Digest, Location]]], Iterable[tuple[Digest, Buffer]]
        ],
    ) -> None:
        """Open a large blob whose chunks have known locations.

        Parameters
        ----------
        locations
            Locations of the blob's chunks, in order.
        read_in_order
            Yields verified chunks in the order of its argument.
        """
        self._blob = blob
        self._locations = locations
        self._read_in_order = read_in_order
        self._ends = list(accumulate(location.size for location in self._locations))
        self._position = 0
        self._first = 0
        self._loaded: list[Buffer] = []
        """Neighbouring chunks from number `_first` on."""
        self._in_a_row = 0
        """How often in a row the needed chunk followed the loaded ones."""
        self._whole = Hasher()
        self._hashed = 0

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
        if self._position >= self._blob.size:
            return 0
        number = bisect_right(self._ends, self._position)
        data = self._chunk(number)
        start = self._position - (self._ends[number] - self._locations[number].size)
        piece = memoryview(data)[start : start + len(buffer)]
        memoryview(buffer)[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)

    def _chunk(self, number: int) -> Buffer:
        after = self._first + len(self._loaded)
        if not self._first <= number < after:
            self._in_a_row = self._in_a_row + 1 if self._loaded and number == after else 0
            # One read may cross the end of a chunk; a third chunk in a row means sequential reads.
            wanted = 2 * sum(map(len, self._loaded)) if self._in_a_row > 1 else 0
            # Release these first, so that at most 8 MiB are in memory.
            self._loaded = []
            self._loaded = self._load(number, self._last(number, min(wanted, SPAN_SIZE)))
            self._first = number
        return self._loaded[number - self._first]

    def _last(self, number: int, wanted: int) -> int:
        """Return the chunk to stop before, to read about `wanted` bytes from `number` on."""
        start = self._ends[number] - self._locations[number].size
        return max(number + 1, bisect_right(self._ends, start + wanted))

    def _load(self, number: int, stop: int) -> list[Buffer]:
        digests, locations = self._blob.chunks[number:stop], self._locations[number:stop]
        chunks = [data for _, data in self._read_in_order(zip(digests, locations, strict=True))]
        for data in chunks[max(self._hashed - number, 0) :] if number <= self._hashed else ():
            self._whole.update(data)
            self._hashed += 1
            if self._hashed == len(self._locations):
                check_whole(self._blob, self._whole)
        return chunks
