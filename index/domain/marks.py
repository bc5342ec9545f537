"""What a caller says of a commit and of its run, besides what it says of files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from index.domain.annotations import as_stored
from index.domain.names import check_id, usable_text
from index.domain.runs import check_notes, check_status

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from index.domain.drops import Drop
    from index.domain.inputs import NewInput, PathInput
    from index.domain.runs import RunStatus
    from index.domain.tags import NewRunTag, NewTag

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
    inputs: Sequence[NewInput | PathInput] = ()
    """What was read before the commit. A scan finds the version of a path: the one that the run had
    before it, or the first one."""
    parent: str | None = None
    """The run that it is a part of from now on; empty for none, None if that stays as it is."""
    run_notes: Mapping[str, Any] | None = None
    """Notes of the run, by name. Others stay, and None removes one."""
    run_tags: Sequence[NewRunTag] = ()
    """Tags of the run itself that are set, moved or removed."""
    drops: Sequence[Drop] = ()
    """Past versions whose bytes are let go."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "notes", as_stored("notes", self.notes))
        if self.parent:
            object.__setattr__(self, "parent", check_id("run", self.parent))
        if self.run_notes is not None:
            object.__setattr__(self, "run_notes", check_notes(self.run_notes))
        if self.status is None:
            if self.reason is not None:
                raise ValueError("a reason goes with a status; give both")
            return
        check_status(self.status)
        if self.reason is not None:
            object.__setattr__(self, "reason", usable_text(self.reason))

    @property
    def is_more(self) -> bool:
        """Whether there is something for the run that `columns_at` does not have."""
        return bool(self.tags or self.run_notes or self.run_tags or self.drops)

    def columns_at(self, now: datetime) -> dict[str, Any]:
        """Return the columns of the run that change, at the time of the commit."""
        changed: dict[str, Any] = {} if self.parent is None else {"parent": self.parent}
        if self.status is None:
            return changed
        changed |= {"status": self.status, "status_reason": self.reason}
        if self.status == "running":
            return {**changed, "started_at": now, "ended_at": None}
        return {**changed, "ended_at": now}


NO_MARKS: Final = Marks()
