"""Registering files inside a transaction of the application's own.

The application's database holds our tables beside its own. What is registered becomes visible when
the application commits, and is gone when it rolls back; bytes that were stored for it then are an
orphan in storage, which harms nothing.
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
"""How often files are read again because something that the first look rested on was taken. On
SQLite the second time settles it: nobody else can write then."""


class FileRepository:
    """Files of one session, registered and listed in the transaction of a SQLAlchemy session.

    Commit and rollback are the caller's; errors of the database reach it as SQLAlchemy raises them,
    but for a lock that can't be waited for. A call that raises leaves the transaction as it was.
    What others commit is seen by the next transaction, or from when this one first changes the run.
    Until then nothing is read in it, so that it can still wait for SQLite's other writers.

    Used by one thread at a time, like the SQLAlchemy session that it was given.
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
            Of the database that is the store's index.
        session_id
            The tenant scope; nothing of another one is seen or touched.
        store
            Where the bytes go: ``ArtifactStore.open(index=the application's URL, blobs=…)``.
        work_dir
            What file paths are relative to, and what absolute ones must lie in.
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
        """Store a file's bytes and record what it holds now; return its version.

        Content that the path holds already makes no version, however often it is registered; what
        is known of who made it stays, and is filled in only by the node that made it. On return the
        bytes are durable; the record becomes so when the caller commits.

        Parameters
        ----------
        file_path
            In the work directory: relative to it, or absolute. Directories on the way to it may be
            symbolic links; a link itself is recorded as a link.
        file_type
            None to have it judged by the path.

        Raises
        ------
        WorkDirectoryError
            When there is no file, or it can't be read.
        UnsafePathError
            When it lies outside the work directory.
        IndexUnavailableError
            On SQLite: when others write and this transaction has read before, so that it can't
            wait for them; or when a rollback could not undo the record.
        UnsettledScanError
            When others took what this relied on, each of several times.
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
        """Do as `register_file` for many files at once: one pack, one snapshot, few statements.

        Returns their versions in the order given.
        """
        key = RunKey(self.session_id, check_id("run", run_id))
        if self._work_dir is None:
            raise ValueError("give the repository a work_dir: paths are recorded relative to it")
        context = self._context
        root, paths = locate(self._work_dir, file_paths, context.owns, context.database.file)
        if file_type is not None:
            check_label("file type", file_type, longest=MAX_TYPE_LENGTH)
        told = Provenance(
            workflow_phase, generating_agent, node_id, step_id, event_id, generating_code_hash
        ).over(current_provenance())
        said = Annotations(file_type, is_final_output, meta)
        if not paths:
            return []
        connection = self._connection()
        memory = memory_of(connection)
        cause: Exception | None = None
        for _ in range(_ATTEMPTS):
            try:
                return self._register(connection, memory, key, root, paths, told, said)
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
        """Return the files of a run that fit everything given, by first appearance, then path.

        What was registered in this transaction is among them. A run that this session doesn't have
        has no files.
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
        told: Provenance,
        said: Annotations,
    ) -> list[FileVersion]:
        look = look_of(connection, self._context)
        known = memory.runs.get(key) or self._load(look, memory, key)
        catalog = catalog_of(connection, self._context)
        prepared, written = self._read(look, catalog, known, root, paths, told, said)
        base, (based_on, state) = known.state, self._record(connection, prepared, written)
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
        told: Provenance,
        said: Annotations,
    ) -> tuple[CommitPlan, WrittenBatch]:
        """Store what the files hold, as far as it isn't; return what is to be recorded."""
        started_ns = time.time_ns()
        scan = Selection(root, known.state.directories, paths)
        with self._context.blobs.batch(catalog) as batch:
            found = observe(scan, batch, started_ns=started_ns)
            scan.require({observed.path for observed in found.files})
            findings = compare_scan(found.files, (), scan.unchanged, known.state)
            classifier = self._context.classifier
            if said.given and not findings.changes:
                recorded = known.versions(look, [file.path for file in findings.unchanged])
                if not any(said.over(version, classifier) for version in recorded):
                    said = Annotations()  # or each call would look its files up again
            request = CommitRequest(
                key=known.key,
                findings=findings,
                provenance=told,
                still_holds=lambda _change: True,  # an explicit registration is the last word
                scope=paths,
                bytes_read=found.bytes_read,
                annotations=said,
                classifier=classifier,
            )
            now = self._context.clock()
            prepared = plan_commit(request, findings, known.state, look=look, now=now)
            prepared = prepared.write_records(batch)
            return prepared, batch.finish()

    def _record(
        self, connection: Connection, prepared: CommitPlan, written: WrittenBatch
    ) -> tuple[RunState, RunState]:
        """Record all of it or, on raise, nothing; return the run's state before and then."""
        request = prepared.request
        unregistered = list(written.packs)

        @contextmanager
        def begin() -> Iterator[Connection]:
            begin_writing(connection)
            with connection.begin_nested():
                while unregistered:
                    blobs.insert_pending_pack(connection, unregistered.pop(), prepared.now)
                check_references(connection, request, written)
                yield connection

        while True:
            done = record(begin, prepared, written)
            if done is not None:
                return prepared.state, done[1]
            # From here on the run is ours until the transaction ends: this happens once.
            state = load_state(connection, request.key)
            findings = rebase(prepared.findings, state, request.still_holds)
            settled = {change.path for change in findings.changes}
            settled.update(file.path for file in findings.unchanged)
            if not settled.issuperset(request.scope or ()):
                raise CommitConflict  # of what was unchanged others have recorded something else
            prepared = plan_commit(
                request,
                findings,
                state,
                look=within(connection),
                now=self._context.clock(),
                replaces=(*prepared.replaces, *prepared.records),
            )
            known = len(written.packs)
            with self._context.blobs.batch(TransactionCatalog(connection)) as batch:
                written = with_records(batch, written, prepared)
            unregistered.extend(written.packs[known:])
