"""Recovery of a store whose index is lost: the public function."""

from __future__ import annotations

import os
import tempfile
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from cas.errors import ObjectNotFoundError
from cas.store import open_settings
from cas.temporary import using_temporary_files
from cas.urls import open_backend
from index.context import INDEX_NAME, resolve_location, utc_now
from index.db import schema
from index.db.database import Database, sqlite_url
from index.db.queries import runs
from index.errors import IndexPresentError, IndexUnavailableError, StoreNotFoundError
from index.maintenance.recover.rebuild import rebuild
from index.reading.staging import (
    Staging,
    move_unless_taken,
    remove_abandoned,
    sync_directory,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime

    from sqlalchemy import URL

    from cas.backend import Backend
    from index.domain.progress import Progress
    from index.maintenance.recover.report import RecoveryReport

__all__ = ["recover"]


def recover(
    root: str | os.PathLike[str] | None = None,
    *,
    index: str | URL | None = None,
    blobs: str | os.PathLike[str] | None = None,
    storage_options: Mapping[str, object] | None = None,
    dry_run: bool = False,
    progress: Callable[[Progress], None] | None = None,
    clock: Callable[[], datetime] = utc_now,
) -> RecoveryReport:
    """Rebuild the index of a store from its storage alone, with names and provenance.

    On return the store can be opened. On raise there is no index, as before. Storage is only read,
    except that a missing ``cas.json`` is written again, and that the storage then belongs to the
    new index: if the old one comes back, it is refused.
    Do not write to the store meanwhile: packs published during recovery may be missing from the new
    index, and are then orphans.

    The report lists what can't be recovered: file versions whose bytes are missing, and changes
    whose journal records are missing. File ids are new. Stat signatures are not recovered, so the
    next scan of each run reads all its files once. In adopted or synced runs, copies may have lost
    the link to their originals. ``bytes_stored`` of snapshots is 0.

    Parameters
    ----------
    root, index, blobs, storage_options
        As in `ArtifactStore.open`.
    dry_run
        Rebuild in a temporary place, and only return the report.
    progress
        Called after each pack with the packs and bytes so far.

    Raises
    ------
    IndexPresentError
        When there is an index. Recovery never overwrites one.
    StoreNotFoundError
        When there is no storage to recover from.
    UnsupportedFormatError
        When a newer release wrote the storage.
    BackendError, IndexUnavailableError
        When storage or the database can't be used.
    """
    url, place = resolve_location(root, index, blobs)
    backend = open_backend(place, storage_options=storage_options)
    database = Database(url)
    try:
        store_id = _identity(backend, create=not dry_run)

        def fill(empty: Database) -> RecoveryReport:
            schema.upgrade(empty)
            return rebuild(backend, empty, store_id, clock, progress, claim=not dry_run)

        if dry_run:
            with using_temporary_files():
                folder = tempfile.TemporaryDirectory(prefix="runcas-recover-")
            with folder as path:
                return _recover_file(Path(path, INDEX_NAME), fill)
        if database.file is None:
            return _recover_server(database, fill)
        return _recover_file(Path(database.file), fill)
    except (
        OSError
    ) as error:  # from the file, or from the directory that holds a backup while it is read
        raise IndexUnavailableError(database.url, error.strerror or str(error)) from error
    finally:
        database.close()
        backend.close()


def _identity(backend: Backend, *, create: bool) -> str:
    """Return the id of the store. Missing settings are created if it has packs.

    Raises StoreNotFoundError if there are neither settings nor packs.
    """
    try:
        return open_settings(backend, create=False).store_id
    except ObjectNotFoundError:
        if next(iter(backend.iter_objects("packs/")), None) is None:
            raise StoreNotFoundError(backend.url) from None
        return open_settings(backend, create=True).store_id if create else str(uuid.uuid4())


def _recover_server(
    database: Database, fill: Callable[[Database], RecoveryReport]
) -> RecoveryReport:
    if schema.current(database) is not None:
        schema.check(database)
        with database.reading() as connection:
            if runs.get_store_id(connection) is not None:
                raise IndexPresentError(database.url)
    return fill(database)


def _recover_file(file: Path, fill: Callable[[Database], RecoveryReport]) -> RecoveryReport:
    """Fill a file in a staging directory, and give it its name once it is complete and synced."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with _directory(file.parent) as parent:
        remove_abandoned(parent)  # the leftovers of a killed recovery
        if file.exists():
            raise IndexPresentError(f"sqlite:///{file}")
        staging = Staging(parent)
        try:
            staged = file.with_name(staging.name) / file.name
            report = _filled(staged, fill)
            _publish(staged, file, staging.fd, parent)
        finally:
            staging.discard()
    return report


def _filled(staged: Path, fill: Callable[[Database], RecoveryReport]) -> RecoveryReport:
    database = Database(sqlite_url(staged))
    try:
        report = fill(database)
        database.leave_one_file()
    finally:
        database.close()
    return report


@contextmanager
def _directory(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _publish(staged: Path, file: Path, folder: int, parent: int) -> None:
    # SQLite must not apply a log of the lost file to the new one.
    for suffix in ("-wal", "-shm", "-journal"):
        with suppress(FileNotFoundError):
            Path(f"{file}{suffix}").rename(f"{file}{suffix}.lost-{uuid.uuid4().hex}")
    with staged.open("rb+") as opened:
        os.fsync(opened.fileno())
    try:
        move_unless_taken(staged.name, file.name, folder, parent)
    except FileExistsError:
        raise IndexPresentError(f"sqlite:///{file}") from None
    sync_directory(parent)
