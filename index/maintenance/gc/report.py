"""What a collection would do, and what it did: frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from cas.digest import Digest

__all__ = [
    "CompactedPack",
    "DamagedEntry",
    "DoomedPack",
    "Fate",
    "GarbageBlob",
    "GcReport",
    "Kind",
    "Orphan",
    "Tally",
]


class Fate(StrEnum):
    """What becomes of a blob."""

    SWEPT = "swept"
    """It goes now."""
    CONDEMNED = "condemned"
    """Nothing refers to it; it goes once the grace period is over."""
    WAITING = "waiting"
    """It was condemned before, and the grace period is not over."""
    PARDONED = "pardoned"
    """It was condemned, and something refers to it again: it stays."""


class Kind(StrEnum):
    """What a blob was to whoever had it."""

    CONTENT = "content"
    """A file's."""
    RECORD = "record"
    """A record of a commit, of a run that was deleted."""
    UNNAMED = "unnamed"
    """A chunk or chunk list of a large file; or what nobody had: bytes of a scan that failed."""


class GarbageBlob(NamedTuple):
    """A blob that goes or may go, and who had it; a tuple, as there may be a million."""

    fate: Fate
    digest: Digest
    size: int
    stored_size: int
    """Bytes in its pack; 0 for a large blob, whose chunks are listed for themselves."""
    session: str | None
    """Of the first version that had it, like run, path and agent. None for chunks, and for what was
    never recorded, by a scan that failed."""
    run: str | None
    path: str | None
    """None for a record of a commit, like agent."""
    agent: str | None

    @property
    def kind(self) -> Kind:
        """What it was, as far as that is known."""
        if self.path is not None:
            return Kind.CONTENT
        return Kind.UNNAMED if self.run is None else Kind.RECORD


@dataclass(frozen=True, slots=True)
class Tally:
    """How many blobs, and the bytes that they take in their packs."""

    blobs: int = 0
    stored_size: int = 0


@dataclass(frozen=True, slots=True)
class DoomedPack:
    """A pack that goes."""

    name: Digest
    size: int
    reason: str


@dataclass(frozen=True, slots=True)
class CompactedPack:
    """A pack whose live entries are copied elsewhere, so that it can go."""

    name: Digest
    size: int
    live: int
    """Stored bytes that are copied."""
    dead: int
    """Bytes that come free."""
    reason: str


@dataclass(frozen=True, slots=True)
class Orphan:
    """An object below ``packs/`` that no row knows."""

    name: str
    size: int
    outcome: str
    """``found``, ``removed``, ``in use`` (being recorded right now), or ``foreign`` (no pack)."""


@dataclass(frozen=True, slots=True)
class DamagedEntry:
    """What compaction could not read, and left where it is; or a whole pack, without a digest."""

    pack: Digest
    digest: Digest | None
    reason: str


@dataclass(frozen=True, slots=True)
class GcReport:
    """What a collection did."""

    condemned: Tally
    """Blobs that were found to be garbage, and go once the grace period is over."""
    swept: Tally
    """Blobs that were taken out of the index."""
    pardoned: int
    """Condemned blobs that something refers to again."""
    packs_deleted: int
    bytes_deleted: int
    """Of the packs, rewritten ones included, and of the orphans that were removed."""
    packs_compacted: int
    bytes_written: int
    """Of the packs that compaction wrote."""
    damaged: tuple[DamagedEntry, ...]
    orphans: tuple[Orphan, ...]

    @property
    def bytes_freed(self) -> int:
        """What storage holds less than before."""
        return self.bytes_deleted - self.bytes_written
