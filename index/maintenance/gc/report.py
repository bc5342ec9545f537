"""Reports of planned and finished collections."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from index.domain.results import Result, to_json

if TYPE_CHECKING:
    from datetime import datetime

    from cas.digest import Digest

__all__ = [
    "CompactedPack",
    "DamagedEntry",
    "DeadPack",
    "Fate",
    "GarbageBlob",
    "GcReport",
    "Kind",
    "Orphan",
    "Tally",
]


class Fate(StrEnum):
    """The outcome for a blob."""

    SWEPT = "swept"
    """Deleted now."""
    CONDEMNED = "condemned"
    """Condemned now: nothing refers to it. It is deleted after the grace period."""
    WAITING = "waiting"
    """Condemned earlier, and still within the grace period."""
    UNMARKED = "unmarked"
    """Unmarked: it was condemned, but something refers to it again."""


class Kind(StrEnum):
    """The use of a blob by its last owner."""

    CONTENT = "content"
    """Content of a file."""
    RECORD = "record"
    """A journal record of a deleted run."""
    UNNAMED = "unnamed"
    """A chunk or chunk list of a large file, or bytes of a failed scan, without an owner."""


class GarbageBlob(NamedTuple):
    """A garbage blob and its last owner. A tuple, because there may be a million."""

    fate: Fate
    digest: Digest
    size: int
    stored_size: int
    """Bytes in its pack; 0 for a large blob, whose chunks are listed separately."""
    session: str | None
    """Session of the first version with these bytes; run, path and agent are of the same version.
    None for chunks, and for bytes of a failed scan, which were never recorded."""
    run: str | None
    path: str | None
    """None for a journal record; `agent` too."""
    agent: str | None

    @property
    def kind(self) -> Kind:
        """The use of the blob, as far as it is known."""
        if self.path is not None:
            return Kind.CONTENT
        return Kind.UNNAMED if self.run is None else Kind.RECORD

    def to_dict(self) -> dict[str, Any]:
        """Return the blob and its kind as JSON types."""
        return to_json({**self._asdict(), "kind": self.kind})  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class Tally:
    """A number of blobs, and their bytes in packs."""

    blobs: int = 0
    stored_size: int = 0


@dataclass(frozen=True, slots=True)
class DeadPack:
    """A pack to delete."""

    name: Digest
    size: int
    reason: str


@dataclass(frozen=True, slots=True)
class CompactedPack:
    """A pack to delete after its live entries are copied to another pack."""

    name: Digest
    size: int
    live: int
    """Stored bytes to copy."""
    dead: int
    """Bytes to free."""
    reason: str


@dataclass(frozen=True, slots=True)
class Orphan:
    """An object below ``packs/`` without a row."""

    name: str
    size: int
    outcome: str
    """``found``, ``removed``, ``in use`` (being committed now), or ``foreign`` (not a pack)."""


@dataclass(frozen=True, slots=True)
class DamagedEntry:
    """An entry that compaction could not read and left in place. Without a digest: a whole pack."""

    pack: Digest
    digest: Digest | None
    reason: str


@dataclass(frozen=True, slots=True)
class GcReport(Result):
    """The results of a collection."""

    condemned: Tally
    """Blobs condemned by this collection. They are deleted after the grace period."""
    swept: Tally
    """Blobs removed from the index."""
    unmarked: int
    """Number of condemned blobs unmarked, because something refers to them again."""
    packs_deleted: int
    bytes_deleted: int
    """Bytes of the deleted packs, rewritten ones included, and of the removed orphans."""
    packs_compacted: int
    bytes_written: int
    """Bytes of the packs that compaction wrote."""
    damaged: tuple[DamagedEntry, ...]
    orphans: tuple[Orphan, ...]
    next_removal: datetime | None = None
    """When the grace period of the first condemned blob is over, so that a collection removes it.
    None if there is none."""

    derived: ClassVar = ("bytes_freed",)

    @property
    def bytes_freed(self) -> int:
        """The net decrease of bytes in storage."""
        return self.bytes_deleted - self.bytes_written
