"""Comparison of a scan with the known state of a run. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Final, TypeAlias

from index.domain.names import ancestors
from index.domain.provenance import Provenance
from index.domain.run_state import ObservedFiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from index.domain.annotations import FileKind
    from index.domain.run_state import KnownFile, Observed, RunState
    from index.domain.snapshots import FileVersion

__all__ = [
    "NewRow",
    "ScanChanges",
    "compare_scan",
    "rebase",
    "refused",
    "to_claim",
    "to_fill",
    "with_displaced",
]

_MAKER: Final = ("agent", "code_hash")
"""The fields of a provenance that say who made a file. The others say where in the workflow."""


NewRow: TypeAlias = "tuple[str, int, Observed, FileKind, int]"
"""What the index gets of a new version: path, version number, observation, kind, first snapshot of
the path."""


@dataclass(frozen=True, slots=True)
class ScanChanges:
    """All results of a scan or a put, relative to one state of the run."""

    new: ObservedFiles
    """Content that differs from the current version of its path, by path."""
    removed: Sequence[KnownFile]
    """Versions whose path is gone, by path."""
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
    """Return the changes between the files of a scan and the state it began with.

    The files come first: the scan may find what is missing and unchanged while it yields them.
    """
    new = ObservedFiles()
    refreshed = []
    same = []
    is_empty = not state.directories
    for seen in observed:
        if is_empty:  # as at a first scan
            new.append(seen)
            continue
        known = state.find(seen.path)
        if known is None or not seen.same_content(known):
            new.append(_replacing(known, seen))
            continue
        same.append(known)
        if _has_new_stat(known, seen):
            refreshed.append((known, seen))
    new.sort()
    return ScanChanges(new, _by_path(missing), refreshed, [*unchanged, *same])


def rebase(
    findings: ScanChanges,
    state: RunState,
    seen_by: int,
    still_holds: Callable[[str, Observed | None], bool],
) -> ScanChanges:
    """Return the findings relative to a newer `state`, which other commits have made.

    Where this scan found a path unchanged, the other commits win. Where it found a change, the
    change stays unless another commit made the same one. If another commit made a different
    change to the path, `still_holds` reads the path again and decides. It gets the path and what
    was found there; None if the path was gone.

    Parameters
    ----------
    seen_by
        The `Scan.bit` of this scan.
    """
    new = ObservedFiles()
    removed = []
    same = []
    refreshed = []
    for seen in findings.new:
        now = state.find(seen.path)
        base_id = seen.base.id if seen.base else None
        if now is not None and seen.same_content(now):
            same.append(now)
            if not now.seen_by & seen_by:
                refreshed.append((now, seen))
        elif (now.id if now else None) == base_id or still_holds(seen.path, seen):
            new.append(_replacing(now, seen))
    for known in findings.removed:
        now = state.find(known.path)
        if now is None or not now.seen_by & seen_by:
            continue  # gone already, or recorded since by other means: no such scan saw it
        if now.id == known.id or still_holds(known.path, None):
            removed.append(now)
    return ScanChanges(
        new,
        removed,
        refreshed
        + [(now, seen) for known, seen in findings.refreshed if (now := _current(known, state))],
        same + [now for known in findings.unchanged if (now := _current(known, state))],
    )


def with_displaced(findings: ScanChanges, state: RunState) -> ScanChanges:
    """Return the findings, plus the removal of files that their new paths displace.

    A path can't be a file and a directory at once. If a new file lies below a known file, or has
    the name of a known directory, the new file replaces the known files.
    """
    if not state.directories:
        return findings
    new = [path for path in findings.new.paths if path not in findings.new.bases]
    if not new:
        return findings
    handled = {*new, *findings.new.bases, *(known.path for known in findings.removed)}
    displaced = {}
    for path in new:
        for ancestor in ancestors(path):
            known = state.find(ancestor)
            if known is not None and ancestor not in handled:
                displaced[ancestor] = known
    names = set(new)
    for directory, files in state.directories.items():
        if not names.isdisjoint((directory, *ancestors(directory))):
            displaced.update((k.path, k) for k in files.values() if k.path not in handled)
    if not displaced:
        return findings
    removed = _by_path([*findings.removed, *displaced.values()])
    unchanged = [known for known in findings.unchanged if known.path not in displaced]
    refreshed = [(known, seen) for known, seen in findings.refreshed if known.path not in displaced]
    return ScanChanges(findings.new, removed, refreshed, unchanged)


def to_fill(unchanged: Iterable[KnownFile], provenance: Provenance) -> list[KnownFile]:
    """Return the versions of this node whose missing provenance this scan supplies."""
    node_id = provenance.node_id
    given = [name for name, _ in _given(provenance) if name != "node_id"]
    if node_id is None or not given:
        return []
    return [
        known
        for known in unchanged
        if known.provenance.node_id == node_id
        and any(getattr(known.provenance, name) is None for name in given)
    ]


def to_claim(recorded: Provenance, given: Provenance) -> dict[str, str]:
    """Return the fields that an explicit claim supplies to a version with the same content.

    It supplies what is missing. If another agent made the version, or if a known agent made it at
    another node, it supplies nothing. If only the node is another one, some scan was first that did
    not know the agent: the claim supplies who made the file, and not where.
    """
    at_another_node = recorded.node_id is not None and given.node_id not in (
        None,
        recorded.node_id,
    )
    if recorded.agent is not None and (
        at_another_node or given.agent not in (None, recorded.agent)
    ):
        return {}
    return {
        name: value
        for name, value in _given(given)
        if getattr(recorded, name) is None and (name in _MAKER or not at_another_node)
    }


def refused(version: FileVersion, given: Provenance) -> Provenance | None:
    """Return those fields of a claim that a version did not take; None if it took all."""
    differing = {name: value for name, value in _given(given) if value != getattr(version, name)}
    return Provenance(**differing) if differing else None


def _given(provenance: Provenance) -> Iterator[tuple[str, str]]:
    for name in Provenance.__slots__:
        value = getattr(provenance, name)
        if value is not None:
            yield name, value


def _by_path(versions: Iterable[KnownFile]) -> list[KnownFile]:
    return sorted(versions, key=attrgetter("path"))


def _replacing(known: KnownFile | None, seen: Observed) -> Observed:
    """Return what was found, as the successor of a version; None if the path is new."""
    return seen if seen.base is known else seen._replace(base=known)


def _current(known: KnownFile, state: RunState) -> KnownFile | None:
    """Return a version with what others have said of it since; None if it is not current."""
    now = state.find(known.path)
    return now if now is not None and now.id == known.id else None


def _has_new_stat(known: KnownFile, seen: Observed) -> bool:
    if seen.signature is None:
        return False  # bytes have no mode or time of their own
    if (seen.mode, seen.mtime_ns) != (known.mode, known.mtime_ns):
        return True
    signature = seen.signature if seen.trusted else None
    return bool(seen.seen_by) and (not seen.seen_by & known.seen_by or signature != known.signature)
