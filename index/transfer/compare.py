"""Comparison of a run with the run of the same name in another store, row by row.

One history must begin with the other, or they belong to different runs. Columns that are updated in
place are not history: provenance filled in on one side is filled in on the other, and for mode,
time and annotations the side with the higher revision takes precedence.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from index.db.column_types import decode_path
from index.db.queries.transfer import SNAPSHOT_COLUMNS
from index.db.tables import PROVENANCE_COLUMNS, VERSION_COLUMNS
from index.domain.drops import content_of
from index.domain.snapshots import is_link

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cas.digest import Digest
    from index.db.queries.transfer import VersionRow

__all__ = ["DivergedError", "compare_snapshots", "compare_versions"]

_FACTS: Final = ("size", "first_snapshot", "appeared_in", "created_at")
"""Columns of a version that never change, as does the content that it has or had."""

_MEASURED: Final = SNAPSHOT_COLUMNS.index("bytes_stored")
"""What a snapshot took in the store where it was made; a recovery of that store can't know it."""

_PROVENANCE: Final = tuple(PROVENANCE_COLUMNS.values())

_SAME: Final = len(VERSION_COLUMNS)
"""Columns before this one are the same in both stores, unless one side changed them."""

_IN_PLACE: Final = tuple(
    name
    for name in VERSION_COLUMNS
    if name not in ("path", "version", "end_snapshot", "seen_by", *_FACTS, *_PROVENANCE)
    # Each store keeps the bytes that it has, and does not get back those that it dropped.
    and name not in ("digest", "dropped")
)
"""Columns that are updated in place, where the newer side takes precedence: all others."""


class DivergedError(Exception):
    """The two histories differ before one of them ends."""


def compare_snapshots(mine: Sequence[tuple[Any, ...]], theirs: Sequence[tuple[Any, ...]]) -> None:
    """Check that one list begins with the other. Raises DivergedError if not."""
    for one, other in zip(mine, theirs, strict=False):
        if _facts(one) != _facts(other):
            raise DivergedError(f"snapshot {other[0]} differs there")


def _facts(snapshot: tuple[Any, ...]) -> tuple[Any, ...]:
    return snapshot[:_MEASURED] + snapshot[_MEASURED + 1 :]


def compare_versions(
    source: Iterable[VersionRow],
    destination: Iterable[VersionRow],
    *,
    newest: tuple[int, int],
    is_newer: bool,
) -> Iterator[tuple[VersionRow, VersionRow | None, dict[str, Any]]]:
    """Yield the versions that the destination lacks, and those that differ there.

    Each item is the source's row, the destination's row, and the columns to change in that one.
    Nothing is yielded if the destination is ahead.

    Parameters
    ----------
    source, destination
        In order of path and version.
    newest
        The numbers of their newest snapshots.
    is_newer
        Whether the source's in-place columns take precedence over the destination's.

    Raises
    ------
    DivergedError
        At the first row that differs.
    """
    common = min(newest)
    is_ahead = newest[1] > newest[0]
    for mine, theirs in _paired(source, destination):
        if theirs is None:
            assert mine is not None  # noqa: S101 - a pair has one of them
            if mine.first_snapshot <= common:
                raise DivergedError(f"{decode_path(mine.path)!r} lacks a version there")
            yield mine, None, {}
        elif mine is None:
            if theirs.first_snapshot <= common:
                raise DivergedError(f"{decode_path(theirs.path)!r} has an extra version there")
        elif mine[:_SAME] != theirs[:_SAME] or not _is_same(mine.meta, theirs.meta):
            changes = _changes(mine, theirs, common, is_newer=is_newer)
            if changes and not is_ahead:
                yield mine, theirs, changes


def _paired(
    source: Iterable[VersionRow], destination: Iterable[VersionRow]
) -> Iterator[tuple[VersionRow | None, VersionRow | None]]:
    """Yield the rows of both by path and version; None where one has no such row."""
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
    """Return the columns to change. Raises DivergedError for a different version."""
    name = f"version {theirs.version} of {decode_path(theirs.path)!r}"
    differ = any(getattr(mine, fact) != getattr(theirs, fact) for fact in _FACTS)
    differ |= _content(mine) != _content(theirs)
    if differ or is_link(mine.mode) != is_link(theirs.mode):
        raise DivergedError(f"{name} differs there")
    if _end(mine, common) != _end(theirs, common):
        raise DivergedError(f"{name} ends at another snapshot there")
    changes: dict[str, Any] = {}
    if mine.end_snapshot != theirs.end_snapshot:
        changes["end_snapshot"] = mine.end_snapshot
    if mine.seen_by & ~theirs.seen_by:
        changes["seen_by"] = mine.seen_by | theirs.seen_by
    for column in _PROVENANCE:
        if _is_filled_in(getattr(mine, column), getattr(theirs, column), f"{column} of {name}"):
            changes[column] = getattr(mine, column)
    if is_newer:
        for column in _IN_PLACE:
            if not _is_same(getattr(mine, column), getattr(theirs, column)):
                changes[column] = getattr(mine, column)
    return changes


def _content(row: VersionRow) -> Digest | None:
    return content_of(row.digest, row.dropped)


def _is_same(here: object, there: object) -> bool:
    """Whether two values are written alike: for Python, 1 equals 1.0 and True."""
    return here is there or (here == there and json.dumps(here) == json.dumps(there))


def _is_filled_in(here: str | None, there: str | None, what: str) -> bool:
    """Whether only the source has a value. Raises DivergedError if both have different ones."""
    if here is None or here == there:
        return False
    if there is not None:
        raise DivergedError(f"{what} is {there!r} there, and {here!r} here")
    return True


def _end(row: VersionRow, snapshot: int) -> int | None:
    """Return the end of a version, as known at a snapshot."""
    return row.end_snapshot if row.end_snapshot and row.end_snapshot <= snapshot else None
