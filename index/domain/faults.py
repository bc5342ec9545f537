"""Faults that verification finds, and its report."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from index.domain.results import Result

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from cas.digest import Digest

__all__ = ["Depth", "Fault", "FaultKind", "Holder", "VerifyReport"]


class Depth(StrEnum):
    """How much of a store verification checks. Each depth includes the ones before it."""

    INDEX = "index"
    """Check the rows against each other and against the list of objects."""
    PACKS = "packs"
    """Also check the size, header and footer of every pack."""
    BYTES = "bytes"
    """Also check every byte."""


class FaultKind(StrEnum):
    """The kinds of faults. Their values are part of the interface."""

    MISSING_OBJECT = "missing-object"
    """A pack that holds blobs is not in storage."""
    WRONG_SIZE = "wrong-size"
    """The size of an object differs from its size in the index."""
    BROKEN_PACK = "broken-pack"
    """The header, footer or trailer is invalid, or unreferenced entries are damaged."""
    MISNAMED_PACK = "misnamed-pack"
    """The name of a pack does not match its contents."""
    UNREADABLE_OBJECT = "unreadable-object"
    """The storage medium can't read some bytes of an object."""
    MISPLACED_ENTRY = "misplaced-entry"
    """The footer's entry of a blob is wrong or missing, but the bytes of the blob are right."""
    MISSING_BYTES = "missing-bytes"
    """The bytes of a blob are not in storage."""
    DAMAGED_BYTES = "damaged-bytes"
    """The bytes of a blob can't be read or decoded, or have another digest."""
    NOT_REPAIRED = "not-repaired"
    """An earlier verification found this blob damaged, and it is not repaired yet."""
    BAD_LOCATION = "bad-location"
    """A blob lies outside its pack, overlaps another blob, or is in a pack that is not live."""
    MISSING_BLOB = "missing-blob"
    """A file, chunk, chunk list or journal record refers to a blob without a row."""
    BROKEN_CHUNKS = "broken-chunks"
    """The chunks of a large blob do not add up to the blob."""
    BROKEN_LIST = "broken-list"
    """The stored chunk list of a large blob is the list of another blob, or no chunk list."""
    WRONG_FILE_SIZE = "wrong-file-size"
    """The size of a file version differs from the size of its bytes."""
    BROKEN_VERSIONS = "broken-versions"
    """The versions of a path overlap or are out of order."""
    BROKEN_SNAPSHOTS = "broken-snapshots"
    """The snapshots of a run are not numbered from 1 without a gap."""
    BROKEN_RECORDS = "broken-records"
    """The journal records of a run are not numbered from 1 without a gap."""
    BROKEN_INPUTS = "broken-inputs"
    """The inputs of a run are not numbered from 1 without a gap."""
    BROKEN_RUN_TAGS = "broken-run-tags"
    """A tag of runs has a name that no tag can have, names a run of another session, or its moves
    are not numbered from 1 without a gap."""
    CHANGED_REFERENCE = "changed-reference"
    """What a run has read outside of the store has other bytes now."""


class Holder(NamedTuple):
    """A file version that a fault affects."""

    session: str
    run: str
    path: str | None
    """None if the fault affects the run as a whole."""
    version: int | None
    agent: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return the holder as JSON types."""
        return self._asdict()


@dataclass(frozen=True, slots=True)
class Fault(Result):
    """Something that is certainly wrong."""

    kind: FaultKind
    subject: str
    """The object or row with the fault."""
    detail: str
    digest: Digest | None = None
    """The blob, if the fault is in one."""
    touches: tuple[Holder, ...] = ()
    """The first ten affected file versions."""
    touched: int = 0
    """The number of affected file versions."""


@dataclass(frozen=True, slots=True)
class VerifyReport(Result):
    """The results of a verification."""

    depth: Depth
    faults: tuple[Fault, ...]
    """The first thousand faults."""
    counts: Mapping[FaultKind, int] = field(hash=False)
    """The number of faults of each kind. Checks of rows stop at a thousand each."""
    packs: int
    """The number of live packs."""
    packs_read: int
    """The number of packs read: their footers, or every byte at depth `Depth.BYTES`."""
    blobs_read: int
    """Blobs and chunks in these packs, and large blobs assembled from chunks."""
    bytes_read: int
    recovered: int
    """Blobs that were marked as damaged and are intact now."""
    pending: int
    """Packs that a writer is about to commit, or left behind when it died."""
    dead: int
    """Packs that garbage collection is about to delete."""
    orphans: tuple[str, ...]
    """The first thousand objects below ``packs/`` without a row. They are not faults."""
    orphan_count: int
    orphan_bytes: int
    unused_bytes: int
    """Bytes of unreferenced entries in the packs that were read."""
    without_list: int
    """Large blobs without a chunk list in storage. Only a backup of the index can recover them."""
    packs_left: int
    """Packs that were not read because `max_bytes` was reached."""
    bytes_left: int
    """Bytes of these packs, and of large blobs that were not assembled."""
    oldest_verified: datetime | None
    """The oldest verification time among the packs; None if one was never verified."""
    marked: int = 0
    """Blobs that are marked as damaged now."""
    references: int = 0
    """References to bytes outside of the store that were read again."""
    unreachable: tuple[str, ...] = ()
    """The first thousand of those that can't be read where they were, with the reason. That is no
    fault."""

    derived: ClassVar = ("is_sound",)

    @property
    def is_sound(self) -> bool:
        """Whether the verification found no faults at its depth."""
        return not self.counts
