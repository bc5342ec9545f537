"""The store as people open it: an index and the blobs that belong to it."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from cas.errors import ObjectNotFoundError
from cas.store import BlobStore, open_settings
from cas.urls import open_backend, open_cache
from index.api.maintenance import StoreMaintenance
from index.api.session import Session
from index.context import INDEX_NAME, StoreContext
from index.db import schema
from index.db.catalog import SqlCatalog
from index.db.database import Database, sqlite_url
from index.db.queries import runs
from index.decorators import awaitable
from index.domain.classification import DEFAULT_CLASSIFIER
from index.domain.names import as_paths, check_id
from index.domain.run_state import StateCache
from index.errors import IndexLostError, StoreMismatchError, StoreNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType

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
"""Runs whose state is kept in memory between scans: about 1 KB a file."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


class ArtifactStore(StoreMaintenance):
    """Artifacts of workflow runs, by session and run. Safe for use by several threads.

    A context manager: leaving it closes the connections. A process that is forked can't use the
    store of its parent, and should be forked before the parent opens one, or be spawned: SQLite
    (documentation, "How To Corrupt An SQLite Database File", section 2.6) bears no fork.
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
        """Bind an index and a backend to each other; `open` is the usual way."""
        settings = open_settings(backend, create=create)
        if not create and database.file and not Path(database.file).exists():
            # What is not there must not be made by looking into it.
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
        clock: Callable[[], datetime] = _utc_now,
        classifier: Classifier = DEFAULT_CLASSIFIER,
    ) -> Self:
        """Open a store, or create it on first use.

        Several processes may create the same store at once: one does, the others find it.

        Parameters
        ----------
        root
            Directory of an embedded store: SQLite and blobs side by side.
        index, blobs
            In place of `root`: a SQLAlchemy URL, and a directory or URL of blobs.
        storage_options
            For the fsspec filesystem of a `blobs` URL; not kept anywhere.
        cache
            A local directory where what was read of remote blobs is kept, so that reading it again
            asks nothing of the service. Processes and stores may share it, and it may be deleted at
            any time. Not used for blobs in a local directory.
        cache_size
            Bytes that the cache may take; 10 GiB if not given. What was used least recently goes.
        create
            Whether a store that isn't there is made.
        clock
            Returns the present time, aware; for tests.
        classifier
            Says what kind of file a path is, and its priority.

        Raises
        ------
        StoreNotFoundError
            When there is none and `create` is false.
        SchemaOutOfDateError
            When the index needs ``cas db upgrade``, or a newer runcas.
        UnsupportedFormatError
            When a newer release wrote the store.
        StoreMismatchError
            When index and blobs don't belong together.
        BackendError, IndexUnavailableError
            When storage, cache or database can't be used.
        """
        if root is not None:
            if index is not None or blobs is not None:
                raise ValueError("give either root, or index and blobs")
            path = Path(root)
            index, blobs = sqlite_url(path.absolute() / INDEX_NAME), path
        if index is None or blobs is None:
            raise ValueError("give either root, or both index and blobs")
        place = blobs if isinstance(blobs, str) else Path(blobs)
        kept = None if cache is None else open_cache(place, cache, limit=cache_size)
        backend = open_backend(place, storage_options=storage_options)
        database = Database(index)
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
        """Return a tenant scope; it is created by the first write in it.

        Raises
        ------
        InvalidNameError
            When the id can't be one.
        """
        return Session(check_id("session", session_id), self._context)

    def runs(self) -> list[RunSummary]:
        """Return the runs of all sessions, oldest first."""
        with self._context.database.reading() as connection:
            return runs.list_runs(connection)

    def producers(self, of: Digest | str | os.PathLike[str]) -> tuple[FileVersion, ...]:
        """Return what `Session.producers` does, of all sessions: for the owner of the store."""
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
        """Take over the old `files` table of an application's database, which is only read.

        Files that are still there are stored; of the others a record without bytes is kept. It can
        be run again: what a run knows already is left alone.

        Parameters
        ----------
        session
            Whose the rows are that name no session.
        root
            The work directory of the runs, with ``{session}`` and ``{run}`` for their ids; None for
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
        """Make sure that sessions and runs are here; raise as `sync_to` does if not."""
        from index.transfer.sync import select_runs

        select_runs(self._context, **_chosen(sessions, runs))

    def plan_sync(
        self,
        destination: ArtifactStore,
        *,
        sessions: Iterable[str] | None = None,
        runs: Iterable[str] | None = None,
    ) -> SyncPlan:
        """Compare this store with another, and return what `sync_to` would do; write nothing.

        Parameters and errors are those of `sync_to`. The plan's ``execute()`` does it.
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
        """Copy runs with their history to another store, and of their bytes what it lacks.

        On return each run is there as it was here at one moment, or the report says why not; on
        raise each run is as it was before, or whole. It can be interrupted at any point: bytes that
        have arrived are not sent again. Only what is new is added, and nothing is ever removed or
        replaced there: a run that both stores have recorded into is a conflict, and left alone.

        Parameters
        ----------
        sessions, runs
            Which ones, by id; None for all.
        progress
            Called now and then with file versions and bytes so far.

        Raises
        ------
        UnknownSessionError, UnknownRunError, UnknownRunNameError
            When one of them isn't here.
        SameStoreError
            When the destination is this store.
        BackendError, IndexUnavailableError
            When storage or a database of either store fails.
        """
        if progress is not None:  # which takes totals
            plan = self.plan_sync(destination, sessions=sessions, runs=runs)
            return plan.execute(progress=progress)
        from index.transfer.sync import sync_runs

        return sync_runs(self._context, destination.context, **_chosen(sessions, runs))

    sync_to_async = awaitable(sync_to)

    def stats(self) -> StoreStats:
        """Return the store in numbers."""
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
        """Close database and backend; idempotent."""
        self._context.database.close()
        self._context.blobs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _refuse_lost_index(self, database: Database, backend: Backend) -> None:
        """Refuse to put an empty index over storage that is full: its history would look gone."""
        # Looked at in this order: another process may just have made both.
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
        """Make sure that the index is this storage's; a new index becomes it."""

        def look() -> str | None:
            with database.reading() as connection:
                return runs.get_store_id(connection)

        bound = look()
        if bound is None:
            # Whoever published a pack had bound the index before.
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
    """Return the local paths that a scan must not record: they are the store."""
    paths = [backend.url] if Path(backend.url).is_dir() else []
    if database.file:
        paths += [f"{database.file}{suffix}" for suffix in ("", "-wal", "-shm", "-journal")]
    if cache is not None:
        paths.append(str(cache.root))
    return paths
