"""Engines for the database of an index, and the options and locks of SQLite and PostgreSQL."""

from __future__ import annotations

import os
import re
import sqlite3
import threading
import time
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from sqlalchemy import create_engine, event, make_url
from sqlalchemy.engine import Engine
from sqlalchemy.exc import ArgumentError, OperationalError

from cas.redaction import Secrets
from cas.waiting import check_stop, log_wait
from index.db.column_types import utc_or_none
from index.db.sqlite import connect as connect_sqlite
from index.domain.names import check_local
from index.errors import IndexUnavailableError

if TYPE_CHECKING:
    from sqlalchemy import URL
    from sqlalchemy.engine import Connection
    from sqlalchemy.exc import DBAPIError

__all__ = [
    "CALLER",
    "LOCK_WAIT",
    "any_url",
    "create_index_engine",
    "has_password",
    "is_busy",
    "is_on_file",
    "parse_url",
    "said_by",
    "shown_url",
]

LOCK_WAIT: Final = "cas_lock_wait"
"""Execution option of a connection that begins a transaction which writes: the seconds that it may
wait for SQLite's write lock."""

CALLER: Final = "cas_caller"
"""Execution option of the same: the thread that waits for the transaction; None for its own."""

_POLL_S: Final = 0.5
"""Seconds that SQLite waits for its lock at once. Nothing interrupts it then, not even Ctrl-C."""

_BUSY: Final = 5
"""SQLITE_BUSY: the low byte of the codes for "database is locked"."""

_WRITE_LOCK: Final = 120
"""The byte of ``-shm`` that a writer locks. Source: SQLite documentation, "WAL-mode File Format",
section 2.3.1."""

_LEGACY: Final = -1
"""`sqlite3.LEGACY_TRANSACTION_CONTROL`: the driver begins a transaction with the first write."""

_DRIVERS: Final = {"sqlite": "pysqlite", "postgresql": "psycopg"}

_POSTGRESQL: Final = {
    "application_name": "runcas",
    "connect_timeout": 10,
    "keepalives_idle": 60,
}
"""Options that a URL's query does not set."""

_SECRETS: Final = (
    "password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key",
    "passwd", "odbc_connect",
)  # fmt: skip
"""Parameters of a URL's query that nobody else may read: those of libpq, and of other drivers whose
tables can be adopted."""

_LATER_AT: Final = re.compile(r"[^:/]+://[^:/]*:[^@]*@[^?]*@")
"""An @ after the one that ends a password. A parser takes what stands between them for the host."""

_NOT_IN_URL: Final = ("autocommit", "context", "cursor_factory", "row_factory")
"""Parameters of psycopg that text can't give, or that would end transactions early."""


def parse_url(url: str | URL) -> URL:
    """Return the URL of an index with its driver. Raises ArgumentError for an unusable URL."""
    parsed = any_url(url)
    kind, _, driver = parsed.drivername.partition("+")
    wanted = _DRIVERS.get(kind)
    if wanted is None:
        raise ArgumentError(f"an index is on SQLite or PostgreSQL, not on {kind!r}")
    if kind == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise ArgumentError("an SQLite index needs a file, as in sqlite:///runs.db")
    if kind == "sqlite" and (str(parsed.database).startswith("file:") or "uri" in parsed.query):
        raise ArgumentError("give the file of an SQLite index by its path, as in sqlite:///runs.db")
    if driver not in ("", wanted):
        shown = "sqlite:///" if kind == "sqlite" else "postgresql+psycopg://"
        raise ArgumentError(
            f"the driver {driver!r} can't be used; give the same database as {shown}…; the "
            "application may use another driver for it"
        )
    return parsed if kind == "sqlite" else parsed.set(drivername=f"{kind}+{wanted}")


def any_url(url: str | URL) -> URL:
    """Return the URL of any database.

    Raises ArgumentError for one that can't be read, or that has a part of a password elsewhere.
    """
    try:
        parsed = make_url(url)
    except ValueError as error:
        # What stands in the place of the port may be a password: the error has it.
        raise ArgumentError("its port is no number; give it as HOST:PORT/DATABASE") from error
    if isinstance(url, str) and _LATER_AT.match(url):
        raise ArgumentError("it has an @ in its password, host or database; write it as %40")
    return parsed


