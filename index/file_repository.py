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
from weakref import WeakKeyDictionary

from sqlalchemy.exc import IntegrityError

from index import schema
from index.annotations import Annotations
from index.catalog import TransactionCatalog
from index.delta import compare, rebase, with_displaced
from index.errors import StoreMismatchError, UnsafePathError, UnsettledScanError, WorkDirectoryError
from index.ingest import observe
from index.names import MAX_TYPE_LENGTH, check_id, check_label, check_path
from index.provenance import Provenance, current_provenance
from index.recording import CommitRequest, RunKey, SupersededError, load_state, record
from index.repository import blobs, files, runs
from index.scanner import Scan
from index.worktree import Coverage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy.engine import Connection, NestedTransaction, RootTransaction
    from sqlalchemy.orm import Session as DatabaseSession

    from cas.pack import SealedPack
    from index.ingest import Observations
    from index.artifacts import ArtifactStore
    from index.records import FileVersion
    from index.state import RunState

__all__ = ["FileRepository"]

_LOOKED_UP_ALONE: Final = 4
"""Unchanged files that are looked up one by one before the run's whole listing is read at once."""

_ATTEMPTS: Final = 5
"""How often a registration is done again because something it rested on was taken meanwhile. The
first attempt that writes keeps others from writing, on SQLite, so that the second one settles it.
"""

_BEGIN_WRITING: Final = "UPDATE cas_store SET id = id WHERE id = 0"
"""Changes nothing. SQLite's driver begins a transaction with the first statement that could change
a row; a savepoint that came before it would be the transaction, and its release the commit."""


