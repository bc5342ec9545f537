"""The journal records that commits leave in storage, as values.

A record is a JSON object in UTF-8; its ``op`` names its class below. `index.journal.encoding`
writes and reads the bytes. The bytes are an entry of a pack, of kind
`cas.packs.pack.EntryKind.RECORD`, named and verified by their digest. The records of a run form a
chain: each names the record before it. `docs/format.md` is normative.

Records, like all bytes, are durable before the transaction that they describe begins. So storage
may hold records of commits that never took place; `index.maintenance.recover.chains` finds them.
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
    "HoldEntry",
    "InputsEntry",
    "NewFiles",
    "PartEntry",
    "QuotaEntry",
    "RewindEntry",
    "RunEntry",
    "VersionsEntry",
]

RECORD_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class NewFiles:
    """New versions of a commit, column by column, in the order of their ids."""

    paths: Sequence[str] = ()
    digests: Sequence[bytes] = ()
    sizes: Sequence[int] = ()
    modes: Sequence[int] = ()
    mtimes_ns: Sequence[int] = ()
    kinds: Sequence[Sequence[Any]] = ()
    """File type, priority, is_final_output and meta of versions that share them."""
    kind_of: Sequence[int] = ()
    """For each path, its position in `kinds`."""

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """The fields of every record."""

    op: ClassVar[str]
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEntry(Entry):
    """A link of a run's chain."""

    session: str
    run: str
    previous: Digest | None
    """The record before this one; for a fork, the newest record of the run it begins from."""
    revision: int
    """The revision of the run after the commit. Two successful commits never share one."""
    replaces: Sequence[Digest] = ()
    """Records of earlier attempts at the same commit that failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitEntry(RunEntry):
    """A scan, put or registration, or a change of provenance or annotations."""

    op: ClassVar[str] = "commit"

    provenance: Mapping[str, str | None]
    snapshot: int | None
    """Number of the snapshot; None if the commit made none."""
    scope: Sequence[str] | None = None
    unchanged: int = 0
    skipped: Sequence[Sequence[str]] = ()
    """Pairs of path and reason."""
    torn: Sequence[str] = ()
    """Paths of files that changed while they were read."""
    bytes_read: int = 0
    files: NewFiles = field(default_factory=NewFiles)
    parts: Sequence[Digest] = ()
    """`PartEntry` records with more of `files`, where one record would be too large."""
    seen_by: int = 0
    """The scan that saw `files` on disk, as the bit of its prefix; 0 for a put."""
    removed: Sequence[str] = ()
    filled: Sequence[str] = ()
    """Paths whose missing provenance this commit filled in."""
    notes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Changed columns, by path: annotations, and provenance that was claimed."""
    touched: Sequence[Sequence[Any]] = ()
    """Path, mode, mtime_ns and seen_by of files with unchanged content."""
    work_dir: str | None = None
    """The work directory of the run from this commit on; None if it stays as it is."""
    snapshot_notes: Any = None
    """What the caller noted of the snapshot."""
    status: Sequence[str | None] | None = None
    """The status of the run from this commit on, and its reason; None if it stays as it is."""
    tags: Sequence[Sequence[Any]] = ()
    """Moved tags: name, snapshot, path, version and agent; names nothing if it was removed."""
    inputs: Sequence[Sequence[Any]] = ()
    """Inputs: digest, size, run, path and version of the source, URI; see
    `index.domain.inputs.NewInput`."""
    inputs_after: int = 0
    """The newest snapshot of the run when they were noted."""
    parent: str | None = None
    """The run that it is a part of from this commit on; empty for none, None if that stays."""
    run_notes: Mapping[str, Any] | None = None
    """Changed notes of the run, by name; None for one that was removed."""
    run_tags: Sequence[Sequence[Any]] = ()
    """Moved tags of the run itself: name, position, whether it was removed, and agent."""
    drops: Sequence[Sequence[Any]] = ()
    """Past versions whose bytes are let go: path, version and reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartEntry(Entry):
    """More files of a commit."""

    op: ClassVar[str] = "part"

    files: NewFiles


@dataclass(frozen=True, slots=True, kw_only=True)
class RewindEntry(RunEntry):
    """A rewind of a run to an earlier snapshot."""

    op: ClassVar[str] = "rewind"

    provenance: Mapping[str, str | None]
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkEntry(RunEntry):
    """A fork: a run that begins with the files of another run at a snapshot."""

    op: ClassVar[str] = "fork"

    forked_from: str
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry(RunEntry):
    """The complete state of a run. It begins a new chain where the old one is not known."""

    op: ClassVar[str] = "history"

    session_created_at: datetime
    run_created_at: datetime
    forked_from: str | None
    forked_snapshot: int | None
    work_dir: str | None
    description: Mapping[str, Any]
    """The columns of the run that tell what its callers said of it."""
    tags: Sequence[Mapping[str, Any]]
    """The columns of each move of a tag."""
    run_tags: Sequence[Mapping[str, Any]]
    """All moves of the tags that ever named the run itself, each with whether it is of this run."""
    snapshots: Sequence[Mapping[str, Any]]
    versions: int
    """The number of versions in `parts`."""
    parts: Sequence[Digest] = ()
    """Records of versions, then records of inputs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionsEntry(Entry):
    """Some versions of a history; each row has its values in the order of `columns`."""

    op: ClassVar[str] = "versions"

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class InputsEntry(Entry):
    """Some inputs of a history; each row has its values in the order of `columns`."""

    op: ClassVar[str] = "inputs"

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletionEntry(Entry):
    """A deletion of runs."""

    op: ClassVar[str] = "delete"

    session: str
    runs: Sequence[Sequence[str | None]]
    """For each run: its name, the digest of its newest record as text, its creation time."""
    run_tags: Sequence[Sequence[Any]] = ()
    """The moves by which tags named a run itself: name, position, whether it was removed, agent,
    time. Empty if the whole session was deleted."""
    is_session: bool
    """Whether the session itself was deleted, with all that was said of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldEntry(Entry):
    """A hold of a session or run, or its release."""

    op: ClassVar[str] = "hold"

    session: str
    run: str | None
    """None for the whole session."""
    owner_created_at: datetime
    """When that run or session was made. Others of its name are not held."""
    said_at: datetime
    """When it was held or released; before `created_at` if a sync brought the hold later."""
    runs: Sequence[Sequence[str | None]] = ()
    """The runs that were there to be held, as in a deletion; none of a release. Deletions of these
    had not taken effect before."""
    reason: str
    agent: str | None
    is_release: bool
    replaces: Sequence[Digest] = ()
    """Records of earlier attempts at the same hold that failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaEntry(Entry):
    """The quota of a session from now on."""

    op: ClassVar[str] = "quota"

    session: str
    bytes: int | None
    """None for no quota."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupEntry(Entry):
    """A backup of the index: an SQLite database, stored as a blob."""

    op: ClassVar[str] = "backup"

    digest: Digest
    size: int
    schema: str
