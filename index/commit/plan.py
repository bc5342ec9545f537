"""Plan of a commit, relative to one state of the run, made before the last bytes are stored.

So the journal record of the commit is ready in time to go into the same pack as its bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from index.domain.classification import DEFAULT_CLASSIFIER
from index.domain.marks import NO_MARKS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from datetime import datetime

    from cas.digest import Digest
    from index.db.queries.current import Before
    from index.domain.annotations import Annotations, FileKind
    from index.domain.changes import ScanChanges
    from index.domain.classification import Classifier
    from index.domain.inputs import NewInput
    from index.domain.marks import Marks
    from index.domain.names import RunKey
    from index.domain.provenance import Provenance
    from index.domain.run_state import KnownFile, RunState
    from index.domain.snapshots import Skipped

__all__ = ["CommitPlan", "CommitRequest"]


@dataclass(frozen=True, slots=True)
class CommitPlan:
    """The changes that a commit makes, relative to `state`."""

    request: CommitRequest
    state: RunState
    findings: ScanChanges
    provenance_backfills: Sequence[KnownFile]
    """Versions whose missing provenance the commit fills in."""
    notes: Mapping[KnownFile, Mapping[str, Any]]
    """Columns that annotations and claims change, by version with unchanged content."""
    kinds: Sequence[FileKind]
    """The kind of each of the new versions. Equal kinds are one object."""
    befores: Mapping[str, Before]
    """The last versions of the paths of new versions, which these continue."""
    now: datetime
    replaces: Sequence[Digest]
    """Records of earlier attempts that failed."""
    inputs: Sequence[NewInput]
    """What the commit notes as read."""
    records: Sequence[Digest]
    """The journal records of the commit, in the order of the chain, the newest one last. None
    before they are written to a batch."""

    @property
    def changes_anything(self) -> bool:
        """Whether a transaction is needed. The first scan of a run always needs one."""
        return bool(
            self.makes_snapshot
            or self.findings.refreshed
            or self.provenance_backfills
            or self.notes
            or self.settled
            or self.request.marks.is_more
            or self.inputs
        )

    @property
    def work_dir(self) -> str | None:
        """The new work directory of the run; None if it stays as it is."""
        before, given = self.state.work_dir, self.request.work_dir
        stays = given == before or (self.request.is_part and before is not None)
        return None if stays else given

    @property
    def settled(self) -> dict[str, Any]:
        """The columns of the run that the commit changes."""
        moved = {} if self.work_dir is None else {"work_dir": self.work_dir}
        return {**moved, **self.request.marks.columns_at(self.now)}

    @property
    def makes_snapshot(self) -> bool:
        """Whether the commit makes a snapshot. One with notes does, and the first scan of a run.

        So that is recorded even of an empty directory.
        """
        found, request = self.findings, self.request
        is_first = self.state.newest_snapshot == 0 and request.work_dir is not None
        return bool(found.new or found.removed or is_first or request.marks.notes is not None)

    @property
    def number(self) -> int:
        """The number of the newest snapshot after the commit."""
        return self.state.newest_snapshot + self.makes_snapshot

    @property
    def newest_record(self) -> Digest | None:
        """The end of the run's chain of records after the commit."""
        return self.records[-1] if self.records else self.state.newest_record


@dataclass(frozen=True, slots=True)
class CommitRequest:
    """The findings to commit, with their provenance and annotations."""

    key: RunKey
    findings: ScanChanges
    provenance: Provenance
    rebased: Callable[[ScanChanges, RunState], ScanChanges]
    """Returns the findings relative to a newer state, which other commits have made."""
    paths: Collection[str] | None = None
    """The paths that it concerns, where it names them: it loads no others. None for a scan."""
    is_claim: bool = False
    """Whether the provenance is claimed for the files by name; see `index.domain.changes`."""
    scope: Sequence[str] | None = None
    skipped: tuple[Skipped, ...] = ()
    torn: tuple[str, ...] = ()
    hidden: int = 0
    ignored: int = 0
    absent: tuple[str, ...] = ()
    bytes_read: int = 0
    work_dir: str | None = None
    """The real path of the scanned directory; None if this is no scan of one."""
    is_part: bool = False
    """Whether that directory is recorded under a path of the run, which may have its own."""
    same_directory: bool = False
    """Whether it must be the directory of the scan before."""
    annotations: Mapping[str, Annotations] = field(default_factory=dict)
    """What the caller says, by path. Other paths keep what was said before."""
    marks: Marks = NO_MARKS
    classifier: Classifier = DEFAULT_CLASSIFIER
