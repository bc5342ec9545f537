"""The artifact store: an index and the blobs that belong to it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from cas.errors import ObjectNotFoundError
from cas.store import BlobStore, open_settings
from cas.urls import open_backend, open_cache
from index.api.maintenance import StoreMaintenance
from index.api.session import Session
from index.context import StoreContext, resolve_location, utc_now
from index.db import schema
from index.db.catalog import SqlCatalog
from index.db.database import Database
from index.db.queries import runs
from index.decorators import awaitable
from index.domain.classification import DEFAULT_CLASSIFIER
from index.domain.names import as_paths, check_id
from index.domain.run_state import StateCache
from index.errors import IndexLostError, StoreMismatchError, StoreNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from sqlalchemy import URL

    from cas.backend import Backend
    from cas.cache.cache import PackCache
    from cas.digest import Digest
    from index.domain.classification import Classifier
    from index.domain.reports import StoreStats
    from index.domain.snapshots import FileVersion, Progress, RunSummary
    from index.transfer.adopt import AdoptionReport
    from index.transfer.report import SyncReport
    from index.transfer.sync import SyncPlan

__all__ = ["ArtifactStore"]

_CACHED_STATES: Final = 8
"""Number of runs whose state stays in memory between scans: about 1 KB per file."""


class ArtifactStore(StoreMaintenance):
    """Artifacts of workflow runs, by session and run. Safe for use by several threads.

    The store is a context manager: leaving it closes the connections. A forked process can't use
    the store of its parent. Fork before the parent opens a store, or spawn the process: SQLite
    connections do not survive a fork (SQLite documentation, "How To Corrupt An SQLite Database
    File", section 2.6).
    """

    def __init__(
        self,
        database: Database,
        backend: Backend,
        *,
        create: bool,
        clock: Callable[[], datetime],
        classifier: Classifier = DEFAULT_CLASSIFIER,
        cache: PackCache | None = None,
    ) -> None:
        """Bind an index and a backend to each other. Most callers use `open`."""
        settings = open_settings(backend, create=create)
        if not create and database.file and not Path(database.file).exists():
            # Reading a SQLite file that does not exist would create it.
            if _has_packs(backend):
                raise IndexLostError(database.url, backend.url)
            raise StoreNotFoundError(database.url)
        was_there = schema.current(database) is not None
        if not was_there:
            self._refuse_lost_index(database, backend)
            if create:
                schema.upgrade(database)
        schema.check(database)
        self._bind(database, settings.store_id, backend, clock(), was_there=was_there)
        blobs = BlobStore(backend, SqlCatalog(database, clock), settings, cache)
        self._context = StoreContext(
            database=database,
            blobs=blobs,
            states=StateCache(_CACHED_STATES),
            clock=clock,
            classifier=classifier,
            own_paths=_own_paths(database, backend, cache),
        )

    @classmethod
    def open(
        cls,
        root: str | os.PathLike[str] | None = None,
        *,
        index: str | URL | None = None,
        blobs: str | os.PathLike[str] | None = None,
        storage_options: Mapping[str, object] | None = None,
        cache: str | os.PathLike[str] | None = None,
        cache_size: int | None = None,
        create: bool = True,
        clock: Callable[[], datetime] = utc_now,
        classifier: Classifier = DEFAULT_CLASSIFIER,
    ) -> Self:
        """Open a store, or create it on first use.

        Several processes may create the same store at once: one creates it, the others open it.

        Parameters
        ----------
        root
            Directory of an embedded store: SQLite and blobs side by side.
        index, blobs
            In place of `root`: a SQLAlchemy URL, and a directory or URL of blobs.
        storage_options
            Options for the fsspec filesystem of a `blobs` URL. The store does not save them.
        cache
            A local directory that caches remote blobs, so that reading them again sends no request.
            Processes and stores may share it, and you may delete it at any time. Blobs in a local
            directory are not cached.
        cache_size
            Largest size of the cache in bytes; 10 GiB by default. The cache first evicts the bytes
            that were used least recently.
        create
            Whether to create a store that does not exist.
        clock
            Returns the present time, with time zone; for tests.
        classifier
            Returns the type and the priority of a file from its path.

        Raises
        ------
        StoreNotFoundError
            When there is no store and `create` is false.
        SchemaOutOfDateError
            When the index needs ``cas db upgrade``, or a newer runcas.
        UnsupportedFormatError
            When a newer release wrote the store.
        StoreMismatchError
            When index and blobs don't belong together.
        BackendError, IndexUnavailableError
            When storage, cache or database can't be used.
        """
        url, place = resolve_location(root, index, blobs)
        kept = None if cache is None else open_cache(place, cache, limit=cache_size)
        backend = open_backend(place, storage_options=storage_options)
        database = Database(url)
        try:
            return cls(
                database, backend, create=create, clock=clock, classifier=classifier, cache=kept
            )
        except ObjectNotFoundError:
            database.close()
            backend.close()
            raise StoreNotFoundError(backend.url) from None
        except BaseException:
            database.close()
            backend.close()
            raise

    def session(self, session_id: str) -> Session:
        """Return a session. The first write in it creates it.

        Raises
        ------
        InvalidNameError
            When `session_id` is no valid id.
        """
        return Session(check_id("session", session_id), self._context)

    def runs(self) -> list[RunSummary]:
        """Return the runs of all sessions, oldest first."""
        with self._context.database.reading() as connection:
            return runs.list_runs(connection)

    def producers(self, of: Digest | str | os.PathLike[str]) -> tuple[FileVersion, ...]:
        """Return producers of all sessions, for the owner of the store; see `Session.producers`."""
        from index.reading.producers import find_producers

        return find_producers(self._context.database, None, of)

    def adopt(
        self,
        url: str | URL,
        *,
        session: str = "default",
        root: str | os.PathLike[str] | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> AdoptionReport:
        """Import the `files` table of an old tracker from an application's database.

        The database is only read. The bytes of files that still exist are stored. For missing files
        the store keeps a version without bytes. You can call this again: it skips paths that a run
        has already.

        Parameters
        ----------
        session
            Session of the rows that name none.
        root
            Work directory of the runs, with ``{session}`` and ``{run}`` for their ids. None means
            the deepest directory that all paths of a run share.

        Raises
        ------
        LegacyTableError
            When the database can't be read or has no such table.
        """
        from index.transfer.adopt import adopt

        folder = None if root is None else os.fspath(root)
        return adopt(self._context, url, session=session, root=folder, progress=progress)

    def check_runs(
        self, *, sessions: Iterable[str] | None = None, runs: Iterable[str] | None = None
    ) -> None:
        """Check that sessions and runs exist in this store; raise as `sync_to` does if not."""
        from index.transfer.sync import select_runs

        select_runs(self._context, **_chosen(sessions, runs))

    def plan_sync(
        self,
        destination: ArtifactStore,
        *,
        sessions: Iterable[str] | None = None,
        runs: Iterable[str] | None = None,
    ) -> SyncPlan:
        """Compare this store with another and return what `sync_to` would copy; write nothing.

        Parameters and errors are those of `sync_to`. Call ``execute()`` on the plan to copy.
        """
        from index.transfer.sync import plan_sync

        return plan_sync(self._context, destination.context, **_chosen(sessions, runs))

    def sync_to(
        self,
        destination: ArtifactStore,
        *,
        sessions: Iterable[str] | None = None,
        runs: Iterable[str] | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> SyncReport:
        """Copy runs with their history to another store, and the bytes that it lacks.

        On return, each run in the destination is as it was here at one moment, or the report gives
        the reason. On raise, each run is complete or unchanged. You can interrupt a sync at any
        point: bytes that have arrived are not sent again. A sync only adds; it never removes or
        replaces anything in the destination. If both stores have recorded into a run, that is a
        conflict: the report names it, and the run does not change.

        Parameters
        ----------
        sessions, runs
            Ids of the sessions and runs to copy; None for all.
        progress
            Called now and then with the file versions and bytes copied so far.

        Raises
        ------
        UnknownSessionError, UnknownRunError, UnknownRunNameError
            When one of them does not exist in this store.
        SameStoreError
            When the destination is this store.
        BackendError, IndexUnavailableError
            When storage or a database of either store fails.
        """
        if progress is not None:  # progress needs totals, which a plan has
            plan = self.plan_sync(destination, sessions=sessions, runs=runs)
            return plan.execute(progress=progress)
        from index.transfer.sync import sync_runs

        return sync_runs(self._context, destination.context, **_chosen(sessions, runs))

    sync_to_async = awaitable(sync_to)

    def stats(self) -> StoreStats:
        """Return the size of the store and what deduplication saves."""
        from index.db.queries import stats

        with self._context.database.reading() as connection:
            return stats.store_stats(
                connection,
                store_id=self._context.blobs.settings.store_id,
                index_url=self._context.database.url,
                blobs_url=self._context.blobs.url,
                cache=self._context.blobs.cache,
            )

    def close(self) -> None:
        """Close the database and the backend; idempotent."""
        self._context.database.close()
        self._context.blobs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _refuse_lost_index(self, database: Database, backend: Backend) -> None:
        """Refuse an empty index for storage that has packs: its history would look lost."""
        # In this order, because another process may be creating both right now.
        if _has_packs(backend) and schema.current(database) is None:
            raise IndexLostError(database.url, backend.url)

    def _bind(
        self,
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
        if bound is None:
            # A process binds the index before it publishes a pack.
            if was_there and _has_packs(backend) and look() is None:
                raise IndexLostError(database.url, backend.url)
            with database.writing() as connection:
                runs.insert_store_id(connection, store_id, now)
                bound = runs.get_store_id(connection)
        if bound != store_id:
            raise StoreMismatchError(database.url, backend.url)


def _has_packs(backend: Backend) -> bool:
    return next(iter(backend.iter_objects("packs/")), None) is not None


def _chosen(
    sessions: Iterable[str] | None, names: Iterable[str] | None
) -> dict[str, tuple[str, ...] | None]:
    return {
        "sessions": None if sessions is None else as_paths("sessions", sessions),
        "names": None if names is None else as_paths("runs", names),
    }


def _own_paths(database: Database, backend: Backend, cache: PackCache | None) -> list[str]:
    """Return the local paths of the store itself, which a scan must not record."""
    paths = [backend.url] if Path(backend.url).is_dir() else []
    if database.file:
        paths += [f"{database.file}{suffix}" for suffix in ("", "-wal", "-shm", "-journal")]
    if cache is not None:
        paths.append(str(cache.root))
    return paths
