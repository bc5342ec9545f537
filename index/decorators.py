"""Async twins, errors of memory, and a relaxed garbage collector for work on many objects.

A scan of 20,000 files creates some 200,000 tuples, none of them in a cycle. At its default
threshold of 700, Python's garbage collector searches them and all other objects of the application
again and again. That takes a seventh of a first scan, and pauses every other thread for a quarter
of a second.
"""

from __future__ import annotations

import functools
import gc
import os
import threading
from contextlib import contextmanager
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar

from index.domain.scopes import carried

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from cas.threads import Threads

__all__ = ["COLLECT_EVERY", "awaitable", "naming_memory", "off_the_loop", "relaxed_gc"]

S = TypeVar("S")

P = ParamSpec("P")

R = TypeVar("R")


_CALLS_AT_ONCE: Final = 8
"""Calls that run for event loops at once; others wait. A scan may hold some 50 MiB of bytes that
are being compressed and written."""


@functools.cache
def _threads() -> Threads:
    """Return our own threads: waiting agents may fill all of the loop's default executor."""
    from cas.threads import Threads  # commands do not need it

    return Threads(_CALLS_AT_ONCE, "cas-async", stay=False)


os.register_at_fork(after_in_child=_threads.cache_clear)  # a child has none of these threads


async def off_the_loop(work: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Run work on a thread, in the caller's `provenance` scope and with its context variables.

    Cancelling the await does not stop work that has begun: the thread completes and records it.
    """
    import asyncio  # commands do not need it

    in_scope = functools.partial(carried(work), *args, **kwargs)
    return await asyncio.wrap_future(_threads().submit(copy_context().run, in_scope))


def awaitable(
    method: Callable[Concatenate[S, P], R],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, R]]:
    """Return a method that runs another as `off_the_loop` does."""

    async def twin(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await off_the_loop(method, self, *args, **kwargs)

    functools.update_wrapper(twin, method)
    twin.__name__ = f"{method.__name__}_async"
    twin.__qualname__ = f"{method.__qualname__}_async"
    twin.__doc__ = (
        f"Run `{method.__name__}` on a worker thread, inside the caller's `provenance` scope.\n\n"
        "        Cancelling the await does not stop a call that has begun: the thread completes\n"
        "        and records the work."
    )
    return twin


@contextmanager
def naming_memory(task: str) -> Iterator[None]:
    """Give a MemoryError that says nothing, as Python raises it, a text with the task."""
    try:
        yield
    except MemoryError as error:
        if error.args:
            raise
        raise MemoryError(f"no memory is left to {task}; free some and repeat the call") from error


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
