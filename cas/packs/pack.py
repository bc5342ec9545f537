"""The pack: the one kind of object that holds blobs. `docs/format.md` is the normative text.

    header    magic, format version, 16 random bytes
    entries   back to back, each raw or a zstd frame; neighbouring small blobs share a frame
    footer    one fixed-size row for each entry, in order of offset
    trailer   number of entries, BLAKE3 of the footer, magic

A pack's name is the BLAKE3 of header, footer and trailer. These contain the digest of each entry,
so the name covers all content, which need not be hashed again. Because of the random bytes, the
name of a deleted pack never returns.
"""

from __future__ import annotations

import os
import struct
from collections import deque
from enum import IntEnum
from itertools import groupby, islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cas.digest import Digest, Hasher
from cas.digest_table import reserved_memory
from cas.errors import (
    CorruptPackError,
    InvalidDigestError,
    UnreadableObjectError,
    UnsupportedFormatError,
)
from cas.packs.codec import Codec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from mmap import mmap

    from cas.backend import StagedObject
    from cas.digest import Buffer
    from cas.digest_table import Row

__all__ = [
    "FOOTER_RECORD_SIZE",
    "HEADER_SIZE",
    "MAX_ENTRY_SIZE",
    "MAX_FRAME_SIZE",
    "MAX_PACK_SIZE",
    "PACK_VERSION",
    "TRAILER_SIZE",
    "EntryKind",
    "PackEntry",
    "PackStructure",
    "PackWriter",
    "SealedPack",
    "pack_object_name",
    "pack_size",
    "parse_pack_name",
    "read_footer",
    "read_structure",
]

PACK_VERSION: Final = 1

MAX_ENTRY_SIZE: Final = 64 << 20
"""Largest size of an entry in bytes, stored and decoded. A reader allocates no more."""

MAX_FRAME_SIZE: Final = 1 << 20
"""Largest decoded size of a shared frame in bytes. All of it is decoded to read one blob of it."""

MAX_PACK_SIZE: Final = 1 << 32
"""A pack has fewer bytes than this, because offsets have 32 bits."""

_MAGIC: Final = b"RUNCASPK"
_END_MAGIC: Final = b"RUNCASPE"
_HEADER: Final = struct.Struct("<8sI16s4x")
_RECORD: Final = struct.Struct("<BBxx32sIII")
_APPENDED: Final = struct.Struct("<32sIIIBIIB")
"""The fields of a `PackEntry`: its digest, its place as in a `Location`, and its kind."""
_TRAILER: Final = struct.Struct("<I32s8s")
HEADER_SIZE: Final = _HEADER.size
FOOTER_RECORD_SIZE: Final = _RECORD.size
"""Bytes of the footer for each entry."""
TRAILER_SIZE: Final = _TRAILER.size
_CODECS: Final = {codec.value: codec for codec in Codec}
"""By value: to look one up takes a tenth of the time of a call of the class."""
_TAIL_READ: Final = 64 << 10
"""Bytes of the first read at the end of a pack: the trailer and 1,360 entries in one request."""
_WRITE_BUFFER: Final = 1 << 20
"""Bytes collected for one write, so that small entries do not cost a call each."""
_ROWS_AT_ONCE: Final = 10_000
"""Rows of a footer that are made at once."""


class EntryKind(IntEnum):
    """The kind of an entry. A reader skips kinds that it does not know."""

    BLOB = 1
    RECORD = 2
    """A journal record, from which a lost index is rebuilt; see `index.journal`."""
    CHUNK_LIST = 3
    """The chunks that make up a large blob; see `cas.packs.chunk_list`."""


_KINDS: Final = {kind.value: kind for kind in EntryKind}


class PackEntry(NamedTuple):
    """One entry in a footer."""

    kind: EntryKind
    codec: Codec
    digest: Digest
    offset: int
    """Where the stored bytes begin, counted from the start of the pack."""
    stored_size: int
    size: int
    """Bytes of the blob."""
    frame_start: int = 0
    """Where the blob begins in the decoded frame."""
    frame_size: int = 0
    """Bytes of the decoded frame if several entries share it; 0 otherwise."""

    @property
    def share(self) -> int:
        """Its part of the stored bytes, such that the parts of a frame add up to the frame."""
        if not self.frame_size:
            return self.stored_size
        return (
            self.stored_size * (self.frame_start + self.size) // self.frame_size
            - self.stored_size * self.frame_start // self.frame_size
        )


class SealedPack(NamedTuple):
    """A pack whose bytes are complete and named, published or about to be."""

    name: Digest
    size: int
    entries: int


def pack_size(entries: int, stored: int) -> int:
    """Return the size of a pack with `entries` entries and `stored` bytes in them."""
    return HEADER_SIZE + stored + entries * _RECORD.size + _TRAILER.size


def pack_object_name(name: Digest) -> str:
    """Return the name of the object that holds a pack."""
    text = str(name)
    return f"packs/{text[:2]}/{text}.pack"


