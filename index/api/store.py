"""The artifact store: an index and the blobs that belong to it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from cas.cache.files import LocalFiles
from cas.errors import ObjectNotFoundError
from cas.store import BlobStore
from cas.urls import STORAGE_WAIT_S, open_backend, open_cache
from cas.waiting import check_wait
from index.api.binding import bind, own_paths
from index.api.finding import Finding
from index.api.session import Session
from index.api.transfer import StoreTransfer
from index.context import Handle, StoreContext, reopened, resolve_location, utc_now
from index.db.catalog import SqlCatalog
from index.db.database import DATABASE_WAIT_S, LOCK_WAIT_S, Database
from index.db.queries.summaries import list_runs
from index.domain.classification import DEFAULT_CLASSIFIER
from index.domain.names import check_id, check_local
from index.domain.reports import check_labels
from index.domain.run_state import StateCache
from index.domain.runs import HTML_RUNS
from index.errors import StoreNotFoundError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from sqlalchemy import URL

    from cas.backend import Backend
    from cas.cache.cache import PackCache
    from cas.digest import Digest
    from index.api.run import Run
    from index.domain.classification import Classifier
    from index.domain.names import Label
    from index.domain.reports import GroupStats, StatsLabel, StoredBlob, StoreStats
    from index.domain.runs import RunSummary
    from index.domain.snapshots import FileVersion

__all__ = ["ArtifactStore"]

_CACHED_STATES: Final = 8
"""Number of runs whose state stays in memory between scans: about 1 KB per file."""


class ArtifactStore(StoreTransfer, Finding, Handle):
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
        local_files: LocalFiles | None = None,
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
            local_files=local_files or LocalFiles(),
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
            directory are not cached. It also has the files of `Run.local_path`, which are in
            ``~/.cache/runcas`` otherwise.
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
                local_files=LocalFiles(cache, cache_size),
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
        """Return a run of a session, by default of that which the command uses."""
        return self.session(session).run(run_id)

    def find_runs(self, run_id: str) -> list[RunSummary]:
        """Return the runs with this id in any session, as `runs` does, for the store's owner."""
        wanted = check_id("run", run_id)
        with self._context.database.reading() as connection:
            return list_runs(connection, run=wanted)

    def digest(self, text: Digest | str) -> Digest:
        """Return the digest of a file of any session, for the store's owner; see `Session.digest`.

        Raises InvalidDigestError, UnknownDigestError and AmbiguousNameError as that does.
        """
        from index.reading.digests import get_digest

        return get_digest(self._context.database, None, text)

    def producers(self, of: Digest | str | os.PathLike[str]) -> tuple[FileVersion, ...]:
        """Return producers of all sessions, for the owner of the store; see `Session.producers`."""
        from index.reading.producers import find_producers

        return find_producers(self._context.database, None, of)

    def stored(self, digest: Digest) -> StoredBlob | None:
        """Return how the bytes of a digest are stored, for the store's owner; None if they aren't.

        A session must not be told: it could see whether others stored its bytes before.
        """
        from index.db.queries.stored import find_stored

        with self._context.database.reading() as connection:
            return find_stored(connection, digest)

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
        """Close the database and the backend, and take back local files; idempotent."""
        self._context.local_files.close()
        self._context.database.close()
        self._context.blobs.close()

    @property
    def _searched(self) -> None:
        return None

    def __repr__(self) -> str:
        context = self._context
        state = "" if context.database.is_open else ", not open"
        name = type(self).__name__
        return f"<{name} with index {context.database.url}, blobs {context.blobs.url}{state}>"

    def _repr_html_(self) -> str:
        from index.domain.html import counted, paragraph, table  # only notebooks need it

        found = self.runs()
        about = paragraph(f"store {self._context.blobs.url}", counted(len(found), "run"))
        return about + table(HTML_RUNS, [each.html_row for each in reversed(found)])

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
