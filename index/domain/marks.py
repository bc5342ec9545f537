"""What a caller says of a commit and of its run, besides what it says of files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from index.domain.annotations import as_stored
from index.domain.names import usable_text
from index.domain.runs import check_status

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from index.domain.runs import RunStatus
    from index.domain.tags import NewTag

__all__ = ["NO_MARKS", "Marks"]


@dataclass(frozen=True, slots=True)
class Marks:
    """What a commit notes of itself and of the run, besides files."""

    notes: Any = None
    """Any JSON value. It is kept after a round trip through JSON."""
    status: RunStatus | None = None
    """The status of the run from now on; None if it stays as it is."""
    reason: str | None = None
    """Why it has that status, in a line."""
    tags: Sequence[NewTag] = ()
    """Tags that are set, moved or removed."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "notes", as_stored("notes", self.notes))
        if self.status is None:
            if self.reason is not None:
                raise ValueError("a reason goes with a status; give both")
            return
        check_status(self.status)
        if self.reason is not None:
            object.__setattr__(self, "reason", usable_text(self.reason))

    def status_at(self, now: datetime) -> dict[str, Any]:
        """Return the columns of the run that the status changes, at the time of the commit."""
        if self.status is None:
            return {}
        changed = {"status": self.status, "status_reason": self.reason}
        if self.status == "running":
            return {**changed, "started_at": now, "ended_at": None}
        return {**changed, "ended_at": now}


NO_MARKS: Final = Marks()
