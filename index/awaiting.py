"""Awaitable twins of methods that read files or wait for storage."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["awaitable"]

S = TypeVar("S")
P = ParamSpec("P")
R = TypeVar("R")


def awaitable(
    method: Callable[Concatenate[S, P], R],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, R]]:
    """Return a method that runs another on a worker thread, with the caller's context variables.

    Cancelling the await does not stop the work: it ends, and records, in its thread.
    """

    async def twin(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await asyncio.to_thread(method, self, *args, **kwargs)

    functools.update_wrapper(twin, method)
    twin.__name__ = f"{method.__name__}_async"
    twin.__qualname__ = f"{method.__qualname__}_async"
    twin.__doc__ = (
        f"Do as `{method.__name__}` on a worker thread, inside the caller's `provenance` scope.\n\n"
        "        Cancelling the await does not stop it: it ends, and records, in its thread."
    )
    return twin
