"""Registration of files in the application's own transaction: its locks and its cache."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias
from weakref import WeakKeyDictionary

from sqlalchemy import event, text
from sqlalchemy.engine import Engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import Pool

from index.commit.write import CommitConflict, load_state
from index.db import schema
from index.db.catalog import SqlCatalog, TransactionCatalog
from index.db.engines import is_busy, is_on_file, shown_url
from index.db.queries import blobs, current, files, runs
from index.errors import IndexUnavailableError, StoreMismatchError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from sqlalchemy.engine import Connection, RootTransaction
    from sqlalchemy.orm import Session, SessionTransaction

    from cas.catalog import Catalog, WrittenBatch
    from cas.packs.pack import SealedPack
    from index.commit.plan import CommitRequest
    from index.context import StoreContext
    from index.domain.names import RunKey
    from index.domain.run_state import RunState
    from index.domain.snapshots import FileVersion

__all__ = [
    "Known",
    "Look",
    "Memory",
    "begin_writing",
    "catalog_of",
    "check_index",
    "check_kept",
    "check_references",
    "guard_savepoint",
    "keep_when_committed",
    "look_of",
    "memory_of",
    "within",
]

_LOOKED_UP_ALONE: Final = 4
_LOOKED_UP_SHARE: Final = 100
"""Lookups before the whole run is loaded or listed: `_LOOKED_UP_ALONE`, and one more for each 100
of its files. A listing takes as long as one lookup for each 40 of its files."""

Look: TypeAlias = "Callable[[], AbstractContextManager[Connection]]"
"""Opens the connection to read from."""

_BEGIN_WRITING: Final = "UPDATE cas_store SET id = id WHERE id = 0"
"""Changes nothing, but takes SQLite's write lock. The driver begins a transaction only with the
first such statement."""


class _CommittedCatalog(SqlCatalog):
    """A catalog of committed blobs. The code that commits the batch inserts the rows of packs.

    Packs are published while the caller's transaction may hold SQLite's only write lock.
    """

    def register_pack(self, pack: SealedPack) -> None:
        pass


class Known:
    """The cached state and versions of a run in one transaction."""

    __slots__ = ("_files", "_has_listed", "_loaded", "_looked_up", "_versions", "key", "state")

    def __init__(self, key: RunKey, state: RunState) -> None:
        self.key = key
        self.state = state
        self._versions: dict[int, FileVersion] = {}
        self._looked_up = 0
        self._has_listed = False
        self._loaded = 0
        self._files: int | None = None

    def load(self, connection: Connection, paths: Sequence[str]) -> Known:
        """Return the run as it is now, with at least the files that concern `paths`.

        It is this object if nobody has changed the run.
        """
        self._loaded += 1
        wanted: Sequence[str] | None = paths
        if self._loaded > _LOOKED_UP_ALONE and self.state.run_id is not None:
            if self._files is None:
                self._files = current.count_current(connection, self.state.run_id)
            if self._loaded > _LOOKED_UP_ALONE + self._files // _LOOKED_UP_SHARE:
                wanted = None
        before, state = self.state, load_state(connection, self.key, self.state, wanted)
        if (state.run_id, state.revision) != (before.run_id, before.revision):
            return Known(self.key, state)
        self.state = state
        return self

    def advance(self, state: RunState, paths: Sequence[str]) -> None:
        """Move to the next revision, which this transaction made and which changed `paths`."""
        for known in (self.state.find(path) for path in paths):
            if known is not None:
                self._versions.pop(known.id, None)  # its provenance or annotations may have changed
        self.state = state

    def versions(self, look: Look, paths: Sequence[str]) -> list[FileVersion]:
        """Return the current versions of paths in the order given, each read at most once.

        Raises CommitConflict if another transaction has deleted one.
        """
        found = [self.state.find(path) for path in paths]
        ids = [known.id for known in found if known is not None]
        unread = [file_id for file_id in ids if file_id not in self._versions]
        if unread:
            with look() as connection:
                self._read(connection, unread)
        if len(ids) != len(paths) or not self._versions.keys() >= set(ids):
            raise CommitConflict
        return [self._versions[file_id] for file_id in ids]

    def _read(self, connection: Connection, ids: list[int]) -> None:
        key, state = self.key, self.state
        self._looked_up += 1
        is_whole = state.loaded is None
        if is_whole and not self._has_listed and self._looked_up > _LOOKED_UP_ALONE:
            count = sum(map(len, state.directories.values()))
            if self._looked_up > _LOOKED_UP_ALONE + count // _LOOKED_UP_SHARE:
                assert state.run_id is not None, "it has files"  # noqa: S101
                listed = files.list_versions(
                    connection, state.run_id, key.session, key.run, files.visible_at(None)
                )
                self._versions.update((version.id, version) for version in listed)
                self._has_listed = True
                ids = [file_id for file_id in ids if file_id not in self._versions]
        # By id, current or not: others may have committed since the state was read.
        alone = files.list_by_id(connection, key.session, key.run, ids)
        self._versions.update((version.id, version) for version in alone)


class Memory:
    """The cached runs of one transaction, shared by all repositories that use it."""

    __slots__ = ("before_commit", "driver", "has_written", "is_undone", "recorded", "runs")

    def __init__(self, driver: object) -> None:
        self.driver = driver
        """The driver's connection. With some pools, several of SQLAlchemy's share it."""
        self.is_undone = False
        """Whether a rollback of that connection has undone what this transaction wrote."""
        self.runs: dict[RunKey, Known] = {}
        self.recorded: dict[RunKey, RunState] = {}
        """States of runs that this transaction made. Others may use them once it commits."""
        self.has_written = False
        """Whether it has written rows, which no other transaction sees yet."""
        self.before_commit: list[Callable[[], None]] = []
        """Called in the transaction, when everything else of it is done."""

    def forget(self) -> None:
        """Forget the cached runs, but keep `has_written`."""
        self.runs.clear()
        self.recorded.clear()


_memories: Final[WeakKeyDictionary[RootTransaction, Memory]] = WeakKeyDictionary()

_unprotected: Final[WeakKeyDictionary[RootTransaction, bool]] = WeakKeyDictionary()
"""Whether the last outermost savepoint is the whole transaction for SQLite."""


def memory_of(connection: Connection) -> Memory:
    """Return the cache of a connection's transaction. It ends with the transaction."""
    transaction = _transaction_of(connection)
    memory = _memories.get(transaction)
    if memory is None:
        memory = _memories[transaction] = Memory(connection.connection.dbapi_connection)
    return memory


