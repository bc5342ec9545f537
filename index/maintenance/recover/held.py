"""Deletions that a hold refused after their records were stored."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from index.journal.entries import HoldEntry

if TYPE_CHECKING:
    from collections.abc import Iterable

    from index.journal.entries import DeletionEntry, QuotaEntry

__all__ = ["without_held"]


def without_held(deletion: DeletionEntry, rules: Iterable[HoldEntry | QuotaEntry]) -> DeletionEntry:
    """Return a deletion without the runs that were held then."""
    holds = [
        rule for rule in rules if isinstance(rule, HoldEntry) and rule.session == deletion.session
    ]

    def was_held(name: str | None, made_at: datetime) -> bool:
        return any(
            not hold.is_release
            and not any(_ends(each, hold, deletion.created_at) for each in holds)
            for hold in holds
            if (hold.run == name and hold.owner_created_at == made_at)
            or (hold.run is None and hold.owner_created_at <= deletion.created_at)
        )

    if not holds:
        return deletion
    return replace(
        deletion,
        runs=[
            run
            for run in deletion.runs
            if not was_held(run[0], datetime.fromisoformat(str(run[2])))
        ],
    )


def _ends(release: HoldEntry, hold: HoldEntry, by: datetime) -> bool:
    return (
        release.is_release
        and release.run == hold.run
        and hold.created_at <= release.created_at <= by
    )
