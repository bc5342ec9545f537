"""What a transaction of the caller's knows of runs, and when it keeps other writers out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary, ref

from sqlalchemy.exc import OperationalError

from index.errors import IndexUnavailableError
from index.recording import SupersededError
from index.repository import files

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection, NestedTransaction, RootTransaction

    from index.recording import RunKey
    from index.records import FileVersion
    from index.state import RunState

__all__ = ["KnownRun", "TransactionMemory", "memory_of"]

_LOOKED_UP_ALONE: Final = 4
"""Unchanged files that are looked up one by one before the run's whole listing is read at once."""

_BEGIN_WRITING: Final = "UPDATE cas_store SET id = id WHERE id = 0"
"""Changes nothing, but keeps other writers out of SQLite. Its driver begins a transaction with the
first such statement only: a savepoint before it would be one, and its release the commit."""

_SAVEPOINT_FIRST: Final = (
    "a savepoint comes before the transaction, so its end would commit; have the engine send BEGIN"
    ' (docs/integrating.md, "Savepoints")'
)
_READ_FIRST: Final = (
    "another connection has committed since this transaction first read, so it can't write;"
    ' begin it with BEGIN IMMEDIATE (docs/integrating.md, "Savepoints")'
)


class KnownRun:
    """What one transaction knows of a run."""

    __slots__ = ("_looked_up", "_versions", "key", "state")

    def __init__(self, key: RunKey, state: RunState) -> None:
        self.key = key
        self.state = state
        self._versions: dict[int, FileVersion] = {}
        self._looked_up = 0

    def after(self, state: RunState, changed: Sequence[str] | None) -> KnownRun:
        """Return what is known once `changed` paths, or who knows which, are not as they were."""
        known = KnownRun(self.key, state)
        if changed is not None:
            stale = {found.id for path in changed if (found := self.state.find(path)) is not None}
            known._versions = {i: one for i, one in self._versions.items() if i not in stale}
            known._looked_up = self._looked_up
        return known

    def versions(self, connection: Connection, paths: Sequence[str]) -> list[FileVersion]:
        """Return what paths hold, in the order given; read no more than once.

        SupersededError if others have taken it away.
        """
        key, state = self.key, self.state
        current = [known.id for path in paths if (known := state.find(path)) is not None]
        unread = [file_id for file_id in current if file_id not in self._versions]
        self._looked_up += bool(unread)
        if unread and self._looked_up == _LOOKED_UP_ALONE + 1 and state.run_id is not None:
            listed = files.list_versions(
                connection, state.run_id, key.session, key.run, files.visible_at(None)
            )
            self._versions.update((version.id, version) for version in listed)
            unread = [file_id for file_id in unread if file_id not in self._versions]
        if unread:
            found = files.list_by_id(connection, key.session, key.run, unread)
            if any(version.end_snapshot is not None for version in found):
                raise SupersededError  # others have replaced or removed it
            self._versions.update((version.id, version) for version in found)
        try:
            return [self._versions[file_id] for file_id in current]
        except KeyError:
            raise SupersededError from None


class TransactionMemory:
    """What one transaction knows of runs, since it began or a savepoint of it began or ended."""

    def __init__(
        self,
        savepoint: ref[NestedTransaction] | None,
        *,
        has_recorded: bool = False,
        is_begun: bool = False,
    ) -> None:
        self.savepoint = savepoint
        self.runs: dict[RunKey, KnownRun] = {}
        self.has_recorded = has_recorded
        """Whether the transaction holds anything of ours that is not committed yet."""
        self.is_begun = is_begun
        """Whether the transaction surely began before any savepoint of it."""

    def begin_writing(self, connection: Connection) -> None:
        """Keep other writers out of SQLite until the transaction ends; elsewhere do nothing.

        IndexUnavailableError where that can't be, or the driver would not undo it.
        """
        if connection.dialect.name != "sqlite":
            return
        url = connection.engine.url.render_as_string(hide_password=True)
        driver = connection.connection.dbapi_connection
        if self.savepoint is None:
            self.is_begun = True
        elif not self.is_begun and getattr(driver, "isolation_level", None) is not None:
            raise IndexUnavailableError(url, _SAVEPOINT_FIRST)
        try:
            connection.exec_driver_sql(_BEGIN_WRITING)
        except OperationalError as error:
            if getattr(error.orig, "sqlite_errorname", None) == "SQLITE_BUSY_SNAPSHOT":
                raise IndexUnavailableError(url, _READ_FIRST) from error
            raise


_memories: Final[WeakKeyDictionary[RootTransaction, TransactionMemory]] = WeakKeyDictionary()


def memory_of(connection: Connection) -> TransactionMemory:
    """Return what is known of runs in a connection's transaction, to whichever repository.

    It ends with the transaction: then others may have written. And with a savepoint: what was
    recorded since is gone when that is rolled back.
    """
    transaction, nested = connection.get_transaction(), connection.get_nested_transaction()
    assert transaction is not None, "the SQLAlchemy session has begun it"  # noqa: S101
    savepoint = None if nested is None else ref(nested)
    memory = _memories.get(transaction)
    if memory is None:
        memory = _memories[transaction] = TransactionMemory(savepoint)
    elif memory.savepoint != savepoint:
        memory = _memories[transaction] = TransactionMemory(
            savepoint, has_recorded=memory.has_recorded, is_begun=memory.is_begun
        )
    return memory
