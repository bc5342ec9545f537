"""Registering files in the application's own transaction.

The application's database contains the tables of the index beside its own. Registered files become
visible when the application commits, and disappear when it rolls back. The bytes stored for them
are then orphans in storage, which are harmless.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from sqlalchemy.engine import TwoPhaseTransaction
from sqlalchemy.orm import Session, scoped_session

from index.commit.caller_commit import CallersRun
from index.commit.caller_transaction import (
    begin_writing,
    check_index,
    check_kept,
    guard_savepoint,
    keep_when_committed,
    look_of,
    memory_of,
)
from index.db.queries import files, listings, runs
from index.domain.annotations import Annotations
from index.domain.names import RunKey, as_paths, check_id, check_local, check_path
from index.domain.provenance import Provenance, either
from index.domain.scopes import current_provenance
from index.errors import IndexUnavailableError
from index.scan.selection import locate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection

    from index.api.store import ArtifactStore
    from index.domain.names import Label
    from index.domain.reports import DeletionReceipt
    from index.domain.snapshots import FileVersion

__all__ = ["FileRepository"]


class FileRepository:
    """Registers and lists files of one session in the transaction of a SQLAlchemy session.

    The caller commits and rolls back. Database errors reach the caller as SQLAlchemy raises them,
    except for a lock that can't be waited for. A call that raises leaves the transaction as it was.
    The commits of others become visible in the next transaction, or when this one first changes the
    run. Until then this transaction reads nothing, so that it can still wait for other writers of
    SQLite.

    Like its SQLAlchemy session, it may be used by one thread at a time.
    """

    def __init__(
        self,
        db_session: Session | scoped_session[Session],
        session_id: Label,
        *,
        store: ArtifactStore,
        work_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        """Bind a SQLAlchemy session to a tenant scope.

        Parameters
        ----------
        db_session
            A SQLAlchemy session of the database that is the store's index.
        session_id
            The tenant scope. Other sessions are neither read nor changed.
        store
            The store of the bytes: ``ArtifactStore.open(index=the application's URL, blobs=…)``.
        work_dir
            The directory of the files. Relative paths start there, and absolute ones must lie in
            it.
        """
        if not isinstance(db_session, Session | scoped_session):
            raise TypeError(
                f"db_session is a SQLAlchemy Session, not {type(db_session).__name__}: "
                "the transaction is the caller's"
            )
        self.session_id: Final = check_id("session", session_id)
        self._db_session = db_session
        self._context = store.context
        self._work_dir = None if work_dir is None else os.path.abspath(check_local(work_dir))
        self._is_checked = False

    def register_file(
        self,
        run_id: Label,
        file_path: str | os.PathLike[str],
        file_type: str | None = None,
        node_id: Label | None = None,
        step_id: Label | None = None,
        event_id: Label | None = None,
        workflow_phase: Label | None = None,
        generating_agent: Label | None = None,
        is_final_output: bool | None = None,  # noqa: FBT001 - the specification's signature
        *,
        phase: Label | None = None,
        agent: Label | None = None,
        code_hash: Label | None = None,
        generating_code_hash: Label | None = None,
        meta: object = None,
    ) -> FileVersion:
        """Store a file's bytes and record its present content; return its version.

        If the path has the same content already, there is no new version. The call then claims the
        present one, as `Run.put` does: it fills in provenance that is missing, and
        `FileVersion.refused` has what is not taken. If the file changes each time it is read, what
        was read last is recorded, and `FileVersion.torn` is true. On return the bytes are durable.
        The version becomes durable when the caller commits. `phase`, `agent` and `code_hash` may be
        given by the specification's names, too.

        Parameters
        ----------
        file_path
            A path in the work directory, relative to it or absolute. Its parent directories may be
            symbolic links. A file that is a symbolic link is recorded as a link.
        file_type, is_final_output, meta
            What you say of the path. None keeps what was said before; see `Run.annotate`.

        Raises
        ------
        WorkDirectoryError
            When the file does not exist or can't be read.
        UnsafePathError
            When it lies outside the work directory.
        IndexUnavailableError
            When another session has rolled back what this one had registered, because both use
            one connection. On SQLite also: when others write and this transaction has read before,
            so that it can't wait for them; or when a rollback could not undo the version.
        UnsettledScanError
            When other writers caused a conflict on every one of several attempts.
        """
        (version,) = self.register_files(
            run_id,
            [file_path],
            file_type,
            node_id=node_id,
            step_id=step_id,
            event_id=event_id,
            phase=either("phase", phase, "workflow_phase", workflow_phase),
            agent=either("agent", agent, "generating_agent", generating_agent),
            is_final_output=is_final_output,
            code_hash=either("code_hash", code_hash, "generating_code_hash", generating_code_hash),
            meta=meta,
        )
        return version

    def register_files(
        self,
        run_id: Label,
        file_paths: Sequence[str | os.PathLike[str]],
        file_type: str | None = None,
        *,
        node_id: Label | None = None,
        step_id: Label | None = None,
        event_id: Label | None = None,
        workflow_phase: Label | None = None,
        generating_agent: Label | None = None,
        is_final_output: bool | None = None,
        phase: Label | None = None,
        agent: Label | None = None,
        code_hash: Label | None = None,
        generating_code_hash: Label | None = None,
        meta: object = None,
    ) -> list[FileVersion]:
        """Register many files at once as `register_file` does, in one snapshot and few statements.

        Returns their versions in the order given. New bytes go into one pack.
        """
        key = RunKey(self.session_id, check_id("run", run_id))
        if self._work_dir is None:
            raise ValueError("give the repository a work_dir: paths are recorded relative to it")
        context = self._context
        root, paths = locate(self._work_dir, file_paths, context.owns, context.database.file)
        provenance = Provenance(
            phase=either("phase", phase, "workflow_phase", workflow_phase),
            agent=either("agent", agent, "generating_agent", generating_agent),
            node_id=node_id,
            step_id=step_id,
            event_id=event_id,
            code_hash=either("code_hash", code_hash, "generating_code_hash", generating_code_hash),
        ).over(current_provenance())
        annotations = Annotations(file_type, is_final_output, meta)
        if not paths:
            return []
        return self._run(key).register(root, paths, provenance, annotations)

    def remove_file(
        self,
        run_id: Label,
        file_path: str | os.PathLike[str],
        *,
        phase: Label | None = None,
        agent: Label | None = None,
        node_id: Label | None = None,
        step_id: Label | None = None,
        event_id: Label | None = None,
        code_hash: Label | None = None,
    ) -> FileVersion:
        """End the current version of a file in the caller's transaction; return that version.

        See `Run.remove`. The file need not be on disk, and is not removed from there.
        """
        (version,) = self.remove_files(
            run_id,
            [file_path],
            phase=phase,
            agent=agent,
            node_id=node_id,
            step_id=step_id,
            event_id=event_id,
            code_hash=code_hash,
        )
        return version

    def remove_files(
        self,
        run_id: Label,
        file_paths: Sequence[str | os.PathLike[str]],
        *,
        phase: Label | None = None,
        agent: Label | None = None,
        node_id: Label | None = None,
        step_id: Label | None = None,
        event_id: Label | None = None,
        code_hash: Label | None = None,
    ) -> list[FileVersion]:
        """Remove many files at once as `remove_file` does, in one snapshot.

        Raises
        ------
        UnknownRunError, UnknownFileError
            When there is no such run, or no file at one of the paths. Nothing is removed then.
        UnsafePathError
            When a path lies outside the work directory.
        IndexUnavailableError, UnsettledScanError
            As in `register_file`.
        """
        key = RunKey(self.session_id, check_id("run", run_id))
        if self._work_dir is None:
            paths = [check_path(path) for path in as_paths("file_paths", file_paths)]
        else:
            context = self._context
            _, paths = locate(self._work_dir, file_paths, context.owns, context.database.file)
        provenance = Provenance(phase, agent, node_id, step_id, event_id, code_hash)
        if not paths:
            return []
        return self._run(key).remove(paths, provenance.over(current_provenance()))

    def list_files(
        self,
        run_id: Label,
        file_type: str | None = None,
        phase: Label | None = None,
        *,
        agent: Label | None = None,
        node_id: Label | None = None,
        step_id: Label | None = None,
        event_id: Label | None = None,
        code_hash: Label | None = None,
        generating_agent: Label | None = None,
        is_final_output: bool | None = None,
    ) -> list[FileVersion]:
        """Return the files of a run that match all arguments, by first appearance, then path.

        The result includes files registered in this transaction. It is empty for a run that this
        session does not have.
        """
        run_id = check_id("run", run_id)
        agent = either("agent", agent, "generating_agent", generating_agent)
        connection = self._connection()
        conditions = listings.conditions_for(
            provenance=Provenance(phase, agent, node_id, step_id, event_id, code_hash),
            file_type=file_type,
            is_final_output=is_final_output,
        )
        with look_of(connection, self._context)() as reading:
            found = runs.find_run(reading, self.session_id, run_id)
            if found is None:
                return []
            return files.list_versions(
                reading, found.id, self.session_id, run_id, files.visible_at(None), *conditions
            )

    def delete_run(self, run_id: Label, *, force: bool = False) -> DeletionReceipt:
        """Delete a run as `Run.delete` does, when the caller commits; return the receipt.

        Storage must be reachable when the caller commits: the journal record of the deletion is
        stored then. Until then other transactions see the run, and writers to it wait.

        Raises
        ------
        UnknownRunError
            When this session has no such run.
        TaggedRunError
            When the run itself has tags, unless `force` is true.
        IndexUnavailableError
            As in `register_file`.
        """
        from index.commit.delete import delete_run_within

        key = RunKey(self.session_id, check_id("run", run_id))
        connection = self._connection()
        if isinstance(connection.get_transaction(), TwoPhaseTransaction):
            # Its record would have to be stored before it is known whether the second phase comes.
            reason = "a run can't be deleted in a transaction of two phases; use another session"
            raise IndexUnavailableError(self._context.database.url, reason)
        memory = memory_of(connection)
        begin_writing(connection)
        with connection.begin_nested():
            receipt, keep_record = delete_run_within(connection, self._context, key, force=force)
        memory.before_commit.append(keep_record)
        memory.runs.pop(key, None)
        memory.recorded.pop(key, None)
        memory.has_written = True
        keep_when_committed(self._session(), connection, memory, self._context)
        return receipt

    def _run(self, key: RunKey) -> CallersRun:
        connection, context = self._connection(), self._context
        session = self._session()
        return CallersRun(
            connection,
            context,
            key,
            lambda memory: keep_when_committed(session, connection, memory, context),
        )

    def _connection(self) -> Connection:
        db_session = self._session()
        check_kept(db_session)
        transaction = db_session.get_transaction()
        if transaction is not None and db_session.in_nested_transaction():
            guard_savepoint(transaction.connection(None))  # SQLAlchemy sends savepoints late
        connection = db_session.connection()
        if not self._is_checked:
            check_index(connection, self._context)
            self._is_checked = True
        return connection

    def _session(self) -> Session:
        db_session = self._db_session
        return db_session() if isinstance(db_session, scoped_session) else db_session