def said_by(error: DBAPIError, url: URL) -> str:
    """Return the first line of what a driver says, without the passwords of the URL."""
    lines = str(error.orig).strip().splitlines()
    secrets = Secrets({"password": url.password, **{key: url.query.get(key) for key in _SECRETS}})
    return secrets.hide(lines[0]) if lines else type(error.orig).__name__


def shown_url(url: URL) -> str:
    """Return a URL without passwords."""
    return url.difference_update_query(_SECRETS).render_as_string(hide_password=True)


def has_password(url: URL) -> bool:
    """Whether a URL has a password, also in its query."""
    return bool(url.password) or any(name in url.query for name in _SECRETS)


def create_index_engine(url: URL, *, shown: str, lock_wait: float) -> Engine:
    """Return an engine for a URL from `parse_url`; connect to nothing.

    Parameters
    ----------
    shown
        The URL as errors show it.
    lock_wait
        Seconds that a statement waits for a lock.
    """
    if url.get_backend_name() == "postgresql":
        return _create_postgresql(url, lock_wait)
    if url.database:
        check_local(url.database)
    # This module's own wait for the lock is in `_begin_sqlite`.
    options = {"timeout": lock_wait, "check_same_thread": False}
    engine = create_engine(url, connect_args=options, max_overflow=-1)
    event.listen(engine, "do_connect", connect_sqlite)
    event.listen(engine, "begin", partial(_begin_sqlite, shown=shown))
    event.listen(engine, "invalidate", _roll_back_sqlite)
    return engine


def _create_postgresql(url: URL, lock_wait: float) -> Engine:
    # Milliseconds. A statement has enough time to delete a large session. A transaction whose
    # client is gone must release its locks soon.
    timeouts = (
        f"-c lock_timeout={round(lock_wait * 1000)}"
        " -c statement_timeout=900000 -c idle_in_transaction_session_timeout=60000"
    )
    options: dict[str, Any] = {
        key: value
        for key, value in {**_POSTGRESQL, "options": timeouts}.items()
        if key not in url.query
    }
    if refused := [name for name in _NOT_IN_URL if name in url.query]:
        raise ArgumentError(f"{refused[0]} can't be set in the URL; leave it out")
    if "prepare_threshold" in url.query:  # psycopg compares it with a number
        given = str(url.query["prepare_threshold"])
        if not (given.isdecimal() or given.lower() in ("", "none")):
            raise ArgumentError(f"prepare_threshold is a number or None, not {given!r}")
        options["prepare_threshold"] = int(given) if given.isdecimal() else None
    # Names and labels are any text. What server, role or PGCLIENTENCODING say may not hold it.
    options["client_encoding"] = "utf8"
    # The ping finds connections that a restart of the server has cut.
    engine = create_engine(url, pool_pre_ping=True, max_overflow=-1, connect_args=options)
    event.listen(engine, "connect", _write_iso_dates)
    event.listen(engine, "connect", _read_times_once)
    return engine


def _write_iso_dates(driver: Any, _record: object) -> None:  # noqa: ANN401 - has no stubs
    """Have the server write dates as the driver reads them, whatever PGDATESTYLE says."""
    if not driver.info.parameter_status("DateStyle").startswith("ISO"):
        driver.execute("SET datestyle TO ISO")
        driver.commit()


def _read_times_once(driver: Any, _record: object) -> None:  # noqa: ANN401 - has no stubs
    """Have the driver convert times by a cache: 1.4 µs less for each of many rows of a scan."""
    driver.adapters.register_loader("timestamptz", _time_loader())


@cache
def _time_loader() -> Any:  # noqa: ANN401 - a class of a driver that may be missing
    from psycopg.types.datetime import TimestamptzLoader

    class TimeLoader(TimestamptzLoader):
        def load(self, data: Any) -> Any:  # noqa: ANN401 - a buffer
            try:
                return utc_or_none(str(data, "ascii"))
            except ValueError:  # a time that Python does not have: the driver names it
                return super().load(data)

    return TimeLoader


def _roll_back_sqlite(connection: sqlite3.Connection, *_: object) -> None:
    """Release the write lock when Ctrl-C interrupts a statement.

    SQLAlchemy then closes the connection without a rollback. SQLite keeps the transaction of a
    closed connection as long as one of its cursors lives, and a notebook's traceback keeps one.
    """
    connection.rollback()


