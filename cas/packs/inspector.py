"""Inspection of whole packs: their structure, every byte, and the locations in an index.

A reader checks only the digests of the blobs that it reads. An inspection checks more: whether a
pack matches its name, whether all of its entries are intact, needed or not, and whether they are
where the index locates them. It returns defects in a `PackVerdict`. It raises only if storage fails
or the format is unknown.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain
from operator import itemgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Self

from cas.catalog import Location
from cas.digest import Digest
from cas.errors import CorruptPackError, ObjectNotFoundError, UnsupportedFormatError
from cas.packs.frames import decode_blobs, decode_frame, slice_blob
from cas.packs.pack import HEADER_SIZE, pack_object_name, read_structure
from cas.packs.salvage import read_around
from cas.spans import is_readable
from cas.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from concurrent.futures import Future

    from cas.backend import Backend
    from cas.digest import Buffer
    from cas.packs.pack import EntryKind, PackEntry
    from cas.packs.salvage import Salvaged

__all__ = ["Defect", "PackInspector", "PackVerdict", "verified"]


class Defect(StrEnum):
    """What is wrong with an entry that an index locates in a pack."""

    MISSING = "missing"
    """There is no pack, or its location is not within the pack."""
    DAMAGED = "damaged"
    """Its bytes can't be decoded, or have another digest."""
    UNREADABLE = "unreadable"
    """The medium can't read some of its bytes."""
    UNLISTED = "unlisted"
    """The footer does not list it."""
    MISPLACED = "misplaced"
    """The footer lists it at another offset."""
    MISMATCHED = "mismatched"
    """The footer lists it with other sizes or another codec."""
    OTHER_KIND = "of another kind"
    """The footer does not list it as the journal record or chunk list that it is."""


