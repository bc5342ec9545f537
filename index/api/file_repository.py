"""Registering files in the application's own transaction.

The application's database contains the tables of the index beside its own. Registered files become
visible when the application commits, and disappear when it rolls back. The bytes stored for them
are then orphans in storage, which are harmless.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, scoped_session

from index.commit.caller_transaction import (
    Known,
    Memory,
    begin_writing,
    catalog_of,
    check_index,
    check_references,
    guard_savepoint,
    keep_when_committed,
    look_of,
    memory_of,
    within,
)
from index.commit.plan import CommitRequest
from index.commit.prepare import plan_commit, with_records
from index.commit.write import CommitConflict, load_state, record
from index.db.catalog import TransactionCatalog
from index.db.queries import blobs, files, runs
from index.domain.annotations import Annotations
from index.domain.changes import compare_scan, rebase
from index.domain.names import MAX_TYPE_LENGTH, RunKey, check_id, check_label
from index.domain.provenance import Provenance, current_provenance
from index.errors import UnsettledScanError
from index.scan.ingest import observe
from index.scan.selection import Selection, locate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy.engine import Connection

    from cas.catalog import Catalog, WrittenBatch
    from index.api.store import ArtifactStore
    from index.commit.caller_transaction import Look
    from index.commit.plan import CommitPlan
    from index.domain.run_state import RunState
    from index.domain.snapshots import FileVersion

__all__ = ["FileRepository"]

_ATTEMPTS: Final = 5
"""How often files are read again because the state behind the first read has changed. On SQLite the
second attempt succeeds, because no other process can write then."""


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
        session_id: str,
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
        self._work_dir = None if work_dir is None else os.path.abspath(work_dir)
        self._is_checked = False

    def register_file(
        self,
        run_id: str,
        file_path: str | os.PathLike[str],
        file_type: str | None = None,
        node_id: str | None = None,
        step_id: str | None = None,
        event_id: str | None = None,
        workflow_phase: str | None = None,
        generating_agent: str | None = None,
        is_final_output: bool | None = None,  # noqa: FBT001 - the specification's signature
        *,
        generating_code_hash: str | None = None,
        meta: object = None,
    ) -> FileVersion:
        """Store a file's bytes and record its present content; return its version.

        If the path has the same content already, there is no new version. Recorded provenance
        stays; only the node that produced the content fills in missing fields. On return the bytes
        are durable. The version becomes durable when the caller commits.

        Parameters
        ----------
        file_path
            A path in the work directory, relative to it or absolute. Its parent directories may be
            symbolic links. A file that is a symbolic link is recorded as a link.
        file_type
            The type; None derives it from the path.

        Raises
        ------
        WorkDirectoryError
            When the file does not exist or can't be read.
        UnsafePathError
            When it lies outside the work directory.
        IndexUnavailableError
            On SQLite: when others write and this transaction has read before, so that it can't
            wait for them; or when a rollback could not undo the version.
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
            workflow_phase=workflow_phase,
            generating_agent=generating_agent,
            is_final_output=is_final_output,
            generating_code_hash=generating_code_hash,
            meta=meta,
        )
        return version

    def register_files(
        self,
        run_id: str,
        file_paths: Sequence[str | os.PathLike[str]],
        file_type: str | None = None,
        *,
        node_id: str | None = None,
        step_id: str | None = None,
        event_id: str | None = None,
        workflow_phase: str | None = None,
        generating_agent: str | None = None,
        is_final_output: bool | None = None,
        generating_code_hash: str | None = None,
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
        if file_type is not None:
            check_label("file type", file_type, longest=MAX_TYPE_LENGTH)
        provenance = Provenance(
            workflow_phase, generating_agent, node_id, step_id, event_id, generating_code_hash
        ).over(current_provenance())
        annotations = Annotations(file_type, is_final_output, meta)
        if not paths:
            return []
        connection = self._connection()
        memory = memory_of(connection)
        cause: Exception | None = None
        for _ in range(_ATTEMPTS):
            try:
                return self._register(connection, memory, key, root, paths, provenance, annotations)
            except (IntegrityError, CommitConflict) as error:
                memory.runs.pop(key, None)
                cause = error
        raise UnsettledScanError(run_id) from cause

    def list_files(
        self,
        run_id: str,
        file_type: str | None = None,
        phase: str | None = None,
        *,
        node_id: str | None = None,
        step_id: str | None = None,
        event_id: str | None = None,
        generating_agent: str | None = None,
        is_final_output: bool | None = None,
    ) -> list[FileVersion]:
        """Return the files of a run that match all arguments, by first appearance, then path.

        The result includes files registered in this transaction. It is empty for a run that this
        session does not have.
        """
        check_id("run", run_id)
        connection = self._connection()
        conditions = files.conditions_for(
            provenance=Provenance(phase, generating_agent, node_id, step_id, event_id),
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

    def _connection(self) -> Connection:
        db_session = self._session()
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

    def _load(self, look: Look, memory: Memory, key: RunKey) -> Known:
        states = self._context.states
        cached = states.get(key.session, key.run)
        with look() as connection:
            state = load_state(connection, key, cached)
        if not memory.has_written and state.run_id is not None:
            states.keep(key.session, key.run, state)
        memory.runs[key] = known = Known(key, state)
        return known

    def _register(
        self,
        connection: Connection,
        memory: Memory,
        key: RunKey,
        root: str,
        paths: Sequence[str],
        provenance: Provenance,
        annotations: Annotations,
    ) -> list[FileVersion]:
        look = look_of(connection, self._context)
        known = memory.runs.get(key) or self._load(look, memory, key)
        catalog = catalog_of(connection, self._context)
        plan, written = self._read(look, catalog, known, root, paths, provenance, annotations)
        base, (based_on, state) = known.state, self._record(connection, plan, written)
        if state is not base:
            if based_on is base:
                known.advance(state, paths)
            else:
                known = Known(key, state)
            memory.runs[key] = known
            memory.recorded[key] = state
            memory.has_written = True
            keep_when_committed(self._session(), connection, memory, self._context)
        return known.versions(look_of(connection, self._context), paths)

    def _read(
        self,
        look: Look,
        catalog: Catalog,
        known: Known,
        root: str,
        paths: Sequence[str],
        provenance: Provenance,
        annotations: Annotations,
    ) -> tuple[CommitPlan, WrittenBatch]:
        """Store the new content of the files; return the plan of the commit."""
        started_ns = time.time_ns()
        scan = Selection(root, known.state.directories, paths)
        with self._context.blobs.batch(catalog) as batch:
            found = observe(scan, batch, started_ns=started_ns)
            scan.require({observed.path for observed in found.files})
            findings = compare_scan(found.files, (), scan.unchanged, known.state)
            classifier = self._context.classifier
            if annotations.given and not findings.changes:
                recorded = known.versions(look, [file.path for file in findings.unchanged])
                if not any(annotations.over(version, classifier) for version in recorded):
                    annotations = Annotations()  # else each call would look up its files again
            request = CommitRequest(
                key=known.key,
                findings=findings,
                provenance=provenance,
                still_holds=lambda _change: True,  # an explicit registration always wins
                scope=paths,
                bytes_read=found.bytes_read,
                annotations=annotations,
                classifier=classifier,
            )
            now = self._context.clock()
            plan = plan_commit(request, findings, known.state, look=look, now=now)
            plan = plan.write_records(batch)
            return plan, batch.finish()

    def _record(
        self, connection: Connection, plan: CommitPlan, written: WrittenBatch
    ) -> tuple[RunState, RunState]:
        """Record the whole plan or, on raise, nothing; return the run's state before and after."""
        request = plan.request
        unregistered = list(written.packs)

        @contextmanager
        def begin() -> Iterator[Connection]:
            begin_writing(connection)
            with connection.begin_nested():
                while unregistered:
                    blobs.insert_pending_pack(connection, unregistered.pop(), plan.now)
                check_references(connection, request, written)
                yield connection

        while True:
            done = record(begin, plan, written)
            if done is not None:
                return plan.state, done[1]
            # This happens once: from here on the transaction holds the run.
            state = load_state(connection, request.key)
            findings = rebase(plan.findings, state, request.still_holds)
            settled = {change.path for change in findings.changes}
            settled.update(file.path for file in findings.unchanged)
            if not settled.issuperset(request.scope or ()):
                raise CommitConflict  # others have recorded new content for an unchanged file
            plan = plan_commit(
                request,
                findings,
                state,
                look=within(connection),
                now=self._context.clock(),
                replaces=(*plan.replaces, *plan.records),
            )
            known = len(written.packs)
            with self._context.blobs.batch(TransactionCatalog(connection)) as batch:
                written = with_records(batch, written, plan)
            unregistered.extend(written.packs[known:])
