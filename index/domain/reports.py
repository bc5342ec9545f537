"""Reports on runs, stores, deletions and restores."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, TypeAlias, get_args

from index.domain.results import Result

if TYPE_CHECKING:
    from datetime import datetime

    from cas.digest import Digest
    from index.domain.snapshots import Skipped

__all__ = [
    "DeletionReceipt",
    "ExportReport",
    "GroupStats",
    "ImportReport",
    "KeptBlob",
    "ReleasedBlob",
    "RestoreChange",
    "RestoreResult",
    "RestoreWarning",
    "RunStats",
    "StatsLabel",
    "StoreStats",
    "StoredBlob",
    "check_labels",
]

StatsLabel: TypeAlias = Literal[
    "session", "run", "phase", "agent", "code_hash", "node_id", "step_id", "event_id", "file_type",
    "priority", "is_final_output",
]  # fmt: skip
"""What statistics can be split by."""


def check_labels(labels: tuple[StatsLabel, ...]) -> tuple[StatsLabel, ...]:
    """Return the labels. Raises ValueError if one is unknown, or if there is none."""
    known = get_args(StatsLabel)
    for label in labels:
        if label not in known:
            raise ValueError(f"statistics are split by {', '.join(known)}, not by {label!r}")
    if not labels:
        raise ValueError(f"name what to split statistics by: {', '.join(known)}")
    return tuple(dict.fromkeys(labels))


@dataclass(frozen=True, slots=True)
class RunStats(Result):
    """A run in numbers."""

    session: str
    run: str
    snapshots: int
    files: int
    """Current files."""
    bytes: int
    """Total size of the current files."""
    versions: int
    """File versions, current and past."""
    version_bytes: int
    """Total size of all versions, before deduplication."""
    distinct_bytes: int
    """Total size after deduplication, before compression."""
    files_by_type: dict[str, int] = field(hash=False)
    files_by_agent: dict[str | None, int] = field(hash=False)
    files_by_phase: dict[str | None, int] = field(hash=False)
    files_by_step: dict[str | None, int] = field(hash=False)
    files_by_node: dict[str | None, int] = field(hash=False)
    files_by_priority: dict[str, int] = field(hash=False)
    final_outputs: int


@dataclass(frozen=True, slots=True)
class GroupStats(Result):
    """The files with the same labels, in numbers."""

    labels: dict[str, Any] = field(hash=False)
    """The values by which these files are grouped; None for files without that label."""
    files: int
    """Current files."""
    bytes: int
    """Total size of the current files."""
    versions: int
    """File versions, current and past."""
    version_bytes: int
    """Total size of all versions, before deduplication."""

    def to_dict(self) -> dict[str, Any]:
        """Return the labels and the numbers as JSON types."""
        numbers = Result.to_dict(self)
        return {**numbers.pop("labels"), **numbers}


@dataclass(frozen=True, slots=True)
class StoreStats(Result):
    """A whole store in numbers."""

    store_id: str
    index: str
    blobs_at: str
    sessions: int
    runs: int
    versions: int
    version_bytes: int
    """Total size of all file versions, before deduplication."""
    blobs: int
    """Distinct blobs, chunks included."""
    distinct_bytes: int
    """Total size of the distinct blobs, before compression."""
    packs: int
    stored_bytes: int
    """Total size of the live packs."""
    condemned: int
    """Unreferenced blobs that garbage collection deletes after its grace period."""
    condemned_bytes: int
    """Stored bytes of the condemned blobs."""
    dead_bytes: int
    """Bytes in live packs that no blob needs. Garbage collection frees them by rewriting packs."""
    cache_at: str | None = None
    """Directory of the local cache of remote blobs; None if there is none."""
    cache_bytes: int | None = None
    """Size of the cache on disk, as far as it is known without counting."""
    cache_limit_bytes: int | None = None
    damaged: int = 0
    """Blobs that are marked as damaged."""
    unverified_since: datetime | None = None
    """When the pack was verified, or else written, that has waited longest; None without packs."""
    condemned_since: datetime | None = None
    """When the blob was condemned that has waited longest for its deletion; None if none is."""
    pending_since: datetime | None = None
    """When the oldest pack was written that no commit has recorded; None if there is none."""
    backed_up_at: datetime | None = None
    """When the newest copy of the index was stored; None if there is none."""

    def to_openmetrics(self) -> str:
        """Return the numbers in the text format of OpenMetrics, as ``--prometheus`` prints them."""
        from index.domain.metrics import openmetrics

        return openmetrics({each.name: getattr(self, each.name) for each in fields(self)})


@dataclass(frozen=True, slots=True)
class StoredBlob(Result):
    """How the bytes of a digest are stored. Who sees it can tell whether others have them, too."""

    digest: Digest
    size: int
    stored_size: int
    """Their part of the packs."""
    chunks: int
    """1 for a blob that is not cut into chunks."""
    packs: tuple[Digest, ...]
    """The names of the packs that hold them, the first few of many."""
    created_at: datetime
    """When they were first stored."""
    verified_at: datetime | None
    """When they were last found to be right by a verification of all bytes; None if never."""
    damaged_at: datetime | None
    """When they were found to be damaged; None if they are not known to be."""


class ReleasedBlob(NamedTuple):
    """Content that nothing in the session refers to after the deletion."""

    digest: Digest
    size: int


class KeptBlob(NamedTuple):
    """Deleted content that stays because another run of the session holds it."""

    digest: Digest
    size: int
    run: str
    """One of the runs that hold the content."""
    path: str
    """The path where that run first held it."""
    runs: int
    """The number of runs that hold it."""


@dataclass(frozen=True, slots=True)
class DeletionReceipt(Result):
    """The files that a deletion removed, and the contents that it released or kept.

    A receipt covers one session. Garbage collection deletes released content unless another
    session holds the same bytes. A session can't see whether that is so.
    """

    session: str
    runs: tuple[str, ...]
    files: int
    """Number of current files deleted."""
    versions: int
    """Number of file versions deleted, the current ones included."""
    released: tuple[ReleasedBlob, ...]
    kept: tuple[KeptBlob, ...]

    derived: ClassVar = ("released_bytes", "kept_bytes")

    @property
    def released_bytes(self) -> int:
        """Bytes of the released contents, before compression."""
        return sum(blob.size for blob in self.released)

    @property
    def kept_bytes(self) -> int:
        """Bytes of the contents that stay, before compression."""
        return sum(blob.size for blob in self.kept)


@dataclass(frozen=True, slots=True)
class ExportReport(Result):
    """What an export wrote."""

    session: str
    run: str
    format: str
    target: str
    """The file or directory; ``-`` for a stream."""
    snapshots: int
    """Number of snapshots that it describes."""
    files: int
    """Number of files and links in it."""
    bytes: int
    """Total size of these, before compression."""
    left_out: tuple[Skipped, ...] = ()
    """Paths that it does not hold, with the reasons."""


class RestoreWarning(NamedTuple):
    """Something besides the bytes of a file that the destination does not take."""

    path: str
    reason: str
    """What could not be set or made, and why."""

    def to_dict(self) -> dict[str, Any]:
        """Return the warning as JSON types."""
        return self._asdict()


class RestoreChange(NamedTuple):
    """A file of the destination that a restore creates, replaces or deletes."""

    change: Literal["created", "replaced", "deleted"]
    path: str
    size: int
    """Bytes of the file that is written or deleted."""

    def to_dict(self) -> dict[str, Any]:
        """Return the change as JSON types."""
        return self._asdict()


@dataclass(frozen=True, slots=True)
class RestoreResult(Result):
    """What a restore did, or what it would do if it was a dry run."""

    destination: str
    """The directory."""
    written: int
    """Number of files and links created or replaced."""
    unchanged: int
    """Number of files that already had the right content."""
    bytes_written: int
    changes: tuple[RestoreChange, ...] = ()
    """The files created, replaced and deleted; by path."""
    without_bytes: tuple[str, ...] = ()
    """Paths of versions without bytes to restore: they were dropped, or adopted so."""
    warnings: tuple[RestoreWarning, ...] = ()
    """Modes and times that could not be set, and links that could not be made; by path."""
    kept: tuple[str, ...] = ()
    """Paths that `delete` leaves: the run once had them, but never with this content."""
    unrecorded: tuple[str, ...] = ()
    """Paths whose present content would go for good: the run has never recorded it there. Only a
    dry run looks for them."""
    dry_run: bool = False
    """Whether nothing was touched."""

    derived: ClassVar = ("deleted",)

    @property
    def deleted(self) -> int:
        """Number of files and links deleted."""
        return sum(each.change == "deleted" for each in self.changes)


@dataclass(frozen=True, slots=True)
class ImportReport(Result):
    """What an import recorded in a run."""

    session: str
    run: str
    format: str
    """What the source was read as: ``"git"``, ``"dvc"``, ``"mlflow"``, ``"steps"``, …"""
    source: str
    snapshots: int
    """Number of snapshots recorded now. What an earlier import recorded does not count."""
    versions: int
    """Number of file versions recorded now."""
    bytes: int
    """Total size of these versions, before deduplication."""
    skipped: tuple[Skipped, ...]
    """What the source lists and the run does not hold, or not as one would expect it."""
