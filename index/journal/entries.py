"""The records that commits leave in storage, as values and as bytes.

A record is JSON in UTF-8: an object whose ``op`` says which class it is, of those below or of
`index.journal.entries`; `index.journal.encoding` reads them. Its bytes are an entry of a pack,
of kind `cas.packs.pack.EntryKind.RECORD`, named and verified by their digest.
Those of one run are a chain: each names the one before it. `docs/format.md` is normative.

A record is durable before the transaction that it tells of begins, as all bytes are. So there may
be records of commits that never arrived; `index.maintenance.recover.chains` tells which.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from cas.digest import Digest


__all__ = [
    "RECORD_VERSION",
    "BackupEntry",
    "CommitEntry",
    "DeletionEntry",
    "Entry",
    "ForkEntry",
    "HistoryEntry",
    "NewFiles",
    "PartEntry",
    "RewindEntry",
    "RunEntry",
    "VersionsEntry",
]

RECORD_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class NewFiles:
    """Versions that begin with a commit, column by column, in the order of their ids."""

    paths: Sequence[str] = ()
    digests: Sequence[bytes] = ()
    sizes: Sequence[int] = ()
    modes: Sequence[int] = ()
    mtimes_ns: Sequence[int] = ()
    kinds: Sequence[Sequence[str]] = ()
    """Pairs of file type and priority."""
    kind_of: Sequence[int] = ()
    """For each path which of `kinds` it is."""

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What every record has."""

    op: ClassVar[str]
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEntry(Entry):
    """A link of a run's chain."""

    session: str
    run: str
    previous: Digest | None
    """The record before it; of a fork, the newest one of the run that it stems from."""
    revision: int
    """The run's, once the commit has arrived: never the same for two commits that have."""
    replaces: Sequence[Digest] = ()
    """Records of attempts of the same which never arrived."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitEntry(RunEntry):
    """A scan, a put or a registration; provenance that was filled in, notes that were changed."""

    op: ClassVar[str] = "commit"

    provenance: Mapping[str, str | None]
    snapshot: int | None
    """Number of the snapshot; None if the commit made none."""
    scope: Sequence[str] | None = None
    unchanged: int = 0
    skipped: Sequence[Sequence[str]] = ()
    """Pairs of path and reason."""
    bytes_read: int = 0
    files: NewFiles = field(default_factory=NewFiles)
    parts: Sequence[Digest] = ()
    """Records that hold more of `files`, where one would be too large."""
    seen_on_disk: bool = True
    is_final_output: bool = False
    meta: Any = None
    removed: Sequence[str] = ()
    filled: Sequence[str] = ()
    """Paths whose missing provenance is that of this commit."""
    notes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Columns by path."""
    touched: Sequence[Sequence[Any]] = ()
    """Path, mode, mtime_ns and seen_on_disk of files whose content is the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartEntry(Entry):
    """More of the files of a commit."""

    op: ClassVar[str] = "part"

    files: NewFiles


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
