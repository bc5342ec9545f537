"""Records of what happens to runs and stores beside commits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from index.journal.entries import Entry, RunEntry

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from cas.digest import Digest

__all__ = [
    "BackupEntry",
    "DeletionEntry",
    "ForkEntry",
    "HistoryEntry",
    "RewindEntry",
    "VersionsEntry",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class RewindEntry(RunEntry):
    """A run that went back to what it held at a snapshot."""

    op: ClassVar[str] = "rewind"

    provenance: Mapping[str, str | None]
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkEntry(RunEntry):
    """A run that begins with what another one held at a snapshot."""

    op: ClassVar[str] = "fork"

    parent: str
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry(RunEntry):
    """All of a run as it is, where its chain is not known: it begins a new one."""

    op: ClassVar[str] = "history"

    session_created_at: datetime
    run_created_at: datetime
    parent: str | None
    parent_snapshot: int | None
    snapshots: Sequence[Mapping[str, Any]]
    versions: int
    """How many there are in `parts`."""
    parts: Sequence[Digest] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionsEntry(Entry):
    """Some versions of a history, each with its columns in the order of `columns`."""

    op: ClassVar[str] = "versions"

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletionEntry(Entry):
    """Runs that were deleted."""

    op: ClassVar[str] = "delete"

    session: str
    runs: Sequence[Sequence[str | None]]
    """For each its name, the digest of its newest record as text, and when it was made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupEntry(Entry):
    """A copy of the index, an SQLite database, kept as a blob."""

    op: ClassVar[str] = "backup"

    digest: Digest
    size: int
    schema: str
