"""Who makes files: given by the caller, once for a stretch of code or at each call.

The scope is a context variable: `asyncio` tasks and `asyncio.to_thread` inherit the one they were
started in, and concurrent agents don't see each other's. A new thread, or one of an executor,
starts without one; `carried` takes it there.
"""

from __future__ import annotations

import functools
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

from index.names import check_label

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Provenance", "carried", "current_provenance", "provenance"]


P = ParamSpec("P")
R = TypeVar("R")


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

    For ``executor.submit(carried(work), …)`` and ``Thread(target=carried(work))``.
    """
    told = _scope.get()

    @functools.wraps(function)
    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        token = _scope.set(told)
        try:
            return function(*args, **kwargs)
        finally:
            _scope.reset(token)

    return inside


@contextmanager
def provenance(
    *,
    phase: str | None = None,
    agent: str | None = None,
    node_id: str | None = None,
    step_id: str | None = None,
    event_id: str | None = None,
    code_hash: str | None = None,
) -> Iterator[Provenance]:
    """Attribute what is tracked or put inside the block; inner scopes add to outer ones.

    Raises
    ------
    InvalidNameError
        When a value is empty, too long or holds control characters.
    """
    told = Provenance(phase, agent, node_id, step_id, event_id, code_hash).over(_scope.get())
    token = _scope.set(told)
    try:
        yield told
    finally:
        _scope.reset(token)
