"""Connections to an SQLite file, also where it can only be read.

SQLite's write-ahead log needs two files beside the database, so even a reader writes. On a
read-only or full disk, or in a directory of another user, a connection therefore falls back:

1. To ``mode=ro``. It takes locks, and sees what writers have committed.
2. If the log's files are missing and can't be made: to ``immutable=1``, which takes no locks. That
   is safe only if no log holds changes, and nobody writes meanwhile. Both are checked: before, and
   again after each transaction. The check assumes that a write changes the file's times or size.

(Source: SQLite documentation, "Write-Ahead Logging", section "Read-Only Databases".)
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote

from cas.waiting import log_wait, pause

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.pool import ConnectionPoolEntry

__all__ = ["READ_ONLY", "ReadOnly", "connect", "reason_of"]

READ_ONLY: Final = "cas_read_only"
"""Key of the `ReadOnly` in the ``info`` of a connection that can only read."""

_PRAGMAS: Final = (
    "foreign_keys=ON",
    "temp_store=MEMORY",
    # KiB: the pages that a commit of 50,000 files touches. With the default of 2 MiB it would write
    # pages to the log several times.
    "cache_size=-32768",
)
_WRITER_PRAGMAS: Final = ("journal_mode=WAL", "synchronous=FULL", *_PRAGMAS)

_UNWRITABLE: Final = frozenset(
    (
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
    )
)
"""Primary error codes after which reading may still succeed."""

_ENOUGH: Final = 1 << 20
"""Bytes. With less free space, an error of SQLite most likely means that its disk is full."""

_PAUSE_S: Final = 0.02
"""Seconds until the next attempt to switch a file to a write-ahead log."""

_creating: Final = threading.Lock()


class ReadOnly(NamedTuple):
    """Why a connection can only read, and the state of a file that it reads without locks."""

    reason: str
    path: str
    state: object = None

    def is_unchanged(self) -> bool:
        """Whether what was read shows one state of the index."""
        try:
            return self.state is None or self.state == _state(self.path)
        except (OSError, sqlite3.OperationalError):
            return False


def connect(
    _dialect: object, record: ConnectionPoolEntry, arguments: Sequence[Any], options: dict[str, Any]
) -> sqlite3.Connection:
    """Open a connection for SQLAlchemy's event ``do_connect``."""
    (path,) = arguments
    if options.get("uri"):
        return _opened(path, _WRITER_PRAGMAS, options)
    _create(path)
    try:
        return _opened(path, _WRITER_PRAGMAS, options)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF not in _UNWRITABLE or not os.path.isfile(path):
            raise
        url = f"file:{quote(os.fsencode(os.path.abspath(path)))}?mode=ro"
        found = ReadOnly(reason_of(error, path), path)
        try:
            connection = _opened(url, _PRAGMAS, {**options, "uri": True})
        except sqlite3.OperationalError:
            found = found._replace(state=_state(path))
            connection = _opened(f"{url}&immutable=1", _PRAGMAS, {**options, "uri": True})
        record.info[READ_ONLY] = found
        return connection


def reason_of(error: BaseException | None, path: str) -> str:
    """Return the first line of an error of SQLite; if the disk is full, this reason instead."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF
    if code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN):
        with suppress(OSError):
            disk = os.statvfs(os.path.dirname(os.path.abspath(path)))
            if disk.f_bavail * disk.f_frsize < _ENOUGH:
                return "its disk is full, and a change needs some MiB"
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _opened(path: str, pragmas: Sequence[str], options: Mapping[str, Any]) -> sqlite3.Connection:
    connection: sqlite3.Connection = sqlite3.connect(path, **options)
    try:
        connection.isolation_level = None  # index.db.database sends BEGIN
        for pragma in pragmas:
            _set(connection, pragma, path, longest=options["timeout"])
        with closing(connection.execute("SELECT 1 FROM sqlite_master")) as probe:
            probe.fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _set(connection: sqlite3.Connection, pragma: str, path: str, *, longest: float) -> None:
    """Set a pragma. SQLite itself waits for nobody when it switches a file to a write-ahead log."""
    started = time.monotonic()
    while True:
        try:
            connection.execute(f"PRAGMA {pragma}")
        except sqlite3.OperationalError as error:
            waited = time.monotonic() - started
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or waited >= longest:
                raise
            log_wait(path, "another connection has its lock", waited=waited, pause=_PAUSE_S)
            pause(_PAUSE_S)
        else:
            return


def _create(path: str) -> None:
    """Create a missing file with the mode that the umask allows; SQLite would use at most 644.

    Its log takes the mode of the file.
    """
    # SQLite loses its locks of a file when the process closes any descriptor of it. So no other
    # thread may open the new file before this one has closed it.
    with _creating:
        if not os.path.lexists(path):
            with suppress(OSError):  # SQLite reports it
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))


def _state(path: str) -> object:
    """Return what changes when the file is written; raise if a log holds changes besides."""
    for suffix in ("-wal", "-journal"):
        with suppress(FileNotFoundError):
            if os.stat(f"{path}{suffix}").st_size:
                name = os.path.basename(path)
                raise sqlite3.OperationalError(
                    f"{name}{suffix} holds changes, and can't be read without writing; copy {name}*"
                    " to a directory that you may write to, and use that index"
                )
    found = os.stat(path)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
