"""Comparison of a scan with the known state of a run. No I/O."""

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
    """A path whose content differs from its current version."""

    path: str
    base: KnownFile | None
    """The version that the scan compared with; None if the path is new."""
    observed: Observed | None
    """The content found now; None if the path is gone."""


@dataclass(frozen=True, slots=True)
class ScanChanges:
    """All results of a scan or a put, relative to one state of the run."""

    changes: Sequence[Change]
    """Sorted by path."""
    refreshed: Sequence[tuple[KnownFile, Observed]]
    """Files with the same content but new `stat` values."""
    unchanged: Sequence[KnownFile]
    """All versions whose content is unchanged, the refreshed ones included."""


def compare_scan(
    observed: Iterable[Observed],
    missing: Iterable[KnownFile],
    unchanged: Iterable[KnownFile],
    state: RunState,
) -> ScanChanges:
    """Return the changes between the files of a scan and the state it began with."""
    changes = [Change(known.path, known, None) for known in missing]
    refreshed = []
    same = list(unchanged)
    for seen in observed:
        known = state.find(seen.path)
        if known is None or not seen.same_content(known):
            changes.append(Change(seen.path, known, seen))
            continue
        same.append(known)
        if _has_new_stat(known, seen):
            refreshed.append((known, seen))
    changes.sort(key=lambda change: change.path)
    return ScanChanges(changes, refreshed, same)


def rebase(
    findings: ScanChanges, state: RunState, still_holds: Callable[[Change], bool]
) -> ScanChanges:
    """Return the findings relative to a newer `state`, which other commits have made.

    Where this scan found a path unchanged, the other commits win. Where it found a change, the
    change stays unless another commit made the same one. If another commit made a different
    change to the path, `still_holds` reads the path again and decides.
    """
    changes = []
    same = []
    for change in findings.changes:
        now = state.find(change.path)
        base_id = change.base.id if change.base else None
        if now is not None and change.observed is not None and change.observed.same_content(now):
            same.append(now)
        elif change.observed is None and (now is None or not now.seen_on_disk):
            continue  # gone already, or put there since: no scan saw it on disk
        elif (now.id if now else None) == base_id or still_holds(change):
            changes.append(Change(change.path, now, change.observed))
    return ScanChanges(
        changes,
        [(known, seen) for known, seen in findings.refreshed if _is_current(known, state)],
        same + [known for known in findings.unchanged if _is_current(known, state)],
    )


def with_displaced(findings: ScanChanges, state: RunState) -> ScanChanges:
    """Return the findings, plus the removal of files that their new paths displace.

    A path can't be a file and a directory at once. If a new file lies below a known file, or has
    the name of a known directory, the new file replaces the known files.
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
    """Return the versions of this node whose missing provenance this scan supplies."""
    node_id = provenance.node_id
    given = [
        field.name
        for field in fields(provenance)
        if field.name != "node_id" and getattr(provenance, field.name) is not None
    ]
    if node_id is None or not given:
        return []
    return [
        known
        for known in unchanged
        if known.provenance.node_id == node_id
        and any(getattr(known.provenance, name) is None for name in given)
    ]


def _is_current(known: KnownFile, state: RunState) -> bool:
    now = state.find(known.path)
    return now is not None and now.id == known.id


def _has_new_stat(known: KnownFile, seen: Observed) -> bool:
    signature = seen.signature if seen.trusted else None
    return seen.seen_on_disk and (
        not known.seen_on_disk
        or signature != known.signature
        or seen.mode != known.mode
        or seen.mtime_ns != known.mtime_ns
    )
