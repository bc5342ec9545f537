"""Waits for storage, for a database and for locks: they are logged, and end when nobody needs them.

Nothing interrupts a thread, and Ctrl-C reaches only the main thread, which then joins its workers.
So each wait of a worker checks a `Stop`. The code that gives up the work sets it.
"""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import CancelledError, wait
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

__all__ = ["WAITS", "Stop", "check_stop", "check_wait", "log_wait", "pause", "result_of"]

T = TypeVar("T")

WAITS: Final = "cas.waiting"
"""The logger of all waits."""

_LONGEST_S: Final = 2_000_000
"""About 23 days: what PostgreSQL takes in milliseconds."""

_LOG: Final = logging.getLogger(WAITS)

_STEP_S: Final = 0.2
"""Seconds after which a wait looks for a stop."""

_thread: Final = threading.local()


class Stop:
    """Ends the waits of work that nobody needs any more. Work that does not wait goes on."""

    def __init__(self, event: threading.Event | None = None) -> None:
        """Make a stop, which is set when `event` is set, if there is one."""
        self._event = threading.Event() if event is None else event

    @property
    def is_set(self) -> bool:
        """Whether the waits end."""
        return self._event.is_set()

    def set(self) -> None:
        """End the waits, now and from now on, with CancelledError."""
        self._event.set()

    def ends(self, work: Callable[[], T]) -> Callable[[], T]:
        """Return work for another thread. This stop ends it, or one that ends the caller's work."""
        stops = (self, *_stops())

        def stoppable() -> T:
            before, _thread.stops = _stops(), stops
            try:
                return work()
            finally:
                _thread.stops = before

        return stoppable


def _stops() -> tuple[Stop, ...]:
    return getattr(_thread, "stops", ())


def check_stop() -> None:
    """Raise CancelledError if nobody needs what this thread does."""
    if any(stop.is_set for stop in _stops()):
        raise CancelledError


def pause(seconds: float) -> None:
    """Sleep. Raises CancelledError as `check_stop` does."""
    while _stops() and seconds > _STEP_S:
        check_stop()
        time.sleep(_STEP_S)
        seconds -= _STEP_S
    check_stop()
    time.sleep(seconds)


def result_of(future: Future[T], timeout: float) -> T:
    """Return the result of a future; cancel it if that takes too long, or at a stop or Ctrl-C.

    Raises TimeoutError after `timeout` seconds, and CancelledError as `check_stop` does.
    """
    end = time.monotonic() + timeout
    try:
        while not wait((future,), _STEP_S).done:
            check_stop()
            if time.monotonic() > end:
                raise TimeoutError
        return future.result()
    finally:
        future.cancel()


def check_wait(name: str, seconds: float) -> None:
    """Raise TypeError or ValueError for a longest wait that is no number of seconds."""
    given: object = seconds  # callers without a type checker give anything
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise TypeError(f"{name} is a number of seconds, not {given!r}")
    if not 0 <= given <= _LONGEST_S:
        raise ValueError(f"{name} is from 0 to {_LONGEST_S:,} seconds, not {given}")


def log_wait(subject: str, reason: str, *, waited: float, pause: float) -> None:
    """Log that a call goes on waiting.

    Parameters
    ----------
    waited, pause
        Seconds since the wait began, and until the next attempt. The log record has them as
        attributes of these names.
    """
    extra = {"subject": subject, "waited": waited, "pause": pause}
    _LOG.info("waiting for %s: %s", subject, reason, extra=extra)
