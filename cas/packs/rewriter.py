"""Copying of entries into new packs, for compaction and for repair of damaged packs.

An entry is copied as stored, but only if its decoded bytes have the requested digest. All others
are returned as faults and stay where they are. So damage never gets into a pack that looks intact.
Of a shared frame with other entries than the requested ones, these are encoded anew.
This module deletes nothing, and the caller chooses the entries.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from cas.catalog import Location
from cas.digest import Digest
from cas.errors import CorruptPackError, ObjectNotFoundError, UnsupportedFormatError
from cas.packs.frames import decode_blobs, reuse_frames
from cas.packs.pack import EntryKind, PackWriter, pack_object_name, read_footer
from cas.packs.packer import PACK_SIZE
from cas.packs.salvage import read_around
from cas.spans import SPAN_SIZE, cut_spans, find_cached

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from cas.backend import Backend, StagedObject
    from cas.digest import Buffer
    from cas.packs.frames import Frame
    from cas.packs.pack import SealedPack
    from cas.spans import Span

__all__ = ["EntryFault", "MovedEntry", "PackRewriter"]

MOST_ENTRIES: Final = 50_000
"""Largest number of entries in a rewritten pack. One transaction moves the rows of all of them. On
SQLite every writer waits for it, some 0.3 s."""


@dataclass(frozen=True, slots=True)
class MovedEntry:
    """A copied entry: its old location and the new one."""

    digest: Digest
    source: Location
    target: Location


@dataclass(frozen=True, slots=True)
class EntryFault:
    """An entry that was not copied, and why."""

    digest: Digest
    source: Location
    reason: str
    is_damage: bool
    """Whether its bytes are missing or damaged; otherwise its kind is unknown."""


class PackRewriter:
    """Copies entries of any packs into as few new packs as possible; `finish` writes the last.

    At most 8 MiB of stored bytes and 8 MiB of decoded bytes are in memory, or one larger entry.
    Used by one thread. A context manager: leaving it without `finish` discards an unpublished pack.
    Published packs stay, and `on_published` may record them.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        register: Callable[[SealedPack], None],
        on_published: Callable[[SealedPack, Sequence[MovedEntry]], None],
    ) -> None:
        """Create a rewriter for one backend.

        Parameters
        ----------
        register
            Registers a pack before it is published, while no part of it is visible.
        on_published
            Called for each pack once it is durable, with all entries copied into it.
        """
        self._backend = backend
        self._register = register
        self._on_published = on_published
        self._staged: StagedObject | None = None
        self._pack: PackWriter | None = None
        self._waiting: list[Location] = []
        """The old place of each entry of the pack."""
        self._copied: set[Digest] = set()
        self.bytes_copied = 0
        """Stored bytes of all entries copied so far."""

    def copy(
        self,
        pack: Digest,
        size: int,
        entries: Iterable[tuple[Digest, Location]],
        *,
        kinds: Mapping[Digest, EntryKind] | None = None,
    ) -> list[EntryFault]:
        """Copy entries of a pack; return a fault for each that can't be copied, by offset.

        A digest that was copied before is skipped. A copied entry is durable once `on_published`
        is called for its pack.

        Parameters
        ----------
        pack, size
            Name of the pack, and its expected size in bytes. The actual size may differ.
        kinds
            Kinds of entries that the footer does not list, or of all entries if the footer is
            invalid. A kind other than that of content counts in any case. Without `kinds`, an
            invalid footer is an error.

        Raises
        ------
        CorruptPackError
            When the footer is invalid and `kinds` is None. Nothing was copied.
        UnsupportedFormatError
            When a newer release wrote the pack and `kinds` is None.
        BackendError
            When storage failed.
        """
        ordered = sorted(entries, key=lambda entry: entry[1].offset)
        source = _Source(self._backend, pack, size)
        try:
            found = {**(kinds or {}), **source.kinds(), **_no_content(kinds or {})}
        except ObjectNotFoundError:
            return _missing(ordered)
        except (CorruptPackError, UnsupportedFormatError):
            if kinds is None:
                raise
            found = dict(kinds)
        faults = []
        known = []
        for digest, location in ordered:
            if digest not in found:
                reason = "its pack does not say what kind of entry it is"
                faults.append(EntryFault(digest, location, reason, is_damage=False))
            elif digest not in self._copied:
                known.append((digest, location))
        for span in cut_spans(find_cached(known, None), self._backend.span_size):
            faults += self._copy_span(source, span, found)
        return sorted(faults, key=lambda fault: fault.source.offset)

    def finish(self) -> None:
        """Publish the last pack, if there is one."""
        if self._pack is not None:
            self._seal()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        staged, self._staged, self._pack = self._staged, None, None
        if staged is not None:
            staged.discard()

    def _copy_span(
        self, source: _Source, span: Span, kinds: Mapping[Digest, EntryKind]
    ) -> list[EntryFault]:
        faults = []
        try:
            data = source.read_around(span.start, span.stop - span.start)
        except ObjectNotFoundError:
            return _missing((blob.digest, blob.location) for blob in span.blobs)
        places = [blob.location for blob in span.blobs]
        decoded = decode_blobs(places, memoryview(data), span.start)
        intact = []
        for blob, content in zip(span.blobs, decoded, strict=True):
            if content is None or Digest.of(content) != blob.digest:
                reason = "its bytes are damaged"
                faults.append(EntryFault(blob.digest, blob.location, reason, is_damage=True))
            else:
                intact.append((blob.digest, blob.location, content))
        sources = {digest: location for digest, location, _ in intact}
        by_kind: defaultdict[EntryKind, list[tuple[Digest, Location, Buffer]]] = defaultdict(list)
        for each in intact:
            by_kind[kinds[each[0]]].append(each)
        for kind, entries in by_kind.items():
            share = kind == EntryKind.BLOB
            for frame in reuse_frames(entries, data, span.start, share=share):
                self._append(kind, frame, [sources[digest] for digest, _ in frame.blobs])
        return faults

    def _append(self, kind: EntryKind, frame: Frame, sources: Sequence[Location]) -> None:
        if self._pack is None:
            self._staged = self._backend.stage()
            self._pack = PackWriter(self._staged)
        self._pack.append(kind, *frame)
        self._waiting += sources
        self._copied.update(digest for digest, _ in frame.blobs)
        self.bytes_copied += len(frame.stored)
        if self._pack.size >= PACK_SIZE or len(self._waiting) >= MOST_ENTRIES:
            self._seal()

    def _seal(self) -> None:
        assert self._pack is not None, "there is one to seal"  # noqa: S101
        assert self._staged is not None, "a pack is staged"  # noqa: S101
        with self._staged as staged:
            sealed = self._pack.seal()
            self._register(sealed)
            staged.publish(pack_object_name(sealed.name))
        places, sources = self._pack.places(), self._waiting
        self._staged, self._pack, self._waiting = None, None, []
        moved = [
            MovedEntry(Digest(digest), source, Location(sealed.name, *place))
            for (digest, *place), source in zip(places, sources, strict=True)
        ]
        self._on_published(sealed, moved)


