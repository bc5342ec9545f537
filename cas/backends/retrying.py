"""Retries with exponential backoff and full jitter, under one deadline."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, TypeVar

from cas.errors import TransientBackendError
from cas.waiting import log_wait, pause

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Retrying"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Retrying:
    """Retries calls that raise `TransientBackendError`. All other errors pass through.

    The wait before attempt n + 1 is uniformly random between zero and ``first_wait * 2**(n - 1)``,
    and at most ``longest_wait``. So clients that failed together do not retry together.

    Notes
    -----
    Source: Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015 ("full jitter").
    """

    deadline: float = 60.0
    """Seconds from the start of the first attempt, after which no further attempt starts."""
    first_wait: float = 0.1
    longest_wait: float = 10.0
    """Seconds, as `first_wait`."""
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = pause

    def call(self, attempt: Callable[[], T]) -> T:
        """Call `attempt` until it succeeds, and return its result.

        Raises
        ------
        TransientBackendError
            The last error, with the number of attempts and the time they took.
        """
        started = self.clock()
        for number in count(1):
            try:
                return attempt()
            except TransientBackendError as error:
                wait = self._wait_after(number)
                passed = self.clock() - started
                if passed + wait >= self.deadline:
                    again = "it may help to repeat the call later"
                    reason = f"{error.reason}; tried {number} times in {passed:.0f} s, {again}"
                    raise TransientBackendError(error.subject, reason) from error.__cause__
                log_wait(error.subject, error.reason, waited=passed, pause=wait)
                self.sleep(wait)
        raise AssertionError("unreachable")  # pragma: no cover

    def _wait_after(self, number: int) -> float:
        # The exponent is bounded: many attempts would overflow a float.
        longest = min(self.longest_wait, self.first_wait * 2.0 ** min(number - 1, 30))
        return random.uniform(0, longest)  # noqa: S311 - spreads load, protects nothing
