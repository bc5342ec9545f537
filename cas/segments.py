"""Reading, cutting and hashing of a large blob in segments, on two threads.

Each byte is hashed twice: for the digest of its chunk, and for that of the whole blob. The thread
that reads a segment does all that, while the bytes are in its core's cache. Two steps take segments
in order: a segment is read from where the last chunk of the one before ends, and the hash of the
whole goes on. So one thread reads and cuts a segment while the other hashes the one before.
"""

from __future__ import annotations

import errno
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import islice, repeat
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from cas.backends.posix import read_fully
from cas.digest import Digest
from cas.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from cas.chunker import Chunker
    from cas.digest import Buffer, Hasher

__all__ = [
    "HashedSegment",
    "Segment",
    "SegmentHasher",
    "iter_chunks",
    "segments_of_file",
    "segments_of_pieces",
]

_SEGMENT: Final = 4 << 20
"""Bytes of a segment. The handover between threads then costs little, and so does it to read and
cut the last chunk of a segment a second time, with what follows."""

_THREADS: Final = 2
"""A third thread only waits for the hash of the whole."""

_AHEAD: Final = 2
"""Segments that are prefetched and hashed before the caller takes one: 8 MiB."""


_BLOCK: Final = 512
"""Bytes of the unit of `st_blocks`, whatever the filesystem's own blocks are (stat(3type))."""


Segment: TypeAlias = Callable[[int, "Buffer"], tuple["Buffer", bool]]
"""Reads consecutive bytes of a blob. It is called on any thread, in the order of the segments.

It is given a position, and the bytes from there on that the segment before has read. It returns the
bytes from that position on, and whether the blob ends with them."""


class HashedSegment(NamedTuple):
    """The chunks that end in a segment, with digests."""

    chunks: list[tuple[Digest, Buffer]]
    is_last: bool
    """Whether the blob ended in this segment."""


class _Left(NamedTuple):
    """What a segment leaves to the next one."""

    position: int
    """The end of its last chunk that can't go on."""
    begun: Buffer
    """The bytes from there on that it has read."""
    is_all: bool = False
    """Whether the blob has ended."""


@dataclass(slots=True)
class _Turn:
    """The turn of one segment."""

    read: Segment
    left: Future[_Left] = field(default_factory=Future)
    hashed: Future[HashedSegment] | None = None


class _Gate:
    """Allows reads until it is closed. Closing waits for reads in progress."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._reading = 0
        self._closed = False

    def read(self, segment: Segment, left: _Left) -> tuple[Buffer, bool]:
        """Read a segment; raise CancelledError once the gate is closed."""
        with self._changed:
            if self._closed:
                raise CancelledError
            self._reading += 1
        try:
            return segment(left.position, left.begun)
        finally:
            with self._changed:
                self._reading -= 1
                self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: not self._reading)


class SegmentHasher:
    """The threads that hash one blob at a time. They start with the first segment."""

    def __init__(self) -> None:
        self._threads = Threads(_THREADS, "cas-hash")

    def hash(
        self, segments: Iterable[Segment], whole: Hasher, chunker: Chunker | None
    ) -> Generator[HashedSegment]:
        """Yield segments in order with the digests of their chunks, until the blob ends.

        Without a chunker the segments have no chunks, and only the whole is hashed.

        When the generator is exhausted, `whole` has hashed the whole blob. Once it is closed, no
        thread reads any more. An error of a read is raised in place of its segment.
        """
        gate = _Gate()
        begun: deque[Future[HashedSegment]] = deque()
        before: _Turn | None = None
        ahead = iter(segments)
        try:
            while True:
                for segment in islice(ahead, _AHEAD + 1 - len(begun)):
                    turn = _Turn(segment)
                    turn.hashed = self._threads.submit(_hash, turn, gate, whole, before, chunker)
                    begun.append(turn.hashed)
                    before = turn
                if not begun:
                    return
                hashed = begun[0].result()
                begun.popleft()
                yield hashed
                if hashed.is_last:
                    return
        finally:
            # Waits for the gate, not the futures: Ctrl-C may come before the last is appended.
            gate.close()

    def close(self) -> None:
        """Stop the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _hash(
    turn: _Turn, gate: _Gate, whole: Hasher, before: _Turn | None, chunker: Chunker | None
) -> HashedSegment:
    # Tasks start in the order of submission, so the one that this waits for is running.
    chunks: list[memoryview] = []
    data: Buffer = b""
    try:
        left = before.left.result() if before is not None else _Left(0, b"")
        if left.is_all:
            turn.left.set_result(left)
            return HashedSegment([], is_last=True)
        data, is_last = gate.read(turn.read, left)
        end = len(data)
        if chunker is not None:
            chunks = chunker.cut(data, left.position)
            if chunks and not is_last:
                end -= len(chunks.pop())
        turn.left.set_result(_Left(left.position + end, memoryview(data)[end:], is_last))
    except BaseException as error:
        turn.left.set_exception(error)
        raise
    hashed = HashedSegment([(Digest.of(chunk), chunk) for chunk in chunks], is_last)
    if before is not None and before.hashed is not None:
        before.hashed.result()
    # Bytes that are read a second time may be others then: the whole is what its chunks are.
    whole.update(memoryview(data)[:end])
    return hashed


def segments_of_file(fd: int, size: int, chunker: Chunker) -> Iterator[Segment]:
    """Return the segments of the first `size` bytes of an open file, whatever its position."""
    pread = _read_sparse if os.fstat(fd).st_blocks * _BLOCK < size else read_fully

    def read(position: int, _begun: Buffer) -> tuple[Buffer, bool]:
        # The beginning of a chunk is read again: that is cheaper than to join it with the rest.
        least = 2 * chunker.longest(position)  # so that a chunk ends in it
        wanted = min(max(_SEGMENT, least), size - position)
        data = pread(os.pread, fd, wanted, position)
        return data, len(data) < wanted or position + len(data) == size

    return repeat(read)


def segments_of_pieces(pieces: Iterable[Buffer]) -> Iterator[Segment]:
    """Yield the segments of a blob that the caller reads in pieces, none of them empty."""
    rest = iter(pieces)
    piece = next(rest, b"")
    for following in rest:
        yield partial(_joined, piece, is_last=False)
        piece = following
    yield partial(_joined, piece, is_last=True)


def iter_chunks(fd: int, size: int, chunker: Chunker) -> Iterator[Buffer]:
    """Yield the chunks of the first `size` bytes of an open file; a small file is one."""
    position = 0
    for read in segments_of_file(fd, size, chunker):
        data, is_last = read(position, b"")
        chunks = chunker.cut(data, position) if size > chunker.whole else [memoryview(data)]
        yield from chunks if is_last else chunks[:-1]
        if is_last:
            return
        position += len(data) - len(chunks[-1])


def _joined(piece: Buffer, _position: int, begun: Buffer, *, is_last: bool) -> tuple[Buffer, bool]:
    return b"".join((begun, piece)), is_last


def _read_sparse(pread: Callable[[int, int, int], bytes], fd: int, size: int, offset: int) -> bytes:
    """Return bytes as `read_fully` does, without reading where the file has a hole."""
    try:
        hole = os.lseek(fd, offset, os.SEEK_DATA) - offset
    except OSError as error:
        # There is no data from here on, or the filesystem can't tell.
        hole = size if error.errno == errno.ENXIO else 0
    if hole < size:
        return read_fully(pread, fd, size, offset)
    return _zeros(min(size, max(os.fstat(fd).st_size - offset, 0)))


@lru_cache(maxsize=1)
def _zeros(size: int) -> bytes:
    return bytes(size)
