"""Fewer searches for cycles of garbage while something makes many objects that live on.

A scan of 20,000 files makes some 200,000 tuples, none of them in a cycle. At Python's own threshold
of 700 the collector goes through them, and through whatever else the application holds, again and
again: a seventh of a first scan, and pauses of a quarter of a second for every other thread.
"""

from __future__ import annotations

import gc
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["COLLECT_EVERY", "seldom_collecting"]

COLLECT_EVERY: Final = 100_000
"""Container objects made between two searches, in place of 700. mypy does the same (mypy/main.py).
Cycles that the application leaves behind meanwhile wait no longer than that."""

_lock: Final = threading.RLock()
_inside: int = 0
_before: tuple[int, int, int] = (0, 0, 0)


@contextmanager
def seldom_collecting() -> Iterator[None]:
    """Collect seldom inside the block, or the decorated function; afterwards as before.

    The threshold is the whole process's, so blocks may overlap in several threads, and the last one
    to end restores it. A collector that the application has switched off, or set to a higher
    threshold, is left alone, and so is one that it sets while a block runs.
    """
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _inside, _before
    with _lock:
        if _inside == 0:
            _before = gc.get_threshold()
            if 0 < _before[0] < COLLECT_EVERY:
                gc.set_threshold(COLLECT_EVERY, *_before[1:])
        _inside += 1


def _leave() -> None:
    global _inside
    with _lock:
        _inside -= 1
        if _inside == 0 and gc.get_threshold() == (COLLECT_EVERY, *_before[1:]):
            gc.set_threshold(*_before)
