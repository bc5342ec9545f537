"""Chunks as tests want them, and those that a store cuts."""

from __future__ import annotations

from itertools import pairwise

from cas.chunker import CHUNK_SIZE, Chunker
from cas.digest import Digest


class EqualChunks(Chunker):
    """Cuts at every multiple of a size."""

    def __init__(self, size):
        super().__init__(size)
        self.whole = size

    def cut(self, data, position):
        view = memoryview(data)
        first = self.size - position % self.size
        ends = [0, *range(first, len(view), self.size), len(view)]
        return [view[start:end] for start, end in pairwise(ends) if start < end]

    def longest(self, position):
        return self.size


def chunks_of(data):
    """Return the chunks that a store cuts a blob into; a small one is not cut."""
    chunker = Chunker(CHUNK_SIZE)
    return [bytes(c) for c in chunker.cut(data, 0)] if len(data) > chunker.whole else [data]


def digests_of_chunks(data):
    return [Digest.of(chunk) for chunk in chunks_of(data)]
