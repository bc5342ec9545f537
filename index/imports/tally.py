"""The report of an import in progress, and the notes by which a later one knows what is done."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from index import ImportReport, Progress, Skipped
from index.errors import (
    ImportMismatchError,
    ImportSourceError,
    UnknownRunError,
    UnknownSessionError,
)
from index.imports.sources import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from index import Run, Snapshot

__all__ = ["Tally", "is_imported", "note_of"]


@dataclass(slots=True)
class Tally:
    """The counts of a report in progress, and what was found to differ."""

    run: Run
    source_format: str
    source: str
    progress: Callable[[Progress], None] | None = None
    expected: int | None = None
    """Number of snapshots to come, if it is known."""
    newest: int = 0
    """Number of the newest snapshot of the run."""
    lacking: set[str] = field(default_factory=set)
    """Paths, as `shown`, that some revision has and the run does not, for reasons in the notes."""
    snapshots: int = 0
    versions: int = 0
    bytes: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)

    def begin(self) -> list[tuple[Snapshot, dict[str, Any]]]:
        """Return the snapshots that imports of this format have made, with notes, oldest first.

        Raises ImportSourceError if the run holds only others.
        """
        self.newest = _newest_snapshot(self.run)
        imported = _list_imported(self.run, self.source_format)
        if not imported and self.newest:
            raise ImportSourceError(
                self.source,
                f"run {self.run.id!r} has a history of its own; import into another run",
            )
        return imported

    def count(self, snapshot: Snapshot) -> None:
        """Count what a snapshot has recorded. Raises ImportSourceError if others record, too."""
        self.newest += 1
        if snapshot.number != self.newest:
            raise ImportSourceError(
                self.source,
                f"run {self.run.id!r} is written to by others at the same time; "
                "import again to go on",
            )
        new = (*snapshot.added, *snapshot.changed)
        self.snapshots += 1
        self.versions += len(new)
        self.bytes += sum(version.size for version in new)
        if self.progress is not None:
            self.progress(Progress(self.snapshots, self.bytes, self.expected))

    def differ(self, path: str, snapshot: Snapshot, what: str) -> None:
        """Note that a path of a snapshot is not what the source has."""
        self.differences.append(f"{path!r} in snapshot {snapshot.number}: {what}")

    def report(self) -> ImportReport:
        """Return the report. Raises ImportMismatchError if anything differs."""
        if self.differences:
            raise ImportMismatchError(self.source, self.run.id, tuple(self.differences))
        return ImportReport(
            session=self.run.key.session,
            run=self.run.id,
            format=self.source_format,
            source=self.source,
            snapshots=self.snapshots,
            versions=self.versions,
            bytes=self.bytes,
            skipped=tuple(dict.fromkeys(self.skipped)),
        )


def note_of(source_format: str, revision: str, skipped: Iterable[Skipped] = ()) -> dict[str, Any]:
    """Return the note by which an import knows later what it has recorded, and what not."""
    lacking = [[shown(path), reason] for path, reason in skipped]
    more = {"skipped": lacking} if lacking else {}
    return {"from": source_format, "revision": revision, **more}


def _list_imported(run: Run, source_format: str) -> list[tuple[Snapshot, dict[str, Any]]]:
    try:
        snapshots = run.snapshots()
    except (UnknownSessionError, UnknownRunError):
        return []
    noted = [(each, each.notes["imported"]) for each in snapshots if is_imported(each)]
    return [(each, note) for each, note in noted if note["from"] == source_format]


def is_imported(snapshot: Snapshot) -> bool:
    """Whether an import has made a snapshot."""
    notes = snapshot.notes
    note = notes.get("imported") if isinstance(notes, dict) else None
    return isinstance(note, dict) and {"from", "revision"} <= note.keys()


def _newest_snapshot(run: Run) -> int:
    """Return the number of the newest snapshot of a run; 0 if there is no run."""
    try:
        newest = run.snapshots(limit=1)
    except (UnknownSessionError, UnknownRunError):
        return 0
    return newest[-1].number if newest else 0
