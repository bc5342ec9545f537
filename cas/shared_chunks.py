"""Hashing of many large blobs at once: a common beginning of their chunks is hashed once."""

from __future__ import annotations

from contextlib import closing
from itertools import groupby, islice, takewhile
from typing import TYPE_CHECKING, Final

from cas.catalog import ChunkedBlob, Location
from cas.digest import Digest, Hasher
from cas.errors import BlobNotFoundError

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import (
        Callable,
        Collection,
        Generator,
        Iterable,
        Iterator,
        Mapping,
        Sequence,
    )

    from cas.catalog import Catalog
    from cas.digest import Buffer

__all__ = ["group_by_chunks", "hash_together", "locate_in_order", "noting_repeats"]

_CHUNKS_AT_ONCE: Final = 50_000
"""Chunks of large blobs that are compared at once. A longer blob forms a group alone."""


_LOOKUP_SIZE: Final = 1_000
"""Number of chunks in one lookup in the catalog."""


def hash_together(
    catalog: Catalog,
    blobs: Collection[ChunkedBlob],
    read: Callable[[Iterable[Digest]], Generator[Buffer]],
) -> Generator[tuple[ChunkedBlob, Digest, int]]:
    """Yield large blobs, each with the digest and the size of its joined chunks.

    They come in the order in which their first chunks are stored, so that those that were written
    together are read with few requests. Among blobs with the same first chunk, those that begin
    alike are neighbours.

    Parameters
    ----------
    catalog
        Says where first chunks are.
    read
        Yields the bytes of the given chunks in order. It is closed with this generator.
    """
    firsts = catalog.locate({chunk for blob in blobs for chunk in blob.chunks[:1]})

    def order_of(blob: ChunkedBlob) -> tuple[Location | tuple[()], tuple[Digest, ...]]:
        place = firsts.get(blob.chunks[0]) if blob.chunks else None
        return place if isinstance(place, Location) else (), blob.chunks

    blobs = sorted(blobs, key=order_of)
    starts = [0, *map(_shared, blobs, blobs[1:])]
    order = (
        chunk for blob, start in zip(blobs, starts, strict=True) for chunk in blob.chunks[start:]
    )
    states = {0: Hasher()}
    with closing(read(order)) as pieces:
        for blob, start, branches in zip(blobs, starts, _branches(starts), strict=True):
            states = {depth: state for depth, state in states.items() if depth <= start}
            whole = states[start].copy()
            for depth in range(start + 1, len(blob.chunks) + 1):
                whole.update(next(pieces))
                if depth in branches:
                    states[depth] = whole.copy()
            yield blob, whole.digest(), whole.size


def group_by_chunks(
    digests: Iterable[Digest], sizes: Mapping[Digest, int], chunk_size: int
) -> Iterator[list[Digest]]:
    """Group large blobs by size, so that their chunk lists fit into memory.

    Parameters
    ----------
    chunk_size
        About how many bytes a chunk has.
    """
    group: list[Digest] = []
    chunks = 0
    for digest in sorted(digests, key=lambda digest: (sizes[digest], digest)):
        chunks += -(-sizes[digest] // chunk_size)
        if group and chunks > _CHUNKS_AT_ONCE:
            yield group
            group, chunks = [], chunks - sum(-(-sizes[done] // chunk_size) for done in group)
        group.append(digest)
    if group:
        yield group


def locate_in_order(
    catalog: Catalog, chunks: Iterable[Digest]
) -> Iterator[tuple[Digest, Location]]:
    """Yield chunks with their locations. Lookups are lazy: a blob may have a million chunks."""
    rest = iter(chunks)
    while batch := list(islice(rest, _LOOKUP_SIZE)):
        places = catalog.locate(set(batch))
        for chunk in batch:
            place = places.get(chunk)
            if not isinstance(place, Location):
                raise BlobNotFoundError(chunk)
            yield chunk, place


def noting_repeats(order: Iterable[Digest], times: deque[int]) -> Iterator[Digest]:
    """Yield equal neighbouring chunks once; append to `times` how many there were."""
    for chunk, same in groupby(order):
        times.append(sum(1 for _ in same))
        yield chunk


def _shared(one: ChunkedBlob, other: ChunkedBlob) -> int:
    """Return the number of leading chunks that two blobs share."""
    pairs = zip(one.chunks, other.chunks, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _branches(starts: Sequence[int]) -> list[frozenset[int]]:
    """Return, for each of the sorted blobs, the depths at which later blobs continue from it."""
    needed: list[frozenset[int]] = [frozenset()]
    for start in reversed(starts[1:]):
        needed.append(frozenset({start, *(depth for depth in needed[-1] if depth < start)}))
    return needed[::-1]
