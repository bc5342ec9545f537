"""Scopes: the provenance of a block of code.

The scope is a context variable. `asyncio` tasks and `asyncio.to_thread` inherit the scope in which
they start, and concurrent agents don't see each other's scopes. A new thread, or a thread of an
executor, starts without a scope; `carried` passes the current one to it.

A generator shares the context of its consumer. So a scope that a generator opens is
remembered with its frame, too: it holds while the generator runs, and not between two items.
"""

from __future__ import annotations

import functools
import inspect
import types
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, NamedTuple, ParamSpec, TypeVar

from index.domain.provenance import Provenance
from index.domain.reads import Reads

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Sequence
    from types import FrameType

    from index.domain.names import Label

__all__ = [
    "ProvenanceScope",
    "carried",
    "current_provenance",
    "current_reads",
    "provenance",
]


P = ParamSpec("P")
R = TypeVar("R")


class _Combined(NamedTuple):
    """What holds in a scope, with the scopes around it."""

    provenance: Provenance
    reads: Reads | None = None
    """Where reads are remembered; None if no scope asks for it."""


class _Entered(NamedTuple):
    """A scope that was entered."""

    scope: ProvenanceScope | None
    combined: _Combined
    """With what enclosed it then."""
    owner: FrameType | None = None
    """The generator that has the `with` statement."""
    inside: FrameType | None = None
    """The innermost generator with a scope that was running; perhaps the owner."""


_scopes: Final[ContextVar[tuple[_Entered, ...]]] = ContextVar("cas_provenance", default=())

_generators: Final[dict[FrameType, tuple[_Entered, ...]]] = {}
"""The scopes that generators have open, by their frames. A generator may run in many contexts."""


def current_provenance() -> Provenance:
    """Return the combined provenance of the enclosing `provenance` scopes."""
    return _combined(_running(inspect.currentframe())).provenance


def current_reads() -> Reads | None:
    """Return where the enclosing `provenance` scopes remember reads; None if none does."""
    return _combined(_running(inspect.currentframe())).reads


def _combined(generator: FrameType | None) -> _Combined:
    """Return what holds inside a generator that runs, or outside of any."""
    entered = reversed(_scopes.get())
    if generator is None:
        last = next((one for one in entered if _holds(one.inside)), None)
        return _NOTHING if last is None else last.combined
    own = _generators[generator][-1]
    last = next((one for one in entered if one.inside is generator), own)
    return last.combined if last.owner is None else own.combined


_NOTHING: Final = _Combined(Provenance())


def _running(frame: FrameType | None) -> FrameType | None:
    """Return the innermost generator with an open scope that a frame runs in."""
    # What `_called` calls has the scopes that it was given, and no others.
    while _generators and frame is not None and frame.f_code is not _called.__code__:
        if frame in _generators:
            return frame
        frame = frame.f_back
    return None


def _holds(inside: FrameType | None) -> bool:
    """Whether a scope holds outside of the generator that it was entered in.

    It does not for the caller of the generator, between two items. It does for a task or thread
    that the generator waits for.
    """
    if inside is None:
        return True
    return inside in _generators and (inside.f_back is not None or _awaits(inside))


def _awaits(frame: FrameType) -> bool:
    """Whether the suspended frame of a generator is at an `await`, and not at a `yield`.

    Source: Python's documentation of `dis`: RESUME stands where a frame continues. The low bits of
    its argument are 3 after an `await`.
    """
    from opcode import opmap

    code, resume = frame.f_code.co_code, opmap.get("RESUME")
    rest = (at for at in range(frame.f_lasti, len(code), 2) if code[at] == resume)
    at = next(rest, None)
    return at is not None and code[at + 1] & 3 == 3


def _generator_of_with() -> FrameType | None:
    """Return the generator whose `with` statement calls a method of a scope; None for others.

    A generator that `contextlib` runs belongs to a `with` statement of its caller.
    """
    frame = inspect.currentframe()
    frame = frame and frame.f_back and frame.f_back.f_back
    while frame is not None and (_is_contextlib(frame) or _is_contextlib(frame.f_back)):
        frame = frame.f_back
    kinds = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
    return frame if frame is not None and frame.f_code.co_flags & kinds else None


def _is_contextlib(frame: FrameType | None) -> bool:
    return frame is not None and frame.f_globals.get("__name__") == "contextlib"


