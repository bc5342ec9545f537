"""Holds: while a session or run is held, nothing of it is deleted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from index.domain.results import Result

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["Hold"]


@dataclass(frozen=True, slots=True)
class Hold(Result):
    """A hold of a session or run, and its release if there was one."""

    session: str
    run: str | None
    """None for a hold of the whole session."""
    reason: str
    agent: str | None
    """Who said so."""
    created_at: datetime
    released_at: datetime | None = None
    """None while it holds."""
    release_reason: str | None = None
    released_by: str | None = None
