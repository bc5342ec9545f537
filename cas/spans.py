"""Which blobs one request brings: neighbours in a pack, all from the cache or all from storage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from cas.errors import DigestMismatchError
from cas.packs.pack import MAX_ENTRY_SIZE, MAX_PACK_SIZE, pack_object_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cas.cache.cache import PackCache
    from cas.cache.extents import Extent, Extents
    from cas.catalog import ChunkedBlob, Location
    from cas.digest import Digest, Hasher

__all__ = [
    "SPAN_SIZE",
    "Sought",
    "Span",
    "check_location",
    "check_whole",
    "cut_spans",
    "describe_chunks",
    "describe_location",
    "find_cached",
]

SPAN_SIZE: Final = 8 << 20
"""Bytes that one request for neighbouring entries spans at most, and that they decode to."""

_SPAN_GAP: Final = 64 << 10
"""Bytes between two entries that are cheaper to read along than to skip with another request."""


class Sought(NamedTuple):
    """A blob of one entry that is wanted."""

    digest: Digest
    location: Location
    extent: Extent | None
    """What the cache has of the pack, if this blob is in it."""


class Span(NamedTuple):
    """Blobs of one pack that are read together."""

    blobs: Sequence[Sought]
    start: int
    """Where it begins and ends in the pack."""
    stop: int

    @property
    def pack(self) -> Digest:
        """The pack that the blobs are in."""
        return self.blobs[0].location.pack

    @property
    def extent(self) -> Extent | None:
        """The part of that pack which the cache has, and the whole span with it."""
        return self.blobs[0].extent

    def rest(self, number: int) -> Span:
        """Return the span of the blobs from the one of that number, to be read from storage."""
        return Span([blob._replace(extent=None) for blob in self.blobs[number:]], *self[1:])


def check_location(digest: Digest, location: Location) -> None:
    """Make sure that no more is asked for or allocated than an entry can have.

    DigestMismatchError if there can't be an entry there, whatever the index says.
    """
    _, offset, stored_size, size, _ = location
    if not (
        0 <= stored_size <= MAX_ENTRY_SIZE
        and 0 <= size <= MAX_ENTRY_SIZE
        and 0 <= offset < MAX_PACK_SIZE
    ):
        raise DigestMismatchError(digest, None, describe_location(location))


def describe_location(location: Location) -> str:
    """Return a location in words."""
    return f"{pack_object_name(location.pack)} at offset {location.offset}"


def find_cached(
    blobs: Iterable[tuple[Digest, Location]], cache: PackCache | None
) -> Iterator[Sought]:
    """Yield blobs in the order given, each with what the cache has of it when its turn comes.

    Raises as `check_location` does.
    """
    if cache is None:
        for digest, location in blobs:
            check_location(digest, location)
            yield Sought(digest, location, None)
        return
    looked_up: dict[Digest, Extents] = {}
    for digest, location in blobs:
        check_location(digest, location)
        extents = looked_up.get(location.pack)
        if extents is None:
            extents = looked_up[location.pack] = cache.extents(location.pack)
        yield Sought(digest, location, extents.find(location.offset, location.stored_size))


def cut_spans(blobs: Iterable[Sought]) -> Iterator[Span]:
    """Group blobs, in the order given, so that each group is one request.

    A blob may come again, or one that lies before the last: what was read for others serves it.
    """
    group: list[Sought] = []
    start = stop = decoded = 0
    same_pack: Digest | None = None
    same_extent: Extent | None = None
    for blob in blobs:
        _, (pack, offset, stored_size, size, _), extent = blob
        ends = offset + stored_size
        if group:
            near = (
                pack == same_pack and extent == same_extent and start <= offset <= stop + _SPAN_GAP
            )
            if not near or max(ends - start, decoded + size) > SPAN_SIZE:
                yield Span(group, start, stop)
                group = []
        if not group:
            start, stop, decoded = offset, ends, 0
            same_pack, same_extent = pack, extent
        group.append(blob)
        stop = max(stop, ends)
        decoded += size
    if group:
        yield Span(group, start, stop)


def describe_chunks(blob: ChunkedBlob) -> str:
    """Say what is wrong when a large blob's chunks don't make it up."""
    return f"its list of {len(blob.chunks)} chunks"


def check_whole(blob: ChunkedBlob, read: Hasher) -> None:
    """Raise DigestMismatchError unless what was read of a large blob is all of it."""
    actual = read.digest()
    if actual != blob.digest:
        raise DigestMismatchError(blob.digest, actual, describe_chunks(blob))
