"""Async twins of blocking methods, and a relaxed garbage collector for work on many objects.

A scan of 20,000 files creates some 200,000 tuples, none of them in a cycle. At its default
threshold of 700, Python's garbage collector searches them and all other objects of the application
again and again. That takes a seventh of a first scan, and pauses every other thread for a quarter
of a second.
"""

from __future__ import annotations

import functools
import gc
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

__all__ = ["COLLECT_EVERY", "awaitable", "relaxed_gc"]

S = TypeVar("S")

P = ParamSpec("P")

R = TypeVar("R")


def awaitable(
    method: Callable[Concatenate[S, P], R],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, R]]:
    """Return a method that runs another on a worker thread, with the caller's context variables.

    Cancelling the await does not stop the work: the thread completes and records it.
    """

    async def twin(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        import asyncio  # commands do not need it

        return await asyncio.to_thread(method, self, *args, **kwargs)

    functools.update_wrapper(twin, method)
    twin.__name__ = f"{method.__name__}_async"
    twin.__qualname__ = f"{method.__qualname__}_async"
    twin.__doc__ = (
        f"Run `{method.__name__}` on a worker thread, inside the caller's `provenance` scope.\n\n"
        "        Cancelling the await does not stop it: the thread completes and records the work."
    )
    return twin


COLLECT_EVERY: Final = 100_000
"""Container objects created between two searches for cycles; Python's default is 700.

So cycles of the application wait no longer than that. Source: mypy/main.py does the same."""

_lock: Final = threading.RLock()

_inside: int = 0

_before: tuple[int, int, int] = (0, 0, 0)


@contextmanager
def relaxed_gc() -> Iterator[None]:
    """Run Python's garbage collector rarely inside the block or the decorated function.

    The threshold belongs to the whole process. Blocks may overlap in several threads, and the last
    one to end restores it. The collector is left alone if the application has switched it off, has
    set a higher threshold, or sets one while a block runs.
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
