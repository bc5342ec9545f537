"""Extents: the cached parts of a pack."""

from __future__ import annotations

import sys
import threading
from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cas.digest import Digest

__all__ = ["Extent", "Extents"]


class Extent(NamedTuple):
    """A part of a pack that one request fetched: a file of the cache."""

    pack: Digest
    start: int
    stop: int
    """Start of the extent in the pack; `stop` is its end."""

    @property
    def size(self) -> int:
        """Size in bytes, as stored."""
        return self.stop - self.start


class Extents:
    """The extents of one pack; none covers another. Safe for use by several threads."""

    __slots__ = ("_bounds", "_lock", "_pack")

    def __init__(self, pack: Digest, bounds: Iterable[tuple[int, int]] = ()) -> None:
        self._pack = pack
        self._lock = threading.Lock()
        self._bounds = _outermost(bounds)

    def find(self, start: int, size: int) -> Extent | None:
        """Return an extent that contains `size` bytes from `start`, or None."""
        bounds = self._bounds  # replaced as a whole when it changes, so this needs no lock
        number = bisect_right(bounds, (start, sys.maxsize)) - 1
        # No extent covers another, so the last one that starts before also ends last.
        if number < 0 or bounds[number][1] < start + size:
            return None
        return Extent(self._pack, *bounds[number])

    def add(self, start: int, stop: int) -> None:
        """Add an extent."""
        with self._lock:
            bounds = self._bounds
            number = bisect_right(bounds, (start, sys.maxsize))
            if number and bounds[number - 1][1] >= stop:
                return
            last = number
            while last < len(bounds) and bounds[last][1] <= stop:
                last += 1
            if number and bounds[number - 1][0] == start:
                number -= 1
            self._bounds = [*bounds[:number], (start, stop), *bounds[last:]]

    def drop(self, extent: Extent) -> None:
        """Remove an extent."""
        with self._lock:
            self._bounds = [bounds for bounds in self._bounds if bounds != extent[1:]]


def _outermost(bounds: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for start, stop in sorted(bounds, key=lambda pair: (pair[0], -pair[1])):
        if not found or stop > found[-1][1]:
            found.append((start, stop))
    return found
