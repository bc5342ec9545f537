"""Digests of the pieces of verified chunks. With them, a read of few bytes verifies few bytes.

A chunk has up to 16 MiB, and its digest verifies only all of it. Once a chunk that is not
compressed was read and verified, `PieceDigests` has the digest of each piece of 16 KiB. A later
read fetches the pieces that it needs, and compares their digests. So bytes from storage are
verified each time that they are read.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from blake3 import blake3

from cas.digest import DIGEST_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable

    from cas.digest import Buffer, Digest

__all__ = ["PIECE_SIZE", "PieceDigests"]

PIECE_SIZE: Final = 16 << 10
"""Bytes of a piece. BLAKE3 takes 1.6 times as long for a byte of 8 KiB, and hardly less for larger
ones. Source: benchmarks/results/bench_hash.md."""

_MOST_BYTES: Final = 8 << 20
"""Bytes of digests in memory: those of chunks of 4 GiB."""


class PieceDigests:
    """Digests of the pieces of the chunks that were used last. Safe for use by several threads."""

    def __init__(self) -> None:
        self._known: OrderedDict[Digest, bytes] = OrderedDict()
        """The digests of each chunk's pieces, joined."""
        self._size = 0
        self._lock = threading.Lock()

    def note(self, chunk: Digest, data: Buffer) -> None:
        """Note the pieces of a chunk whose bytes were verified."""
        with self._lock:
            if chunk in self._known:
                return
        view = memoryview(data)
        pieces = range(0, len(view), PIECE_SIZE)
        digests = b"".join([blake3(view[at : at + PIECE_SIZE]).digest() for at in pieces])
        with self._lock:
            self._size += len(digests) - len(self._known.pop(chunk, b""))
            self._known[chunk] = digests
            while self._size > _MOST_BYTES:
                self._size -= len(self._known.popitem(last=False)[1])

    def read(
        self, chunk: Digest, part: range, read: Callable[[int, int], bytes | None]
    ) -> memoryview | None:
        """Return a part of a chunk, verified; None if its pieces are unknown or read differently.

        Parameters
        ----------
        part
            Which bytes, at least one. They are in the chunk.
        read
            Returns bytes of the chunk, from a start to a stop, which may be after its end. None if
            they can't be read.
        """
        with self._lock:
            digests = self._known.get(chunk)
            if digests is None:
                return None
            self._known.move_to_end(chunk)
        first, stop = part.start // PIECE_SIZE, -(-part.stop // PIECE_SIZE)
        start = first * PIECE_SIZE
        data = read(start, stop * PIECE_SIZE)
        if data is None:
            return None
        view = memoryview(data)
        for number in range(first, stop):
            piece = view[number * PIECE_SIZE - start : (number + 1) * PIECE_SIZE - start]
            if blake3(piece).digest() != digests[number * DIGEST_SIZE :][:DIGEST_SIZE]:
                return None
        return view[part.start - start : part.stop - start]