def look_of(connection: Connection, context: StoreContext) -> Look:
    """Return where to read: inside the transaction if it has written rows, otherwise outside.

    On SQLite a transaction that reads before it writes fails, instead of waiting, if others write.
    """
    return within(connection) if memory_of(connection).has_written else context.database.reading


def catalog_of(connection: Connection, context: StoreContext) -> Catalog:
    """Return a catalog of the blobs that `look_of` sees. It inserts no rows of packs."""
    if memory_of(connection).has_written:
        return TransactionCatalog(connection)
    return _CommittedCatalog(context.database, context.clock)


def guard_savepoint(connection: Connection) -> None:
    """Begin the SQLite transaction if the driver has not: the next statement may be a savepoint.

    Without a transaction, SQLite takes the savepoint as the transaction, and its release commits.
    """
    if not _is_begun(connection) and connection.get_nested_transaction() is None:
        connection.exec_driver_sql("BEGIN")


def begin_writing(connection: Connection) -> None:
    """Take SQLite's write lock until the transaction ends; wait for other writers to finish.

    Raises
    ------
    IndexUnavailableError
        When it can't wait for them, or a rollback could not undo the writes.
    """
    if connection.dialect.name != "sqlite":
        return
    if connection.get_nested_transaction() and _unprotected.get(_transaction_of(connection)):
        reason = (
            "the driver began no transaction before this savepoint, so that no rollback could undo "
            'its release; see "Enabling Non-Legacy SQLite Transactional Modes" of SQLAlchemy'
        )
        raise IndexUnavailableError(shown_url(connection.engine.url), reason)
    try:
        connection.exec_driver_sql(_BEGIN_WRITING)
    except OperationalError as error:
        if not is_busy(error):
            raise
        reason = (
            "another transaction writes, or has written since this one read; begin those that "
            "register files with BEGIN IMMEDIATE"
        )
        raise IndexUnavailableError(shown_url(connection.engine.url), reason) from error


def check_references(connection: Connection, request: CommitRequest, written: WrittenBatch) -> None:
    """Check that reused blobs still exist: the caller's database may not check foreign keys.

    Raises CommitConflict if one is gone.
    """
    wanted = set(request.findings.new.digests)
    for large in written.chunked:
        wanted.update(large.chunks)
    wanted.difference_update(written.blobs, (large.digest for large in written.chunked))
    if wanted and blobs.find_known(connection, wanted) != wanted:
        raise CommitConflict


def check_index(connection: Connection, context: StoreContext) -> None:
    """Check that a connection leads to the index of the store, with this release's schema.

    Raises
    ------
    SchemaOutOfDateError, StoreMismatchError
        When it does not.
    """
    if is_on_file(connection, context.database.file):
        return  # checked when the store was opened; reading tables would begin a read transaction
    url = shown_url(connection.engine.url)
    if connection.dialect.name == "postgresql":
        encoding, style = connection.execute(
            text("SELECT current_setting('client_encoding'), current_setting('datestyle')")
        ).one()
        if encoding not in ("UTF8", "UNICODE"):
            reason = f"its client encoding is {encoding}; set client_encoding to utf8 in its URL"
            raise IndexUnavailableError(url, reason)
        if not style.startswith("ISO"):
            reason = f"its dates have the style {style}; run SET datestyle TO ISO when it connects"
            raise IndexUnavailableError(url, reason)
    schema.check_connection(connection, url)
    if runs.get_store_id(connection) != context.blobs.settings.store_id:
        raise StoreMismatchError(url, context.blobs.url)


