"""The database of the index: engine, connections and transactions, on SQLite or PostgreSQL.

SQLite is set up for one writer and many readers at once, in threads and processes. It uses a
write-ahead log, full sync at commit, and foreign keys. Writers take the write lock when they begin
(``BEGIN IMMEDIATE``): a transaction that reads first and asks for the lock later fails instead of
waiting. (Source: SQLite documentation, "Write-Ahead Logging", section on SQLITE_BUSY.)
"""

from __future__ import annotations

import os
import random
import time
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Final, TypeVar

from sqlalchemy import URL, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, OperationalError

from index.errors import IndexInterruptedError, IndexUnavailableError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from sqlalchemy.engine import Connection, Engine

__all__ = ["Database", "is_impossible", "sqlite_url"]

T = TypeVar("T")

BUSY_TIMEOUT_S: Final = 60
"""Seconds a writer waits for other writers. A commit of 100,000 files takes about one second."""

_PRAGMAS: Final = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "temp_store=MEMORY",
    # KiB: the pages that a commit of 50,000 files touches. With the default of 2 MiB it would write
    # pages to the log several times.
    "cache_size=-32768",
)

_IMMEDIATE: Final = "cas_immediate"

_POSTGRESQL: Final = {
    "application_name": "runcas",
    "connect_timeout": 10,
    "keepalives_idle": 60,
    # Milliseconds. A writer waits for a lock as long as on SQLite. A statement has enough time to
    # delete a large session. A transaction whose client is gone must release its locks soon.
    "options": (
        f"-c lock_timeout={BUSY_TIMEOUT_S * 1000}"
        " -c statement_timeout=900000 -c idle_in_transaction_session_timeout=60000"
    ),
}
"""Options that a URL's query does not set."""

_PASSING_STATES: Final = frozenset(("40001", "40P01", "57P01", "57P02", "57P03"))
"""Serialization failure, deadlock, and a server that shuts down, crashed or starts. Source:
PostgreSQL 18, appendix A, "PostgreSQL Error Codes"."""

_INSIST_S: Final = 60
"""Seconds that a restart of the server may take."""

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0


def sqlite_url(path: Path) -> URL:
    """Return the URL of an SQLite database file."""
    return URL.create("sqlite", database=str(path))


