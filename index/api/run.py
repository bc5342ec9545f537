"""A run: tracking its work directory, and changing what it holds."""

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
    """A handle: cheap to make, valid as long as its store is open. Safe for several threads.

    What can be asked of it is in `RunReader`. Reading a run that was never written to raises
    `UnknownRunError`; the first write creates it.
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
        if scope is not None:
            scope = [os.fspath(entry) for entry in as_paths("scope", scope)]
        request = TrackRequest(
            self.key,
            os.fspath(work_dir),
            told.over(current_provenance()),
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

        Raises
        ------
        UnsafePathError
            When `path` is absolute or leaves the run.
        """
        told = Provenance(phase, agent, node_id, step_id, event_id, code_hash)
        clean = check_path(path)
        if file_type is not None:
            check_label("file type", file_type, longest=MAX_TYPE_LENGTH)
        version, state = Tracker(self._context).put(
            PutRequest(
                self.key,
                clean,
                content,
                told.over(current_provenance()),
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
        """Make a new run of this session that begins as this one was at a snapshot.

        No byte is copied. The new run has this one's history up to the snapshot, with who made
        what, and stays whole when this one is deleted.

        Raises
        ------
        RunExistsError
            When there is a run of that id.
        UnknownSnapshotError
            When this run has no such snapshot.
        """
        from index.commit.branch import fork

        target = RunKey(self.key.session, check_id("run", run_id))
        number = snapshot_number(at)
        fork(self._context, self.key, target, number)
        return Run(target, self._context)

    def rewind(self, at: int | Snapshot) -> Snapshot:
        """Make the run hold what it held at a snapshot, as a new snapshot; nothing is forgotten.

        The new versions name those who made the bytes in the first place; the snapshot has the
        provenance of the enclosing `provenance` scope. The work directory is not touched: restore
        it with ``overwrite=True``, or its next scan brings back what lies there.

        UnknownSnapshotError if the run has no such snapshot.
        """
        from index.commit.branch import rewind

        number = snapshot_number(at)
        if number is None:
            raise TypeError("say which snapshot to rewind to")
        return rewind(self._context, self.key, number, current_provenance())

    def delete(self) -> DeletionReceipt:
        """Delete the run's rows; its forks stay whole. Bytes go with `ArtifactStore.plan_gc`.

        Returns what was deleted, which bytes nothing in the session refers to any more, and which
        stay because of whom. UnknownRunError if there is no such run.
        """
        from index.commit.delete import delete_run

        return delete_run(self._context, self.key)
