"""Manifests: the files of a run, for display and as JSON."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from index.domain.classification import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from index.domain.names import RunKey
    from index.domain.snapshots import FileVersion

__all__ = ["group_for_display", "manifest_of"]


def group_for_display(versions: Iterable[FileVersion]) -> dict[str, tuple[FileVersion, ...]]:
    """Return versions by file type: known types in display order, then others by name."""
    groups: defaultdict[str, list[FileVersion]] = defaultdict(list)
    for version in versions:
        groups[version.file_type].append(version)
    rank = {kind: number for number, kind in enumerate(KINDS)}
    ordered = sorted(groups, key=lambda kind: (rank.get(kind, len(rank)), kind))
    return {kind: tuple(groups[kind]) for kind in ordered}


def manifest_of(
    key: RunKey,
    versions: Sequence[FileVersion],
    snapshot: int,
) -> dict[str, Any]:
    """Return the manifest of a run at a snapshot, with all fields of its files, as JSON types."""
    return {
        "session": key.session,
        "run": key.run,
        "snapshot": snapshot,
        "files": [version.to_dict() for version in versions],
        "total_files": len(versions),
        "total_bytes": sum(version.size for version in versions),
        "final_outputs": {
            kind: [version.path for version in group]
            for kind, group in group_for_display(
                version for version in versions if version.is_final_output
            ).items()
        },
    }
