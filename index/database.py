"""The index's database: engine, connections and transactions, on SQLite or any SQLAlchemy URL.

SQLite is set up for one writer and many readers at once, in threads and processes: write-ahead
log, full sync at commit, foreign keys on, and writers that take the write lock when they begin
(``BEGIN IMMEDIATE``), since a transaction that reads first and asks for the lock later fails
instead of waiting. (Source: SQLite documentation, "Write-Ahead Logging", section on SQLITE_BUSY.)
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from sqlalchemy import URL, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError

from index.errors import IndexUnavailableError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy.engine import Connection, Engine

__all__ = ["Database", "sqlite_url"]

BUSY_TIMEOUT_S: Final = 60.0
"""How long a writer waits for the others; a commit of 100,000 files takes about a second."""

_PRAGMAS: Final = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "temp_store=MEMORY",
    # KiB: what a commit of 50,000 files touches. With the default of 2 MiB it would write pages to
    # the log several times over.
    "cache_size=-32768",
)

_IMMEDIATE: Final = "cas_immediate"


def sqlite_url(path: Path) -> URL:
    """Return the URL of an SQLite database file."""
    return URL.create("sqlite", database=str(path))


class Database:
    """Connections to one index. Safe for use by several threads; not across a fork."""

    def __init__(self, url: str | URL) -> None:
        self._process = os.getpid()
        self._is_closed = False
        try:
            self._url = make_url(url)
            self.engine: Final = _create_engine(self._url)
        except (ArgumentError, ImportError) as error:
            # Whatever could not be parsed may hold a password.
            raise IndexUnavailableError("URL", str(error).splitlines()[0]) from None

    @property
    def url(self) -> str:
        """The URL without its password."""
        return self._url.render_as_string(hide_password=True)

    @property
    def file(self) -> str | None:
        """The database file of SQLite, if it is one."""
        return self._url.database if self._url.get_backend_name() == "sqlite" else None

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a transaction that sees one state of the index and changes nothing."""
        with self._translated(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open a transaction that commits, durably, when the block ends without raising."""
        with self._translated(), self.engine.connect() as connection:
            immediate = connection.execution_options(**{_IMMEDIATE: True})
            with immediate.begin():
                yield immediate

    def close(self) -> None:
        """Close every pooled connection, and serve no more; idempotent."""
        self._is_closed = True
        self.engine.dispose()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        if os.getpid() != self._process:
            # SQLite's locks are the process's: used in a child they would hang or, worse, not hold.
            reason = "it was opened before this process was forked; open the store after forking"
            raise IndexUnavailableError(self.url, reason)
        if self._is_closed:
            raise IndexUnavailableError(self.url, "the store was closed; open it again")
        try:
            yield
        except IntegrityError:
            raise
        except DBAPIError as error:
            raise IndexUnavailableError(self.url, str(error.orig)) from error


def _create_engine(url: URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True)
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
    connection.isolation_level = None  # BEGIN is ours to send
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")


def _roll_back_sqlite(connection: sqlite3.Connection, *_: object) -> None:
    """Give the write lock back when Ctrl-C strikes in mid-statement.

    SQLAlchemy then closes the connection as it is. SQLite keeps a closed connection's transaction
    for as long as a cursor of it lives, and the traceback that a notebook shows keeps one.
    """
    connection.rollback()


def _begin_sqlite(connection: Connection) -> None:
    immediate = connection.get_execution_options().get(_IMMEDIATE)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