def parse_pack_name(name: str) -> Digest | None:
    """Return the pack that an object holds, or None if the object is not a pack."""
    try:
        pack = Digest.parse(name.rpartition("/")[2].removesuffix(".pack"))
    except InvalidDigestError:
        return None
    return pack if pack_object_name(pack) == name else None


class PackWriter:
    """Writes one pack into a staged object. One thread at a time."""

    def __init__(self, staged: StagedObject) -> None:
        self._staged = staged
        self._header = _HEADER.pack(_MAGIC, PACK_VERSION, os.urandom(16))
        self.count = 0
        """The number of entries."""
        self._appended: deque[mmap] = deque()
        """A pack may have a million entries, and as objects they would take 250 bytes each."""
        self._buffer: list[Buffer] = []
        self._buffered = 0
        self.size = 0
        """Bytes so far, without footer and trailer."""
        self._emit(self._header)

    def append(
        self,
        kind: EntryKind,
        codec: Codec,
        stored: Buffer,
        blobs: Sequence[tuple[Digest, int]],
    ) -> None:
        """Append stored bytes that decode to `blobs`, given with their sizes.

        Several may share a frame only as a reader allows it.
        """
        frame_size = sum(size for _, size in blobs) if len(blobs) > 1 else 0
        if len(blobs) > 1 and not _may_share(kind, codec, frame_size):
            raise ValueError(f"{len(blobs)} entries of kind {kind} can't share {frame_size} bytes")
        frame_start, offset, stored_size = 0, self.size, len(stored)
        for row, (digest, size) in enumerate(blobs, self.count):
            at = row % _ROWS_AT_ONCE * _APPENDED.size
            if at == 0:
                self._appended.append(reserved_memory(_ROWS_AT_ONCE * _APPENDED.size))
            _APPENDED.pack_into(
                self._appended[-1], at,
                digest, offset, stored_size, size, codec, frame_start, frame_size, kind,
            )  # fmt: skip
            frame_start += size if frame_size else 0
        self.count += len(blobs)
        self._emit(stored)

    def places(self) -> Iterator[Row]:
        """Yield of each entry, in order, its digest and what its `Location` has after the pack.

        Call it once, and last: it gives up the memory as it goes.
        """
        left = self.count
        while self._appended:
            rows = _APPENDED.iter_unpack(self._appended.popleft())
            yield from (row[:-1] for row in islice(rows, left))
            left -= _ROWS_AT_ONCE

    def seal(self) -> SealedPack:
        """Write footer and trailer; the caller publishes the staged object under the name."""
        footer, name = Hasher(), Hasher()
        name.update(self._header)
        for number, rows in enumerate(self._appended):
            left = self.count - number * _ROWS_AT_ONCE
            piece = b"".join(
                _RECORD.pack(kind, codec, digest, offset, stored, size)
                for digest, offset, stored, size, codec, _, _, kind in islice(
                    _APPENDED.iter_unpack(rows), left
                )
            )
            footer.update(piece)
            name.update(piece)
            self._emit(piece)
        trailer = _TRAILER.pack(self.count, footer.digest(), _END_MAGIC)
        name.update(trailer)
        self._emit(trailer)
        self._flush()
        return SealedPack(name.digest(), self.size, self.count)

    def _emit(self, data: Buffer) -> None:
        self._buffer.append(data)
        self.size += len(data)
        self._buffered += len(data)
        if self._buffered >= _WRITE_BUFFER:
            self._flush()

    def _flush(self) -> None:
        data = self._buffer[0] if len(self._buffer) == 1 else b"".join(self._buffer)
        self._buffer.clear()
        self._buffered = 0
        self._staged.write(data)


class PackStructure(NamedTuple):
    """The parts of a pack around its entries. Every version has them in the same places."""

    version: int
    """The version in the header, which may be unknown."""
    name: Digest
    """The BLAKE3 of header, footer and trailer: the name that the pack must have."""
    footer: bytes
    footer_start: int

    def parse(self, name: str) -> Sequence[PackEntry]:
        """Return the entries as `read_footer` does, with the same errors."""
        if self.version != PACK_VERSION:
            raise UnsupportedFormatError(f"pack {name}", self.version, PACK_VERSION)
        return _parse_records(name, self.footer, self.footer_start)


def _name_of(header: bytes, footer: bytes, trailer: bytes) -> Digest:
    hasher = Hasher()
    for part in (header, footer, trailer):
        hasher.update(part)
    return hasher.digest()


def read_footer(name: str, size: int, read: Callable[[int, int], Buffer]) -> Sequence[PackEntry]:
    """Return the entries of a pack in order of offset, without those of unknown kinds.

    It checks lengths, order, overlap, the footer's digest and repeated digests. Each check comes
    before memory is allocated, so a hostile pack costs no more memory than its own footer.

    Parameters
    ----------
    name
        Name of the pack in errors.
    size
        Size of the whole pack in bytes.
    read
        Called as ``read(offset, size)``. It returns these bytes of the pack.

    Raises
    ------
    CorruptPackError
        When a part is unreadable, or parts contradict each other.
    UnsupportedFormatError
        When a newer release wrote the pack.
    """
    return read_structure(name, size, read).parse(name)