class _Source:
    """The pack to copy from. A small pack is read with one request instead of three."""

    def __init__(self, backend: Backend, pack: Digest, size: int) -> None:
        self._backend = backend
        self._name = pack_object_name(pack)
        self._expected = size
        self._whole: bytes | None = None

    def kinds(self) -> dict[Digest, EntryKind]:
        """Return the kinds of the entries in the footer. Raises as `read_footer` does."""
        if self._expected <= SPAN_SIZE:
            # Unreadable bytes become zeros, which the digests of the entries and the footer reveal.
            data = self.read_around(0, SPAN_SIZE + 1)
            if len(data) <= SPAN_SIZE:
                self._whole = data
        size = self._backend.size(self._name) if self._whole is None else len(self._whole)
        return {entry.digest: entry.kind for entry in read_footer(self._name, size, self.read)}

    def read(self, start: int, size: int) -> bytes:
        """Return `size` bytes of the pack from `start`, or fewer if it ends before."""
        if self._whole is not None:
            return self._whole[start : start + size]
        return self._backend.read(self._name, start, size)

    def read_around(self, start: int, size: int) -> bytes:
        """Return the same bytes, with zeros for unreadable blocks."""
        if self._whole is not None:
            return self.read(start, size)
        return read_around(self._backend, self._name, start, size).data


def _no_content(kinds: Mapping[Digest, EntryKind]) -> dict[Digest, EntryKind]:
    return {digest: kind for digest, kind in kinds.items() if kind is not EntryKind.BLOB}


def _missing(entries: Iterable[tuple[Digest, Location]]) -> list[EntryFault]:
    reason = "its pack is missing"
    return [EntryFault(digest, location, reason, is_damage=True) for digest, location in entries]