def _without(
    entered: Sequence[_Entered], scope: ProvenanceScope, owner: FrameType | None
) -> tuple[tuple[_Entered, ...], _Entered | None]:
    """Return what was entered without the last entry of a scope, and that entry."""
    for n in reversed(range(len(entered))):
        if entered[n].scope is scope and entered[n].owner is owner:
            return (*entered[:n], *entered[n + 1 :]), entered[n]
    return tuple(entered), None


def carried(function: Callable[P, R]) -> Callable[P, R]:
    """Return a function that runs in the current `provenance` scope, on any thread.

    Use it as ``executor.submit(carried(work), …)`` or ``Thread(target=carried(work))``. The
    coroutine or generator of such a function also runs in the scope, wherever it is awaited or its
    items are taken. The returned function is of the same kind as the given one.
    """
    scope = _combined(_running(inspect.currentframe()))
    return _within(lambda: scope, function)


class ProvenanceScope(AbstractContextManager[Provenance]):
    """The scope that `provenance` returns: a context manager, and a decorator of functions.

    Several threads and tasks may use one, also inside itself. Leaving it never raises, wherever the
    block ends, but for a failure to note what was read.
    """

    def __init__(self, provenance: Provenance, *, record_reads: bool = False) -> None:
        self._provenance = provenance
        self._record_reads = record_reads

    def _inside(self, outer: _Combined) -> _Combined:
        """Return what holds in the scope, entered now."""
        reads = Reads() if self._record_reads else outer.reads
        return _Combined(self._provenance.over(outer.provenance), reads)

    def __enter__(self) -> Provenance:
        owner = _generator_of_with()
        running = _running(inspect.currentframe())
        combined = self._inside(_combined(running))
        entered = _Entered(self, combined, owner, owner or running)
        if owner is not None:
            _generators[owner] = (*_generators.get(owner, ()), entered)
        # A generator may have been closed in another context: its scopes are still in this one.
        open_ = [one for one in _scopes.get() if one.inside is None or one.inside in _generators]
        _scopes.set((*open_, entered))
        return combined.provenance

    def __exit__(
        self, _type: object, error: BaseException | None = None, _traceback: object = None
    ) -> None:
        # Not with a token, which raises in another context than that of `__enter__`.
        owner = _generator_of_with()
        open_, left = _without(_scopes.get(), self, owner)
        _scopes.set(open_)
        if owner is not None:
            _generators[owner], left = _without(_generators.get(owner, ()), self, owner)
            if not _generators[owner]:
                del _generators[owner]
        if self._record_reads and left is not None and left.combined.reads is not None:
            left.combined.reads.leave(error)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Return the function so that each call runs in this scope, inside the caller's scope.

        The returned function is of the same kind: a coroutine function stays one, and so does a
        generator function. These take the caller's scope when they begin to run, not when they are
        called. Between two items of a generator its caller is in no scope of it.
        """
        return _within(
            lambda: self._inside(_combined(_running(inspect.currentframe()))),
            function,
            leaves=self._record_reads,
        )


def provenance(
    *,
    phase: Label | None = None,
    agent: Label | None = None,
    node_id: Label | None = None,
    step_id: Label | None = None,
    event_id: Label | None = None,
    code_hash: Label | None = None,
    record_reads: bool = False,
) -> ProvenanceScope:
    """Set the provenance of files tracked or put inside the block or the decorated function.

    Fields of an inner scope take precedence over those of the outer scopes. A block in a generator
    holds for what the generator calls and awaits, and not for its caller between two items. What it
    starts and leaves running needs `carried`, or the generator the decorator.

    Parameters
    ----------
    record_reads
        Whether what is read from the store inside counts as input, as with `Run.use`. It is noted
        in the next commit inside, with what was written: to any run of that session. What is left
        at the end of the block is committed there, to the run that was written last, or else to the
        run that it was read from. A run that is deleted by then stays deleted; where both are, the
        reads are noted nowhere. In a coroutine that takes the event loop's time.

    Raises
    ------
    InvalidNameError
        When a value is empty, too long or holds control characters.
    """
    given = Provenance(phase, agent, node_id, step_id, event_id, code_hash)
    return ProvenanceScope(given, record_reads=record_reads)


def _within(
    scope_now: Callable[[], _Combined], function: Callable[P, R], *, leaves: bool = False
) -> Callable[P, R]:
    """Return a function of the same kind that runs in what `scope_now` returns when it begins.

    With `leaves`, the end of the function is the end of the scope.
    """

    def begun(*args: P.args, **kwargs: P.kwargs) -> tuple[_Begun, Any]:
        within = _Begun(scope_now(), leaves=leaves)
        with within.ending(succeeds=False):
            return within, _called(within, function, *args, **kwargs)

    def plain(*args: P.args, **kwargs: P.kwargs) -> Any:  # noqa: ANN401 - perhaps wrapped
        made = begun(*args, **kwargs)
        for _, is_made, stepped in _KINDS:
            if is_made(made[1]):
                return stepped(lambda: made)()
        made[0].end()
        return made[1]

    inside = next((stepped(begun) for is_kind, _, stepped in _KINDS if is_kind(function)), plain)
    return functools.update_wrapper(inside, function)


class _Begun:
    """A call in a scope: what it has open, and the end of the scope."""

    def __init__(self, combined: _Combined, *, leaves: bool) -> None:
        self.open: tuple[_Entered, ...] = (_Entered(None, combined),)
        self._reads = combined.reads if leaves else None

    def end(self, error: BaseException | None = None) -> None:
        """Note what is left of the reads, once."""
        reads, self._reads = self._reads, None
        if reads is not None:
            reads.leave(error)

    @contextmanager
    def ending(self, *, succeeds: bool = True) -> Iterator[None]:
        """End the scope if the block raises, and if it `succeeds`."""
        try:
            yield
        except BaseException as error:
            self.end(error)
            raise
        if succeeds:
            self.end()


def _called(within: _Begun, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a function in scopes, and keep those that the call leaves open."""
    outside = _scopes.get()
    _scopes.set(within.open)
    try:
        return function(*args, **kwargs)
    finally:
        within.open = _scopes.get()
        _scopes.set(outside)


