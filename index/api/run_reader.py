"""Reading of a run: files, history, snapshots, bytes, diffs and statistics."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from index.db.queries import files, runs
from index.db.queries.restorable import list_restorable
from index.decorators import relaxed_gc
from index.domain.manifest import group_for_display, manifest_of
from index.domain.names import MAX_ROW_ID, check_path, check_prefix
from index.domain.provenance import Provenance
from index.domain.snapshots import Snapshot, assemble, snapshot_number
from index.errors import (
    RestoreFailedError,
    UnknownFileError,
    UnknownRunError,
    UnknownSnapshotError,
)
from index.reading.streams import open_version, read_version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import BinaryIO

    from sqlalchemy.engine import Connection

    from index.context import StoreContext
    from index.db.queries.files import Condition
    from index.db.queries.runs import FoundRun
    from index.domain.diff import Diff
    from index.domain.names import RunKey
    from index.domain.reports import RunStats
    from index.domain.snapshots import FileVersion, Progress
    from index.reading.restore import RestoreResult

__all__ = ["RunReader"]


@dataclass(frozen=True, slots=True)
class RunReader:
    """The reading half of `Run`. Safe for use by several threads.

    Reading a run that was never written to raises `UnknownRunError`. Where a method takes a
    snapshot, pass its number or the `Snapshot` itself. None means the present state.
    """

    key: RunKey
    _context: StoreContext = field(repr=False, compare=False)

    @property
    def id(self) -> str:
        """The caller's id of the run."""
        return self.key.run

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
        prefix: str | os.PathLike[str] | None = None,
        at: int | Snapshot | None = None,
    ) -> tuple[FileVersion, ...]:
        """Return the files of the run that match all arguments, by first appearance, then path.

        Parameters
        ----------
        prefix
            Plain text that the path begins with.
        at
            A snapshot: the files as they were then.
        """
        conditions = files.conditions_for(
            provenance=Provenance(phase, agent, node_id, step_id, event_id, code_hash),
            file_type=file_type,
            priority=priority,
            is_final_output=is_final_output,
            prefix=None if prefix is None else check_prefix(prefix),
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
        """Return the file at `path`: the present version, another version, or that of a snapshot.

        Raises
        ------
        UnknownFileError
            When there is no such file or version.
        """
        clean = check_path(path)
        if version is not None and at is not None:
            raise ValueError("give a version or a snapshot, not both")
        if version is not None and not 0 < version <= MAX_ROW_ID:
            raise UnknownFileError(self.id, clean, version)
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
        """Return every version that `path` ever had, including removed ones, oldest first.

        Raises UnknownFileError if there never was one.
        """
        clean = check_path(path)
        with self._reading() as (connection, found):
            versions = self._versions(connection, found, files.has_path(clean))
        if not versions:
            raise UnknownFileError(self.id, clean)
        return versions

    def snapshots(self) -> tuple[Snapshot, ...]:
        """Return the snapshots of the run with the changes of each, oldest first."""
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
        """Open a file's bytes as a seekable stream. The caller closes it.

        The stream uses bounded memory. It verifies every byte against the digest before it returns
        it. Damage raises `DamagedFileError`, here or on a read.
        """
        return open_version(self._context.blobs, self.file(path, version=version, at=at))

    def read_bytes(
        self,
        path: str | os.PathLike[str],
        *,
        version: int | None = None,
        at: int | Snapshot | None = None,
    ) -> bytes:
        """Return all bytes of a file, verified. Use `open` for large files."""
        return read_version(self._context.blobs, self.file(path, version=version, at=at))

    @relaxed_gc()
    def restore(
        self,
        destination: str | os.PathLike[str],
        *,
        paths: Iterable[str | os.PathLike[str]] | None = None,
        at: int | Snapshot | None = None,
        overwrite: bool = False,
        progress: Callable[[Progress], None] | None = None,
    ) -> RestoreResult:
        """Write the run's files to `destination`, with their modes and times.

        Every byte is verified, and each file appears complete or not at all. Nothing is written
        outside `destination`. Special mode bits such as set-user-id are not restored. Files are not
        synced: a power loss soon after may lose some, and a second restore writes them again. In an
        empty destination, up to 1 GiB is first written to a hidden directory in it and appears at
        the end. If a restore is killed, the next one removes that directory.

        Parameters
        ----------
        paths
            Files and directories to restore; None for all.
        overwrite
            Whether to replace different content in the destination.

        Raises
        ------
        UnknownFileError
            When the run has no file at one of `paths`.
        RestoreConflictError
            When different content is in the way. Nothing was written, unless that content appeared
            during the restore.
        RestoreFailedError, UnsafePathError
            When the destination can't be written, or a link in it leads outside.
        DanglingFileError, DamagedFileError
            When bytes are missing or damaged in storage.
        """
        from index.reading.restore import restore, select

        if isinstance(paths, str):
            raise TypeError("paths takes a sequence of paths, not one string")
        if self._context.owns(os.fspath(destination)):
            raise RestoreFailedError(os.fspath(destination), "it is the store itself")
        with self._reading() as (connection, found):
            number = self._check_snapshot(found, at)
            versions, places = list_restorable(connection, found.id, files.visible_at(number))
        if paths is not None:
            wanted = [check_path(path) for path in paths]
            versions, missing = select(versions, wanted)
            if missing is not None:
                raise UnknownFileError(self.id, missing)
        return restore(
            versions,
            places,
            self._context.blobs,
            os.fspath(destination),
            overwrite=overwrite,
            progress=progress,
        )

    def diff(
        self,
        first: int | Snapshot | RunReader,
        second: int | Snapshot | None = None,
        *,
        at: int | Snapshot | None = None,
    ) -> Diff:
        """Compare two snapshots of this run, or this run with another run of the session.

        ``run.diff(1, 2)`` returns the changes from snapshot 1 to 2, and ``run.diff(1)`` those from
        1 until now. ``run.diff(other)`` returns the changes from this run to `other`.

        Parameters
        ----------
        first, second
            Two snapshots; without the second, the present state. Or the other run and one of its
            snapshots.
        at
            With another run: the snapshot of this run.

        Raises
        ------
        UnknownRunError
            When the other run does not exist or belongs to another session.
        """
        if isinstance(first, RunReader):
            other, before, after = first, at, second
        elif at is not None:
            raise ValueError("at goes with another run; give two snapshots of one run as they are")
        else:
            other, before, after = self, first, second
        # A run of another session or store behaves as if it did not exist.
        if other.key.session != self.key.session or other._context is not self._context:
            raise UnknownRunError(self.key.session, other.id)
        from index.domain.diff import diff_versions

        with self._context.database.reading() as connection:
            return diff_versions(
                self._visible(connection, self._find(connection), before),
                other._visible(connection, other._find(connection), after),
            )

    def final_outputs(self) -> dict[str, tuple[FileVersion, ...]]:
        """Return the final outputs grouped by file type, in display order."""
        return group_for_display(self.files(is_final_output=True))

    def manifest(self, *, at: int | Snapshot | None = None) -> dict[str, Any]:
        """Return the run's files with all their metadata, as JSON types."""
        return manifest_of(self.key, self.files(at=at), self.snapshots(), at)

    def stats(self) -> RunStats:
        """Return counts and sizes of the run."""
        from index.db.queries import stats

        with self._reading() as (connection, found):
            return stats.run_stats(connection, found.id, self.key.session, self.id)

    @contextmanager
    def _reading(self) -> Iterator[tuple[Connection, FoundRun]]:
        with self._context.database.reading() as connection:
            yield connection, self._find(connection)

    def _find(self, connection: Connection) -> FoundRun:
        found = runs.find_run(connection, self.key.session, self.key.run)
        if found is None:
            raise UnknownRunError(self.key.session, self.key.run)
        return found

    def _visible(
        self,
        connection: Connection,
        found: FoundRun,
        at: int | Snapshot | None,
        *conditions: Condition,
    ) -> tuple[FileVersion, ...]:
        number = self._check_snapshot(found, at)
        return self._versions(connection, found, files.visible_at(number), *conditions)

    def _check_snapshot(self, found: FoundRun, at: int | Snapshot | None) -> int | None:
        number = snapshot_number(at)
        if number is not None and not 0 <= number <= found.newest_snapshot:
            raise UnknownSnapshotError(self.id, number, found.newest_snapshot)
        return number

    def _versions(
        self, connection: Connection, found: FoundRun, *conditions: Condition
    ) -> tuple[FileVersion, ...]:
        return tuple(
            files.list_versions(connection, found.id, self.key.session, self.id, *conditions)
        )
