"""Copying entries from packs into new ones: for compaction, and to rescue what a damaged pack has.

Stored bytes are copied as they are, each entry once it has been decoded and has the digest that it
is asked for by. What fails that is told and left where it is, so that no damage is ever copied into
a pack that looks whole. Nothing is deleted here, and nothing decides what is worth copying.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from cas.digest import Digest
from cas.errors import CorruptPackError, ObjectNotFoundError, UnsupportedFormatError
from cas.packs.codec import Codec, decode, decode_all
from cas.packs.pack import PackWriter, pack_object_name, read_footer
from cas.packs.packer import PACK_SIZE
from cas.packs.salvage import read_around
from cas.spans import SPAN_SIZE, cut_spans, find_cached

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import TracebackType

    from cas.backend import Backend, StagedObject
    from cas.catalog import Location
    from cas.digest import Buffer
    from cas.packs.pack import EntryKind, SealedPack
    from cas.spans import Span

__all__ = ["EntryFault", "MovedEntry", "PackRewriter"]

MOST_ENTRIES: Final = 50_000
"""Entries of one rewritten pack. One transaction moves the rows of all of them; on SQLite every
writer waits for it, some 0.3 s."""


@dataclass(frozen=True, slots=True)
class MovedEntry:
    """An entry that was copied: where it is besides, from now on."""

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
    """Whether its bytes are missing or wrong; otherwise they are of a kind that isn't known."""


