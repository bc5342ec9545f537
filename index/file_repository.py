"""Registering files inside a transaction of the application's own.

The application's database holds our tables beside its own. What is registered becomes visible when
the application commits, and is gone when it rolls back; bytes that were stored for it then are an
orphan in storage, which harms nothing.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Final

from sqlalchemy.exc import IntegrityError, OperationalError

from index import schema
from index.annotations import Annotations
from index.catalog import TransactionCatalog
from index.delta import compare, rebase, with_displaced
from index.errors import (
    StoreMismatchError,
    UnsafePathError,
    UnsettledScanError,
)
from index.ingest import observe
from index.names import MAX_TYPE_LENGTH, as_paths, check_id, check_label, check_path
from index.provenance import Provenance, current_provenance
from index.recording import CommitRequest, RunKey, SupersededError, load_state, record
from index.repository import blobs, files, runs
from index.selection import Selection
from index.transaction_memory import KnownRun, memory_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy.engine import Connection
    from sqlalchemy.orm import Session as DatabaseSession

    from cas.pack import SealedPack
    from index.artifacts import ArtifactStore
    from index.records import FileVersion
    from index.state import RunState
    from index.transaction_memory import TransactionMemory

__all__ = ["FileRepository"]

_ATTEMPTS: Final = 5
"""How often files are read again because something that the first look rested on was taken. On
SQLite the second time settles it: nobody else can write then."""


class FileRepository:
    """Files of one session, registered and listed in the transaction of a SQLAlchemy session.

    Commit and rollback are the caller's; errors of the database reach it as SQLAlchemy raises them.
    A call that raises leaves the transaction as it was. What others commit is seen by the next
    transaction, or from when this one first changes the run.

    Used by one thread at a time, like the SQLAlchemy session that it was given.
    """

    def __init__(
        self,
        db_session: DatabaseSession,
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
        if not hasattr(db_session, "connection"):
            raise TypeError(f"a SQLAlchemy session is needed, not {type(db_session).__name__}")
        self.session_id: Final = check_id("session", session_id)
        self._db_session = db_session
        self._services = store.services
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
        root, paths = self._located(as_paths("file_paths", file_paths))
        if file_type is not None:
            check_label("file type", file_type, longest=MAX_TYPE_LENGTH)
        told = Provenance(
            workflow_phase, generating_agent, node_id, step_id, event_id, generating_code_hash
        ).over(current_provenance())
        said = Annotations(file_type, is_final_output, meta)
        if not paths:
            return []
        connection = self._db_session.connection()
        cause: Exception | None = None
        for _ in range(_ATTEMPTS):
            try:
                return self._register(connection, key, root, paths, told, said)
            except (IntegrityError, SupersededError) as error:
                memory_of(connection).runs.pop(key, None)
                cause = error
        raise UnsettledScanError(run_id) from cause

    def _register(
        self,
        connection: Connection,
        key: RunKey,
        root: str,
        paths: Sequence[str],
        told: Provenance,
        said: Annotations,
    ) -> list[FileVersion]:
        memory = memory_of(connection)
        known = memory.runs.get(key)
        if known is None:
            if connection.dialect.name == "sqlite" and self._will_change(key, root, paths):
                # Whoever reads first and asks to write later can't wait for a writer in between.
                try:
                    memory.begin_writing(connection)
                except OperationalError:
                    self._check(connection)  # that may be why
                    raise
            self._check(connection)
            known = memory.runs[key] = self._load(connection, memory, key)
        request, packs = self._read(connection, known, root, paths, told, said)
        state, is_ours = self._record(connection, memory, request, packs, known.state)
        if state is not known.state:
            known = memory.runs[key] = known.after(state, paths if is_ours else None)
        return known.versions(connection, paths)

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
        connection = self._db_session.connection()
        self._check(connection)
        found = runs.find_run(connection, self.session_id, run_id)
        if found is None:
            return []
        conditions = files.conditions_for(
            provenance=Provenance(phase, generating_agent, node_id, step_id, event_id),
            file_type=file_type,
            is_final_output=is_final_output,
        )
        return files.list_versions(
            connection, found.id, self.session_id, run_id, files.visible_at(None), *conditions
        )

    def _will_change(self, key: RunKey, root: str, paths: Sequence[str]) -> bool:
        """Whether it seems that something must be recorded, without a look at the transaction."""
        states = self._services.states
        with self._services.database.reading() as connection:
            state = load_state(connection, key, states.get(key.session, key.run))
        states.keep(key.session, key.run, state)
        return not Selection(root, state.directories, paths).seems_unchanged()

    def _check(self, connection: Connection) -> None:
        if not self._is_checked:
            url = connection.engine.url.render_as_string(hide_password=True)
            schema.check_connection(connection, url)
            if runs.get_store_id(connection) != self._services.blobs.settings.store_id:
                raise StoreMismatchError(url, self._services.blobs.url)
            self._is_checked = True

    def _load(self, connection: Connection, memory: TransactionMemory, key: RunKey) -> KnownRun:
        states = self._services.states
        state = load_state(connection, key, states.get(key.session, key.run))
        if not memory.has_recorded:  # or it may never be committed
            states.keep(key.session, key.run, state)
        return KnownRun(key, state)

    def _located(self, file_paths: Sequence[str | os.PathLike[str]]) -> tuple[str, list[str]]:
        """Return where the work directory is, and the files' paths in it."""
        if self._work_dir is None:
            raise ValueError("give the repository a work_dir: paths are recorded relative to it")
        root = os.path.realpath(self._work_dir)
        inside = os.path.join(root, "")
        folders: dict[str, str] = {}
        paths = []
        for file_path in file_paths:
            text = os.fspath(file_path)
            if not isinstance(text, str):
                raise TypeError(f"a path is text, not {text!r}")
            try:
                clean = check_path(text.lstrip("/"))
            except UnsafePathError as error:
                raise UnsafePathError(text, error.reason) from None
            folder, name = os.path.split(f"/{clean}" if os.path.isabs(text) else inside + clean)
            if folder not in folders:
                folders[folder] = os.path.join(os.path.realpath(folder), "")
            full = folders[folder] + name
            if not full.startswith(inside):
                raise UnsafePathError(text, f"it is outside the work directory {root!r}")
            if self._services.tracking.owns(full):
                raise UnsafePathError(text, "it belongs to the store itself")
            paths.append(full[len(inside) :])
        return root, paths

    def _read(
        self,
        connection: Connection,
        known: KnownRun,
        root: str,
        paths: Sequence[str],
        told: Provenance,
        said: Annotations,
    ) -> tuple[CommitRequest, Sequence[SealedPack]]:
        """Store what the files hold, as far as it isn't; return what is to be recorded."""
        started_ns = time.time_ns()
        scan = Selection(root, known.state.directories, paths)
        catalog = TransactionCatalog(connection)
        with self._services.blobs.batch(catalog) as batch:
            found = observe(
                scan, batch, chunk_size=self._services.blobs.chunk_size, started_ns=started_ns
            )
            scan.insist({observed.path for observed in found.files})
            written = batch.finish()
        findings = compare(found.files, (), scan.unchanged, known.state)
        classifier = self._services.classifier
        if said.given and not findings.changes:
            recorded = known.versions(connection, [file.path for file in findings.unchanged])
            if not any(said.over(version, classifier) for version in recorded):
                said = Annotations()  # or each call would look its files up again
        request = CommitRequest(
            key=known.key,
            findings=findings,
            written=written,
            provenance=told,
            still_holds=lambda _change: True,  # an explicit registration is the last word
            scope=paths,
            bytes_read=found.bytes_read,
            annotations=said,
            classifier=classifier,
        )
        return request, catalog.packs

    def _record(
        self,
        connection: Connection,
        memory: TransactionMemory,
        request: CommitRequest,
        packs: Sequence[SealedPack],
        state: RunState,
    ) -> tuple[RunState, bool]:
        """Record all of it or, on raise, nothing.

        Returns the run's state then, and whether it differs from the one before by this alone.
        """
        is_ours = True
        findings = request.findings
        clock = self._services.clock
        unregistered = list(packs)

        @contextmanager
        def begin() -> Iterator[Connection]:
            memory.begin_writing(connection)
            with connection.begin_nested():
                memory.has_recorded = True
                while unregistered:
                    blobs.insert_pending_pack(connection, unregistered.pop(), clock())
                _check_references(connection, request)
                yield connection

        while True:
            done = record(
                begin,
                lambda: nullcontext(connection),
                request,
                with_displaced(findings, state),
                state,
                clock,
            )
            if done is not None:
                return done[1], is_ours
            is_ours = False
            # From here on the run is ours until the transaction ends: this happens once.
            state = load_state(connection, request.key)
            findings = rebase(findings, state, request.still_holds)
            settled = {change.path for change in findings.changes}
            settled.update(file.path for file in findings.unchanged)
            if not settled.issuperset(request.scope or ()):
                raise SupersededError  # of what was unchanged others have recorded something else


def _check_references(connection: Connection, request: CommitRequest) -> None:
    """Make sure that blobs that need no writing are there: the caller's foreign keys may be off."""
    written = request.written
    wanted = {c.observed.digest for c in request.findings.changes if c.observed}
    for large in written.chunked:
        wanted.update(large.chunks)
    wanted.difference_update(written.blobs, (large.digest for large in written.chunked))
    if wanted and blobs.find_known(connection, wanted) != wanted:
        raise SupersededError
