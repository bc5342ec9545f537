"""Short transactions with retries, and with pauses for other writers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, TypeVar

from sqlalchemy.exc import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Connection

    from index.db.database import Database

__all__ = ["Transactions"]

T = TypeVar("T")

_ATTEMPTS: Final = 5
"""Attempts at a transaction if a new reference appears while it deletes."""

_LONGEST_REST_S: Final = 0.1
"""The longest time that a writer to SQLite sleeps before it polls again."""


class Transactions:
    """Reads and writes of a collection. All writes are idempotent."""

    def __init__(self, database: Database, rest: float) -> None:
        self._database = database
        self._rest = 0.0 if database.is_server else rest

    def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a reading transaction; return its result."""
        return self._database.read(work)

    def write(self, work: Callable[[Connection], T]) -> T | None:
        """Run `work` in a transaction; return its result.

        Return None if rows that it deletes keep getting references. The next collection retries.
        """
        started = time.monotonic()
        for _ in range(_ATTEMPTS):
            try:
                return self._database.write(work, is_repeatable=True)
            except IntegrityError:
                continue
            finally:
                taken = time.monotonic() - started
                time.sleep(min(_LONGEST_REST_S, taken * self._rest))
        return None
