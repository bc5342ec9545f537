"""What a verification tells."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from cas.digest import Digest

__all__ = ["Depth", "Fault", "FaultKind", "Holder", "VerifyReport"]


class Depth(StrEnum):
    """How closely a store is looked at; each depth does what the ones before it do."""

    INDEX = "index"
    """Rows among themselves, and against the list of objects."""
    PACKS = "packs"
    """Size, header and footer of every pack."""
    BYTES = "bytes"
    """Every byte."""


class FaultKind(StrEnum):
    """What can be wrong. The values are part of the interface."""

    MISSING_OBJECT = "missing-object"
    """A pack that blobs are in is not in storage."""
    WRONG_SIZE = "wrong-size"
    """An object is longer or shorter than the index has it."""
    BROKEN_PACK = "broken-pack"
    """Header, footer or trailer can't be trusted, or entries that nothing refers to are damaged."""
    MISNAMED_PACK = "misnamed-pack"
    """What is in a pack gives it another name than its own."""
    UNREADABLE_OBJECT = "unreadable-object"
    """The medium refuses some bytes of an object."""
    MISPLACED_ENTRY = "misplaced-entry"
    """The footer has a blob elsewhere, otherwise or not at all; its bytes are right."""
    MISSING_BYTES = "missing-bytes"
    """The bytes of a blob are not in storage."""
    DAMAGED_BYTES = "damaged-bytes"
    """The bytes of a blob can't be read or decoded, or hash to something else."""
    NOT_MENDED = "not-mended"
    """A blob that an earlier verification found damaged."""
    BAD_LOCATION = "bad-location"
    """A blob lies outside its pack, over another blob, or in a pack that is not live."""
    MISSING_BLOB = "missing-blob"
    """A file, chunk, list or record refers to a blob that has no row."""
    BROKEN_CHUNKS = "broken-chunks"
    """The chunks of a large blob are not those that make it up."""
    BROKEN_LIST = "broken-list"
    """What is kept in storage as a large blob's list of chunks is another one's, or none."""
    WRONG_FILE_SIZE = "wrong-file-size"
    """A file version has another size than its bytes."""
    BROKEN_VERSIONS = "broken-versions"
    """The versions of a path can't follow each other so."""
    BROKEN_SNAPSHOTS = "broken-snapshots"
    """The snapshots of a run are not numbered from 1 without a gap."""
    BROKEN_RECORDS = "broken-records"
    """The records of a run are not numbered from 1 without a gap."""


class Holder(NamedTuple):
    """A file version that a fault touches."""

    session: str
    run: str
    path: str | None
    """None where a fault touches the run as a whole."""
    version: int | None
    agent: str | None


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is wrong for certain."""

    kind: FaultKind
    subject: str
    """The object or row that it was found in."""
    detail: str
    digest: Digest | None = None
    """The blob, if it is one."""
    touches: tuple[Holder, ...] = ()
    """The first ten file versions that need it."""
    touched: int = 0
    """How many file versions need it."""


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What a verification found."""

    depth: Depth
    faults: tuple[Fault, ...]
    """The first thousand."""
    counts: Mapping[FaultKind, int]
    """How many of each kind; of each kind of row at most a thousand are counted."""
    packs: int
    """Packs that are live."""
    packs_read: int
    """Of which so many were read: their footers, or all of them at depth `Depth.BYTES`."""
    blobs_read: int
    """Blobs and chunks in these, and large blobs that were put together."""
    bytes_read: int
    recovered: int
    """Blobs that were known to be damaged, and are right again."""
    pending: int
    """Packs that a writer is about to record, or left behind when it died."""
    dead: int
    """Packs that garbage collection is about to delete."""
    orphans: tuple[str, ...]
    """The first thousand objects below ``packs/`` that the index knows nothing of; no fault."""
    orphan_count: int
    orphan_bytes: int
    unused_bytes: int
    """Of entries in the packs that were read which no row leads to."""
    without_list: int
    """Large blobs whose chunks only the index has in order: recoverable by a backup alone."""
    packs_left: int
    """Packs whose bytes were to be read and were not, for `max_bytes`."""
    bytes_left: int
    """Of these packs, and of large blobs that were not put together."""
    oldest_verified: datetime | None
    """When the pack that was not verified for the longest was; None if one never was."""
    marked: int = 0
    """Blobs that are known to be damaged now."""

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong, as far as was looked."""
        return not self.counts
