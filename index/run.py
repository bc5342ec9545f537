"""A run: tracking its work directory, and everything that can be asked about its files."""

from __future__ import annotations

import asyncio
import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from cas.errors import BlobNotFoundError
from index.errors import (
    DanglingFileError,
    RestoreFailedError,
    UnknownFileError,
    UnknownRunError,
    UnknownSnapshotError,
)
from index.history import assemble
from index.names import MAX_TYPE_LENGTH, check_label, check_path
from index.provenance import Provenance, current_provenance
from index.records import Snapshot
from index.repository import files, runs, stats
from index.restore import restore, select
from index.tracking import PutRequest, TrackRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import BinaryIO

    from sqlalchemy import ColumnElement
    from sqlalchemy.engine import Connection

    from cas.store import BlobStore
    from index.commit import RunKey
    from index.database import Database
    from index.records import FileVersion, Progress, RestoreResult, RunStats
    from index.repository.runs import FoundRun
    from index.source import Content
    from index.state import StateCache
    from index.tracking import TrackingService

__all__ = ["Run"]


@dataclass(frozen=True, slots=True)
class Run:
    """A handle: cheap to make, valid as long as its store is open. Safe for several threads.

    Reading a run that was never written to raises `UnknownRunError`. Where a snapshot is asked
    for, its number or the `Snapshot` itself will do; None is the present state.
    """

    key: RunKey
    _database: Database = field(repr=False)
    _blobs: BlobStore = field(repr=False)
    _tracking: TrackingService = field(repr=False)
    _states: StateCache = field(repr=False)

    @property
    def id(self) -> str:
        """The caller's id of the run."""
        return self.key.run

    def track(
        self,
        work_dir: str | os.PathLike[str],
        *,
        phase: str | None = None,
        agent: str | None = None,
        node_id: str | None = None,
        step_id: str | None = None,
        event_id: str | None = None,
        code_hash: str | None = None,
        scope: Sequence[str] | None = None,
        ignore: Sequence[str] = (),
        progress: Callable[[Progress], None] | None = None,
    ) -> Snapshot:
        """Record what a work directory holds now.

        On return all new bytes are durable and everything found is recorded, in one transaction;
        on raise nothing is. Provenance that isn't given comes from the enclosing `provenance`
        scope; it goes to content seen for the first time, and fills what is missing where the
        same node's content is unchanged. Several threads and processes may track one run at once.

        Parameters
        ----------
        scope
            Directories, relative to `work_dir`, to look at; only in them can a file be found
            removed. None for all.
        ignore
            Patterns in gitignore's syntax, besides hidden entries and ``__pycache__``.
        progress
            Called now and then with files and bytes so far.

        Raises
        ------
        WorkDirectoryError
            When the directory is missing or can't be listed.
        UnsafePathError, InvalidNameError
            When a scope leaves the directory or an id can't be one.
        BackendError, IndexUnavailableError
            When storage or the database fails.
        """
        told = Provenance(phase, agent, node_id, step_id, event_id, code_hash)
        if isinstance(scope, str) or isinstance(ignore, str):
            raise TypeError("scope and ignore take a sequence of strings, not one string")
        scope = None if scope is None else [os.fspath(entry) for entry in scope]
        request = TrackRequest(
            self.key,
            os.fspath(work_dir),
            told.over(current_provenance()),
            scope,
            tuple(ignore),
            progress,
        )
        cached = self._states.get(self.key.session, self.key.run)
        snapshot, state = self._tracking.track(request, cached)
        self._states.keep(self.key.session, self.key.run, state)
        return snapshot

    async def track_async(
        self,
        work_dir: str | os.PathLike[str],
        *,
        phase: str | None = None,
        agent: str | None = None,
        node_id: str | None = None,
        step_id: str | None = None,
        event_id: str | None = None,
        code_hash: str | None = None,
        scope: Sequence[str] | None = None,
        ignore: Sequence[str] = (),
        progress: Callable[[Progress], None] | None = None,
    ) -> Snapshot:
        """Do as `track` does on a worker thread, inside the caller's `provenance` scope.

        Cancelling the await does not stop the scan: it ends, and records, in its thread.
        """
        call = partial(
            self.track,
            work_dir,
            phase=phase,
            agent=agent,
            node_id=node_id,
            step_id=step_id,
            event_id=event_id,
            code_hash=code_hash,
            scope=scope,
            ignore=ignore,
            progress=progress,
        )
        return await asyncio.to_thread(call)

    def put(
        self,
        path: str | os.PathLike[str],
        content: Content,
        *,
        phase: str | None = None,
        agent: str | None = None,
        node_id: str | None = None,
        step_id: str | None = None,
        event_id: str | None = None,
        code_hash: str | None = None,
        file_type: str | None = None,
        is_final_output: bool | None = None,
        meta: object = None,
    ) -> FileVersion:
        """Record one file under `path`, wherever its content comes from; return its version.

        A scan doesn't remove it for not lying on disk, unless one has seen it there. It ends what
        its place excludes (`a` against `a/b`). Content that the path holds already makes no
        version: its `file_type`, `is_final_output` and `meta` are set.

        Parameters
        ----------
        content
            Bytes, the path of a file, or a binary file object.
        meta
            Anything that JSON can hold.

        UnsafePathError if `path` is absolute or leaves the run.
        """
        told = Provenance(phase, agent, node_id, step_id, event_id, code_hash)
        clean = check_path(path)
        if file_type is not None:
            check_label("file type", file_type, longest=MAX_TYPE_LENGTH)
        version, state = self._tracking.put(
            PutRequest(
                self.key,
                clean,
                content,
                told.over(current_provenance()),
                file_type,
                is_final_output,
                meta,
            ),
            self._states.get(self.key.session, self.key.run),
        )
        self._states.keep(self.key.session, self.key.run, state)
        return version

    def files(
        self,
        *,
        phase: str | None = None,
        agent: str | None = None,
        node_id: str | None = None,
        step_id: str | None = None,
        event_id: str | None = None,
        code_hash: str | None = None,
        file_type: str | None = None,
        priority: str | None = None,
        is_final_output: bool | None = None,
        prefix: str | None = None,
        at: int | Snapshot | None = None,
    ) -> tuple[FileVersion, ...]:
        """Return the files of the run that fit everything given, by first appearance, then path.

        Parameters
        ----------
        prefix
            What the path begins with, as plain text.
        at
            A snapshot: the files as they were then.
        """
        conditions = files.conditions_for(
            provenance=Provenance(phase, agent, node_id, step_id, event_id, code_hash),
            file_type=file_type,
            priority=priority,
            is_final_output=is_final_output,
            prefix=prefix,
        )
        with self._reading() as (connection, found):
            return self._visible(connection, found, at, *conditions)

    def file(
        self,
        path: str | os.PathLike[str],
        *,
        version: int | None = None,
        at: int | Snapshot | None = None,
    ) -> FileVersion:
        """Return what `path` holds now, or held as a version or at a snapshot.

        Raises
        ------
        UnknownFileError
            When it holds nothing then.
        """
        clean = check_path(path)
        if version is not None and at is not None:
            raise ValueError("give a version or a snapshot, not both")
        matches = files.has_path(clean)
        with self._reading() as (connection, found):
            if version is None:
                versions = self._visible(connection, found, at, matches)
            else:
                versions = self._versions(connection, found, matches, files.has_version(version))
        if not versions:
            raise UnknownFileError(self.id, clean, version)
        return versions[0]

    def history(self, path: str | os.PathLike[str]) -> tuple[FileVersion, ...]:
        """Return every version that `path` ever had, oldest first, removed ones included.

        UnknownFileError if it never had one.
        """
        clean = check_path(path)
        with self._reading() as (connection, found):
            versions = self._versions(connection, found, files.has_path(clean))
        if not versions:
            raise UnknownFileError(self.id, clean)
        return versions

    def snapshots(self) -> tuple[Snapshot, ...]:
        """Return the recorded scans of the run with what each changed, oldest first."""
        with self._reading() as (connection, found):
            heads = runs.list_snapshots(connection, found.id)
            versions = self._versions(connection, found)
        return assemble(heads, versions)

    def open(
        self,
        path: str | os.PathLike[str],
        *,
        version: int | None = None,
        at: int | Snapshot | None = None,
    ) -> BinaryIO:
        """Open a file's bytes for reading, seekable, in bounded memory; the caller closes it.

        Every byte is verified against its digest before it is returned; damage raises
        `cas.errors.DigestMismatchError`, here or on a read.
        """
        found = self.file(path, version=version, at=at)
        with _naming(found):
            return self._blobs.open(found.digest)

    def read_bytes(
        self,
        path: str | os.PathLike[str],
        *,
        version: int | None = None,
        at: int | Snapshot | None = None,
    ) -> bytes:
        """Return a file's bytes whole, verified; `open` is for large ones."""
        found = self.file(path, version=version, at=at)
        with _naming(found):
            return self._blobs.read(found.digest)

    def restore(
        self,
        destination: str | os.PathLike[str],
        *,
        paths: Iterable[str | os.PathLike[str]] | None = None,
        at: int | Snapshot | None = None,
        overwrite: bool = False,
        progress: Callable[[Progress], None] | None = None,
    ) -> RestoreResult:
        """Write the run's files below `destination`, with their modes and times.

        Every byte is verified, each file appears whole or not at all, and nothing is written
        anywhere else. Set-user-id and the like are not restored. Nothing is synced: a loss of
        power soon after may lose files that a second restore brings back.

        Parameters
        ----------
        paths
            Files and directories to restore; None for all.
        overwrite
            Whether different content in the destination may be replaced.

        Raises
        ------
        UnknownFileError
            When the run has nothing at one of `paths`.
        RestoreConflictError
            When different content is in the way; nothing was written, unless it came meanwhile.
        RestoreFailedError, UnsafePathError
            When the destination can't be written, or a link in it leads elsewhere.
        DanglingFileError, DigestMismatchError
            When bytes are missing or damaged in storage.
        """
        if isinstance(paths, str):
            raise TypeError("paths takes a sequence of paths, not one string")
        if self._tracking.owns(os.fspath(destination)):
            raise RestoreFailedError(os.fspath(destination), "it is the store itself")
        with self._reading() as (connection, found):
            versions = self._visible(connection, found, at)
        if paths is not None:
            wanted = [check_path(path) for path in paths]
            versions, missing = select(versions, wanted)
            if missing is not None:
                raise UnknownFileError(self.id, missing)
        return restore(
            versions, self._blobs, os.fspath(destination), overwrite=overwrite, progress=progress
        )

    def stats(self) -> RunStats:
        """Return the run in numbers."""
        with self._reading() as (connection, found):
            return stats.run_stats(connection, found.id, self.key.session, self.id)

    @contextmanager
    def _reading(self) -> Iterator[tuple[Connection, FoundRun]]:
        with self._database.reading() as connection:
            found = runs.find_run(connection, self.key.session, self.key.run)
            if found is None:
                raise UnknownRunError(self.key.session, self.key.run)
            yield connection, found

    def _visible(
        self,
        connection: Connection,
        found: FoundRun,
        at: int | Snapshot | None,
        *conditions: ColumnElement[bool],
    ) -> tuple[FileVersion, ...]:
        number = at.number if isinstance(at, Snapshot) else at
        if number is not None and not 0 <= number <= found.newest_snapshot:
            raise UnknownSnapshotError(self.id, number, found.newest_snapshot)
        return self._versions(connection, found, files.visible_at(number), *conditions)

    def _versions(
        self, connection: Connection, found: FoundRun, *conditions: ColumnElement[bool]
    ) -> tuple[FileVersion, ...]:
        return tuple(
            files.list_versions(connection, found.id, self.key.session, self.id, *conditions)
        )


@contextmanager
def _naming(version: FileVersion) -> Iterator[None]:
    """Say which file a missing blob belongs to."""
    try:
        yield
    except BlobNotFoundError as error:
        raise DanglingFileError(version.path, version.digest) from error
