"""Spans: neighbouring blobs of a pack that one request reads, from the cache or from storage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from cas.errors import DigestMismatchError
from cas.packs.codec import Codec
from cas.packs.pack import MAX_ENTRY_SIZE, MAX_FRAME_SIZE, MAX_PACK_SIZE, pack_object_name

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
    "is_readable",
]

SPAN_SIZE: Final = 8 << 20
"""Bytes of a large blob, or of a pack, that are held in memory at once."""

_SPAN_GAP: Final = 64 << 10
"""Largest gap between two entries, in bytes. Reading it is cheaper than another request."""


class Sought(NamedTuple):
    """A requested blob of one entry."""

    digest: Digest
    location: Location
    extent: Extent | None
    """The cached part of the pack that contains this blob, if there is one."""


class Span(NamedTuple):
    """Blobs of one pack that are read together."""

    blobs: Sequence[Sought]
    start: int
    """Start of the span in the pack; `stop` is its end."""
    stop: int

    @property
    def pack(self) -> Digest:
        """The pack that contains the blobs."""
        return self.blobs[0].location.pack

    @property
    def extent(self) -> Extent | None:
        """The cached part of the pack that contains the whole span, if there is one."""
        return self.blobs[0].extent

    def rest(self, number: int) -> Span:
        """Return a span of the blobs from `number` on, to be read from storage."""
        return Span([blob._replace(extent=None) for blob in self.blobs[number:]], *self[1:])


def check_location(digest: Digest, location: Location) -> None:
    """Raise DigestMismatchError unless a location is readable."""
    if not is_readable(location):
        raise DigestMismatchError(digest, None, describe_location(location))


def is_readable(location: Location) -> bool:
    """Return whether a location is within the limits of a pack entry.

    If it is, no oversized read or allocation follows.
    """
    _, offset, stored_size, size, codec, frame_start, frame_size = location
    return (
        0 <= stored_size <= MAX_ENTRY_SIZE
        and 0 <= size <= MAX_ENTRY_SIZE
        and 0 <= offset < MAX_PACK_SIZE
        and frame_size <= MAX_FRAME_SIZE
        and (not frame_size or (codec == Codec.ZSTD and 0 <= frame_start <= frame_size - size))
    )


def describe_location(location: Location) -> str:
    """Return a location as text."""
    return f"{pack_object_name(location.pack)} at offset {location.offset}"


def find_cached(
    blobs: Iterable[tuple[Digest, Location]], cache: PackCache | None
) -> Iterator[Sought]:
    """Yield blobs in the order given, each with its cached extent at that time.

    Raises as `check_location` does.
    """
    if cache is None:
        for digest, location in blobs:
            if not is_readable(location):
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


def cut_spans(blobs: Iterable[Sought], most: int) -> Iterator[Span]:
    """Group blobs, in the order given, so that each group is one request.

    A blob may come again, or lie before the previous one: the same request serves it.

    Parameters
    ----------
    most
        Bytes of a group, stored and decoded; one blob may have more. See `Backend.span_size`.
    """
    group: list[Sought] = []
    start = stop = decoded = before = 0
    same_pack: Digest | None = None
    same_extent: Extent | None = None
    for blob in blobs:
        _, (pack, offset, stored_size, size, _, _, frame_size), extent = blob
        ends = offset + stored_size
        whole = frame_size or size
        if group:
            near = (
                pack == same_pack and extent == same_extent and start <= offset <= stop + _SPAN_GAP
            )
            if near and frame_size and offset == before:
                whole = 0  # the frame is decoded once
            if not near or ends - start > most or decoded + whole > most:
                yield Span(group, start, stop)
                group = []
        if not group:
            start, stop, decoded = offset, ends, 0
            same_pack, same_extent = pack, extent
        group.append(blob)
        if ends > stop:
            stop = ends
        decoded += whole
        before = offset
    if group:
        yield Span(group, start, stop)


def describe_chunks(blob: ChunkedBlob) -> str:
    """Return what is damaged when a large blob's chunks don't add up to it."""
    return f"its list of {len(blob.chunks)} chunks"


def check_whole(blob: ChunkedBlob, read: Hasher) -> None:
    """Raise DigestMismatchError unless the bytes read are the whole large blob."""
    actual = read.digest()
    if actual != blob.digest:
        raise DigestMismatchError(blob.digest, actual, describe_chunks(blob))
