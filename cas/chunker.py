"""Cutting of large blobs into chunks, at places that their content chooses.

Where a chunk ends depends on the bytes before it. So after bytes were inserted, removed or changed,
the same chunks follow as before, wherever they now lie. The algorithm is FastCDC with its smallest
normalization (Xia et al., "The Design of Fast Content-Defined Chunking for Data Deduplication Based
Storage Systems", IEEE TPDS 31 (2020)).

Chunks grow with their position: a chat of some hundred kB shares most of its chunks with its next
state, and an archive of some GB has few thousand rows in the index.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pyfastcdc import FastCDC

    from cas.digest import Buffer

__all__ = ["CHUNKER", "CHUNK_SIZE", "CHUNK_SIZES", "Chunker"]

CHUNKER: Final = "fastcdc"
"""The name of the algorithm in the settings of a store."""

CHUNK_SIZE: Final = 64 << 10
"""Bytes that the first chunks of a large blob have beyond the least, on average.

docs/adr/0038-content-defined-chunks.md has the measurements."""

CHUNK_SIZES: Final = tuple(1 << power for power in range(9, 21))
"""The chunk sizes that a store may have."""

_RANGE: Final = 4
"""A chunk has at least a quarter of the average, and at most four times as much."""

_GROWTH: Final = 4
"""How many times as large chunks are from each of the limits on."""

_LIMITS: Final = (1 << 6, 1 << 12, 1 << 20)
"""In chunk sizes of the store, where chunks become larger: 4 MiB, 256 MiB and 64 GiB."""

_LARGEST: Final = 4 << 20
"""Bytes: the largest average."""


class Chunker:
    """Cuts blobs. Safe for use by several threads."""

    def __init__(self, size: int) -> None:
        """Cut as a store with this chunk size does."""
        self.size: Final = size
        self.whole: Final = 2 * size
        """Bytes of the largest blob that is not cut."""

    def cut(self, data: Buffer, position: int) -> list[memoryview]:
        """Cut bytes at a position of a blob where a chunk begins; return the chunks, in order.

        The last chunk ends with the bytes. If these go on, cut it again together with what follows.
        """
        view = memoryview(data)
        chunks: list[memoryview] = []
        start = 0
        while start < len(view):
            average, stop = self._at(position + start)
            longest = _RANGE * average
            if _is_zero(view[start : start + longest], longest):  # a hole may have many GiB
                chunks.append(view[start : start + longest])
                start += longest
                continue
            for chunk in _cutter(average).cut_buf(view[start:]):
                chunks.append(view[start : start + chunk.length])
                start += chunk.length
                if position + start >= stop:
                    break
        return chunks

    def longest(self, position: int) -> int:
        """Return the bytes of the longest chunk that can begin at a position of a blob."""
        return _RANGE * self._at(position)[0]

    def _at(self, position: int) -> tuple[int, int]:
        """Return the average at a position, and the position from which on it is another."""
        average = self.size
        for limit in _LIMITS:
            if position < limit * self.size:
                return average, limit * self.size
            average = min(_GROWTH * average, _LARGEST)
        return average, 1 << 63


def _is_zero(piece: memoryview, size: int) -> bool:
    """Whether a piece is as many zeros. FastCDC cuts none of these before the longest chunk."""
    if len(piece) < size or piece[0] or piece[size // 2] or piece[size - 1]:
        return False
    return piece.tobytes() == _zeros(size)


@lru_cache(maxsize=2)
def _zeros(size: int) -> bytes:
    return bytes(size)


@lru_cache
def _cutter(average: int) -> FastCDC:
    from pyfastcdc import FastCDC  # most commands cut nothing

    return FastCDC(average, min_size=average // _RANGE, max_size=average * _RANGE)