def _stepped(within: _Begun, steps: Any) -> Generator[Any, Any, Any]:  # noqa: ANN401
    """Run a generator or coroutine; only its steps are in the scopes. Any context may take them."""
    step = functools.partial(steps.send, None)
    while True:
        try:
            item = _called(within, step)
        except StopIteration as end:
            return end.value
        try:
            sent = yield item
        except BaseException as error:  # noqa: BLE001 - the generator or coroutine decides
            step = functools.partial(steps.throw, error)
        else:
            step = functools.partial(steps.send, sent)


@types.coroutine
def _awaited(within: _Begun, steps: Any) -> Generator[Any, Any, Any]:  # noqa: ANN401
    return (yield from _stepped(within, steps))


def _coroutine(begun: Callable[P, tuple[_Begun, Any]]) -> Callable[P, Any]:
    async def inside(*args: P.args, **kwargs: P.kwargs) -> Any:  # noqa: ANN401
        within, steps = begun(*args, **kwargs)
        with within.ending():
            return await _awaited(within, steps)

    return inside


def _generator(begun: Callable[P, tuple[_Begun, Any]]) -> Callable[P, Any]:
    def inside(*args: P.args, **kwargs: P.kwargs) -> Generator[Any, Any, Any]:
        within, steps = begun(*args, **kwargs)
        with within.ending():
            return (yield from _stepped(within, steps))

    return inside


def _async_generator(begun: Callable[P, tuple[_Begun, Any]]) -> Callable[P, Any]:
    async def inside(*args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[Any, Any]:
        within, items = begun(*args, **kwargs)
        step = items.asend(None)
        with within.ending():
            while True:
                try:
                    item = await _awaited(within, step)
                except StopAsyncIteration:
                    return
                try:
                    sent = yield item
                except GeneratorExit:
                    await _awaited(within, items.aclose())
                    raise
                except BaseException as error:  # noqa: BLE001 - the generator decides
                    step = items.athrow(error)
                else:
                    step = items.asend(sent)

    return inside


_KINDS: Final = (
    (inspect.iscoroutinefunction, inspect.iscoroutine, _coroutine),
    (inspect.isgeneratorfunction, inspect.isgenerator, _generator),
    (inspect.isasyncgenfunction, inspect.isasyncgen, _async_generator),
)
"""Kinds of functions: how to know one, how to know what it returns, and a function of the kind that
runs step by step what was begun. Frameworks treat a function by its kind."""
