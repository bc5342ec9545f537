"""Comparing a run with the run of the same name in another store, row by row.

One of the two histories has to begin with the other, or they are of different runs. What is written
in place is no history: provenance that was filled in is filled in on the other side as well, and of
mode, time and annotations those count that belong to the higher revision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from index.db.column_types import decode_path
from index.db.queries.transfer import VersionRow
from index.db.tables import PROVENANCE_COLUMNS
from index.domain.snapshots import is_link

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["DivergedError", "compare_snapshots", "compare_versions"]

_FACTS: Final = ("digest", "size", "first_snapshot", "appeared_in", "created_at")
"""What never changes of a version."""

_PROVENANCE: Final = tuple(PROVENANCE_COLUMNS.values())

_SAME: Final = VersionRow._fields.index("id")
"""Columns before this one are the same in both stores, unless something happened."""

_IN_PLACE: Final = ("mode", "mtime_ns", "file_type", "priority", "is_final_output", "meta")


class DivergedError(Exception):
    """The two histories differ before one of them ends."""


def compare_snapshots(mine: Sequence[tuple[Any, ...]], theirs: Sequence[tuple[Any, ...]]) -> None:
    """Make sure that one list begins with the other; DivergedError if not."""
    for one, other in zip(mine, theirs, strict=False):
        if one != other:
            raise DivergedError(f"snapshot {other[0]} is another one there")


def compare_versions(
    source: Iterable[VersionRow],
    destination: Iterable[VersionRow],
    *,
    newest: tuple[int, int],
    is_newer: bool,
) -> Iterator[tuple[VersionRow, VersionRow | None, dict[str, Any]]]:
    """Yield the versions that the destination lacks, and those that it has otherwise.

    Each is what the source has, what the destination has, and the columns to change of that.
    Nothing is yielded if the destination is ahead.

    Parameters
    ----------
    source, destination
        In order of path and version.
    newest
        The numbers of their newest snapshots.
    is_newer
        Whether the source's in-place columns go before the destination's.

    Raises
    ------
    DivergedError
        At the first row that shows it.
    """
    common = min(newest)
    is_ahead = newest[1] > newest[0]
    for mine, theirs in _paired(source, destination):
        if theirs is None:
            assert mine is not None  # noqa: S101 - a pair has one of them
            if mine.first_snapshot <= common:
                raise DivergedError(f"{decode_path(mine.path)!r} has a version less there")
            yield mine, None, {}
        elif mine is None:
            if theirs.first_snapshot <= common:
                raise DivergedError(f"{decode_path(theirs.path)!r} has a version more there")
        elif mine[:_SAME] != theirs[:_SAME]:
            changes = _changes(mine, theirs, common, is_newer=is_newer)
            if changes and not is_ahead:
                yield mine, theirs, changes


def _paired(
    source: Iterable[VersionRow], destination: Iterable[VersionRow]
) -> Iterator[tuple[VersionRow | None, VersionRow | None]]:
    """Yield rows of both by path and version, None where one has no such row."""
    ours, others = iter(source), iter(destination)
    mine, theirs = next(ours, None), next(others, None)
    while mine is not None or theirs is not None:
        if theirs is None or (mine is not None and mine[:2] < theirs[:2]):
            yield mine, None
            mine = next(ours, None)
        elif mine is None or theirs[:2] < mine[:2]:
            yield None, theirs
            theirs = next(others, None)
        else:
            yield mine, theirs
            mine, theirs = next(ours, None), next(others, None)


def _changes(
    mine: VersionRow, theirs: VersionRow, common: int, *, is_newer: bool
) -> dict[str, Any]:
    """Return the columns to change; DivergedError if it is another version."""
    name = f"version {theirs.version} of {decode_path(theirs.path)!r}"
    differ = any(getattr(mine, fact) != getattr(theirs, fact) for fact in _FACTS)
    if differ or is_link(mine.mode) != is_link(theirs.mode):
        raise DivergedError(f"{name} is another one there")
    if _end(mine, common) != _end(theirs, common):
        raise DivergedError(f"{name} ends otherwise there")
    changes: dict[str, Any] = {}
    if mine.end_snapshot != theirs.end_snapshot:
        changes["end_snapshot"] = mine.end_snapshot
    if mine.seen_on_disk and not theirs.seen_on_disk:
        changes["seen_on_disk"] = True
    for column in _PROVENANCE:
        if _is_filled_in(getattr(mine, column), getattr(theirs, column), f"{column} of {name}"):
            changes[column] = getattr(mine, column)
    if is_newer:
        for column in _IN_PLACE:
            if getattr(mine, column) != getattr(theirs, column):
                changes[column] = getattr(mine, column)
    return changes


def _is_filled_in(told: str | None, known: str | None, what: str) -> bool:
    """Whether only the source knows; DivergedError if both do, and not the same."""
    if told is None or told == known:
        return False
    if known is not None:
        raise DivergedError(f"{what} is {known!r} there, and {told!r} here")
    return True


def _end(row: VersionRow, snapshot: int) -> int | None:
    """Return where a version ends, as known at a snapshot."""
    return row.end_snapshot if row.end_snapshot and row.end_snapshot <= snapshot else None
