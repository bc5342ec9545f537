"""What a scan would record, compared with what a run holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from index.domain.results import Result

if TYPE_CHECKING:
    from index.domain.snapshots import Skipped

__all__ = ["Status", "StatusEntry"]


class StatusEntry(NamedTuple):
    """A path of a run that a scan would change."""

    path: str
    version: int
    """The version that the run holds now; 0 if it holds none."""
    size: int | None
    """Bytes in the work directory; None if the file is gone."""


@dataclass(frozen=True, slots=True)
class Status(Result):
    """The changes that `Run.track` would record. It is true if there are any."""

    work_dir: str
    """The real path of the directory that was looked at."""
    snapshot: int
    """The number of the newest snapshot, which the directory was compared with; 0 if there is none.
    """
    added: tuple[StatusEntry, ...]
    """Paths that the run does not hold, sorted by path."""
    changed: tuple[StatusEntry, ...]
    """Paths with other content, sorted by path."""
    removed: tuple[StatusEntry, ...]
    """Paths that are gone, or that a new path excludes, sorted by path."""
    unchanged: int
    """Number of files with the content that the run holds."""
    touched: int
    """Number of these whose mode or modification time is another one. They get no new version."""
    filled: int
    """Number of file versions whose missing provenance the scan would supply."""
    hidden: int
    """Number of entries that were passed over because their names begin with a dot."""
    ignored: int
    """Number of entries that were passed over for a pattern. A directory counts as one."""
    skipped: tuple[Skipped, ...]
    absent: tuple[str, ...]
    """Scopes that do not exist. If none does, they are in `skipped` too."""
    bytes_read: int
    """Bytes that were read and hashed, because size and times alone did not tell."""

    derived: ClassVar = ("new_bytes",)

    def __bool__(self) -> bool:
        """Whether a path would be added, changed or removed."""
        return bool(self.added or self.changed or self.removed)

    @property
    def new_bytes(self) -> int:
        """Total size of the added and changed files, before deduplication and compression."""
        return sum(entry.size or 0 for entry in (*self.added, *self.changed))
