"""Short transactions that may be done again, with room for others in between."""

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
"""How often a transaction is done again because a reference came while it deleted."""

_LONGEST_REST_S: Final = 0.1
"""What a writer to SQLite sleeps at most before it looks again whether it is its turn."""


class Transactions:
    """Reads and writes of a collection. Doing any of its writes twice is doing it once."""

    def __init__(self, database: Database, rest: float) -> None:
        self._database = database
        self._rest = 0.0 if database.is_server else rest

    def read(self, work: Callable[[Connection], T]) -> T:
        """Return what some work reads."""
        return self._database.read(work)

    def write(self, work: Callable[[Connection], T]) -> T | None:
        """Do some work in a transaction; return what it returns.

        None if references keep coming to what it deletes: that is for the next collection.
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
