"""Backups of the index, stored as blobs in the store itself.

A backup is an SQLite database, whatever database holds the index. It shows one state of the index
while writers continue. Backups are deduplicated: a new one stores only the chunks that differ.
`cas recover` starts from the newest backup and applies the later journal records.
"""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy.exc import IntegrityError

from cas.temporary import using_temporary_files
from index.commit.chain import store_entry
from index.commit.write import CommitConflict, record_blobs
from index.db import schema
from index.db.database import Database, sqlite_url
from index.db.queries import journal, runs
from index.domain.progress import Progress
from index.domain.results import Result
from index.errors import IndexUnavailableError, UnsettledScanError
from index.journal.entries import BackupEntry
from index.maintenance.recover.copy_tables import copy_meaning, copy_packs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from cas.digest import Digest
    from index.context import StoreContext

__all__ = ["KEPT_BACKUPS", "BackupReport", "back_up"]

KEPT_BACKUPS: Final = 7
"""Number of backups kept by default: a week of daily ones."""

_ATTEMPTS: Final = 5
"""Attempts if garbage collection deletes chunks that the backup shares."""


@dataclass(frozen=True, slots=True)
class BackupReport(Result):
    """The report of a backup."""

    created_at: datetime
    digest: Digest
    """The SQLite database, as a blob of the store."""
    size: int
    bytes_stored: int
    """Bytes of the backup that were not stored already."""
    kept: int
    """Number of backups now."""


def back_up(
    context: StoreContext,
    *,
    keep: int = KEPT_BACKUPS,
    progress: Callable[[Progress], None] | None = None,
) -> BackupReport:
    """Store a backup of the index. On return it is durable, and only the newest `keep` remain.

    Raises
    ------
    ValueError
        When `keep` is less than 1.
    BackendError, IndexUnavailableError
        When storage or the database fails. No old backup is dropped then.
    """
    if keep < 1:
        raise ValueError(f"at least one copy of the index must be kept, not {keep}")
    with ExitStack() as stack:
        now = context.clock()
        with using_temporary_files(), _explained(context.database):
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="runcas-backup-"))
            file = Path(folder, "index.db")
            _copy_index(context.database, file, now)
        for _ in range(_ATTEMPTS):
            try:
                return _store(context, file, now, keep, progress)
            except (IntegrityError, CommitConflict):
                continue
    raise UnsettledScanError("backup")


@contextmanager
def _explained(database: Database) -> Iterator[None]:
    """Turn errors of SQLite into errors of this library."""
    try:
        yield
    except sqlite3.Error as error:
        reason = f"no copy of it can be made in {tempfile.gettempdir()}: {error}"
        raise IndexUnavailableError(database.url, reason) from error


def _store(
    context: StoreContext,
    file: Path,
    now: datetime,
    keep: int,
    progress: Callable[[Progress], None] | None,
) -> BackupReport:
    blobs = context.blobs
    with blobs.batch() as batch, file.open("rb") as opened:
        size = file.stat().st_size
        batch.on_read = None if progress is None else Progress.of_one(progress, size)
        digest, size = batch.add_file(opened.fileno(), size)
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
    """Copy all pages in one step, so the copy shows one state; others may write meanwhile."""
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
