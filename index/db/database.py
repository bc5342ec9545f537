"""The database of the index: engine, connections and transactions, on SQLite or PostgreSQL.

SQLite is set up for one writer and many readers at once, in threads and processes. It uses a
write-ahead log, full sync at commit, and foreign keys. Writers take the write lock when they begin
(``BEGIN IMMEDIATE``): a transaction that reads first and asks for the lock later fails instead of
waiting. (Source: SQLite documentation, "Write-Ahead Logging", section on SQLITE_BUSY.)
`index.db.sqlite` opens its connections.
"""

from __future__ import annotations

import os
import random
import sqlite3
import time
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sqlalchemy import URL
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, OperationalError

from cas.waiting import log_wait, pause
from index.db.engines import (
    CALLER,
    LOCK_WAIT,
    create_index_engine,
    parse_url,
    said_by,
    shown_url,
)
from index.db.lookup import LookupConnection
from index.db.sqlite import READ_ONLY, reason_of
from index.errors import IndexInterruptedError, IndexUnavailableError, StoreClosedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from sqlalchemy.engine import Connection

    from index.db.lookup import Lookup
    from index.db.sqlite import ReadOnly

__all__ = ["DATABASE_WAIT_S", "LOCK_WAIT_S", "Database", "is_impossible", "sqlite_url"]

T = TypeVar("T")

LOCK_WAIT_S: Final = 60.0
"""Seconds a writer waits for other writers. A commit of 100,000 files takes about one second."""

DATABASE_WAIT_S: Final = 60.0
"""Seconds that a restart of the server may take."""

_PASSING_STATES: Final = frozenset(("40001", "40P01", "57P01", "57P02", "57P03"))
"""Serialization failure, deadlock, and a server that shuts down, crashed or starts. Source:
PostgreSQL 18, appendix A, "PostgreSQL Error Codes"."""

_PASSING_REFUSALS: Final = ("the database system is", "connection slots", "too many", "terminating")
"""Parts of the answers of a server that starts, stops or has no connection left."""

_PERMANENT_FAILURES: Final = (
    *("FATAL:", "password", "SSL", "certificate", "authentication"),
    *("invalid ", "definition of service"),
)
"""Parts of what libpq says of a connection that no retry makes. A failed attempt has no code."""

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0


def sqlite_url(path: Path) -> URL:
    """Return the URL of an SQLite database file."""
    return URL.create("sqlite", database=str(path))


