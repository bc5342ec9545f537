"""The tracker that a workflow engine calls after every node.

It tracks the work directory, reports the changes, and never raises. A failed scan must not end a
workflow, and must not stay hidden: it is in the outcome and in the log.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from index.domain.names import as_paths, check_label
from index.domain.provenance import current_provenance

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from index.api.store import ArtifactStore
    from index.domain.snapshots import FileVersion, Skipped, Snapshot

__all__ = ["DAGTracker", "FilesUpdated", "TrackingOutcome"]

_logger: Final = logging.getLogger(__name__)

_LOGGED_SKIPS: Final = 20
"""Number of skipped files that the log names one by one. The outcome lists all of them."""

_SCANS_AT_ONCE: Final = 4
"""Number of scans that one tracker runs for the event loop at once; further scans wait."""


@dataclass(frozen=True, slots=True)
class FilesUpdated:
    """The event after a scan that changed files. A user interface can reload its list on it."""

    session_id: str
    run_id: str
    node_id: str | None
    """Node of the scan, perhaps from a `provenance` scope. The same holds for `step_id`."""
    step_id: str | None
    snapshot: int
    added: tuple[FileVersion, ...]
    changed: tuple[FileVersion, ...]
    removed: tuple[FileVersion, ...]

    @property
    def files_tracked(self) -> int:
        """How many files are new or have new content."""
        return len(self.added) + len(self.changed)


Listener: TypeAlias = "Callable[[FilesUpdated], object]"
"""A callback. An awaitable result is awaited; any other result is ignored."""


@dataclass(frozen=True, slots=True)
class TrackingOutcome:
    """The outcome of a scan, including everything that was not tracked."""

    snapshot: Snapshot | None
    """The run after the scan; None if the scan failed as a whole."""
    error: Exception | None = None
    """The error of a failed scan. Such a scan recorded nothing."""
    callback_error: Exception | None = None
    """The error that `files_updated` raised. The files are recorded all the same."""
    skipped: tuple[Skipped, ...] = ()
    """Files that could not be read, with reasons. All other files are recorded."""
    update: FilesUpdated | None = None
    """The changes; None if no file changed, even if the scan filled in missing provenance."""

    @property
    def complete(self) -> bool:
        """Whether everything that the scan covered is recorded."""
        return self.error is None and not self.skipped

    @property
    def files_tracked(self) -> int:
        """How many files are new or have new content."""
        return self.update.files_tracked if self.update is not None else 0


class DAGTracker:
    """Tracks the work directory of one run. Safe for use by several threads and tasks."""

    def __init__(
        self,
        store: ArtifactStore,
        session_id: str,
        run_id: str,
        *,
        phase: str | None = None,
        scope: Sequence[str] | None = None,
        ignore: Sequence[str] = (),
        files_updated: Listener | None = None,
        raise_errors: bool = False,
    ) -> None:
        """Bind a tracker to a run.

        Parameters
        ----------
        phase
            Default phase of tracked files; `set_phase` changes it.
        scope
            The top directories to scan; None for the whole work directory.
        ignore
            Patterns in gitignore syntax.
        files_updated
            Called after each scan that changed files. The async twin calls it on the event loop,
            and awaits its result.
        raise_errors
            Raise errors instead of returning them; for tests and scripts.
        """
        self.run: Final = store.session(session_id).run(run_id)
        self._scope = None if scope is None else as_paths("scope", scope)
        self._ignore = as_paths("ignore", ignore)
        self._files_updated = files_updated
        self._raise_errors = raise_errors
        # The tracker has its own threads: if agents that wait for tracking filled the default
        # executor of the event loop, they would wait forever.
        self._threads = ThreadPoolExecutor(_SCANS_AT_ONCE, "cas-track")
        self.current_phase: str | None = None
        self.set_phase(phase)

    def set_phase(self, phase: str | None) -> None:
        """Set the default phase of tracked files.

        `workflow_phase` takes precedence over the enclosing `provenance` scope, which takes
        precedence over this default.
        """
        self.current_phase = None if phase is None else check_label("phase", phase)

    def track_files_in_work_dir(
        self,
        work_dir: str | os.PathLike[str],
        node_id: str | None = None,
        step_id: str | None = None,
        generating_agent: str | None = None,
        workflow_phase: str | None = None,
        *,
        event_id: str | None = None,
        generating_code_hash: str | None = None,
    ) -> TrackingOutcome:
        """Track the present files of the work directory; return the outcome.

        Raises only what ends a process, such as KeyboardInterrupt, unless `raise_errors` is set.
        """
        outcome = self._track(
            work_dir,
            node_id=node_id,
            step_id=step_id,
            agent=generating_agent,
            phase=self._phase(workflow_phase),
            event_id=event_id,
            code_hash=generating_code_hash,
        )
        if outcome.update is None or self._files_updated is None:
            return outcome
        try:
            _refuse_unstarted(self._files_updated(outcome.update))
        except Exception as error:  # noqa: BLE001 - a listener must not end the workflow
            return self._callback_failed(outcome, error)
        return outcome

    async def track_files_in_work_dir_async(
        self,
        work_dir: str | os.PathLike[str],
        node_id: str | None = None,
        step_id: str | None = None,
        generating_agent: str | None = None,
        workflow_phase: str | None = None,
        *,
        event_id: str | None = None,
        generating_code_hash: str | None = None,
    ) -> TrackingOutcome:
        """Run `track_files_in_work_dir` on a worker thread, so that the event loop stays free.

        `files_updated` is called on the event loop. Cancelling the await does not stop the scan:
        its thread completes and records it.
        """
        scan = partial(
            self._track,
            work_dir,
            node_id=node_id,
            step_id=step_id,
            agent=generating_agent,
            phase=self._phase(workflow_phase),
            event_id=event_id,
            code_hash=generating_code_hash,
        )
        in_context = partial(contextvars.copy_context().run, scan)
        outcome = await asyncio.get_running_loop().run_in_executor(self._threads, in_context)
        if outcome.update is None or self._files_updated is None:
            return outcome
        try:
            pending = self._files_updated(outcome.update)
            if inspect.isawaitable(pending):
                await pending
        except Exception as error:  # noqa: BLE001 - a listener must not end the workflow
            return self._callback_failed(outcome, error)
        return outcome

    def _track(
        self,
        work_dir: str | os.PathLike[str],
        *,
        node_id: str | None,
        step_id: str | None,
        agent: str | None,
        phase: str | None,
        event_id: str | None,
        code_hash: str | None,
    ) -> TrackingOutcome:
        try:
            snapshot = self.run.track(
                work_dir,
                phase=phase,
                agent=agent,
                node_id=node_id,
                step_id=step_id,
                event_id=event_id,
                code_hash=code_hash,
                scope=self._scope,
                ignore=self._ignore,
            )
        except Exception as error:
            if self._raise_errors:
                raise
            _logger.exception("run %s, node %s: nothing was tracked", self.run.id, node_id)
            return TrackingOutcome(None, error)
        for path, reason in snapshot.skipped[:_LOGGED_SKIPS]:
            _logger.warning("run %s: %r was not tracked: %s", self.run.id, path, reason)
        if len(snapshot.skipped) > _LOGGED_SKIPS:
            more = len(snapshot.skipped) - _LOGGED_SKIPS
            _logger.warning("run %s: %d more files were not tracked", self.run.id, more)
        return TrackingOutcome(snapshot, skipped=snapshot.skipped, update=self._update(snapshot))

    def _phase(self, given: str | None) -> str | None:
        return given or current_provenance().phase or self.current_phase

    def _update(self, snapshot: Snapshot) -> FilesUpdated | None:
        if not (snapshot.added or snapshot.changed or snapshot.removed):
            return None
        return FilesUpdated(
            self.run.key.session,
            self.run.id,
            snapshot.provenance.node_id,
            snapshot.provenance.step_id,
            snapshot.number,
            snapshot.added,
            snapshot.changed,
            snapshot.removed,
        )

    def _callback_failed(self, outcome: TrackingOutcome, error: Exception) -> TrackingOutcome:
        if self._raise_errors:
            raise error
        _logger.error("run %s: files_updated failed", self.run.id, exc_info=error)
        return replace(outcome, callback_error=error)


def _refuse_unstarted(pending: object) -> None:
    """Raise for a coroutine that nobody would run; a task or future runs by itself."""
    if inspect.iscoroutine(pending):
        pending.close()
    if inspect.isawaitable(pending) and not asyncio.isfuture(pending):
        raise TypeError("files_updated must be awaited: call track_files_in_work_dir_async")
