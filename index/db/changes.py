"""Changes of runs as they happen, by any process on any host.

The index is polled, and polling costs next to nothing while nothing changes: before it looks at the
runs, a follower asks whether any transaction may have committed since its last look.

* On SQLite, ``PRAGMA data_version`` of a connection that stays open says so, without a transaction.
  (Source: SQLite documentation, "PRAGMA data_version".)
* On PostgreSQL, the set of transactions that a new transaction can see says so: as long as
  ``pg_current_snapshot()`` is the same text, the same rows are visible. On a standby server that
  text leaves out the transactions in progress, so there each poll looks at the runs. (Source:
  PostgreSQL 18, ``src/backend/storage/ipc/procarray.c``, ``GetSnapshotData``.)

LISTEN and NOTIFY would be quicker than a poll, but writers would pay for it. Commits with a
notification hold one lock of the whole server until they are on disk, one after the other: eight
clients of pgbench made half as many. A transaction with a notification can't be prepared for a
two-phase commit, as an application may do that registers files in its own transaction. And poolers
of connections drop LISTEN. (Source: PostgreSQL 18, ``src/backend/commands/async.c``,
``PreCommit_Notify``; documentation, "PREPARE TRANSACTION".)
"""

from __future__ import annotations

import sqlite3
from concurrent.futures import CancelledError
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Text, case, cast, func, null, select
from sqlalchemy.exc import DBAPIError

from cas.waiting import Stop
from index.db.lookup import Lookup
from index.db.queries.summaries import list_run_states
from index.db.sqlite import READ_ONLY
from index.domain.runs import RunChange
from index.errors import StoreClosedError

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator, Mapping

    from index.db.database import Database
    from index.db.queries.summaries import RunState
    from index.domain.names import RunKey

__all__ = ["follow_runs"]

_VISIBLE: Final = Lookup(
    select(
        case((func.pg_is_in_recovery(), null()), else_=cast(func.pg_current_snapshot(), Text)),
    )
)


def follow_runs(
    database: Database, session: str | None, *, stop: threading.Event, interval: float
) -> Iterator[RunChange]:
    """Return an iterator of the changes of runs from now on, of a session or of all sessions.

    It ends when `stop` is set or the database is closed, at the latest after `interval` seconds.
    """
    known = database.read(partial(list_run_states, session=session))
    return _changes(database, session, known, stop, interval)


def _changes(
    database: Database,
    session: str | None,
    known: Mapping[RunKey, RunState],
    stop: threading.Event,
    interval: float,
) -> Iterator[RunChange]:
    look = Stop(stop).ends(partial(database.read, partial(list_run_states, session=session)))
    # Nothing committed before a look escapes it: the mark is read first.
    with closing(_Mark(database)) as mark:
        ask = Stop(stop).ends(mark.read)
        last: str | int | None = None
        while not stop.is_set():
            try:
                now = ask()
                if now is None or now != last:
                    found = look()
                    for change in _differences(known, found):
                        if stop.is_set():
                            return
                        yield change
                    known, last = found, now
            except (CancelledError, StoreClosedError):
                return
            stop.wait(interval)


class _Mark:
    """What differs once another transaction has committed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: sqlite3.Connection | None = None

    def read(self) -> str | int | None:
        """Return the present mark; None if there is none, so that one has to look.

        Raises as `Database.lookup` does.
        """
        if self._database.is_server:
            visible: str | None = self._database.lookup(_VISIBLE)[0][0]
            return visible
        if not self._database.is_open:
            raise StoreClosedError(self._database.url)
        try:
            self._kept = self._kept or self._connect()
            return None if self._kept is None else _version(self._kept)
        except (sqlite3.Error, DBAPIError):  # the look says what is wrong
            self.close()
            return None

    def _connect(self) -> sqlite3.Connection | None:
        """Return a connection apart from the pool; None if the file can only be read."""
        pooled = self._database.engine.raw_connection()
        if READ_ONLY in pooled.info:  # it may not see what others write
            pooled.invalidate()
            return None
        driver: Any = pooled.driver_connection
        pooled.detach()
        return driver  # type: ignore[no-any-return]

    def close(self) -> None:
        """Close the connection that was kept."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None


def _version(connection: sqlite3.Connection) -> int:
    ((version,),) = connection.execute("PRAGMA data_version").fetchall()
    return int(version)


def _differences(
    before: Mapping[RunKey, RunState], after: Mapping[RunKey, RunState]
) -> Iterator[RunChange]:
    for key in sorted(before.keys() | after.keys(), key=lambda key: (key.session, key.run)):
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        if old is not None and (new is None or new.id != old.id):
            yield RunChange(key.session, key.run, old.snapshot, old.revision, deleted=True)
        if new is not None:
            yield RunChange(key.session, key.run, new.snapshot, new.revision)
