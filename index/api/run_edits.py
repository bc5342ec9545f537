"""Recording of a run's files by name: put, remove and annotate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from index.api.inputs import reads_for
from index.api.run_inputs import RunInputs
from index.decorators import awaitable
from index.domain.annotations import Annotations
from index.domain.marks import Marks
from index.domain.names import as_paths, check_path
from index.domain.provenance import Provenance
from index.domain.scopes import current_provenance

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Sequence

    from index.domain.names import Label
    from index.domain.progress import Progress
    from index.domain.snapshots import FileVersion
    from index.scan.content import Content, NewFile

__all__ = ["RunEdits"]


@dataclass(frozen=True, slots=True, repr=False)
class RunEdits(RunInputs):
    """Files that a caller names. Safe for use by several threads."""

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
        progress: Callable[[Progress], None] | None = None,
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

        progress
            Called now and then with the bytes of a large file that were read.

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
        (version,) = self._put([file], provenance, progress)
        return version

    put_async = awaitable(put)

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

    def _put(
        self,
        files: Sequence[NewFile],
        provenance: Provenance,
        progress: Callable[[Progress], None] | None = None,
    ) -> tuple[FileVersion, ...]:
        whole = provenance.over(current_provenance())
        with reads_for(self._context, self.key, whole) as read:
            return self._named.put(files, whole, progress, marks=Marks(inputs=read))

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
