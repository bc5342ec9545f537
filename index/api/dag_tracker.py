"""The tracker that a workflow engine calls after every node.

It tracks the work directory, reports the changes, and never raises. A failed scan must not end a
workflow, and must not stay hidden: it is in the outcome and in the log.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final, TypeAlias
from weakref import WeakKeyDictionary

from index.api.inputs import scan_with
from index.context import Handle
from index.decorators import off_the_loop
from index.domain.names import as_paths, check_label, usable_label
from index.domain.provenance import Provenance, either
from index.domain.results import Result
from index.domain.scopes import current_provenance
from index.errors import InvalidNameError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    from index.api.store import ArtifactStore
    from index.domain.inputs import InputSource
    from index.domain.names import Label
    from index.domain.snapshots import FileVersion, Skipped, Snapshot

__all__ = ["DAGTracker", "FilesUpdated", "TrackingOutcome"]

_logger: Final = logging.getLogger("index.dag_tracker")

_LOGGED_SKIPS: Final = 20
"""Number of skipped or torn files that the log names. The outcome lists all of them."""

_phases: Final[ContextVar[Mapping[DAGTracker, str | None]]] = ContextVar(
    "cas_phases",
    default={},  # noqa: B039 - never changed
)
"""The phases that this task or thread has set."""

_made_in: Final[ContextVar[None]] = ContextVar("cas_made_in")
"""Its tokens tell whether this task or thread is the one that made a tracker."""


@dataclass(frozen=True, slots=True)
class FilesUpdated(Result):
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

    derived: ClassVar = ("files_tracked",)

    @property
    def files_tracked(self) -> int:
        """How many files are new or have new content."""
        return len(self.added) + len(self.changed)


Listener: TypeAlias = "Callable[[FilesUpdated], object]"
"""A callback. An awaitable result is awaited; any other result is ignored."""


@dataclass(frozen=True, slots=True)
class TrackingOutcome(Result):
    """The outcome of a scan, including everything that was not tracked."""

    snapshot: Snapshot | None
    """The run after the scan; None if the scan failed as a whole."""
    error: Exception | None = None
    """The error of a failed scan. Such a scan recorded nothing."""
    callback_error: Exception | None = None
    """The error that `files_updated` raised. The files are recorded all the same."""
    skipped: tuple[Skipped, ...] = ()
    """What could not be read, with reasons. All other files are recorded."""
    torn: tuple[str, ...] = ()
    """Files that changed each time they were read; see `Snapshot.torn`."""
    label_errors: tuple[InvalidNameError, ...] = ()
    """Ids and labels that can't be recorded as they are. The files are recorded with what is usable
    of them: without control characters, shortened, or without the label."""
    input_errors: tuple[Exception, ...] = ()
    """Why inputs are not noted. The files are recorded all the same."""
    update: FilesUpdated | None = None
    """The changes; None if no file changed, even if the scan filled in missing provenance."""

    derived: ClassVar = ("complete", "files_tracked")

    @property
    def complete(self) -> bool:
        """Whether everything that the scan covered is recorded as it was.

        A scan does not cover what it passes over: see `Snapshot.hidden` and `Snapshot.ignored`.
        """
        return self.error is None and not self.skipped and not self.torn

    @property
    def files_tracked(self) -> int:
        """How many files are new or have new content."""
        return self.update.files_tracked if self.update is not None else 0


class DAGTracker(Handle):
    """Tracks the work directory of one run. Safe for use by several threads and tasks."""

    def __init__(
        self,
        store: ArtifactStore,
        session_id: Label,
        run_id: Label,
        *,
        phase: Label | None = None,
        scope: Sequence[str] | None = None,
        ignore: Sequence[str] = (),
        final: Sequence[str] = (),
        hidden: bool = False,
        default_ignores: bool = True,
        gitignore: bool = False,
        files_updated: Listener | None = None,
        raise_errors: bool = False,
    ) -> None:
        """Bind a tracker to a run.

        Parameters
        ----------
        phase
            Default phase of tracked files, for all tasks and threads; `set_phase` changes it.
        scope
            The top directories to scan; None for the whole work directory.
        ignore, hidden, default_ignores, gitignore
            What to leave out; see `Run.track`.
        final
            Paths and patterns of final outputs, as in `Run.track`.
        files_updated
            Called after each scan that changed files. The async twin calls it on the event loop,
            and awaits its result.
        raise_errors
            Raise errors instead of returning them; for tests and scripts.
        """
        self.run: Final = store.session(session_id).run(run_id)
        self._scope = None if scope is None else as_paths("scope", scope)
        self._ignore = as_paths("ignore", ignore)
        self._final = as_paths("final", final)
        self._hidden = hidden
        self._default_ignores = default_ignores
        self._gitignore = gitignore
        self._files_updated = files_updated
        self._raise_errors = raise_errors
        self._phase = None if phase is None else check_label("phase", phase)
        self._token = _made_in.set(None)

    @property
    def current_phase(self) -> str | None:
        """The default phase of what this task or thread tracks."""
        return _phases.get().get(self, self._phase)

    def set_phase(self, phase: Label | None) -> None:
        """Set the default phase of tracked files.

        In the task or thread that made the tracker it is set for all that set none. In another one
        it is set there, and in the tasks that it starts; a thread of a pool keeps it for the next
        work, so give the phase with the call there. An argument takes precedence over the
        enclosing `provenance` scope, which takes precedence over this default.

        Raises
        ------
        InvalidNameError
            When the phase is empty, too long or holds control characters.
        """
        checked = None if phase is None else check_label("phase", phase)
        try:
            _made_in.reset(self._token)
        except ValueError:  # the token is of another task or thread
            phases = WeakKeyDictionary(_phases.get())
            phases[self] = checked
            _phases.set(phases)
        else:
            self._token = _made_in.set(None)
            self._phase = checked

    def track_files_in_work_dir(
        self,
        work_dir: str | os.PathLike[str],
        node_id: Label | None = None,
        step_id: Label | None = None,
        generating_agent: Label | None = None,
        workflow_phase: Label | None = None,
        *,
        agent: Label | None = None,
        phase: Label | None = None,
        event_id: Label | None = None,
        code_hash: Label | None = None,
        generating_code_hash: Label | None = None,
        inputs: Sequence[InputSource] = (),
    ) -> TrackingOutcome:
        """Track the present files of the work directory; return the outcome.

        `agent`, `phase` and `code_hash` may be given by their long names, too. `inputs` is what the
        node has read, as in `Run.track`; what can't be found is in `TrackingOutcome.input_errors`,
        and the files are recorded all the same. Raises only what ends a process, such as
        KeyboardInterrupt, unless `raise_errors` is set.
        """
        given = self._usable(
            phase=either("phase", phase, "workflow_phase", workflow_phase),
            agent=either("agent", agent, "generating_agent", generating_agent),
            node_id=node_id,
            step_id=step_id,
            event_id=event_id,
            code_hash=either("code_hash", code_hash, "generating_code_hash", generating_code_hash),
        )
        outcome = self._track(work_dir, *given, inputs)
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
        node_id: Label | None = None,
        step_id: Label | None = None,
        generating_agent: Label | None = None,
        workflow_phase: Label | None = None,
        *,
        agent: Label | None = None,
        phase: Label | None = None,
        event_id: Label | None = None,
        code_hash: Label | None = None,
        generating_code_hash: Label | None = None,
        inputs: Sequence[InputSource] = (),
    ) -> TrackingOutcome:
        """Run `track_files_in_work_dir` on a worker thread, so that the event loop stays free.

        `files_updated` is called on the event loop. Cancelling the await does not stop a scan
        that has begun: its thread completes and records it.
        """
        given = self._usable(
            phase=either("phase", phase, "workflow_phase", workflow_phase),
            agent=either("agent", agent, "generating_agent", generating_agent),
            node_id=node_id,
            step_id=step_id,
            event_id=event_id,
            code_hash=either("code_hash", code_hash, "generating_code_hash", generating_code_hash),
        )
        outcome = await off_the_loop(self._track, work_dir, *given, inputs)
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
        provenance: Provenance,
        label_errors: tuple[InvalidNameError, ...],
        inputs: Sequence[InputSource],
    ) -> TrackingOutcome:
        scan = partial(
            self.run.track,
            work_dir,
            phase=provenance.phase,
            agent=provenance.agent,
            node_id=provenance.node_id,
            step_id=provenance.step_id,
            event_id=provenance.event_id,
            code_hash=provenance.code_hash,
            scope=self._scope,
            ignore=self._ignore,
            final=self._final,
            hidden=self._hidden,
            default_ignores=self._default_ignores,
            gitignore=self._gitignore,
        )
        input_errors: list[Exception] = []
        try:
            used = self._usable_inputs(work_dir, inputs, input_errors)
            snapshot = scan_with(scan, used, lambda error: self._input_failed(error, input_errors))
        except Exception as error:
            if self._raise_errors:
                raise
            _logger.exception(
                "run %s, node %s: nothing was tracked", self.run.id, provenance.node_id
            )
            return TrackingOutcome(None, error, label_errors=label_errors)
        self._log(snapshot)
        return TrackingOutcome(
            snapshot,
            skipped=snapshot.skipped,
            torn=snapshot.torn,
            label_errors=label_errors,
            input_errors=tuple(input_errors),
            update=self._update(snapshot),
        )

    def _usable_inputs(
        self,
        work_dir: str | os.PathLike[str],
        inputs: Sequence[InputSource],
        errors: list[Exception],
    ) -> list[InputSource]:
        """Return the inputs that can be found; append what is wrong with the others."""
        usable: list[InputSource] = []
        try:
            given: Sequence[InputSource] = as_paths("inputs", inputs)
        except TypeError as error:
            self._input_failed(error, errors)
            return usable
        for each in given:
            try:
                self.run.check_input(each, work_dir)
            except Exception as error:  # noqa: BLE001 - an input must not end the workflow
                self._input_failed(error, errors)
            else:
                usable.append(each)
        return usable

    def _input_failed(self, error: Exception, errors: list[Exception]) -> None:
        if self._raise_errors:
            raise error
        errors.append(error)
        _logger.warning("run %s: an input is not noted: %s", self.run.id, error)

    def _log(self, snapshot: Snapshot) -> None:
        torn = "it changed each time it was read, and is recorded as last read"
        troubles = [(path, f"was not tracked: {reason}") for path, reason in snapshot.skipped]
        troubles += [(path, f"may be a mixture: {torn}") for path in snapshot.torn]
        for path, trouble in troubles[:_LOGGED_SKIPS]:
            _logger.warning("run %s: %r %s", self.run.id, path, trouble)
        if len(troubles) > _LOGGED_SKIPS:
            more = len(troubles) - _LOGGED_SKIPS
            _logger.warning("run %s: so it is with %d more files", self.run.id, more)

    def _usable(self, **given: Label | None) -> tuple[Provenance, tuple[InvalidNameError, ...]]:
        """Return provenance that can be recorded, and what is wrong with the given labels."""
        labels: dict[str, str | None] = {}
        errors = []
        for name, value in given.items():
            try:
                labels[name] = None if value is None else check_label(name, value)
            except InvalidNameError as error:
                if self._raise_errors:
                    raise
                labels[name] = usable_label(name, value)
                errors.append(error)
                _logger.warning("run %s: %s; %r is recorded", self.run.id, error, labels[name])
        # Now: another task may set another phase before a thread is free.
        labels["phase"] = labels["phase"] or current_provenance().phase or self.current_phase
        return Provenance(**labels), tuple(errors)

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