def within(connection: Connection) -> Look:
    """Return a `Look` that yields an open connection and leaves it open."""
    return lambda: nullcontext(connection)


def _transaction_of(connection: Connection) -> RootTransaction:
    transaction = connection.get_transaction()
    assert transaction is not None, "the SQLAlchemy session has begun it"  # noqa: S101
    return transaction


def _is_begun(connection: Connection) -> bool:
    if connection.dialect.name != "sqlite":
        return True
    return bool(getattr(connection.connection.driver_connection, "in_transaction", True))


@event.listens_for(Engine, "commit")
@event.listens_for(Engine, "commit_twophase")
def _note_commit(connection: Connection, *_: object) -> None:
    for memory in _memories_on(_driver_of(connection)):
        memory.has_written = False  # others see it, and no rollback undoes it


@event.listens_for(Engine, "rollback")
@event.listens_for(Engine, "rollback_twophase")
def _note_undone(connection: Connection, *_: object) -> None:
    _note_reset(_driver_of(connection))


@event.listens_for(Pool, "reset")
def _note_reset(driver: object, *_: object) -> None:
    for memory in _memories_on(driver):
        memory.is_undone |= memory.has_written


def _driver_of(connection: Connection) -> object:
    """Return the connection of the driver; None if it broke."""
    if connection.closed or connection.invalidated:
        return None
    return connection.connection.dbapi_connection


def _memories_on(driver: object) -> list[Memory]:
    return [memory for memory in list(_memories.values()) if memory.driver is driver]


@event.listens_for(Engine, "savepoint")
def _note_savepoint(connection: Connection, _name: str) -> None:
    transaction = connection.get_transaction()
    if transaction is not None and connection.get_nested_transaction() is None:
        _unprotected[transaction] = not _is_begun(connection)


@event.listens_for(Engine, "rollback_savepoint")
def _note_rollback(connection: Connection, _name: str, _context: None) -> None:
    transaction = connection.get_transaction()
    memory = None if transaction is None else _memories.get(transaction)
    if memory is not None:
        memory.forget()


@event.listens_for(Engine, "commit")
@event.listens_for(Engine, "prepare_twophase")
@event.listens_for(Engine, "commit_twophase")
def _finish(connection: Connection, *_: object) -> None:
    transaction = connection.get_transaction()
    memory = None if transaction is None else _memories.get(transaction)
    while memory is not None and memory.before_commit:
        memory.before_commit.pop(0)()


class _Awaited(NamedTuple):
    """What a transaction has written, until the session ends its own."""

    transaction: RootTransaction
    memory: Memory
    context: StoreContext
    is_owner: bool
    """Whether the session commits it, and not the owner of a connection that it is bound to."""


_awaited: Final[WeakKeyDictionary[Session, _Awaited]] = WeakKeyDictionary()


def keep_when_committed(
    db_session: Session, connection: Connection, memory: Memory, context: StoreContext
) -> None:
    """Add the states that a transaction makes to the store's cache once it commits."""
    transaction = _transaction_of(connection)
    is_owner = isinstance(db_session.get_bind(), Engine)
    _awaited[db_session] = _Awaited(transaction, memory, context, is_owner)
    if not event.contains(db_session, "before_commit", check_kept):
        event.listen(db_session, "before_commit", check_kept)
        event.listen(db_session, "after_commit", _keep_committed)
        event.listen(db_session, "after_transaction_end", _keep_no_longer)


def check_kept(db_session: Session) -> None:
    """Check that nobody else has rolled back what a session wrote in its transaction.

    Raises IndexUnavailableError.
    """
    awaited = _awaited.get(db_session)
    if awaited is not None and awaited.memory.is_undone:
        reason = (
            "another session rolled back what this one had registered, because both use one "
            "connection; roll this one back, and register the files again"
        )
        raise IndexUnavailableError(awaited.context.database.url, reason)


def _keep_committed(db_session: Session) -> None:
    awaited = _awaited.get(db_session)
    if awaited is None or not awaited.is_owner or awaited.transaction.is_active:
        return  # a savepoint was released
    for key, state in awaited.memory.recorded.items():
        awaited.context.states.keep(key.session, key.run, state)


def _keep_no_longer(db_session: Session, transaction: SessionTransaction) -> None:
    if transaction.parent is None:
        _awaited.pop(db_session, None)