class FileRepository:
    """Files of one session, registered and listed in the transaction of a SQLAlchemy session.

    Commit and rollback are the caller's; errors of the database reach it as SQLAlchemy raises them.
    A call that raises has recorded nothing: the transaction is as it was before. What others commit
    is seen by the next transaction, or when this one first changes the run.

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
            What file paths are relative to, and what all of them must lie in.
        """
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
            Below the work directory: relative to it, or absolute. Directories on the way may be
            symbolic links, as long as they lead into it; a link itself is recorded as a link.
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
        root, paths = self._located(file_paths)
        if file_type is not None:
            check_label("file type", file_type, longest=MAX_TYPE_LENGTH)
        told = Provenance(
            workflow_phase, generating_agent, node_id, step_id, event_id, generating_code_hash
        ).over(current_provenance())
        said = Annotations(file_type, is_final_output, meta)
        connection = self._connection()
        for _ in range(_ATTEMPTS if paths else 0):
            known = _known_now(connection, key) or self._load(connection, key)
            files_read = self._read(connection, known.state, root, paths)
            try:
                known = self._record(connection, key, known, files_read, told, said)
            except SupersededError:
                _forget(connection, key)
                continue
            _remember(connection, key, known)
            return self._versions(connection, key, known, paths)
        if paths:
            raise UnsettledScanError(run_id)
        return []

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
        connection = self._connection()
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

    def _connection(self) -> Connection:
        connection = self._db_session.connection()
        if not self._is_checked:
            url = connection.engine.url.render_as_string(hide_password=True)
            schema.check_connection(connection, url)
            if runs.get_store_id(connection) != self._services.blobs.settings.store_id:
                raise StoreMismatchError(url, self._services.blobs.url)
            self._is_checked = True
        return connection

    def _load(self, connection: Connection, key: RunKey) -> _Known:
        cached = self._services.states.get(key.session, key.run)
        return _Known(load_state(connection, key, cached))

    def _relative(self, file_path: str | os.PathLike[str]) -> str:
        text = os.fspath(file_path)
        if self._work_dir is None:
            raise ValueError("give the repository a work_dir: paths are recorded relative to it")
        if not os.path.isabs(text):
            return check_path(text)
        root = f"{self._work_dir}/"
        if not text.startswith(root):  # perhaps another way to the same directory
            folder, name = os.path.split(text)
            text = os.path.join(os.path.realpath(folder), name)
        if not text.startswith(root):
            raise UnsafePathError(text, f"it is outside the work directory {self._work_dir!r}")
        return check_path(text[len(root) :])

    def _read(
        self,
        connection: Connection,
        key: RunKey,
        state: RunState,
        paths: Sequence[str],
        told: Provenance,
        said: Annotations,
    ) -> tuple[CommitRequest, Sequence[SealedPack]]:
        """Store what the files hold, as far as it isn't; return what is to be recorded."""
        assert self._work_dir is not None, "_relative has seen to it"  # noqa: S101
        started_ns = time.time_ns()
        coverage = Coverage.of(self._work_dir, scope=paths, ignore=(), own=())
        scan = Scan(self._work_dir, state.directories, coverage)
        catalog = TransactionCatalog(connection)
        with self._services.blobs.batch(catalog) as batch:
            found = observe(
                scan, batch, chunk_size=self._services.blobs.chunk_size, started_ns=started_ns
            )
            written = batch.finish()
        seen = {observed.path for observed in found.files} | {k.path for k in scan.unchanged}
        reasons = dict(scan.skipped)
        for path in paths:
            if path not in seen:
                full = os.path.join(self._work_dir, path)
                reason = "it is a directory; track it, or register its files"
                if not os.path.isdir(full):
                    reason = reasons.get(path, "there is no such file")
                raise WorkDirectoryError(full, reason)
        request = CommitRequest(
            key=key,
            findings=compare(found.files, (), scan.unchanged, state),
            written=written,
            provenance=told,
            still_holds=lambda _change: True,  # an explicit registration is the last word
            scope=list(paths),
            bytes_read=found.bytes_read,
            annotations=said,
            classifier=self._services.classifier,
        )
        return request, catalog.packs

    def _record(self, connection: Connection, request: CommitRequest, state: RunState) -> RunState:
        findings = request.findings
        while True:
            try:
                done = record(
                    lambda: nullcontext(connection),
                    lambda: nullcontext(connection),
                    request,
                    with_displaced(findings, state),
                    state,
                    self._services.clock,
                )
            except (IntegrityError, SupersededError) as error:
                raise UnsettledScanError(request.key.run) from error
            if done is not None:
                self._check_references(connection, request)
                return done[1]
            # From here on the run is ours until the transaction ends: this happens once.
            state = load_state(connection, request.key)
            findings = rebase(findings, state, request.still_holds)

    def _check_references(self, connection: Connection, request: CommitRequest) -> None:
        """Make sure that the blobs are there: the caller's foreign keys may be off."""
        wanted = {c.observed.digest for c in request.findings.changes if c.observed}
        if wanted and blobs.find_known(connection, wanted) != wanted:
            raise UnsettledScanError(request.key.run)

    def _versions(
        self, connection: Connection, key: RunKey, known: _Known, paths: Sequence[str]
    ) -> list[FileVersion]:
        current = [known.state.find(path) for path in paths]
        ids = [file.id for file in current if file is not None]
        unread = [file_id for file_id in ids if file_id not in known.versions]
        if unread and known.looked_up < _LOOKED_UP_ALONE:
            known.looked_up += 1
            found = files.list_by_id(connection, key.session, key.run, unread)
            known.versions.update((version.id, version) for version in found)
        elif unread and known.state.run_id is not None:
            listed = files.list_versions(
                connection, known.state.run_id, key.session, key.run, files.visible_at(None)
            )
            known.versions = {version.id: version for version in listed}
        return [known.versions[file_id] for file_id in ids]

    def forget(self) -> None:
        """Drop what is remembered of runs; the next call reads it again."""
        self._known.clear()


class _Known:
    """What one transaction knows of a run."""

    __slots__ = ("looked_up", "state", "versions")

    def __init__(self, state: RunState) -> None:
        self.state = state
        self.versions: dict[int, FileVersion] = {}
        self.looked_up = 0


def _forget_when_a_transaction_ends(
    db_session: DatabaseSession, repository: FileRepository
) -> None:
    """Have a repository forget: after a commit or a rollback, others may have written.

    Savepoints as well: what was recorded since one is gone when it is rolled back.
    """
    reference = weakref.ref(repository)

    def forget(_session: DatabaseSession, _transaction: SessionTransaction) -> None:
        if (alive := reference()) is not None:
            alive.forget()

    event.listen(db_session, "after_transaction_end", forget)
