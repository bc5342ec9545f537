"""Differences of two states of runs, path by path, in bounded memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from index.db.column_types import encode_path
from index.domain.diff import is_same

if TYPE_CHECKING:
    from collections.abc import Iterator

    from index.domain.snapshots import FileVersion

__all__ = ["Pair", "differing", "paired"]

Pair: TypeAlias = "tuple[FileVersion | None, FileVersion | None]"
"""The versions of a path in two states; None where a state has none."""


def paired(old: Iterator[FileVersion], new: Iterator[FileVersion]) -> Iterator[Pair]:
    """Yield the versions of each path in two states, both in the order in which an index has them.

    That is the byte order of what it stores for a path, which a name that is not UTF-8 escapes.
    """
    before, after = next(old, None), next(new, None)
    while before is not None or after is not None:
        here = None if before is None else encode_path(before.path)
        there = None if after is None else encode_path(after.path)
        is_first = there is None or (here is not None and here <= there)
        is_last = here is None or (there is not None and there <= here)
        yield (before if is_first else None), (after if is_last else None)
        before = next(old, None) if is_first else before
        after = next(new, None) if is_last else after


def differing(pairs: Iterator[Pair]) -> Iterator[Pair]:
    """Yield the pairs whose contents differ."""
    for before, after in pairs:
        if before is None or after is None or not is_same(before, after):
            yield before, after