class Database:
    """Connections to one index. Safe for use by several threads, but not after a fork."""

    def __init__(self, url: str | URL) -> None:
        self._process = os.getpid()
        self._is_closed = False
        try:
            self._url = make_url(url)
            self.engine: Final = _create_engine(self._url)
            # SQLite's BEGIN does that by itself: a transaction reads the state it began with.
            self._reading = {"isolation_level": "REPEATABLE READ"} if self.is_server else {}
        except (ArgumentError, ImportError) as error:
            # The text that could not be parsed may hold a password.
            raise IndexUnavailableError("URL", str(error).splitlines()[0]) from None

    @property
    def url(self) -> str:
        """The URL without its password."""
        return self._url.render_as_string(hide_password=True)

    @property
    def is_server(self) -> bool:
        """Whether the index is on a server, whose connection may break and come back."""
        return self.file is None

    @property
    def file(self) -> str | None:
        """The path of the SQLite database file; None on a server."""
        return self._url.database if self._url.get_backend_name() == "sqlite" else None

    def is_same(self, other: Database) -> bool:
        """Whether `other` is the same SQLite file, or the same database on the same server."""
        if self.file is not None and other.file is not None:
            return os.path.realpath(self.file) == os.path.realpath(other.file)
        mine, theirs = self._url, other._url
        return (mine.get_backend_name(), mine.host, mine.port, mine.database) == (
            theirs.get_backend_name(),
            theirs.host,
            theirs.port,
            theirs.database,
        )

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a transaction that sees one state of the index and changes nothing."""
        with self._translated(), self.engine.connect() as connection:
            yield connection.execution_options(**self._reading)

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open a transaction that commits durably when the block ends without raising.

        Raises IndexInterruptedError if the connection breaks. Its `may_have_committed` says whether
        the commit had been sent.
        """
        with self._translated(), self.engine.connect() as connection:
            immediate = connection.execution_options(**{_IMMEDIATE: True})
            is_committing = False
            try:
                with immediate.begin():
                    yield immediate
                    is_committing = True
            except DBAPIError as error:
                if is_committing and error.connection_invalidated:
                    raise self._interrupted(error, may_have_committed=True) from error
                raise

    def shielded(self, rows: Iterable[T]) -> Iterator[T]:
        """Yield rows that this database reads, inside a transaction of another database.

        Errors name this database. Without this, the other database's block would report them as
        its own.
        """
        with self._translated():
            yield from rows

    def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a reading transaction; return its result. See `with_retries`."""

        def attempt() -> T:
            with self.reading() as connection:
                return work(connection)

        return self.with_retries(attempt)

    def write(self, work: Callable[[Connection], T], *, is_repeatable: bool = False) -> T:
        """Run `work` in a transaction that commits; return its result. See `with_retries`.

        Parameters
        ----------
        is_repeatable
            Whether doing the work twice has the same effect as once. Then it is also retried after
            a commit that may have succeeded.
        """

        def attempt() -> T:
            try:
                with self.writing() as connection:
                    return work(connection)
            except IndexInterruptedError as error:
                if not is_repeatable:
                    raise
                raise IndexInterruptedError(error.url, error.reason) from error

        return self.with_retries(attempt)

    def with_retries(self, work: Callable[[], T]) -> T:
        """Do work in transactions; retry while the database is unavailable or in conflict.

        Retries stop after a minute. Then, or if a commit may have succeeded, this raises
        `IndexInterruptedError`. The work must be safe to repeat.
        """
        deadline = time.monotonic() + _INSIST_S
        for attempt in count():
            try:
                return work()
            except IndexInterruptedError as error:
                pause = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**attempt)
                if error.may_have_committed or time.monotonic() + pause > deadline:
                    raise
                # Jitter: many hosts that lost one server should not come back all at once.
                time.sleep(random.uniform(pause / 2, pause))  # noqa: S311 - no secret
        raise AssertionError("unreachable")

    def leave_one_file(self) -> None:
        """Write SQLite's log into its database file, so that this file alone is the index."""
        with self._translated(), self.engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close all pooled connections and refuse new ones. Idempotent."""
        self._is_closed = True
        self.engine.dispose()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        if os.getpid() != self._process:
            # SQLite's locks belong to the process. In a child they would hang or, worse, not hold.
            reason = "it was opened before this process was forked; open the store after forking"
            raise IndexUnavailableError(self.url, reason)
        if self._is_closed:
            raise IndexUnavailableError(self.url, "the store was closed; open it again")
        try:
            yield
        except IntegrityError:
            raise
        except DBAPIError as error:
            state = getattr(error.orig, "sqlstate", None)
            if self.is_server and (error.connection_invalidated or _is_passing(error, state)):
                raise self._interrupted(error, may_have_committed=False) from error
            raise IndexUnavailableError(self.url, _first_line(error)) from error

    def _interrupted(self, error: DBAPIError, *, may_have_committed: bool) -> IndexInterruptedError:
        reason = _first_line(error)
        return IndexInterruptedError(self.url, reason, may_have_committed=may_have_committed)


def _is_passing(error: DBAPIError, state: str | None) -> bool:
    """Whether a retry may succeed: nothing was committed."""
    if state is None:  # no server answered
        return isinstance(error, OperationalError)
    return state in _PASSING_STATES or state.startswith("08")


def _first_line(error: DBAPIError) -> str:
    lines = str(error.orig).strip().splitlines()
    return lines[0] if lines else type(error.orig).__name__


def _create_engine(url: URL) -> Engine:
    if url.get_backend_name() == "postgresql":
        options = {key: value for key, value in _POSTGRESQL.items() if key not in url.query}
        # The ping finds connections that a restart of the server has cut.
        return create_engine(url, pool_pre_ping=True, max_overflow=-1, connect_args=options)
    if url.get_backend_name() != "sqlite":
        raise ArgumentError(
            f"an index is on SQLite or PostgreSQL, not on {url.get_backend_name()!r}"
        )
    if url.database in (None, "", ":memory:"):
        raise ArgumentError("an SQLite index needs a file, as in sqlite:///runs.db")
    engine = create_engine(
        url,
        connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False},
        max_overflow=-1,
    )
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    event.listen(engine, "invalidate", _roll_back_sqlite)
    return engine


def _set_up_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # this module sends BEGIN
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")


def _roll_back_sqlite(connection: sqlite3.Connection, *_: object) -> None:
    """Release the write lock when Ctrl-C interrupts a statement.

    SQLAlchemy then closes the connection without a rollback. SQLite keeps the transaction of a
    closed connection as long as one of its cursors lives, and a notebook's traceback keeps one.
    """
    connection.rollback()


def _begin_sqlite(connection: Connection) -> None:
    immediate = connection.get_execution_options().get(_IMMEDIATE)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def is_impossible(error: IntegrityError) -> bool:
    """Whether a row violates a CHECK or NOT NULL constraint, so that no retry can help.

    Source: SQLite's message for CHECK and NOT NULL; PostgreSQL 18, appendix A, class 23.
    """
    state = getattr(error.orig, "sqlstate", None)
    text = str(error.orig)
    return state in ("23502", "23514") or text.startswith(("CHECK constraint", "NOT NULL constra"))
