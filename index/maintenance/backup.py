"""Copies of the index, kept as blobs beside the bytes that it tells of.

A copy is an SQLite database, whatever the index is on. It is of one state while writers go on, and
of two copies only the pieces are stored that differ. `cas recover` begins with the newest one and
goes on with the records of commits that came after it.
"""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy.exc import IntegrityError

from index.commit.chain import store_entry
from index.commit.write import CommitConflict, record_blobs
from index.db import schema
from index.db.database import Database, sqlite_url
from index.db.queries import journal, runs
from index.errors import IndexUnavailableError, UnsettledScanError
from index.journal.entries import BackupEntry
from index.maintenance.recover.copy_tables import copy_meaning, copy_packs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from cas.digest import Digest
    from index.context import StoreContext

__all__ = ["KEPT_BACKUPS", "BackupReport", "back_up"]

KEPT_BACKUPS: Final = 7
"""Copies that are kept unless told otherwise: a week of daily ones."""

_ATTEMPTS: Final = 5
"""How often it is stored anew because garbage collection took what it was to share."""


@dataclass(frozen=True, slots=True)
class BackupReport:
    """A copy of the index that was made."""

    created_at: datetime
    digest: Digest
    """The SQLite database, as a blob of the store."""
    size: int
    bytes_stored: int
    """What of it was not stored already."""
    kept: int
    """Copies that there are now."""


def back_up(context: StoreContext, *, keep: int = KEPT_BACKUPS) -> BackupReport:
    """Store a copy of the index; on return it is durable, and older ones than `keep` are let go.

    Raises
    ------
    ValueError
        When none would be kept.
    BackendError, IndexUnavailableError
        When storage or the database fails; nothing is let go then.
    """
    if keep < 1:
        raise ValueError(f"at least one copy of the index must be kept, not {keep}")
    with ExitStack() as stack:
        now = context.clock()
        with _explained(context.database):
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="runcas-backup-"))
            file = Path(folder, "index.db")
            _copy_index(context.database, file, now)
        for _ in range(_ATTEMPTS):
            try:
                return _store(context, file, now, keep)
            except (IntegrityError, CommitConflict):
                continue
    raise UnsettledScanError("cas backup")


@contextmanager
def _explained(database: Database) -> Iterator[None]:
    """Raise what goes wrong with the copy before it is stored as an error of ours."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        reason = f"no copy of it can be made in {tempfile.gettempdir()}: {error}"
        raise IndexUnavailableError(database.url, reason) from error


def _store(context: StoreContext, file: Path, now: datetime, keep: int) -> BackupReport:
    blobs = context.blobs
    with blobs.batch() as batch, file.open("rb") as opened:
        digest, size = batch.add_file(opened.fileno(), file.stat().st_size)
        written = batch.finish()
    entry = BackupEntry(created_at=now, digest=digest, size=size, schema=schema.HEAD)
    noted, record = store_entry(blobs, entry)
    with context.database.writing() as connection:
        record_blobs(connection, written, {digest}, now)
        record_blobs(connection, noted, (), now)
        kept = journal.insert_backup(connection, digest, record, now, keep=keep)
    return BackupReport(now, digest, size, written.bytes_stored, kept)


def _copy_index(database: Database, file: Path, now: datetime) -> None:
    if database.file is not None:
        _copy_sqlite(database.file, file)
        return
    copy = Database(sqlite_url(file))
    try:
        schema.upgrade(copy)
        with database.reading() as source, copy.writing() as target:
            runs.insert_store_id(target, str(runs.get_store_id(source)), now)
            copy_packs(source, target)
            copy_meaning(source, target)
    finally:
        copy.close()
    _leave_one_file(file)


def _copy_sqlite(source: str, file: Path) -> None:
    """Copy all pages in one step: of one state, and others may write meanwhile."""
    original = sqlite3.connect(source)
    try:
        copy = sqlite3.connect(file)
        try:
            original.backup(copy)
        finally:
            copy.close()
    finally:
        original.close()
    _leave_one_file(file)


def _leave_one_file(file: Path) -> None:
    connection = sqlite3.connect(file)
    try:
        connection.execute("PRAGMA journal_mode=DELETE")
    finally:
        connection.close()
