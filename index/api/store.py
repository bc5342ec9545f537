"""The artifact store: an index and the blobs that belong to it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from cas.errors import ObjectNotFoundError
from cas.store import BlobStore
from cas.urls import STORAGE_WAIT_S, open_backend, open_cache
from cas.waiting import check_wait
from index.api.binding import bind, own_paths
from index.api.maintenance import StoreMaintenance
from index.api.session import Session
from index.context import Handle, StoreContext, reopened, resolve_location, utc_now
from index.db.catalog import SqlCatalog
from index.db.database import DATABASE_WAIT_S, LOCK_WAIT_S, Database
from index.db.queries import runs
from index.decorators import awaitable
from index.domain.classification import DEFAULT_CLASSIFIER
from index.domain.names import as_paths, check_id, check_local
from index.domain.reports import check_labels
from index.domain.run_state import StateCache
from index.errors import StoreNotFoundError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from sqlalchemy import URL

    from cas.backend import Backend
    from cas.cache.cache import PackCache
    from cas.digest import Digest
    from index.api.run import Run
    from index.domain.classification import Classifier
    from index.domain.names import Label
    from index.domain.reports import GroupStats, StatsLabel, StoreStats
    from index.domain.snapshots import FileVersion, Progress, RunSummary
    from index.transfer.adopt import AdoptionReport, Root
    from index.transfer.report import SyncReport
    from index.transfer.sync import SyncPlan

__all__ = ["ArtifactStore"]

_CACHED_STATES: Final = 8
"""Number of runs whose state stays in memory between scans: about 1 KB per file."""


class ArtifactStore(StoreMaintenance, Handle):
    """Artifacts of workflow runs, by session and run. Safe for use by several threads.

    The store is a context manager: leaving it closes the connections. A forked process can't use
    the store of its parent. Fork before the parent opens a store, or spawn the process: SQLite
    connections do not survive a fork (SQLite documentation, "How To Corrupt An SQLite Database
    File", section 2.6).

    A copy of a store, a session or a run is the object itself. All of them pickle as how to open
    the store again, `storage_options` and the password of the index included, so keep the pickle
    as secret as these. Where it is unpickled, it shares the store that the process has open, or
    opens it until the process ends.
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
        reopen: partial[StoreContext] | None = None,
    ) -> None:
        """Bind an index and a backend to each other. Most callers use `open`."""
        settings = bind(database, backend, create=create, clock=clock)
        blobs = BlobStore(backend, SqlCatalog(database, clock), settings, cache)
        self._context = StoreContext(
            database=database,
            blobs=blobs,
            states=StateCache(_CACHED_STATES),
            clock=clock,
            classifier=classifier,
            own_paths=own_paths(database, backend, cache),
            reopen=reopen,
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
        lock_wait: float = LOCK_WAIT_S,
        database_wait: float = DATABASE_WAIT_S,
        storage_wait: float = STORAGE_WAIT_S,
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
        lock_wait
            Seconds that a writer waits for another writer's lock on the index.
        database_wait, storage_wait
            Seconds that calls go on trying while the database server or remote storage is down. The
            logger ``cas.waiting`` tells of each wait.
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
        StoreMismatchError, StorageClaimedError
            When index and blobs don't belong together.
        BackendError, IndexUnavailableError
            When storage, cache or database can't be used.
        """
        check_wait("lock_wait", lock_wait)
        check_wait("database_wait", database_wait)
        check_wait("storage_wait", storage_wait)
        url, place = resolve_location(root, index, blobs)
        kept = None if cache is None else open_cache(place, check_local(cache), limit=cache_size)
        backend = open_backend(place, storage_options=storage_options, wait=storage_wait)
        database = Database(url, lock_wait=lock_wait, database_wait=database_wait)
        reopen = partial(
            reopened,
            cls.open,
            index=database.secret_url,
            blobs=place.absolute() if isinstance(place, Path) else place,
            storage_options=storage_options,
            cache=None if cache is None else Path(cache).absolute(),
            cache_size=cache_size,
            clock=clock,
            classifier=classifier,
            lock_wait=lock_wait,
            database_wait=database_wait,
            storage_wait=storage_wait,
        )
        try:
            return cls(
                database,
                backend,
                create=create,
                clock=clock,
                classifier=classifier,
                cache=kept,
                reopen=reopen,
            )
        except ObjectNotFoundError:
            database.close()
            backend.close()
            raise StoreNotFoundError(backend.url) from None
        except BaseException:
            database.close()
            backend.close()
            raise

    def session(self, session_id: Label) -> Session:
        """Return a session. The first write in it creates it.

        Raises
        ------
        InvalidNameError
            When `session_id` is no valid id.
        """
        return Session(check_id("session", session_id), self._context)

    def run(self, run_id: Label, *, session: Label = "default") -> Run:
        """Return a run of a session, by default of the one that the command uses.

        Raises InvalidNameError if one of them is no valid id.
        """
        return self.session(session).run(run_id)

    def runs(self) -> list[RunSummary]:
        """Return the runs of all sessions, oldest first."""
        with self._context.database.reading() as connection:
            return runs.list_runs(connection)

    def find_runs(self, run_id: str) -> list[RunSummary]:
        """Return the runs with this id in any session, oldest first, for the owner of the store."""
        wanted = check_id("run", run_id)
        with self._context.database.reading() as connection:
            return runs.list_runs(connection, run=wanted)

    def producers(self, of: Digest | str | os.PathLike[str]) -> tuple[FileVersion, ...]:
        """Return producers of all sessions, for the owner of the store; see `Session.producers`."""
        from index.reading.producers import find_producers

        return find_producers(self._context.database, None, of)

    def adopt(
        self,
        url: str | URL,
        *,
        session: str = "default",
        root: Root = None,
        moved: Mapping[str, str | os.PathLike[str]] | None = None,
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
            Work directories of the runs: text with ``{session}`` and ``{run}`` for their ids, a
            mapping from run ids, or a function of session id and run id. Where it names none, the
            deepest directory that all paths of a run share.
        moved
            Absolute directories of the table, and where each is now. The adopted metadata keeps
            the old path.

        Raises
        ------
        LegacyTableError
            When the database can't be read or has no such table.
        """
        from index.transfer.adopt import adopt
        from index.transfer.legacy_paths import check_moves

        return adopt(
            self._context,
            url,
            session=session,
            root=root,
            moved=check_moves(moved),
            progress=progress,
        )

    def check_runs(
        self, *, sessions: Iterable[Label] | None = None, runs: Iterable[Label] | None = None
    ) -> None:
        """Check that sessions and runs exist in this store; raise as `sync_to` does if not."""
        from index.transfer.sync import select_runs

        select_runs(self._context, **_chosen(sessions, runs))

    def plan_sync(
        self,
        destination: ArtifactStore,
        *,
        sessions: Iterable[Label] | None = None,
        runs: Iterable[Label] | None = None,
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
        sessions: Iterable[Label] | None = None,
        runs: Iterable[Label] | None = None,
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

    def stats_by(self, *labels: StatsLabel) -> tuple[GroupStats, ...]:
        """Return counts and sizes of all files for each combination of labels.

        ``store.stats_by("session", "phase")``; see `Run.stats_by`.
        """
        from index.db.queries import stats

        with self._context.database.reading() as connection:
            return stats.group_stats(connection, check_labels(labels))

    def close(self) -> None:
        """Close the database and the backend; idempotent."""
        self._context.database.close()
        self._context.blobs.close()

    def __repr__(self) -> str:
        context = self._context
        state = "" if context.database.is_open else ", not open"
        name = type(self).__name__
        return f"<{name} with index {context.database.url}, blobs {context.blobs.url}{state}>"

    def _repr_html_(self) -> str:
        from index.domain.html import show_runs  # only notebooks need it

        return show_runs(f"store {self._context.blobs.url}", self.runs())

    def __reduce__(self) -> tuple[Any, ...]:
        return _store_of, (type(self), self._context)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def _store_of(kind: type[ArtifactStore], context: StoreContext) -> ArtifactStore:
    store = kind.__new__(kind)
    store._context = context  # noqa: SLF001 - a constructor
    return store


def _chosen(
    sessions: Iterable[Label] | None, names: Iterable[Label] | None
) -> dict[str, tuple[str, ...] | None]:
    return {
        "sessions": None if sessions is None else _ids("session", as_paths("sessions", sessions)),
        "names": None if names is None else _ids("run", as_paths("runs", names)),
    }


def _ids(kind: str, values: tuple[Label, ...]) -> tuple[str, ...]:
    return tuple(check_id(kind, value) for value in values)
