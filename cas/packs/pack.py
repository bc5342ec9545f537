"""The pack: the one kind of object that holds blobs. `docs/format.md` is the normative text.

    header    magic, format version, 16 random bytes
    entries   back to back, each raw or one zstd frame
    footer    one fixed-size record an entry, in order of offset
    trailer   number of records, BLAKE3 of the footer, magic

A pack's name is the BLAKE3 of header, footer and trailer: these hold the digest of each entry, so
the name vouches for all content without hashing it once more. Thanks to the random bytes a name
never comes back once its pack was deleted.
"""

from __future__ import annotations

import os
import struct
from enum import IntEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from cas.digest import Digest, Hasher
from cas.errors import (
    CorruptPackError,
    InvalidDigestError,
    UnreadableObjectError,
    UnsupportedFormatError,
)
from cas.packs.codec import Codec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cas.backend import StagedObject
    from cas.digest import Buffer

__all__ = [
    "FOOTER_RECORD_SIZE",
    "HEADER_SIZE",
    "MAX_ENTRY_SIZE",
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
"""Bytes that one entry may hold, stored and decoded: what a reader is willing to allocate."""

MAX_PACK_SIZE: Final = 1 << 32
"""Bytes that no pack reaches: offsets have 32 bits."""

_MAGIC: Final = b"RUNCASPK"
_END_MAGIC: Final = b"RUNCASPE"
_HEADER: Final = struct.Struct("<8sI16s4x")
_RECORD: Final = struct.Struct("<BBxx32sIII")
_TRAILER: Final = struct.Struct("<I32s8s")
HEADER_SIZE: Final = _HEADER.size
FOOTER_RECORD_SIZE: Final = _RECORD.size
"""Bytes that a footer has for each entry."""
TRAILER_SIZE: Final = _TRAILER.size
_CODECS: Final = frozenset(codec.value for codec in Codec)
_KINDS: Final = frozenset((1, 2, 3))
"""Those of `EntryKind`."""
_TAIL_READ: Final = 64 << 10
"""Bytes read from the end at first: the trailer and 1,360 records in one request."""
_WRITE_BUFFER: Final = 1 << 20
"""Bytes gathered before they are written: small entries don't pay a call each."""


class EntryKind(IntEnum):
    """What an entry is; a reader skips kinds that it doesn't know."""

    BLOB = 1
    RECORD = 2
    """What a commit says of itself, for an index that is lost; see `index.journal`."""
    CHUNK_LIST = 3
    """The chunks that make up a large blob; see `cas.packs.chunk_list`."""


class PackEntry(NamedTuple):
    """One record of a footer."""

    kind: EntryKind
    codec: Codec
    digest: Digest
    offset: int
    """Where the stored bytes begin, counted from the start of the pack."""
    stored_size: int
    size: int
    """Bytes once decoded."""


class SealedPack(NamedTuple):
    """A pack whose bytes are complete and named, published or about to be."""

    name: Digest
    size: int
    entries: int


def pack_size(entries: int, stored: int) -> int:
    """Return the size of a pack with so many entries of so many stored bytes together."""
    return HEADER_SIZE + stored + entries * _RECORD.size + _TRAILER.size


def pack_object_name(name: Digest) -> str:
    """Return the object that holds the pack of that name."""
    text = str(name)
    return f"packs/{text[:2]}/{text}.pack"


def parse_pack_name(name: str) -> Digest | None:
    """Return the name of the pack that an object is, or None if that is no pack's object."""
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
        self._records: list[bytes] = []
        self._buffer: list[Buffer] = []
        self._buffered = 0
        self.size = 0
        """Bytes so far, without footer and trailer."""
        self._emit(self._header)

    def append(
        self, kind: EntryKind, digest: Digest, codec: Codec, stored: Buffer, size: int
    ) -> int:
        """Append an entry that decodes to `size` bytes; return its offset."""
        offset = self.size
        self._records.append(_RECORD.pack(kind, codec, digest, offset, len(stored), size))
        self._emit(stored)
        return offset

    def seal(self) -> SealedPack:
        """Write footer and trailer; the caller publishes the staged object under the name."""
        footer = b"".join(self._records)
        trailer = _TRAILER.pack(len(self._records), Digest.of(footer), _END_MAGIC)
        self._emit(footer)
        self._emit(trailer)
        self._flush()
        return SealedPack(_name_of(self._header, footer, trailer), self.size, len(self._records))

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
    """The header's, known or not."""
    name: Digest
    """The BLAKE3 of header, footer and trailer: the name that the pack must have."""
    footer: bytes
    footer_start: int

    def parse(self, name: str) -> Sequence[PackEntry]:
        """Return the entries in order of offset; `read_footer` says which, and what it raises."""
        if self.version != PACK_VERSION:
            raise UnsupportedFormatError(f"pack {name}", self.version, PACK_VERSION)
        return _parse_records(name, self.footer, self.footer_start)


def _name_of(header: bytes, footer: bytes, trailer: bytes) -> Digest:
    hasher = Hasher()
    for part in (header, footer, trailer):
        hasher.update(part)
    return hasher.digest()


def read_footer(name: str, size: int, read: Callable[[int, int], Buffer]) -> Sequence[PackEntry]:
    """Return the entries of a pack in order of offset, entries of unknown kind left out.

    Everything is checked before anything is allocated for it, so that a hostile pack costs no
    more memory than its own footer: lengths, order, overlap, the footer's digest, doubled digests.

    Parameters
    ----------
    name
        What to call the pack in errors.
    size
        Size of the whole pack in bytes.
    read
        Returns that many bytes from that offset, as `(offset, size)`.

    Raises
    ------
    CorruptPackError
        When anything contradicts anything.
    UnsupportedFormatError
        When a newer release wrote it.
    """
    return read_structure(name, size, read).parse(name)


def read_structure(name: str, size: int, read: Callable[[int, int], Buffer]) -> PackStructure:
    """Return header, footer and trailer of a pack of any version; what is in them is not parsed.

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
    for kind, codec, digest, offset, stored_size, size in _RECORD.iter_unpack(footer):
        if offset != position or offset + stored_size > footer_start:
            raise CorruptPackError(name, f"its entry at offset {offset} is out of place")
        position = offset + stored_size
        if kind not in _KINDS:
            continue
        if codec not in _CODECS or max(stored_size, size) > MAX_ENTRY_SIZE:
            raise CorruptPackError(name, f"its entry at offset {offset} cannot be decoded")
        if digest in seen:
            raise CorruptPackError(name, f"it holds {digest.hex()} twice")
        seen.add(digest)
        entries.append(
            PackEntry(EntryKind(kind), Codec(codec), Digest(digest), offset, stored_size, size)
        )
    if position != footer_start:
        raise CorruptPackError(name, "there are bytes between its last entry and its footer")
    return entries


def _tail(name: str, read: Callable[[int, int], Buffer], size: int) -> bytes:
    """Return the trailer with what lies before it: mostly the footer, and in one request."""
    wanted = min(size - HEADER_SIZE, _TAIL_READ)
    try:
        return _exactly(name, read, size - wanted, wanted)
    except CorruptPackError:  # entries among it that can't be read are none of ours
        return _exactly(name, read, size - _TRAILER.size, _TRAILER.size)


def _exactly(name: str, read: Callable[[int, int], Buffer], start: int, size: int) -> bytes:
    try:
        data = bytes(read(start, size))
    except UnreadableObjectError as error:
        raise CorruptPackError(name, f"its structure can't be read: {error.reason}") from error
    if len(data) != size:
        raise CorruptPackError(name, "it is shorter than its size")
    return data
