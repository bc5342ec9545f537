"""Who makes files: given by the caller, once for a stretch of code or at each call.

The scope is a context variable: `asyncio` tasks and `asyncio.to_thread` inherit the one they were
started in, and concurrent agents don't see each other's. A new thread, or one of an executor,
starts without one; `carried` takes it there.
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
    """Phase, agent, DAG node, step, event and code; None is what the caller didn't tell."""

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
        """Return this with what it leaves out taken from `outer`."""
        told = {f.name: v for f in fields(self) if (v := getattr(self, f.name)) is not None}
        return replace(outer, **told) if told else outer


_scope: Final[ContextVar[Provenance]] = ContextVar(
    "cas_provenance",
    default=Provenance(),  # noqa: B039 - frozen
)


def current_provenance() -> Provenance:
    """Return what the enclosing `provenance` scopes tell."""
    return _scope.get()


def carried(function: Callable[P, R]) -> Callable[P, R]:
    """Return a function that runs in the `provenance` scope of this moment, on whatever thread.

    For ``executor.submit(carried(work), …)`` and ``Thread(target=carried(work))``. What a coroutine
    function does when it is awaited is in the scope as well; generators are refused with TypeError,
    for between two of their items whoever asks for them has scopes of its own.
    """
    told = _scope.get()
    return _within(lambda: told, function)


class ProvenanceScope(AbstractContextManager[Provenance]):
    """What `provenance` returns: a context manager, and a decorator of functions and coroutines."""

    def __init__(self, told: Provenance) -> None:
        self._told = told
        self._tokens: list[Token[Provenance]] = []

    def __enter__(self) -> Provenance:
        told = self._told.over(_scope.get())
        self._tokens.append(_scope.set(told))
        return told

    def __exit__(self, *_error: object) -> None:
        _scope.reset(self._tokens.pop())

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Return the function so that each of its calls is in the scope, added to the caller's."""
        return _within(lambda: self._told.over(_scope.get()), function)


def provenance(
    *,
    phase: str | None = None,
    agent: str | None = None,
    node_id: str | None = None,
    step_id: str | None = None,
    event_id: str | None = None,
    code_hash: str | None = None,
) -> ProvenanceScope:
    """Attribute what is tracked or put inside the block; inner scopes add to outer ones.

    Raises
    ------
    InvalidNameError
        When a value is empty, too long or holds control characters.
    """
    return ProvenanceScope(Provenance(phase, agent, node_id, step_id, event_id, code_hash))


def _within(told: Callable[[], Provenance], function: Callable[P, R]) -> Callable[P, R]:
    """Return a function whose calls, and coroutines, are in the scope that `told` returns then."""
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(
            f"{function.__qualname__} is a generator: give it a `with provenance(…)` of its own"
        )

    @functools.wraps(function)
    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        scope = told()
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