@dataclass(slots=True)
class PackVerdict:
    """The result of inspecting one pack."""

    pack: Digest
    size: int | None = None
    """Bytes of the object; None if it is missing."""
    actual: Digest | None = None
    """The name that follows from header, footer and trailer; None if they are invalid."""
    holes: list[range] = field(default_factory=list)
    """Ranges of unreadable bytes, in order."""
    reason: str | None = None
    """Why header, footer or trailer can't be used; None if they can."""
    entries: Sequence[PackEntry] = ()
    """The entries in the footer, if it is valid."""
    damaged: dict[Digest, Defect] = field(default_factory=dict)
    """Entries that certainly can't be read at their location in the index."""
    misfiled: dict[Digest, Defect] = field(default_factory=dict)
    """Entries on which the footer and the index disagree."""
    unused_damaged: int = 0
    """Number of damaged entries that the index does not locate in this pack."""
    kept: dict[Digest, bytes] = field(default_factory=dict)
    """Decoded bytes of the entries to keep, if they are intact."""
    bytes_read: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether the inspection found no defect."""
        named = self.actual in (None, self.pack)
        damaged = self.damaged or self.unused_damaged
        wrong = self.reason or self.holes or damaged or self.misfiled
        return self.size is not None and named and not wrong


class PackInspector:
    """Inspects packs in bounded memory. Safe for use by several threads; a context manager."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.at_once: Final = max(backend.publishes_at_once, backend.writes_at_once)
        """Packs to read at the same time."""
        self._ahead = Threads(self.at_once, "cas-inspect-read")

    def look(
        self,
        pack: Digest,
        located: Mapping[Digest, Location],
        *,
        kinds: Mapping[Digest, EntryKind] = MappingProxyType({}),
    ) -> PackVerdict:
        """Read size, header and footer of a pack, and compare them with locations of an index.

        Parameters
        ----------
        kinds
            The kinds that some entries must have.

        Raises
        ------
        BackendError
            When storage fails. A missing pack is a defect, not an error.
        """
        verdict = PackVerdict(pack)
        try:
            self._measure(verdict)
            self._read_structure(verdict)
        except ObjectNotFoundError:
            return _missing(pack, located)
        except UnsupportedFormatError as error:
            verdict.reason = str(error)
        _compare(verdict, located, _listed(verdict), kinds)
        return verdict

    def read(
        self,
        pack: Digest,
        located: Mapping[Digest, Location],
        *,
        keep: Collection[Digest] = frozenset(),
        kinds: Mapping[Digest, EntryKind] = MappingProxyType({}),
    ) -> PackVerdict:
        """Read every byte of a pack: its structure, its name, and each entry in it.

        At most four times `Backend.span_size` is in memory, or twice the largest entry.

        Parameters
        ----------
        keep
            Entries whose bytes to return in `PackVerdict.kept`.
        kinds
            As for `look`.

        Raises
        ------
        BackendError
            When storage fails. A missing pack is a defect, not an error.
        UnsupportedFormatError
            When a newer release wrote the pack. It is intact, but can't be interpreted.
        """
        verdict = PackVerdict(pack)
        try:
            self._measure(verdict)
            self._read_structure(verdict)
            listed = _listed(verdict)
            self._read_entries(verdict, located, listed, keep)
        except ObjectNotFoundError:
            return _missing(pack, located)
        _compare(verdict, located, listed, kinds)
        return verdict

    def close(self) -> None:
        """Stop the threads; idempotent."""
        self._ahead.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _measure(self, verdict: PackVerdict) -> None:
        verdict.size = self._backend.size(pack_object_name(verdict.pack))

    def _read_structure(self, verdict: PackVerdict) -> None:
        """Enter the pack's actual name and the entries in its footer into the verdict.

        Raises UnsupportedFormatError if a newer release wrote the pack and it is not damaged.
        """
        name = pack_object_name(verdict.pack)

        def read(start: int, size: int) -> bytes:
            data = self._backend.read(name, start, size)
            verdict.bytes_read += len(data)
            return data

        assert verdict.size is not None  # noqa: S101 - it was measured
        try:
            structure = read_structure(str(verdict.pack), verdict.size, read)
        except CorruptPackError as error:
            verdict.reason = error.reason
            return
        verdict.actual = structure.name
        try:
            verdict.entries = structure.parse(str(verdict.pack))
        except CorruptPackError as error:
            verdict.reason = error.reason
        except UnsupportedFormatError:
            if structure.name == verdict.pack:
                raise
            verdict.reason = f"its header says format {structure.version}, against its name"

    def _read_entries(
        self,
        verdict: PackVerdict,
        located: Mapping[Digest, Location],
        listed: Mapping[Digest, Location],
        keep: Collection[Digest],
    ) -> None:
        """Decode and hash each entry once its last byte is read."""
        assert verdict.size is not None  # noqa: S101 - it was measured
        unused = {digest: place for digest, place in listed.items() if digest not in located}
        waiting: list[tuple[Digest, Location]] = []
        for entry in sorted(chain(located.items(), unused.items()), key=itemgetter(1)):
            digest, place = entry
            # What the footer lists was checked when it was parsed.
            if listed.get(digest) == place or _can_be(place, verdict.size):
                waiting.append(entry)
            else:
                verdict.damaged[digest] = Defect.MISSING
        for group, blobs in self._decoded(verdict, waiting):
            for (digest, _), data in zip(group, blobs, strict=True):
                if data is None or Digest.of(data) != digest:
                    verdict.damaged[digest] = Defect.DAMAGED
                elif digest in keep:
                    verdict.kept[digest] = bytes(data)
        if verdict.holes:
            _note_unreadable(verdict, located)
        for digest in unused.keys() & verdict.damaged.keys():
            del verdict.damaged[digest]
            verdict.unused_damaged += 1

    def _decoded(
        self, verdict: PackVerdict, entries: Sequence[tuple[Digest, Location]]
    ) -> Iterator[tuple[Sequence[tuple[Digest, Location]], Sequence[Buffer | None]]]:
        """Yield entries, given in order of offset, with their decoded bytes, some at once.

        Entries after the end of the pack, which was longer when it was measured, are missing.
        """
        held = memoryview(b"")
        start = done = 0  # offset of `held` in the pack; entries that were decoded
        for piece in self._pieces(verdict):
            held = memoryview(b"".join((held, piece))) if held else piece
            stop = start + len(held)
            first = done
            while done < len(entries) and _end(entries[done][1]) <= stop:
                done += 1
            for group in _groups(entries[first:done], self._backend.span_size):
                yield group, decode_blobs([place for _, place in group], held, start)
            needed = min(entries[done][1].offset, stop) if done < len(entries) else stop
            held, start = held[needed - start :], needed
        verdict.damaged.update((digest, Defect.MISSING) for digest, _ in entries[done:])

    def _pieces(self, verdict: PackVerdict) -> Iterator[memoryview]:
        """Yield the bytes of a pack in pieces; prefetch one while the caller uses another.

        Unreadable bytes are zeros, and their ranges are in `PackVerdict.holes`.
        """
        assert verdict.size is not None  # noqa: S101 - it was measured
        name = pack_object_name(verdict.pack)
        coming: Future[Salvaged] | None = None
        most = self._backend.span_size
        for start in chain(range(0, verdict.size, most), (None,)):
            following = None
            if start is not None:
                size = min(most, verdict.size - start)
                following = self._ahead.submit(read_around, self._backend, name, start, size)
            if coming is not None:
                data, holes = coming.result()
                verdict.bytes_read += len(data)
                verdict.holes += holes
                yield memoryview(data)
            coming = following