class Database:
    """Connections to one index. Safe for use by several threads, but not after a fork."""

    def __init__(
        self,
        url: str | URL,
        *,
        lock_wait: float = LOCK_WAIT_S,
        database_wait: float = DATABASE_WAIT_S,
    ) -> None:
        """Prepare connections; connect to nothing.

        Parameters
        ----------
        lock_wait
            Seconds to wait for a lock that another writer has.
        database_wait
            Seconds to wait for a server that is down.
        """
        self._process = os.getpid()
        self._is_closed = False
        self._lock_wait = lock_wait
        self._database_wait = database_wait
        try:
            self._url = parse_url(url)
            self.engine: Final = create_index_engine(self._url, shown=self.url, lock_wait=lock_wait)
            self._lookups = LookupConnection(self.engine)
            # SQLite's BEGIN does that by itself: a transaction reads the state it began with.
            self._reading = {"isolation_level": "REPEATABLE READ"} if self.is_server else {}
        except ImportError as error:
            reason = f"its driver is missing ({error}); run `pip install 'runcas[postgres]'`"
            raise IndexUnavailableError("URL", reason) from None
        except (ArgumentError, ValueError) as error:
            # The text that could not be parsed may hold a password.
            raise IndexUnavailableError("URL", str(error).splitlines()[0]) from None

    @property
    def url(self) -> str:
        """The URL without its password."""
        try:
            return shown_url(self._url)
        except UnicodeEncodeError:  # a file whose name is not UTF-8
            return f"sqlite:///{self.file}"

    @property
    def secret_url(self) -> str:
        """The URL with its password, and with the whole path of an SQLite file."""
        url, file = self._url, self.file
        if file is not None and not file.startswith("file:"):
            url = url.set(database=str(Path(file).absolute()))
        try:
            return url.render_as_string(hide_password=False)
        except UnicodeEncodeError:  # a file whose name is not UTF-8
            return f"sqlite:///{url.database}"

    @property
    def is_open(self) -> bool:
        """Whether this process may use it: not after `close`, and not after a fork."""
        return not self._is_closed and os.getpid() == self._process

    @property
    def is_server(self) -> bool:
        """Whether the index is on a server, whose connection may break and come back."""
        return self.file is None

    @property
    def file(self) -> str | None:
        """The path of the SQLite database file; None on a server."""
        return self._url.database if self._url.get_backend_name() == "sqlite" else None

    def exists(self) -> bool:
        """Whether the SQLite file exists. True on a server.

        Raises
        ------
        IndexUnavailableError
            When its directory can't be read.
        """
        try:
            return self.file is None or bool(Path(self.file).stat())
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise IndexUnavailableError(self.url, error.strerror or str(error)) from error

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
        with self._translated(), self._connect() as connection:
            read_only = self._detached(connection)
            yield connection.execution_options(**self._reading)
            if read_only is not None and not read_only.is_unchanged():
                reason = "another process changed it while it was read without locks"
                raise IndexUnavailableError(self.url, reason)

    @contextmanager
    def writing(
        self, *, lock_wait: float | None = None, caller: int | None = None
    ) -> Iterator[Connection]:
        """Open a transaction that commits durably when the block ends without raising.

        Raises IndexInterruptedError if the connection breaks. Its `may_have_committed` says whether
        the commit had been sent.

        Parameters
        ----------
        lock_wait
            Seconds to wait for SQLite's lock, in place of the database's own.
        caller
            The thread that waits for this one, if it is not this one itself.
        """
        patience = self._lock_wait if lock_wait is None else lock_wait
        with self._translated(), self._connect() as connection:
            if (read_only := self._detached(connection)) is not None:
                raise IndexUnavailableError(self.url, f"it can only be read: {read_only.reason}")
            immediate = connection.execution_options(**{LOCK_WAIT: patience, CALLER: caller})
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

    def lookup(self, lookup: Lookup, **values: object) -> Sequence[tuple[Any, ...]]:
        """Return the rows of one statement, which is a transaction of its own.

        Parameters
        ----------
        values
            The statement's parameters by name.
        """
        self._check_usable()
        compiled = lookup.compiled(self.engine.dialect)
        parameters = compiled.bind(values)
        rows = None if self.is_server else self._looked_up(compiled.text, parameters)
        if rows is None:
            rows = self.with_retries(partial(self._look_up, compiled.text, parameters))
        return compiled.convert(rows)

    def _looked_up(self, statement: str, parameters: Sequence[object]) -> Sequence[Any] | None:
        """Return rows by the driver alone; None if `_look_up` has to say or to see what is wrong.

        SQLAlchemy's connection, and a BEGIN and a ROLLBACK, take ten times as long.
        """
        try:
            return self._lookups.execute(statement, parameters)
        except (sqlite3.Error, DBAPIError) as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:  # it has waited
                raise IndexUnavailableError(self.url, str(error)) from error
        return None

    def _look_up(self, statement: str, parameters: Any) -> Sequence[Any]:  # noqa: ANN401
        if not self.is_server:
            with self.reading() as connection:
                return connection.exec_driver_sql(statement, parameters).all()
        with self._translated(), self._connect() as connection:
            # One statement sees one state: BEGIN and ROLLBACK would be two more round trips.
            alone = connection.execution_options(isolation_level="AUTOCOMMIT")
            return alone.exec_driver_sql(statement, parameters).all()

    def write(
        self,
        work: Callable[[Connection], T],
        *,
        is_repeatable: bool = False,
        caller: int | None = None,
    ) -> T:
        """Run `work` in a transaction that commits; return its result. See `with_retries`.

        Parameters
        ----------
        is_repeatable
            Whether doing the work twice has the same effect as once. Then it is also retried after
            a commit that may have succeeded.
        caller
            See `writing`.
        """

        def attempt() -> T:
            try:
                with self.writing(caller=caller) as connection:
                    return work(connection)
            except IndexInterruptedError as error:
                if not is_repeatable:
                    raise
                raise IndexInterruptedError(error.url, error.reason) from error

        return self.with_retries(attempt)

    def with_retries(self, work: Callable[[], T]) -> T:
        """Do work in transactions; retry while the database is unavailable or in conflict.

        Retries stop after `database_wait`. Then, or if a commit may have succeeded, this raises
        `IndexInterruptedError`. The work must be safe to repeat.
        """
        started = time.monotonic()
        for attempt in count():
            try:
                return work()
            except IndexInterruptedError as error:
                most = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**attempt)
                waited = time.monotonic() - started
                if error.may_have_committed or waited + most > self._database_wait:
                    raise
                log_wait(self.url, error.reason, waited=waited, pause=most)
                # Jitter: many hosts that lost one server should not come back all at once.
                pause(random.uniform(most / 2, most))  # noqa: S311 - no secret
        raise AssertionError("unreachable")

    def leave_one_file(self) -> None:
        """Write SQLite's log into its database file, so that this file alone is the index."""
        with self._translated(), self.engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close all pooled connections and refuse new ones. Idempotent."""
        self._is_closed = True
        self._lookups.close()
        self.engine.dispose()

    def _connect(self) -> Connection:
        """Return a connection; wait for a server that is down."""
        return self.with_retries(self._connect_once) if self.is_server else self.engine.connect()

    def _connect_once(self) -> Connection:
        with self._translated():
            return self.engine.connect()

    def _check_usable(self) -> None:
        if os.getpid() != self._process:
            # SQLite's locks belong to the process. In a child they would hang or, worse, not hold.
            reason = "it was opened before this process was forked; open the store after forking"
            raise IndexUnavailableError(self.url, reason)
        if self._is_closed:
            raise StoreClosedError(self.url)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        self._check_usable()
        try:
            yield
        except IntegrityError:
            raise
        except DBAPIError as error:
            state = getattr(error.orig, "sqlstate", None)
            if self.is_server and (error.connection_invalidated or _is_passing(error, state)):
                raise self._interrupted(error, may_have_committed=False) from error
            raise IndexUnavailableError(self.url, self._reason(error)) from error

    def _detached(self, connection: Connection) -> ReadOnly | None:
        """Take a connection that can only read out of the pool; return None if it can write.

        The next transaction connects again: by then the index may be writable, or changed.
        """
        if self.is_server:
            return None
        found: ReadOnly | None = connection.info.get(READ_ONLY)
        if found is not None:
            connection.detach()
        return found

    def _reason(self, error: DBAPIError) -> str:
        if self.file is None:
            return said_by(error, self._url)
        return reason_of(error.orig, self.file)

    def _interrupted(self, error: DBAPIError, *, may_have_committed: bool) -> IndexInterruptedError:
        reason = said_by(error, self._url)
        return IndexInterruptedError(self.url, reason, may_have_committed=may_have_committed)


def _is_passing(error: DBAPIError, state: str | None) -> bool:
    """Whether a retry may succeed: nothing was committed."""
    if state is None:  # no connection was made
        said = str(error.orig)
        is_permanent = any(part in said for part in _PERMANENT_FAILURES)
        is_passing = any(part in said for part in _PASSING_REFUSALS)
        return isinstance(error, OperationalError) and (is_passing or not is_permanent)
    return state in _PASSING_STATES or state.startswith("08")


def is_impossible(error: IntegrityError) -> bool:
    """Whether a row violates a CHECK or NOT NULL constraint, so that no retry can help.

    Source: SQLite's message for CHECK and NOT NULL; PostgreSQL 18, appendix A, class 23.
    """
    state = getattr(error.orig, "sqlstate", None)
    text = str(error.orig)
    return state in ("23502", "23514") or text.startswith(("CHECK constraint", "NOT NULL constra"))
