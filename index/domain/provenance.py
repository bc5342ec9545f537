"""Provenance of files: who made them. The caller gives it for a block of code or for each call.

The scope is a context variable. `asyncio` tasks and `asyncio.to_thread` inherit the scope in which
they start, and concurrent agents don't see each other's scopes. A new thread, or a thread of an
executor, starts without a scope; `carried` passes the current one to it.
"""

from __future__ import annotations

import functools
import inspect
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from index.domain.names import check_label

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from contextvars import Token

__all__ = ["Provenance", "ProvenanceScope", "carried", "current_provenance", "provenance"]


P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Provenance:
    """Phase, agent, DAG node, step, event and code hash; None if the caller did not give it."""

    phase: str | None = None
    agent: str | None = None
    node_id: str | None = None
    step_id: str | None = None
    event_id: str | None = None
    code_hash: str | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None:
                check_label(field.name, value)

    def over(self, outer: Provenance) -> Provenance:
        """Return this provenance, with missing fields filled from `outer`."""
        given = {f.name: v for f in fields(self) if (v := getattr(self, f.name)) is not None}
        return replace(outer, **given) if given else outer


_scope: Final[ContextVar[Provenance]] = ContextVar(
    "cas_provenance",
    default=Provenance(),  # noqa: B039 - frozen
)


def current_provenance() -> Provenance:
    """Return the combined provenance of the enclosing `provenance` scopes."""
    return _scope.get()


def carried(function: Callable[P, R]) -> Callable[P, R]:
    """Return a function that runs in the current `provenance` scope, on any thread.

    Use it as ``executor.submit(carried(work), …)`` or ``Thread(target=carried(work))``. A coroutine
    function runs in the scope when it is awaited, too. Raises TypeError for a generator function,
    because between two items the consumer may have other scopes.
    """
    scope = _scope.get()
    return _within(lambda: scope, function)


class ProvenanceScope(AbstractContextManager[Provenance]):
    """The scope that `provenance` returns: a context manager, and a decorator of functions."""

    def __init__(self, provenance: Provenance) -> None:
        self._provenance = provenance
        self._tokens: list[Token[Provenance]] = []

    def __enter__(self) -> Provenance:
        scope = self._provenance.over(_scope.get())
        self._tokens.append(_scope.set(scope))
        return scope

    def __exit__(self, *_error: object) -> None:
        _scope.reset(self._tokens.pop())

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Return the function so that each call runs in this scope, inside the caller's scope."""
        return _within(lambda: self._provenance.over(_scope.get()), function)


def provenance(
    *,
    phase: str | None = None,
    agent: str | None = None,
    node_id: str | None = None,
    step_id: str | None = None,
    event_id: str | None = None,
    code_hash: str | None = None,
) -> ProvenanceScope:
    """Set the provenance of files tracked or put inside the block.

    Fields of an inner scope take precedence over those of the outer scopes.

    Raises
    ------
    InvalidNameError
        When a value is empty, too long or holds control characters.
    """
    return ProvenanceScope(Provenance(phase, agent, node_id, step_id, event_id, code_hash))


def _within(scope_now: Callable[[], Provenance], function: Callable[P, R]) -> Callable[P, R]:
    """Return a function whose calls and coroutines run in the scope that `scope_now` returns."""
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(
            f"{function.__qualname__} is a generator: give it a `with provenance(…)` of its own"
        )

    @functools.wraps(function)
    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        scope = scope_now()
        token = _scope.set(scope)
        try:
            result = function(*args, **kwargs)
        finally:
            _scope.reset(token)
        if inspect.iscoroutine(result):
            return _awaited(scope, result)  # type: ignore[return-value] # a coroutine for another
        return result

    return inside


async def _awaited(scope: Provenance, pending: Coroutine[Any, Any, T]) -> T:
    token = _scope.set(scope)
    try:
        return await pending
    finally:
        _scope.reset(token)
