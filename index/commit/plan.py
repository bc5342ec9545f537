"""Plan of a commit, relative to one state of the run, made before the last bytes are stored.

So the journal record of the commit is ready in time to go into the same pack as its bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from index.domain.annotations import Annotations
from index.domain.classification import DEFAULT_CLASSIFIER

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from cas.digest import Digest
    from cas.writer import BatchWriter
    from index.domain.changes import Change, ScanChanges
    from index.domain.classification import Classifier
    from index.domain.names import RunKey
    from index.domain.provenance import Provenance
    from index.domain.run_state import KnownFile, RunState
    from index.domain.snapshots import Skipped

__all__ = ["CommitPlan", "CommitRequest", "FileKind"]

FileKind: TypeAlias = tuple[str, str]
"""File type and priority."""


@dataclass(frozen=True, slots=True)
class CommitPlan:
    """The changes that a commit makes, relative to `state`."""

    request: CommitRequest
    state: RunState
    findings: ScanChanges
    provenance_backfills: Sequence[KnownFile]
    """Versions whose missing provenance the commit fills in."""
    notes: Mapping[KnownFile, Mapping[str, Any]]
    """Columns that annotations change, by version with unchanged content."""
    new: Sequence[Change]
    """The changes that begin a new version."""
    kinds: Sequence[FileKind]
    """The kind of each of `new`. Equal kinds are one object."""
    now: datetime
    replaces: Sequence[Digest]
    """Records of earlier attempts that failed."""
    records: Sequence[Digest]
    """The journal records of the commit, in the order of the chain, the newest one last."""
    record_data: Sequence[bytes]
    """The bytes of `records`, until they are written to a batch."""

    @property
    def changes_anything(self) -> bool:
        """Whether a transaction is needed. The first scan of a run always needs one."""
        found = self.findings
        return bool(
            self.state.run_id is None
            or found.changes
            or found.refreshed
            or self.provenance_backfills
            or self.notes
        )

    @property
    def makes_snapshot(self) -> bool:
        """Whether the commit makes a snapshot. The first scan does, even of an empty directory."""
        return bool(self.findings.changes) or self.state.run_id is None

    @property
    def number(self) -> int:
        """The number of the newest snapshot after the commit."""
        return self.state.newest_snapshot + self.makes_snapshot

    @property
    def newest_record(self) -> Digest | None:
        """The end of the run's chain of records after the commit."""
        return self.records[-1] if self.records else self.state.newest_record

    def write_records(self, batch: BatchWriter) -> Self:
        """Write the journal records to a batch; return the plan without their bytes."""
        for data in self.record_data:
            batch.add_record(data)
        return replace(self, record_data=())


@dataclass(frozen=True, slots=True)
class CommitRequest:
    """The findings to commit, with their provenance and annotations."""

    key: RunKey
    findings: ScanChanges
    provenance: Provenance
    still_holds: Callable[[Change], bool]
    """Whether a change still matches the path now; see `index.domain.changes.rebase`."""
    scope: Sequence[str] | None = None
    skipped: tuple[Skipped, ...] = ()
    bytes_read: int = 0
    annotations: Annotations = field(default_factory=Annotations)
    classifier: Classifier = DEFAULT_CLASSIFIER
