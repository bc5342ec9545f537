"""Rows of small numbers by digest, in few bytes.

A batch and a commit hold something of each new blob until they end. In a dict, a digest takes 130
bytes, and its place in a pack 200 more. Here they take 32 and 25, and some ten around them.
"""

from __future__ import annotations

import struct
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from cas.digest import DIGEST_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["D", "DigestTable", "Row", "reserved_memory"]

_FEW: Final = 50_000
"""So many rows stay objects: these take up to 20 MB, and a third of the time."""

_BITS: Final = 17
_MORE_BITS: Final = 2
"""Bits of the number of a slot, at first and each time that the slots become more."""

_LOAD: Final = 0.6
"""The part of the slots that is taken at most. A search then looks at two of them on average."""

_PREFIX: Final = 4
"""Bytes of a digest that choose its slot. So slots are almost in order of digest."""

_SLOTS_AT_ONCE: Final = 10_000
"""Slots whose rows are put in order at once."""

D = TypeVar("D", bound=bytes)

Row: TypeAlias = tuple[Any, ...]
"""A digest as plain bytes, and the integers that belong to it."""


class DigestTable:
    """Rows by digest, with as many integers each. If they are many, they are packed.

    The packed rows have a hash table with open addressing: a row is in the slot that its digest
    chooses, or else in the next free one.
    """

    def __init__(self, layout: str) -> None:
        """Create an empty table.

        Parameters
        ----------
        layout
            The integers of a row, in the notation of `struct`.
        """
        self._row = struct.Struct(f"<{DIGEST_SIZE}s{layout}")
        self._few: dict[bytes, Row] = {}
        """All rows, as long as they are few; then none."""
        self._count = 0
        self._packed: mmap | bytearray = bytearray()
        """All rows, once they are many, in the order in which they came."""
        self._slots = memoryview(b"")
        """The numbers of these rows, counted from 1; 0 in a free slot."""
        self._shift = 0
        """Bits of the prefix of a digest that do not choose its slot."""

    def __len__(self) -> int:
        return self._count

    def add_new(self, rows: Iterable[Row]) -> list[Row]:
        """Add rows, except those whose digest is there; return the others. Give some at a time."""
        if self._slots:
            return self._pack_new(rows)
        few = self._few
        new = []
        for row in rows:
            if row[0] not in few:
                few[row[0]] = row
                new.append(row)
        self._count = len(few)
        if len(few) > _FEW:
            self._few, self._count = {}, 0
            self._make_slots(_BITS)
            self._pack_new(few.values())
        return new

    def _pack_new(self, rows: Iterable[Row]) -> list[Row]:
        width, pack_into, number_of = self._row.size, self._row.pack_into, int.from_bytes
        packed, slots, shift, count = self._packed, self._slots, self._shift, self._count
        room = len(packed) // width
        new = []
        for row in rows:
            digest = row[0]
            slot = number_of(digest[:_PREFIX]) >> shift
            while number := slots[slot]:
                at = (number - 1) * width
                if packed[at : at + DIGEST_SIZE] == digest:
                    break
                slot = (slot + 1) % len(slots)
            else:
                pack_into(packed, count * width, *row)
                count += 1
                slots[slot] = count
                new.append(row)
                if count == room:
                    self._count = count
                    self._make_slots(8 * _PREFIX - shift + _MORE_BITS)
                    packed, slots, shift = self._packed, self._slots, self._shift
                    room = len(packed) // width
        self._count = count
        return new

    def _make_slots(self, bits: int) -> None:
        """Make so many slots, and room for as many rows as they may have."""
        width, shift = self._row.size, 8 * _PREFIX - bits
        before, used = self._packed, self._count * width
        self._packed = packed = reserved_memory(int(_LOAD * (1 << bits)) * width)
        packed[:used] = before[:used]
        self._slots = slots = memoryview(reserved_memory(4 << bits)).cast("I")
        self._shift = shift
        for number, at in enumerate(range(0, used, width), 1):
            slot = int.from_bytes(packed[at : at + _PREFIX]) >> shift
            while slots[slot]:
                slot = (slot + 1) % len(slots)
            slots[slot] = number

    def find(self, digest: bytes) -> Row | None:
        """Return the row of a digest; None if it is not there."""
        if not self._slots:
            return self._few.get(digest)
        slots, width = self._slots, self._row.size
        slot = int.from_bytes(digest[:_PREFIX]) >> self._shift
        while number := slots[slot]:
            at = (number - 1) * width
            if self._packed[at : at + DIGEST_SIZE] == digest:
                return self._row.unpack_from(self._packed, at)
            slot = (slot + 1) % len(slots)
        return None

    def missing(self, digests: Iterable[D]) -> Iterator[D]:
        """Yield those of some digests that have no row."""
        find = self.find if self._slots else self._few.get
        return (digest for digest in digests if find(digest) is None)

    def __iter__(self) -> Iterator[Row]:
        """Yield all rows in order of digest."""
        yield from sorted(self._few.values())
        slots = self._slots
        if not slots:
            return
        begin = self._free_slot(0)
        first = self._between(0, begin)
        # Where the last slots were taken, rows of the end went on at the beginning.
        yield from sorted(row for row in first if row[0] < _MIDDLE)
        while begin < len(slots):
            end = self._free_slot(begin + _SLOTS_AT_ONCE)
            part = self._between(begin, end)
            if end == len(slots):
                part += [row for row in first if row[0] >= _MIDDLE]
            yield from sorted(part)
            begin = end

    def _free_slot(self, begin: int) -> int:
        """Return the next free slot; the number of slots if there is none."""
        slots = self._slots
        return next((n for n in range(begin, len(slots)) if not slots[n]), len(slots))

    def _between(self, begin: int, end: int) -> list[Row]:
        unpack, packed, width = self._row.unpack_from, self._packed, self._row.size
        return [unpack(packed, (n - 1) * width) for n in self._slots[begin:end] if n]


_MIDDLE: Final = b"\x80"


def reserved_memory(size: int) -> mmap:
    """Return zeros that take memory as they are written, and leave it all when they are dropped.

    What malloc gets, it may keep: for it, each thread has memory of its own, with holes.
    """
    return mmap(-1, size, flags=MAP_PRIVATE | MAP_ANONYMOUS)
