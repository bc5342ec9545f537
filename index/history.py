"""From a run's file versions back to what each of its snapshots changed."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from index.records import LazyVersions, Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from index.records import FileVersion
    from index.repository.runs import SnapshotHead

__all__ = ["assemble"]


def assemble(
    heads: Iterable[SnapshotHead], versions: Iterable[FileVersion]
) -> tuple[Snapshot, ...]:
    """Return snapshots with what each added, changed and removed.

    Parameters
    ----------
    heads
        The snapshots' own rows, oldest first.
    versions
        Every file version of the run.
    """
    begun: defaultdict[int, list[FileVersion]] = defaultdict(list)
    ended: defaultdict[int, dict[str, FileVersion]] = defaultdict(dict)
    for version in sorted(versions, key=lambda version: version.path):
        begun[version.first_snapshot].append(version)
        if version.end_snapshot is not None:
            ended[version.end_snapshot][version.path] = version
    return tuple(_with_changes(head, begun[head.number], ended[head.number]) for head in heads)


def _with_changes(
    head: SnapshotHead, begun: Sequence[FileVersion], ended: Mapping[str, FileVersion]
) -> Snapshot:
    paths = {version.path for version in begun}
    added = [version for version in begun if version.path not in ended]
    changed = [version for version in begun if version.path in ended]
    removed = [version for path, version in ended.items() if path not in paths]
    return Snapshot(
        *head,
        recorded=True,
        lazy_added=LazyVersions.ready(added),
        lazy_changed=LazyVersions.ready(changed),
        lazy_removed=LazyVersions.ready(removed),
    )
