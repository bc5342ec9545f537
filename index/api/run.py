"""A run: tracking of its work directory, forks, rewinds and deletion."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from index.api.run_reader import RunReader
from index.commit.track import PutRequest, Tracker, TrackRequest
from index.decorators import awaitable
from index.domain.names import MAX_TYPE_LENGTH, RunKey, as_paths, check_id, check_label, check_path
from index.domain.provenance import Provenance, current_provenance
from index.domain.snapshots import snapshot_number

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from index.domain.reports import DeletionReceipt
    from index.domain.snapshots import FileVersion, Progress, Snapshot
    from index.scan.content import Content

__all__ = ["Run"]


@dataclass(frozen=True, slots=True)
class Run(RunReader):
    """A handle for one run. It is cheap to create, and valid as long as its store is open.

    Safe for use by several threads. `RunReader` has the methods that read. The first write creates
    the run; reading a run before that raises `UnknownRunError`.
    """

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
        """Record the present files of a work directory.

        On return all new bytes are durable, and everything found is recorded in one transaction. On
        raise nothing is recorded. Provenance that you don't pass comes from the enclosing
        `provenance` scope. It is recorded for content that is new, and fills missing fields where
        the content of the same node is unchanged. Several threads and processes may track one run
        at once.

        Parameters
        ----------
        scope
            Directories to scan, relative to `work_dir`; None for all. The scan finds removed files
            only in them.
        ignore
            Patterns in gitignore syntax, in addition to hidden entries and ``__pycache__``.
        progress
            Called now and then with the files and bytes scanned so far.

        Raises
        ------
        WorkDirectoryError
            When the directory is missing or can't be listed.
        UnsafePathError, InvalidNameError
            When a scope leaves the directory, or an id is not valid.
        BackendError, IndexUnavailableError
            When storage or the database fails.
        """
        provenance = Provenance(phase, agent, node_id, step_id, event_id, code_hash)
        if scope is not None:
            scope = [os.fspath(entry) for entry in as_paths("scope", scope)]
        request = TrackRequest(
            self.key,
            os.fspath(work_dir),
            provenance.over(current_provenance()),
            scope,
            as_paths("ignore", ignore),
            progress,
        )
        cached = self._context.states.get(self.key.session, self.key.run)
        snapshot, state = Tracker(self._context).track(request, cached)
        self._context.states.keep(self.key.session, self.key.run, state)
        return snapshot

    track_async = awaitable(track)

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
        """Record one file under `path`, from any source of content; return its version.

        A later scan does not remove the file because it is not on disk, unless a scan has seen it
        there. The file ends versions whose paths conflict with it (`a` with `a/b`). If the path
        has the same content already, there is no new version: the call sets `file_type`,
        `is_final_output` and `meta` of the present one.

        Parameters
        ----------
        content
            Bytes, the path of a file, or a binary file object.
        meta
            Any value that JSON can represent.

        Raises
        ------
        UnsafePathError
            When `path` is absolute or leaves the run.
        """
        provenance = Provenance(phase, agent, node_id, step_id, event_id, code_hash)
        clean = check_path(path)
        if file_type is not None:
            check_label("file type", file_type, longest=MAX_TYPE_LENGTH)
        version, state = Tracker(self._context).put(
            PutRequest(
                self.key,
                clean,
                content,
                provenance.over(current_provenance()),
                file_type,
                is_final_output,
                meta,
            ),
            self._context.states.get(self.key.session, self.key.run),
        )
        self._context.states.keep(self.key.session, self.key.run, state)
        return version

    put_async = awaitable(put)

    restore_async = awaitable(RunReader.restore)

    def fork(self, run_id: str, *, at: int | Snapshot | None = None) -> Run:
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
        of the enclosing `provenance` scope. The work directory does not change: restore it with
        ``overwrite=True``, or its next scan records its present files again.

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
