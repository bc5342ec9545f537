"""Examines a store and its surroundings, also where the store can't be opened."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cas.urls import open_backend
from index.context import resolve_location, utc_now
from index.db.database import Database
from index.maintenance.doctor.index_checks import check_index
from index.maintenance.doctor.installation import check_installation
from index.maintenance.doctor.report import DoctorReport, noting, problem
from index.maintenance.doctor.surroundings import (
    check_cache,
    check_space,
    check_storage,
    local_directory,
    temporary_directory,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from sqlalchemy import URL

    from index.maintenance.doctor.report import DoctorFinding

__all__ = ["doctor", "unconfigured"]

_WAIT_S: Final = 5.0
"""Seconds for a service that does not answer. An examination is about now."""


def doctor(
    root: str | os.PathLike[str] | None = None,
    *,
    index: str | URL | None = None,
    blobs: str | os.PathLike[str] | None = None,
    storage_options: Mapping[str, object] | None = None,
    cache: str | os.PathLike[str] | None = None,
    cache_size: int | None = None,
    wait: float = _WAIT_S,
    clock: Callable[[], datetime] = utc_now,
) -> DoctorReport:
    """Examine a store and its surroundings; return what is well, and what to do about the rest.

    It works also where the store can't be opened: what fails is a finding, never an error. It
    checks versions, storage, index, schema, permissions, clocks, the filesystem, free space, the
    cache, and the age of the last verification, garbage collection and backup. It reads no blobs
    and lists no packs, and leaves nothing behind.

    Parameters
    ----------
    root, index, blobs, storage_options, cache, cache_size
        As in `ArtifactStore.open`.
    wait
        Seconds to wait for a service that is down, or for the lock of another writer.
    clock
        Returns the present time, with time zone; for tests.

    Raises
    ------
    ValueError
        Unless either `root` is given, or `index` and `blobs`.
    """
    url, place = resolve_location(root, index, blobs)
    protocol = str(place).partition("://")[0]
    needed = {"postgres"} if str(url).startswith("postgresql") else set()
    needed |= {"s3"} if protocol in ("s3", "s3a") else set()
    findings: list[DoctorFinding] = [*check_installation(needed)]
    settings = owner = None
    with ExitStack() as stack:
        with noting(findings, "storage", "check the URL, the credentials and the network"):
            backend = open_backend(place, storage_options=storage_options, wait=wait)
            stack.callback(backend.close)
            settings, owner = check_storage(findings, backend, clock)
            if (directory := local_directory(backend)) is None:
                findings += check_space("temporary files", temporary_directory())
            else:
                findings += check_space("blobs", directory)
        with noting(findings, "index"):
            database = Database(url, lock_wait=wait, database_wait=wait)
            stack.callback(database.close)
            if database.file is not None:
                findings += check_space("index", Path(database.file).absolute().parent)
            check_index(findings, database, settings, owner, str(place), clock)
    if cache is not None:
        check_cache(findings, place, Path(cache).absolute(), cache_size)
    return DoctorReport(tuple(findings))


def unconfigured(error: Exception) -> DoctorReport:
    """Return what can be examined where a configuration can't be used: the installation."""
    return DoctorReport((*check_installation(()), problem("configuration", str(error))))
