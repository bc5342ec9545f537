"""Reading and hashing a large blob by stretches, on two threads.

Each byte is hashed twice, for the digest of its chunk and for that of the whole blob. The thread
that reads a stretch does both while the bytes lie in its core's cache; the whole takes stretches in
their order, so that one thread reads and hashes chunks while the other is at the whole. On two
cores 4 GiB take 0.72 s so, and 0.95 s where one thread reads, one hashes chunks and one the whole.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from cas.backends.posix import read_fully
from cas.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from concurrent.futures import Future

    from cas.digest import Buffer, Hasher

__all__ = ["HashedStretch", "Segment", "StretchHasher", "stretches_of_file", "stretches_of_pieces"]

_CHUNKS: Final = 2
"""Chunks of one stretch: what is handed from thread to thread costs little beside 2 MiB."""

_THREADS: Final = 2
"""A third one finds nothing to do but wait for the whole: 0.95 s where two take 0.72."""

_AHEAD: Final = 2
"""Stretches that may be read and hashed, or wait for it, before the caller takes one: 4 MiB."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Some chunks of a blob that follow each other."""

    size: int
    """Bytes that are expected."""
    read: Callable[[], list[Buffer]]
    """Returns them cut into chunks, fewer bytes if the blob ends before; called on any thread."""


class HashedStretch(NamedTuple):
    """The chunks that a stretch had."""

    chunks: list[tuple[Digest, Buffer]]
    is_last: bool
    """Whether the blob ended within."""


class _Gate:
    """Lets threads read until it is closed, which waits for those that do."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._reading = 0
        self._closed = False

    def read(self, segment: Segment) -> list[Buffer]:
        """Read a stretch; CancelledError once it is closed."""
        with self._changed:
            if self._closed:
                raise CancelledError
            self._reading += 1
        try:
            return segment.read()
        finally:
            with self._changed:
                self._reading -= 1
                self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: not self._reading)


class StretchHasher:
    """The threads, which start with the first stretch. One blob at a time."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, "cas-hash")

    def hash(
        self, segments: Iterable[Segment], whole: Hasher, *, chunked: bool = True
    ) -> Generator[HashedStretch]:
        """Yield stretches in order with their chunks' digests, as far as the blob goes.

        Unless `chunked` they come without chunks: nothing but the whole is hashed.

        When it is exhausted, `whole` has been given all of it; once it is closed nothing reads any
        more. What reading raises is raised here, where its stretch would come.
        """
        gate = _Gate()
        begun: deque[Future[HashedStretch]] = deque()
        before: Future[HashedStretch] | None = None
        ahead = iter(segments)
        try:
            while True:
                for segment in islice(ahead, _AHEAD + 1 - len(begun)):
                    before = self._threads.submit(_hash, segment, gate, whole, before, chunked)
                    begun.append(before)
                if not begun:
                    return
                hashed = begun[0].result()
                begun.popleft()
                yield hashed
                if hashed.is_last:
                    return
        finally:
            # Not the futures are waited for: Ctrl-C may come before the last one is noted.
            gate.close()

    def close(self) -> None:
        """Let go of the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _hash(
    segment: Segment,
    gate: _Gate,
    whole: Hasher,
    before: Future[HashedStretch] | None,
    chunked: bool,  # noqa: FBT001 - as it is handed over
) -> HashedStretch:
    pieces = gate.read(segment)
    chunks = [(Digest.of(piece), piece) for piece in pieces] if chunked else []
    # Tasks begin in the order in which they were handed over, so what this waits for is running.
    if before is not None and before.result().is_last:
        return HashedStretch([], is_last=True)
    size = 0
    for piece in pieces:
        whole.update(piece)
        size += len(piece)
    return HashedStretch(chunks, is_last=size < segment.size)


def stretches_of_file(fd: int, size: int, chunk_size: int) -> Iterator[Segment]:
    """Yield the stretches of the first `size` bytes of an open file, whatever its position."""
    step = _CHUNKS * chunk_size
    for start in range(0, size, step):
        end = min(start + step, size)
        yield Segment(end - start, partial(_read_chunks, fd, start, end, chunk_size))


def stretches_of_pieces(pieces: Iterable[Buffer]) -> Iterator[Segment]:
    """Yield the stretches of a blob that the caller reads, in pieces that are its chunks."""
    rest = iter(pieces)
    while chunks := list(islice(rest, _CHUNKS)):
        yield Segment(sum(map(len, chunks)), partial(list, chunks))


def _read_chunks(fd: int, start: int, end: int, chunk_size: int) -> list[Buffer]:
    chunks: list[Buffer] = []
    for offset in range(start, end, chunk_size):
        wanted = min(chunk_size, end - offset)
        chunk = read_fully(os.pread, fd, wanted, offset)
        if chunk:
            chunks.append(chunk)
        if len(chunk) < wanted:
            break  # the end, even if the file has grown since
    return chunks
