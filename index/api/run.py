"""A run: files by name, forks, rewinds and deletion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from index.api.run_scans import RunScans
from index.decorators import awaitable
from index.domain.annotations import Annotations
from index.domain.names import RunKey, as_paths, check_id, check_path
from index.domain.provenance import Provenance, current_provenance
from index.domain.snapshots import snapshot_number

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence

    from index.commit.named import NamedFiles
    from index.domain.names import Label
    from index.domain.reports import DeletionReceipt
    from index.domain.snapshots import FileVersion, Snapshot
    from index.scan.content import Content, NewFile

__all__ = ["Run"]


@dataclass(frozen=True, slots=True, repr=False)
class Run(RunScans):
    """A handle for one run. It is cheap to create, and valid as long as its store is open.

    Safe for use by several threads. `RunReader` has the methods that read, and `RunScans` has those
    that scan a work directory. The first write creates the run; reading a run before that raises
    `UnknownRunError`. A run copies and pickles as its store does: see `ArtifactStore`.
    """

    @property
    def _named(self) -> NamedFiles:
        from index.commit.named import NamedFiles  # and much that no reader needs

        return NamedFiles(self._context, self.key)

    def put(
        self,
        path: str | os.PathLike[str],
        content: Content,
        *,
        phase: Label | None = None,
        agent: Label | None = None,
        node_id: Label | None = None,
        step_id: Label | None = None,
        event_id: Label | None = None,
        code_hash: Label | None = None,
        file_type: str | None = None,
        is_final_output: bool | None = None,
        meta: object = None,
        expected_version: int | None = None,
    ) -> FileVersion:
        """Record one file under `path`, from any source of content; return its version.

        A later scan does not remove the file because it is not on disk, unless a scan has seen it
        there. The file ends versions whose paths conflict with it (`a` with `a/b`).

        If the path has the same content already, there is no new version. The call then claims the
        present one: it fills in provenance that is missing, no matter who recorded the version. If
        another agent is recorded as its maker, nothing is filled in, and `FileVersion.refused` of
        the result has what was not taken. The mode and time of a path are taken in any case.

        A path whose file changes while it is read is read again. If it does not settle, what was
        read last is recorded, and `FileVersion.torn` of the result is true.

        Parameters
        ----------
        content
            Bytes, the path of a file, or a binary file object.
        file_type, is_final_output, meta
            What you say of the path. None keeps what was said before; see `annotate`.
        expected_version
            Number of the version that the content replaces, 0 if the path has no file. None
            replaces whatever is there.

        Raises
        ------
        UnsafePathError
            When `path` is absolute or leaves the run, or nothing can have the path of the content.
        VersionConflictError
            When another version is current than the expected one. Nothing is recorded.
        WorkDirectoryError
            When the content is the path of a file that can't be read.
        """
        from index.scan.content import NewFile

        file = NewFile(
            path,
            content,
            file_type=file_type,
            is_final_output=is_final_output,
            meta=meta,
            expected_version=expected_version,
        )
        provenance = Provenance(phase, agent, node_id, step_id, event_id, code_hash)
        (version,) = self._put([file], provenance)
        return version

    put_async = awaitable(put)

    files_async = awaitable(RunScans.files)

    open_async = awaitable(RunScans.open)

    read_bytes_async = awaitable(RunScans.read_bytes)

    def put_many(
        self,
        files: Iterable[NewFile | tuple[str | os.PathLike[str], Content]],
        *,
        phase: Label | None = None,
        agent: Label | None = None,
        node_id: Label | None = None,
        step_id: Label | None = None,
        event_id: Label | None = None,
        code_hash: Label | None = None,
    ) -> tuple[FileVersion, ...]:
        """Record many files as `put` does, in one snapshot; return their versions in that order.

        New bytes go into as few packs as possible. Either all files are recorded or none.

        Parameters
        ----------
        files
            Pairs of path and content, or `NewFile` where there is more to say of a file.

        Raises
        ------
        ValueError, UnsafePathError
            When two files have the same path, or one lies below another; or as in `put`.
        VersionConflictError
            When another version is current than one of the files expects.
        WorkDirectoryError
            When the content is the path of a file that can't be read.
        """
        from index.scan.content import new_file

        provenance = Provenance(phase, agent, node_id, step_id, event_id, code_hash)
        return self._put([new_file(each) for each in as_paths("files", files)], provenance)

    put_many_async = awaitable(put_many)

    def _put(self, files: Sequence[NewFile], provenance: Provenance) -> tuple[FileVersion, ...]:
        return self._named.put(files, provenance.over(current_provenance()))

    def remove(
        self,
        path: str | os.PathLike[str],
        *,
        phase: Label | None = None,
        agent: Label | None = None,
        node_id: Label | None = None,
        step_id: Label | None = None,
        event_id: Label | None = None,
        code_hash: Label | None = None,
    ) -> FileVersion:
        """End the current version of a path, as a new snapshot; return that version.

        The path keeps its history and bytes, and `rewind` brings it back. The snapshot has the
        provenance of this call, or of the enclosing `provenance` scope. The work directory does not
        change: a later scan records the file again if it is still there.

        Raises
        ------
        UnknownRunError, UnknownFileError
            When there is no such run, or no file at the path. The error names the closest paths.
        UnsafePathError
            When `path` is absolute or leaves the run.
        """
        provenance = Provenance(phase, agent, node_id, step_id, event_id, code_hash)
        (version,) = self._remove([path], provenance)
        return version

    remove_async = awaitable(remove)

    def remove_many(
        self,
        paths: Iterable[str | os.PathLike[str]],
        *,
        phase: Label | None = None,
        agent: Label | None = None,
        node_id: Label | None = None,
        step_id: Label | None = None,
        event_id: Label | None = None,
        code_hash: Label | None = None,
    ) -> tuple[FileVersion, ...]:
        """Remove many paths as `remove` does, in one snapshot; return the versions in that order.

        A path that is given twice counts once. If one of the paths has no file, nothing is removed.
        """
        provenance = Provenance(phase, agent, node_id, step_id, event_id, code_hash)
        return self._remove(as_paths("paths", paths), provenance)

    remove_many_async = awaitable(remove_many)

    def _remove(
        self, paths: Sequence[str | os.PathLike[str]], provenance: Provenance
    ) -> tuple[FileVersion, ...]:
        clean = list(dict.fromkeys(check_path(path) for path in paths))
        return self._named.remove(clean, provenance.over(current_provenance()))

    def annotate(
        self,
        path: str | os.PathLike[str],
        *,
        file_type: str | None = None,
        is_final_output: bool | None = None,
        meta: object = None,
        phase: Label | None = None,
        agent: Label | None = None,
        node_id: Label | None = None,
        step_id: Label | None = None,
        event_id: Label | None = None,
        code_hash: Label | None = None,
    ) -> FileVersion:
        """Say what the current version of a path is, or who made it; return the version.

        There is no new version and no snapshot. What is said holds for later versions of the path,
        too, until it is taken back: by another value, ``is_final_output=False``, ``meta={}``, or
        ``file_type=""``, by which the classifier decides again.

        Provenance that you pass claims the version, as in `put`. The enclosing `provenance` scope
        does not: who annotates a file need not have made it.

        Parameters
        ----------
        meta
            Any value that JSON can represent. It replaces earlier notes.

        Raises
        ------
        UnknownRunError, UnknownFileError
            When there is no such run, or no file at the path. The error names the closest paths.
        """
        return self._named.annotate(
            check_path(path),
            Annotations(file_type, is_final_output, meta),
            Provenance(phase, agent, node_id, step_id, event_id, code_hash),
        )

    annotate_async = awaitable(annotate)

    restore_async = awaitable(RunScans.restore)

    def fork(self, run_id: Label, *, at: int | Snapshot | None = None) -> Run:
        """Create a new run of this session from a snapshot of this run.

        No bytes are copied. The new run has this run's history up to the snapshot, with its
        provenance. It stays complete when this run is deleted.

        Raises
        ------
        RunExistsError
            When a run with that id exists.
        UnknownSnapshotError
            When this run has no such snapshot.
        """
        from index.commit.branch import fork

        target = RunKey(self.key.session, check_id("run", run_id))
        number = snapshot_number(at)
        fork(self._context, self.key, target, number)
        return Run(target, self._context)

    def rewind(self, at: int | Snapshot) -> Snapshot:
        """Return the run to the state of a snapshot, as a new snapshot. The history is kept.

        The new versions keep the provenance of the original ones. The snapshot has the provenance
        of the enclosing `provenance` scope. The work directory does not change: call `restore` with
        ``overwrite=True, delete=True``, or its next scan records its present files again.

        Raises UnknownSnapshotError if the run has no such snapshot.
        """
        from index.commit.branch import rewind

        number = snapshot_number(at)
        if number is None:
            raise TypeError("say which snapshot to rewind to")
        return rewind(self._context, self.key, number, current_provenance())

    def delete(self) -> DeletionReceipt:
        """Delete the run; its forks stay complete. Garbage collection removes the bytes.

        See `ArtifactStore.plan_gc`. The receipt lists what was deleted, the bytes that nothing in
        the session refers to any more, and the bytes that other runs still need. Raises
        UnknownRunError if there is no such run.
        """
        from index.commit.delete import delete_run

        return delete_run(self._context, self.key)
