"""From what a scan found to what it changes: plain comparison, no I/O."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, NamedTuple

from index.domain.names import ancestors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from index.domain.provenance import Provenance
    from index.domain.run_state import KnownFile, Observed, RunState

__all__ = ["Change", "ScanChanges", "compare_scan", "rebase", "to_fill", "with_displaced"]


class Change(NamedTuple):
    """A path whose content is not what was recorded."""

    path: str
    base: KnownFile | None
    """The version it was compared with; None if the path wasn't there."""
    observed: Observed | None
    """What is there now; None if the path is gone."""


@dataclass(frozen=True, slots=True)
class ScanChanges:
    """Everything that a scan or a put says about a run, relative to one state of it."""

    changes: Sequence[Change]
    """By path."""
    refreshed: Sequence[tuple[KnownFile, Observed]]
    """Same content, but `stat` tells something new."""
    unchanged: Sequence[KnownFile]
    """All versions found as recorded, the refreshed ones included."""


def compare_scan(
    observed: Iterable[Observed],
    missing: Iterable[KnownFile],
    unchanged: Iterable[KnownFile],
    state: RunState,
) -> ScanChanges:
    """Compare what was read, missed and recognised with the state that the scan began with."""
    changes = [Change(known.path, known, None) for known in missing]
    refreshed = []
    same = list(unchanged)
    for seen in observed:
        known = state.find(seen.path)
        if known is None or not seen.same_content(known):
            changes.append(Change(seen.path, known, seen))
            continue
        same.append(known)
        if _tells_more(known, seen):
            refreshed.append((known, seen))
    changes.sort(key=lambda change: change.path)
    return ScanChanges(changes, refreshed, same)


def rebase(
    findings: ScanChanges, state: RunState, still_holds: Callable[[Change], bool]
) -> ScanChanges:
    """Return the findings relative to a newer `state`, which other commits have made.

    What this scan found unchanged, the others' word stands for. What it found changed counts as
    far as the others have not recorded the same; where they recorded something else for the same
    path, whoever looked last is right, which `still_holds` finds out from the path as it is now.
    """
    changes = []
    same = []
    for change in findings.changes:
        now = state.find(change.path)
        base_id = change.base.id if change.base else None
        if now is not None and change.observed is not None and change.observed.same_content(now):
            same.append(now)
        elif change.observed is None and (now is None or not now.seen_on_disk):
            continue  # gone already, or put there since: what no scan saw can't be missed
        elif (now.id if now else None) == base_id or still_holds(change):
            changes.append(Change(change.path, now, change.observed))
    return ScanChanges(
        changes,
        [(known, seen) for known, seen in findings.refreshed if _is_current(known, state)],
        same + [known for known in findings.unchanged if _is_current(known, state)],
    )


def with_displaced(findings: ScanChanges, state: RunState) -> ScanChanges:
    """Return the findings with the removal of what their new paths leave no place for.

    A path can't be a file and a directory at once. Where a new file is, or lies below, what was put
    there as something else, the new one stands.
    """
    handled = {change.path for change in findings.changes}
    new = [c.path for c in findings.changes if c.base is None and c.observed is not None]
    if not new or not state.directories:
        return findings
    folders = {ancestor for path in state.directories for ancestor in (path, *ancestors(path))}
    displaced = {}
    for path in new:
        for ancestor in ancestors(path):
            known = state.find(ancestor)
            if known is not None and ancestor not in handled:
                displaced[ancestor] = known
        if path in folders:
            below = (known for known in state if known.path.startswith(f"{path}/"))
            displaced.update((known.path, known) for known in below if known.path not in handled)
    if not displaced:
        return findings
    changes = [*findings.changes, *(Change(p, known, None) for p, known in displaced.items())]
    changes.sort(key=lambda change: change.path)
    unchanged = [known for known in findings.unchanged if known.path not in displaced]
    refreshed = [(known, seen) for known, seen in findings.refreshed if known.path not in displaced]
    return ScanChanges(changes, refreshed, unchanged)


def to_fill(unchanged: Iterable[KnownFile], provenance: Provenance) -> list[KnownFile]:
    """Return the versions whose missing provenance this scan supplies: those of its own node."""
    node_id = provenance.node_id
    told = [
        field.name
        for field in fields(provenance)
        if field.name != "node_id" and getattr(provenance, field.name) is not None
    ]
    if node_id is None or not told:
        return []
    return [
        known
        for known in unchanged
        if known.node_id == node_id and any(getattr(known, name) is None for name in told)
    ]


def _is_current(known: KnownFile, state: RunState) -> bool:
    now = state.find(known.path)
    return now is not None and now.id == known.id


def _tells_more(known: KnownFile, seen: Observed) -> bool:
    signature = seen.signature if seen.trusted else None
    return seen.seen_on_disk and (
        not known.seen_on_disk
        or signature != known.signature
        or seen.mode != known.mode
        or seen.mtime_ns != known.mtime_ns
    )
