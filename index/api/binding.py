"""Binding of an index to its storage: each belongs to one of the other."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from cas.errors import BackendError
from cas.store import claim_storage, find_owner, open_settings
from index.db import schema
from index.db.queries import runs
from index.errors import (
    IndexLostError,
    StorageClaimedError,
    StoreMismatchError,
    StoreNotFoundError,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from cas.backend import Backend
    from cas.cache.cache import PackCache
    from cas.store import StoreSettings
    from index.db.database import Database

__all__ = ["bind", "own_paths"]


def bind(
    database: Database, backend: Backend, *, create: bool, clock: Callable[[], datetime]
) -> StoreSettings:
    """Check that index and storage belong to each other; bind new ones. Return the settings.

    Raises
    ------
    StoreNotFoundError
        When one of them does not exist, and `create` is false.
    IndexLostError
        When storage has packs, and the index is new: its history would look lost.
    StoreMismatchError, StorageClaimedError
        When one of them belongs to another.
    """
    settings = open_settings(backend, create=create)
    if not create and not database.exists():
        # Reading a SQLite file that does not exist would create it.
        if _has_packs(backend):
            raise IndexLostError(database.url, backend.url)
        raise StoreNotFoundError(database.url)
    was_there = schema.current(database) is not None
    if not was_there:
        # In this order, because another process may be creating both right now.
        if _has_packs(backend) and schema.current(database) is None:
            raise IndexLostError(database.url, backend.url)
        if create:
            schema.upgrade(database)
    schema.check(database)
    _bind(database, settings.store_id, backend, clock(), was_there=was_there)
    return settings


def _bind(
    database: Database,
    store_id: str,
    backend: Backend,
    now: datetime,
    *,
    was_there: bool,
) -> None:
    """Check that the index belongs to this storage; bind a new index to it."""

    def look() -> str | None:
        with database.reading() as connection:
            return runs.get_store_id(connection)

    bound = look()
    is_new = False
    if bound is None:
        # A process binds the index before it publishes a pack.
        if was_there and _has_packs(backend) and look() is None:
            raise IndexLostError(database.url, backend.url)
        with database.writing() as connection:
            runs.insert_store_id(connection, store_id, now)
            bound = runs.get_store_id(connection)
        is_new = True
    if bound != store_id:
        raise StoreMismatchError(database.url, backend.url)
    if not _claim(database, backend, is_new=is_new):
        if is_new:
            database.write(runs.forget_store_id, is_repeatable=True)
        raise StorageClaimedError(database.url, backend.url)


def _claim(database: Database, backend: Backend, *, is_new: bool) -> bool:
    """Return whether the storage belongs to this index; claim it if it belongs to none."""
    index_id = database.read(runs.get_index_id)
    owner = None if is_new else find_owner(backend)
    if owner is not None:
        return owner == index_id
    try:
        return claim_storage(backend, index_id)
    except BackendError:
        if is_new:
            raise
        return True  # the claim was lost, and this user may only read


def _has_packs(backend: Backend) -> bool:
    return next(iter(backend.iter_objects("packs/")), None) is not None


def own_paths(database: Database, backend: Backend, cache: PackCache | None) -> list[str]:
    """Return the local paths of the store itself, which a scan must not record."""
    paths = [backend.url] if Path(backend.url).is_dir() else []
    if database.file:
        # SQLite names its other files after the file that a link leads to.
        for file in (database.file, os.path.realpath(database.file)):
            paths += [f"{file}{suffix}" for suffix in ("", "-wal", "-shm", "-journal")]
    if cache is not None:
        paths.append(str(cache.root))
    return [str(Path(path).absolute()) for path in paths]  # the caller may change its directory
