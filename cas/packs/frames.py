"""Encoding of blobs into frames, and decoding of blobs from the stored bytes of a pack.

Small blobs share a zstd frame: together they compress better than each alone. A blob of a shared
frame is a slice of its decoded bytes. Reading one decodes the frame, and verifies the blob alone.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from cas.packs.codec import Codec, decode, decode_all, encode_all, encode_shared

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from cas.catalog import Location
    from cas.digest import Buffer, Digest

__all__ = [
    "SHARED_BELOW",
    "SHARED_SIZE",
    "Frame",
    "RecentFrames",
    "decode_blobs",
    "decode_frame",
    "encode_blobs",
    "frames_again",
    "reuse_frames",
    "slice_blob",
]

SHARED_SIZE: Final = 64 << 10
"""Largest size of a shared frame before compression, in bytes. Frames of 128 KiB store 2 to 5 %
less, but a blob is read from one in twice the time. Source:
benchmarks/results/bench_frames.md."""

SHARED_BELOW: Final = 64 << 10
"""Largest size of a blob that shares a frame, in bytes. A larger one gains little by it."""

_MOST_RECENT: Final = 1 << 22
"""Bytes of decoded frames that a reader keeps: those of some hundred small files."""

_Blob: TypeAlias = "tuple[Digest, Buffer]"


class Frame(NamedTuple):
    """Stored bytes, and the blobs that they decode to."""

    codec: Codec
    stored: Buffer
    blobs: Sequence[tuple[Digest, int]]
    """Digests and sizes, in order."""


def encode_blobs(blobs: Iterable[_Blob], *, share: bool = True) -> Iterator[Frame]:
    """Yield blobs as frames to store, in order.

    Parameters
    ----------
    share
        Whether neighbouring small blobs may share a frame.
    """
    groups = list(_groups(blobs)) if share else [[blob] for blob in blobs]
    joined = [b"".join(data for _, data in group) for group in groups if len(group) > 1]
    shared = iter(encode_shared(joined))
    alone = iter(encode_all([group[0][1] for group in groups if len(group) == 1]))
    for group in groups:
        codec, stored = next(alone if len(group) == 1 else shared)
        if len(group) > 1 and codec == Codec.RAW:  # they need no frame
            yield from (Frame(codec, data, [(digest, len(data))]) for digest, data in group)
        else:
            yield Frame(codec, stored, [(digest, len(data)) for digest, data in group])


def _groups(blobs: Iterable[_Blob]) -> Iterator[list[_Blob]]:
    """Yield the blobs of each frame. Their order stays: readers want neighbours together."""
    group: list[_Blob] = []
    room = SHARED_SIZE
    for blob in blobs:
        size = len(blob[1])
        is_small = 0 < size <= SHARED_BELOW
        if group and (not is_small or size > room):
            yield group
            group = []
        if not group:
            room = SHARED_SIZE
        if is_small:
            group.append(blob)
            room -= size
        else:
            yield [blob]
    if group:
        yield group


def reuse_frames(
    blobs: Iterable[tuple[Digest, Location, Buffer]],
    stored: Buffer,
    start: int,
    *,
    share: bool = True,
) -> Iterator[Frame]:
    """Yield blobs of one pack as frames to store again: as they are stored, if a frame is whole.

    Parameters
    ----------
    blobs
        Each once: its digest, its place, and its bytes, which are verified.
    stored
        The bytes of the pack from offset `start` on, from which the blobs were decoded.
    share
        As for `encode_blobs`.
    """
    frames: defaultdict[tuple[int, int], list[tuple[Digest, Location, Buffer]]] = defaultdict(list)
    for blob in blobs:
        # An empty blob has the same offset as the entry after it.
        frames[blob[1].offset, blob[1].stored_size].append(blob)
    left: list[_Blob] = []
    for (offset, stored_size), group in frames.items():
        group.sort(key=lambda blob: blob[1].frame_start)
        place = group[0][1]
        if _is_whole([place for _, place, _ in group], share=share):
            part = stored[offset - start : offset - start + stored_size]
            yield Frame(Codec(place.codec), part, [(digest, at.size) for digest, at, _ in group])
        else:
            left += [(digest, data) for digest, _, data in group]
    yield from encode_blobs(left, share=share)


def frames_again(
    blobs: Mapping[Digest, Buffer],
    sought: Iterable[tuple[Digest, Location, Buffer | None]],
    stored: Buffer,
    start: int,
) -> Iterator[Frame]:
    """Yield verified blobs as frames to store again, as `reuse_frames` does where it can.

    Parameters
    ----------
    sought
        Where each blob was sought, with repetitions, and what was decoded there.
    stored, start
        As for `reuse_frames`.
    """
    as_stored = {
        digest: (digest, place, data)
        for digest, place, data in sought
        if data is not None and data is blobs[digest]
    }
    yield from reuse_frames(as_stored.values(), stored, start)
    # What was damaged in the cache, or has moved, was read elsewhere.
    yield from encode_blobs(blob for blob in blobs.items() if blob[0] not in as_stored)


def _is_whole(places: Sequence[Location], *, share: bool) -> bool:
    """Whether blobs with the same stored bytes, in order, are all that these hold."""
    ends = 0
    for place in places:
        if place.frame_start != ends:
            return False
        ends += place.size
    if len(places) > 1 and not (share and places[0].codec == Codec.ZSTD):
        return False
    return ends == (places[0].frame_size or places[0].size)


def decode_frame(place: Location, stored: Buffer) -> Buffer:
    """Return the decoded frame at a place, of which `slice_blob` returns the blob.

    Raises ValueError if `stored` is not the encoding of so many bytes.
    """
    return decode(place.codec, stored, place.frame_size or place.size)


def slice_blob(place: Location, frame: Buffer) -> Buffer:
    """Return the bytes of a blob from the decoded frame at its place."""
    if not place.frame_size:
        return frame
    return memoryview(frame)[place.frame_start : place.frame_start + place.size]


class RecentFrames:
    """The shared frames that were decoded last. Safe for use by several threads.

    A reader of a directory's files, in any order, then decodes each frame once.
    """

    def __init__(self) -> None:
        self._frames: OrderedDict[tuple[Digest, int], Buffer] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def find(self, place: Location) -> Buffer | None:
        """Return the decoded frame at a place."""
        with self._lock:
            frame = self._frames.get(place[:2])
            if frame is not None:
                self._frames.move_to_end(place[:2])
            return frame

    def keep(self, place: Location, frame: Buffer) -> None:
        """Keep the decoded frame at a place; forget those that were used longest ago."""
        with self._lock:
            self._size += len(frame) - len(self._frames.pop(place[:2], b""))
            self._frames[place[:2]] = frame
            while self._size > _MOST_RECENT:
                self._size -= len(self._frames.popitem(last=False)[1])


def decode_blobs(places: Sequence[Location], stored: memoryview, start: int) -> list[Buffer | None]:
    """Return the bytes of blobs of one pack, which are not verified; None for undecodable ones.

    Each frame is decoded once.

    Parameters
    ----------
    stored
        The bytes of the pack from offset `start` on.
    """
    numbers: dict[tuple[int, int, int, int], int] = {}
    frame_of = [
        numbers.setdefault((offset, stored_size, codec, frame_size or size), len(numbers))
        for _, offset, stored_size, size, codec, _, frame_size in places
    ]
    frames = [
        (codec, stored[offset - start : offset - start + stored_size], size)
        for offset, stored_size, codec, size in numbers
    ]
    try:  # one call is faster, but does not show which frame is damaged
        parts: list[Buffer | None] = [memoryview(part) for part in decode_all(frames)]
    except ValueError:
        parts = [_decoded(*frame) for frame in frames]
    blobs = []
    for (_, _, _, size, _, frame_start, frame_size), number in zip(places, frame_of, strict=True):
        part = parts[number]
        if part is not None and frame_size:
            part = part[frame_start : frame_start + size]
        blobs.append(part)
    return blobs


def _decoded(codec: int, stored: Buffer, size: int) -> Buffer | None:
    with suppress(ValueError):
        return decode(codec, stored, size)
    return None