def read_structure(name: str, size: int, read: Callable[[int, int], Buffer]) -> PackStructure:
    """Return header, footer and trailer of a pack of any version. The footer is not parsed.

    Parameters and CorruptPackError as for `read_footer`.
    """
    if size < HEADER_SIZE + _TRAILER.size:
        raise CorruptPackError(name, f"{size} bytes are too few for a pack")
    if size >= MAX_PACK_SIZE:
        raise CorruptPackError(name, f"{size} bytes are too many for a pack")
    header = _exactly(name, read, 0, HEADER_SIZE)
    magic, version, _nonce = _HEADER.unpack(header)
    if magic != _MAGIC:
        raise CorruptPackError(name, "it does not begin as a pack")
    tail = _tail(name, read, size)
    count, footer_digest, end_magic = _TRAILER.unpack(tail[-_TRAILER.size :])
    if end_magic != _END_MAGIC:
        raise CorruptPackError(name, "it does not end as a pack; it may have been cut short")
    footer_size = count * _RECORD.size
    footer_start = size - _TRAILER.size - footer_size
    if footer_start < HEADER_SIZE:
        raise CorruptPackError(name, f"its footer claims {count} entries, more than it can hold")
    missing = footer_size + _TRAILER.size - len(tail)
    if missing > 0:
        tail = _exactly(name, read, footer_start, missing) + tail
    trailer = tail[-_TRAILER.size :]
    footer = tail[len(tail) - footer_size - _TRAILER.size : len(tail) - _TRAILER.size]
    if Digest.of(footer) != footer_digest:
        raise CorruptPackError(name, "its footer does not match its digest")
    return PackStructure(version, _name_of(header, footer, trailer), footer, footer_start)


def _parse_records(name: str, footer: bytes, footer_start: int) -> list[PackEntry]:
    entries: list[PackEntry] = []
    seen: set[bytes] = set()
    position = HEADER_SIZE
    for (offset, stored_size), rows in groupby(_RECORD.iter_unpack(footer), itemgetter(3, 4)):
        if offset != position or offset + stored_size > footer_start:
            raise CorruptPackError(name, f"its entry at offset {offset} is out of place")
        position = offset + stored_size
        for entry in _parse_frame(name, list(rows)):
            if entry.digest in seen:
                raise CorruptPackError(name, f"it holds {entry.digest} twice")
            seen.add(entry.digest)
            entries.append(entry)
    if position != footer_start:
        raise CorruptPackError(name, "there are bytes between its last entry and its footer")
    return entries


def _parse_frame(name: str, rows: Sequence[tuple[Any, ...]]) -> Iterator[PackEntry]:
    """Yield the entries with the same stored bytes: one, or those that share a frame."""
    _, _, _, offset, stored_size, _ = rows[0]
    is_shared = len(rows) > 1 and stored_size > 0
    frame_size = sum(row[5] for row in rows) if is_shared else 0
    may_be = stored_size <= MAX_ENTRY_SIZE and not (
        is_shared and not all(_may_share(row[0], row[1], frame_size) for row in rows)
    )
    frame_start = 0
    new = bytes.__new__
    for kind, codec, digest, _, _, size in rows:
        if kind not in _KINDS and not is_shared:
            continue
        if not may_be or codec not in _CODECS or size > MAX_ENTRY_SIZE:
            raise CorruptPackError(name, f"its entry at offset {offset} cannot be decoded")
        yield PackEntry(
            _KINDS[kind], _CODECS[codec], new(Digest, digest), offset, stored_size, size,
            frame_start, frame_size,
        )  # fmt: skip
        frame_start += size if is_shared else 0


def _may_share(kind: int, codec: int, frame_size: int) -> bool:
    """Whether several entries of that kind may share a frame that decodes to so many bytes."""
    is_allowed = (kind, codec) == (EntryKind.BLOB, Codec.ZSTD)
    return is_allowed and 0 < frame_size <= MAX_FRAME_SIZE


def _tail(name: str, read: Callable[[int, int], Buffer], size: int) -> bytes:
    """Return the trailer and bytes before it, in one request; mostly these contain the footer."""
    wanted = min(size - HEADER_SIZE, _TAIL_READ)
    try:
        return _exactly(name, read, size - wanted, wanted)
    except CorruptPackError:  # an unreadable entry among these bytes does not matter here
        return _exactly(name, read, size - _TRAILER.size, _TRAILER.size)


def _exactly(name: str, read: Callable[[int, int], Buffer], start: int, size: int) -> bytes:
    try:
        data = bytes(read(start, size))
    except UnreadableObjectError as error:
        raise CorruptPackError(name, f"its structure can't be read: {error.reason}") from error
    if len(data) != size:
        raise CorruptPackError(name, "it is shorter than its size")
    return data
