"""What a commit will do to a run, worked out against one state of it before bytes are finished.

So the record of the commit is known in time to ride in the pack that the commit's bytes go into.
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
    """A commit that is ready to be recorded, relative to `state`."""

    request: CommitRequest
    state: RunState
    findings: ScanChanges
    provenance_backfills: Sequence[KnownFile]
    """Versions whose missing provenance is supplied."""
    notes: Mapping[KnownFile, Mapping[str, Any]]
    """Columns that annotations change of versions whose content is recorded."""
    new: Sequence[Change]
    """Those of the changes that begin a version."""
    kinds: Sequence[FileKind]
    """Of each of `new`; equal ones are one object."""
    now: datetime
    replaces: Sequence[Digest]
    """Records of earlier attempts, which never arrived."""
    records: Sequence[Digest]
    """What it leaves in storage, in the order in which it is chained; the newest one comes last."""
    record_data: Sequence[bytes]
    """The bytes of `records`, until a batch has them."""

    @property
    def changes_anything(self) -> bool:
        """Whether a transaction is needed: the first scan of a run is always recorded."""
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
        """Whether it is a snapshot: an empty directory that is scanned first is a known state."""
        return bool(self.findings.changes) or self.state.run_id is None

    @property
    def number(self) -> int:
        """The newest snapshot once it is recorded."""
        return self.state.newest_snapshot + self.makes_snapshot

    @property
    def newest_record(self) -> Digest | None:
        """The end of the run's chain of records once this is recorded."""
        return self.records[-1] if self.records else self.state.newest_record

    def write_records(self, batch: BatchWriter) -> Self:
        """Have a batch write what this leaves in storage; return the same without those bytes."""
        for data in self.record_data:
            batch.add_record(data)
        return replace(self, record_data=())


@dataclass(frozen=True, slots=True)
class CommitRequest:
    """What is to be recorded, and on whose account."""

    key: RunKey
    findings: ScanChanges
    provenance: Provenance
    still_holds: Callable[[Change], bool]
    """Whether a change is what the path holds at this moment; see `index.domain.changes.rebase`."""
    scope: Sequence[str] | None = None
    skipped: tuple[Skipped, ...] = ()
    bytes_read: int = 0
    annotations: Annotations = field(default_factory=Annotations)
    classifier: Classifier = DEFAULT_CLASSIFIER