def verified(digest: Digest, place: Location, stored: Buffer) -> Buffer | None:
    """Return the decoded bytes of an entry, or None if they do not have its digest."""
    try:
        data = slice_blob(place, decode_frame(place, stored))
    except ValueError:
        return None
    return data if Digest.of(data) == digest else None


def _missing(pack: Digest, located: Mapping[Digest, Location]) -> PackVerdict:
    return PackVerdict(pack, damaged=dict.fromkeys(located, Defect.MISSING))


def _listed(verdict: PackVerdict) -> dict[Digest, Location]:
    """Return the entries in the footer as locations."""
    return {entry.digest: Location.of(verdict.pack, entry) for entry in verdict.entries}


def _end(place: Location) -> int:
    return place.offset + place.stored_size


def _can_be(place: Location, size: int) -> bool:
    """Whether a location is valid in a pack of `size` bytes, and a reader would accept it."""
    return place.offset >= HEADER_SIZE and _end(place) <= size and is_readable(place)


def _note_unreadable(verdict: PackVerdict, located: Mapping[Digest, Location]) -> None:
    """Mark the entries with a hole, even if the right bytes there are zeros."""
    stops = [hole.stop for hole in verdict.holes]
    for digest, place in located.items():
        following = bisect_right(stops, place.offset)
        if following < len(stops) and verdict.holes[following].start < _end(place):
            verdict.damaged[digest] = Defect.UNREADABLE


def _groups(
    entries: Sequence[tuple[Digest, Location]], most: int
) -> Iterator[list[tuple[Digest, Location]]]:
    """Group entries so that a group has at most so many decoded bytes, or is one entry."""
    group: list[tuple[Digest, Location]] = []
    decoded = 0
    for digest, place in entries:
        whole = place.frame_size or place.size
        if group and decoded + whole > most:
            yield group
            group, decoded = [], 0
        if not group or group[-1][1].offset != place.offset:
            decoded += whole
        group.append((digest, place))
    if group:
        yield group


def _compare(
    verdict: PackVerdict,
    located: Mapping[Digest, Location],
    listed: Mapping[Digest, Location],
    kinds: Mapping[Digest, EntryKind],
) -> None:
    """Compare the entries in the footer with their locations and kinds in the index."""
    if verdict.reason is not None:
        return
    for digest, place in located.items() if listed != located else ():
        there = listed.get(digest)
        if there is None:
            verdict.misfiled[digest] = Defect.UNLISTED
        elif there.offset != place.offset:
            verdict.misfiled[digest] = Defect.MISPLACED
        elif there != place:
            verdict.misfiled[digest] = Defect.MISMATCHED
    wanted = kinds.keys() & located.keys() - verdict.misfiled.keys()
    for entry in verdict.entries if wanted else ():
        if entry.digest in wanted and entry.kind != kinds[entry.digest]:
            verdict.misfiled[entry.digest] = Defect.OTHER_KIND