def _begin_sqlite(connection: Connection, *, shown: str) -> None:
    longest = connection.get_execution_options().get(LOCK_WAIT)
    if longest is None:
        connection.exec_driver_sql("BEGIN")
        return
    driver: Any = connection.connection.driver_connection
    (timeout,) = driver.execute("PRAGMA busy_timeout").fetchone()
    started = time.monotonic()
    pause = 0.0
    try:
        while True:
            driver.execute(f"PRAGMA busy_timeout={round(pause * 1000)}")
            try:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            except OperationalError as error:
                if not is_busy(error):
                    raise
                if not pause and _is_held_here(connection):
                    reason = (
                        "a transaction of this thread has its lock, so this would wait for itself; "
                        "end that transaction first, or register files in it (FileRepository)"
                    )
                    raise IndexUnavailableError(shown, reason) from error
                waited = time.monotonic() - started
                if waited >= longest:
                    reason = f"it was locked by another writer for {longest:g} s"
                    raise IndexUnavailableError(shown, reason) from error
                check_stop()
                pause = min(_POLL_S, longest - waited)
                log_wait(shown, "another writer has its lock", waited=waited, pause=pause)
            else:
                return
    finally:
        with suppress(sqlite3.Error):  # an interrupt has closed it
            driver.execute(f"PRAGMA busy_timeout={timeout}")


def is_busy(error: OperationalError) -> bool:
    """Whether SQLite refused a statement because another connection has a lock."""
    return getattr(error.orig, "sqlite_errorcode", 0) & 0xFF == _BUSY


_begun: Final[WeakKeyDictionary[Connection, tuple[int, int]]] = WeakKeyDictionary()
"""For all connections to SQLite in this process: the thread of the last transaction, and the rows
that the connection had changed before."""

_begun_lock: Final = threading.Lock()


@event.listens_for(Engine, "begin")
def _note_begin(connection: Connection) -> None:
    if connection.dialect.name == "sqlite":
        changed = getattr(connection.connection.driver_connection, "total_changes", 0)
        with _begun_lock:
            _begun[connection] = threading.get_ident(), changed


def _is_held_here(waiting: Connection) -> bool:
    """Whether a transaction of the caller's thread has the lock that a connection waits for."""
    file = waiting.engine.url.database
    caller = waiting.get_execution_options().get(CALLER) or threading.get_ident()
    with _begun_lock:
        begun = [(other, *noted) for other, noted in _begun.items() if other is not waiting]
    elsewhere = False
    waits_here = []
    for other, thread, changed in begun:
        if other.closed or other.invalidated or not other.in_transaction():
            continue
        driver: Any = other.connection.driver_connection
        if not getattr(driver, "in_transaction", False):
            continue
        if thread != caller:
            elsewhere = True
        elif _names_file(other, file):
            begins_late = driver.isolation_level is not None and (
                getattr(driver, "autocommit", _LEGACY) == _LEGACY
            )
            if begins_late or driver.total_changes > changed:
                return True
            waits_here.append(other)
    # These have only read, or began with BEGIN IMMEDIATE.
    return bool(waits_here) and not elsewhere and _is_locked_by_this_process(str(file))


def _names_file(connection: Connection, file: str | None) -> bool:
    """Whether the URL of a connection names that file. The connection is another thread's."""
    named = connection.engine.url.database
    try:
        return bool(named and file) and Path(str(named)).samefile(str(file))
    except (OSError, ValueError):
        return False


def _is_locked_by_this_process(file: str) -> bool:
    """Whether Linux says so. To ask for the lock would give up those that SQLite holds."""
    try:
        inode = Path(f"{file}-shm").stat().st_ino
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return False
    for line in lines:  # 1: POSIX  ADVISORY  WRITE 4711 00:2e:131 120 120
        _, *kind, mode, process, place, start, end = line.split()
        if kind[0] == "POSIX" and mode == "WRITE" and process == str(os.getpid()):
            last = _WRITE_LOCK if end == "EOF" else int(end)
            if place.endswith(f":{inode}") and int(start) <= _WRITE_LOCK <= last:
                return True
    return False


def is_on_file(connection: Connection, file: str | None) -> bool:
    """Whether a connection leads to that SQLite file."""
    if file is None or connection.dialect.name != "sqlite":
        return False
    places = connection.exec_driver_sql("PRAGMA database_list").all()
    try:
        return any(name == "main" and Path(place).samefile(file) for _, name, place in places)
    except OSError:
        return False