class PackRewriter:
    """Copies entries of any packs into as few new ones as it takes; `finish` writes the last.

    At most 8 MiB of stored bytes are held, once more as they decode, or one entry if that is
    larger. Used by one thread. A context manager: leaving it without `finish` discards what was not
    published; what was published stays, and is recorded or not by `on_published`.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        register: Callable[[SealedPack], None],
        on_published: Callable[[SealedPack, Sequence[MovedEntry]], None],
    ) -> None:
        """Bind the rewriter to its storage.

        Parameters
        ----------
        register
            Notes a pack that is about to be published, before any of it is visible.
        on_published
            Is told of each pack that is durable, with all that was copied into it.
        """
        self._backend = backend
        self._register = register
        self._on_published = on_published
        self._staged: StagedObject | None = None
        self._pack: PackWriter | None = None
        self._waiting: list[tuple[Digest, Location, int]] = []
        self._copied: set[Digest] = set()
        self.bytes_copied = 0
        """Stored bytes of all entries that were copied so far."""

    def copy(
        self,
        pack: Digest,
        size: int,
        entries: Iterable[tuple[Digest, Location]],
        *,
        kinds: Mapping[Digest, EntryKind] | None = None,
    ) -> list[EntryFault]:
        """Copy entries of a pack; return those that were not, in order of offset.

        A digest that was copied before is passed over. What is copied is durable once
        `on_published` was told of it.

        Parameters
        ----------
        pack, size
            Its name, and the bytes that it should have; it is read whichever it has.
        kinds
            What the entries are of which the footer doesn't say it, or all of them if it can't be
            read; without them that is an error.

        Raises
        ------
        CorruptPackError
            When its footer can't be trusted, and `kinds` are not given; nothing was copied.
        UnsupportedFormatError
            When a newer release wrote it, and `kinds` are not given.
        BackendError
            When storage failed.
        """
        ordered = sorted(entries, key=lambda entry: entry[1].offset)
        source = _Source(self._backend, pack, size)
        try:
            found: Mapping[Digest, EntryKind] = {**(kinds or {}), **source.kinds()}
        except ObjectNotFoundError:
            return _missing(ordered)
        except (CorruptPackError, UnsupportedFormatError):
            if kinds is None:
                raise
            found = kinds
        faults = []
        known = []
        for digest, location in ordered:
            if digest not in found:
                told = "its pack does not say what kind of entry it is"
                faults.append(EntryFault(digest, location, told, is_damage=False))
            elif digest not in self._copied:
                known.append((digest, location))
        for span in cut_spans(find_cached(known, None)):
            faults += self._copy_span(source, span, found)
        return sorted(faults, key=lambda fault: fault.source.offset)

    def finish(self) -> None:
        """Publish what is left."""
        if self._pack is not None:
            self._seal()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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
        view = memoryview(data)
        stored = [_part(view, span.start, blob.location) for blob in span.blobs]
        decoded = _decoded([blob.location for blob in span.blobs], stored)
        for blob, raw, content in zip(span.blobs, stored, decoded, strict=True):
            if content is None or Digest.of(content) != blob.digest:
                told = "its bytes are damaged"
                faults.append(EntryFault(blob.digest, blob.location, told, is_damage=True))
            else:
                self._append(kinds[blob.digest], blob.digest, blob.location, raw)
        return faults

    def _append(self, kind: EntryKind, digest: Digest, source: Location, stored: Buffer) -> None:
        if self._pack is None:
            self._staged = self._backend.stage()
            self._pack = PackWriter(self._staged)
        offset = self._pack.append(kind, digest, Codec(source.codec), stored, source.size)
        self._waiting.append((digest, source, offset))
        self._copied.add(digest)
        self.bytes_copied += len(stored)
        if self._pack.size >= PACK_SIZE or len(self._waiting) >= MOST_ENTRIES:
            self._seal()

    def _seal(self) -> None:
        assert self._pack is not None, "there is one to seal"  # noqa: S101
        assert self._staged is not None, "a pack is staged"  # noqa: S101
        with self._staged as staged:
            sealed = self._pack.seal()
            self._register(sealed)
            staged.publish(pack_object_name(sealed.name))
        self._staged = self._pack = None
        waiting, self._waiting = self._waiting, []
        moved = [
            MovedEntry(digest, source, source._replace(pack=sealed.name, offset=offset))
            for digest, source, offset in waiting
        ]
        self._on_published(sealed, moved)


class _Source:
    """A pack that is read from. A small one is read at once: three requests become one."""

    def __init__(self, backend: Backend, pack: Digest, size: int) -> None:
        self._backend = backend
        self._name = pack_object_name(pack)
        self._expected = size
        self._whole: bytes | None = None

    def kinds(self) -> dict[Digest, EntryKind]:
        """Return what each entry is, by the footer; ObjectNotFoundError if there is no pack."""
        if self._expected <= SPAN_SIZE:
            # What can't be read of it is in no entry that is right, and fails the footer's digest.
            data = self.read_around(0, SPAN_SIZE + 1)
            if len(data) <= SPAN_SIZE:
                self._whole = data
        size = self._backend.size(self._name) if self._whole is None else len(self._whole)
        return {entry.digest: entry.kind for entry in read_footer(self._name, size, self.read)}

    def read(self, start: int, size: int) -> bytes:
        """Return bytes of the pack; fewer only where it ends."""
        if self._whole is not None:
            return self._whole[start : start + size]
        return self._backend.read(self._name, start, size)

    def read_around(self, start: int, size: int) -> bytes:
        """Return the same, with zeros for what the medium refuses."""
        if self._whole is not None:
            return self.read(start, size)
        return read_around(self._backend, self._name, start, size).data


def _missing(entries: Iterable[tuple[Digest, Location]]) -> list[EntryFault]:
    told = "its pack is missing"
    return [EntryFault(digest, location, told, is_damage=True) for digest, location in entries]


def _part(data: memoryview, start: int, location: Location) -> memoryview:
    begins = location.offset - start
    return data[begins : begins + location.stored_size]


def _decoded(places: Sequence[Location], stored: Sequence[memoryview]) -> list[Buffer | None]:
    """Return what entries decode to, None for each that doesn't."""
    entries = [(at.codec, raw, at.size) for at, raw in zip(places, stored, strict=True)]
    cut_short = any(len(raw) < at.stored_size for at, raw in zip(places, stored, strict=True))
    if not cut_short:
        with suppress(ValueError):  # together is quicker, and tells not which one is damaged
            return list(decode_all(entries))
    decoded: list[Buffer | None] = []
    for entry, place in zip(entries, places, strict=True):
        try:
            decoded.append(decode(*entry) if len(entry[1]) == place.stored_size else None)
        except ValueError:
            decoded.append(None)
    return decoded
