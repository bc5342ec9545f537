"""A large blob as a seekable stream."""

from __future__ import annotations

import io
import os
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from itertools import accumulate
from typing import TYPE_CHECKING, Protocol

from cas.digest import Hasher
from cas.pieces import PIECE_SIZE
from cas.spans import SPAN_SIZE, check_whole

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence

    from cas.catalog import ChunkedBlob, Location
    from cas.digest import Buffer, Digest

__all__ = ["ChunkReader", "ChunkedStream", "joined"]


class ChunkReader(Protocol):
    """Reads chunks at known locations, verified. `cas.reader` has one."""

    @property
    def reads_at_once(self) -> int:
        """`Backend.reads_at_once` of the storage."""

    def fetch(self, digest: Digest, location: Location, /) -> Buffer:
        """Return a chunk."""

    def read_in_order(
        self, chunks: Iterable[tuple[Digest, Location]], /
    ) -> Iterable[tuple[Digest, Buffer]]:
        """Yield chunks in the order given; fetch neighbours in one request."""

    def read_ahead(
        self, chunks: Iterable[tuple[Digest, Location]], /
    ) -> Generator[tuple[Digest, Buffer]]:
        """Yield chunks as `read_in_order` does, and fetch the next ones meanwhile."""

    def note_pieces(self, digest: Digest, location: Location, data: Buffer, /) -> None:
        """Note the bytes of a chunk that was read and verified, for `read_known_part`."""

    def read_known_part(
        self, digest: Digest, location: Location, part: range, /
    ) -> memoryview | None:
        """Return a part of a chunk that was noted.

        None if it was not noted, or if other bytes are there now: `fetch` says what is wrong.
        """


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

    Random reads fetch single chunks, and pieces of those that were verified before. Sequential
    reads prefetch up to 8 MiB. The chunks that were used last are kept, verified, up to the same
    size. If storage answers several requests at once, sequential reads soon leave
    the next ones to threads, until the stream is closed or a chunk that does not follow is needed.
    """

    _coming: Generator[tuple[Digest, Buffer]] | None = None
    """The chunks from `_following` on, as threads fetch them."""

    def __init__(
        self, reader: ChunkReader, blob: ChunkedBlob, locations: Sequence[Location]
    ) -> None:
        """Open a large blob whose chunks have known locations, in order."""
        self._reader = reader
        self._blob = blob
        self._locations = locations
        self._ends = list(accumulate(location.size for location in self._locations))
        self._position = 0
        self._read_until = 0
        """Where the last read ended."""
        self._in_part = -1
        """The chunk that the last read read a part of."""
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
        self._needed = 0
        """Bytes that this read needs from the position on."""
        self._whole = Hasher()
        self._process = os.getpid()

    def close(self) -> None:
        self._end_threads()
        super().close()

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
        # Few bytes may be more than the caller asked for, and lie in two chunks by chance.
        self._needed = len(buffer) if len(buffer) > PIECE_SIZE else 0
        piece = self._piece(len(buffer))
        self._needed = 0
        memoryview(buffer)[: len(piece)] = piece
        return len(piece)

    def readall(self) -> bytes:
        return joined(self._rest(), max(self._blob.size - self._position, 0))

    def _rest(self) -> Iterator[Buffer]:
        """Yield what is left, of the chunk at the position and of those after it."""
        yield self._piece(self._blob.size)
        self._end_threads()
        number = bisect_right(self._ends, self._position)
        chunks = zip(self._blob.chunks[number:], self._locations[number:], strict=True)
        for place, (_, data) in enumerate(self._reader.read_ahead(chunks), number):
            self._add_to_whole(place, data)
            self._position = self._read_until = self._ends[place]
            yield data

    def _piece(self, size: int) -> memoryview:
        """Return at most `size` bytes from the position on, of one chunk, and move it."""
        if self._position >= self._blob.size:
            return memoryview(b"")
        number = bisect_right(self._ends, self._position)
        start = self._position - (self._ends[number] - self._locations[number].size)
        piece = self._known_part(number, start, size)
        if piece is None:
            piece = memoryview(self._chunk(number))[start : start + size]
        self._position += len(piece)
        self._read_until = self._position
        return piece

    def _known_part(self, number: int, start: int, size: int) -> memoryview | None:
        """Return a small part of a chunk that was verified before, if a seek led there.

        A second read in the chunk needs all of it: more will follow.
        """
        before, self._in_part = self._in_part, -1
        location = self._locations[number]
        if (
            self._position == self._read_until
            or number == before
            or number in self._kept
            or 2 * size > location.size
            or self._is_next(number)
        ):
            return None
        part = range(start, min(start + size, location.size))
        found = self._reader.read_known_part(self._blob.chunks[number], location, part)
        if found is not None:
            self._in_part = number
            self._end_threads()
        return found

    def _chunk(self, number: int) -> Buffer:
        if number in self._kept:
            self._kept.move_to_end(number)
        else:
            self._load(number)
        data = self._kept[number]
        self._add_to_whole(number, data)
        return data

    def _is_next(self, number: int) -> bool:
        """Whether all bytes before a chunk were read, so that the digest of the whole needs it."""
        return self._whole.size == self._ends[number] - self._locations[number].size

    def _add_to_whole(self, number: int, data: Buffer) -> None:
        if self._is_next(number):
            whole = self._whole.copy()
            whole.update(data)
            if whole.size == self._blob.size:
                check_whole(self._blob, whole)
            self._whole = whole

    def _load(self, number: int) -> None:
        """Read a chunk, and more after it if they are needed or the reads are sequential."""
        if number != self._following or os.getpid() != self._process:  # a child has no threads
            self._end_threads()
            self._process = os.getpid()
        self._in_a_row = self._in_a_row + 1 if number == self._following else 0
        # One read may cross the end of a chunk; a third chunk in a row means sequential reads.
        wanted = max(self._needed, 2 * self._loaded if self._in_a_row > 1 else 0)
        if self._coming is None and wanted > SPAN_SIZE and self._reader.reads_at_once > 1:
            rest = zip(self._blob.chunks[number:], self._locations[number:], strict=True)
            self._coming = self._reader.read_ahead(rest)
        stop = number + 1 if self._coming is not None else self._last(number, wanted)
        digests, locations = self._blob.chunks[number:stop], self._locations[number:stop]
        size = sum(location.size for location in locations)
        self._following, self._loaded = stop, max(size, self._loaded if self._coming else 0)
        # Release others first, so that at most 8 MiB are in memory.
        while self._kept and self._size + size > SPAN_SIZE:
            self._size -= len(self._kept.popitem(last=False)[1])
        if self._coming is not None:
            chunks: Iterable[Buffer] = (self._next_coming(),)
        elif len(digests) == 1:
            data = self._reader.fetch(digests[0], locations[0])
            if self._position != self._read_until:
                self._reader.note_pieces(digests[0], locations[0], data)
            chunks = (data,)
        else:
            pairs = zip(digests, locations, strict=True)
            chunks = [data for _, data in self._reader.read_in_order(pairs)]
        for place, data in enumerate(chunks, number):
            self._size += len(data) - len(self._kept.pop(place, b""))
            self._kept[place] = data

    def _next_coming(self) -> Buffer:
        assert self._coming is not None  # noqa: S101 - for the type checker
        try:
            return next(self._coming)[1]
        except BaseException:
            self._coming = None  # it has ended
            raise

    def _end_threads(self) -> None:
        coming, self._coming = self._coming, None
        if coming is not None:
            coming.close()

    def _last(self, number: int, wanted: int) -> int:
        """Return the chunk to stop before, to read `wanted` bytes from `number` on, or 8 MiB."""
        start = self._ends[number] - self._locations[number].size
        enough = bisect_left(self._ends, start + wanted) + 1
        return max(number + 1, min(enough, bisect_right(self._ends, start + SPAN_SIZE)))
