"""A run: commands that it records, and what it has for programs that are asynchronous."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from index.api.inputs import known_source, planned_inputs
from index.api.run_edits import RunEdits
from index.api.run_scans import RunScans
from index.decorators import awaitable
from index.domain.marks import Marks
from index.domain.provenance import Provenance
from index.domain.scopes import current_provenance

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from index.api.command import RecordedCommand
    from index.domain.inputs import InputSource
    from index.domain.names import Label

__all__ = ["Run"]


@dataclass(frozen=True, slots=True, repr=False)
class Run(RunScans, RunEdits):
    """A handle for one run. It is cheap to create, and valid as long as its store is open.

    Safe for use by several threads. `RunReader` has the methods that read, `RunScans` those that
    scan a work directory, `RunEdits` those that record files by name, and `RunLifecycle` those for
    the run as a whole. The first write creates the run; reading a run before that raises
    `UnknownRunError`. A run copies and pickles as its store does: see `ArtifactStore`.
    """

    def record(
        self,
        command: Sequence[str | os.PathLike[str]],
        work_dir: str | os.PathLike[str] = ".",
        *,
        phase: Label | None = None,
        agent: Label | None = None,
        node_id: Label | None = None,
        step_id: Label | None = None,
        event_id: Label | None = None,
        code_hash: Label | None = None,
        scope: Sequence[str] | None = None,
        ignore: Sequence[str] = (),
        hidden: bool = False,
        default_ignores: bool = True,
        gitignore: bool = False,
        prefix: str | os.PathLike[str] | None = None,
        same_directory: bool = False,
        final: Sequence[str | os.PathLike[str]] = (),
        environment: Mapping[str, str | None] | None = None,
        inputs: Sequence[InputSource] = (),
    ) -> RecordedCommand:
        """Run a command, and record what it makes and changes in a work directory.

        The directory is scanned before the command, attributed to nobody, so that what was there is
        not taken for the command's. It is scanned again after it, with the provenance of this call.
        That snapshot is made even if no file has changed. Its notes have the command line, exit
        status, start and duration, the current directory, host and user, and the git commit there.
        Passwords in URLs, and values that are named as secrets, are left out of the command line.
        The notes of the run have the newest command from its beginning, without its outcome.

        The run has the status ``"running"`` meanwhile, and ``"finished"``, ``"failed"`` or
        ``"cancelled"`` in the end. A command that fails raises nothing.

        The command gets this process's standard streams and current directory. In the main thread,
        SIGINT, SIGTERM, SIGHUP and SIGQUIT are for the command: this process goes on and records
        what it left. Some of it may be someone else's, if others change the directory meanwhile.

        Parameters
        ----------
        command
            The program and its arguments. No shell interprets them.
        work_dir
            The directory to record. The command runs in the current one.
        environment
            Variables to note, None for one that is not set. The command's stay as they are.
        inputs
            What the command reads: as in `Run.use`. A path means the version before the command.

        Raises
        ------
        CommandNotFoundError, CommandNotStartedError
            When there is no such program, or it can't be started. Nothing has run.
        UnknownFileError
            When the run has none of the paths of `inputs` before the command. Nothing has run.
        WorkDirectoryError
            As in `track`, which has the other parameters and errors. If the second scan fails, the
            run's status is ``"failed"``.
        """
        from index.api.command import record

        provenance = Provenance(phase, agent, node_id, step_id, event_id, code_hash)
        request = self._request(
            work_dir,
            provenance.over(current_provenance()),
            scope=scope,
            ignore=ignore,
            hidden=hidden,
            default_ignores=default_ignores,
            gitignore=gitignore,
            prefix=prefix,
            same_directory=same_directory,
            final=final,
            marks=Marks(inputs=planned_inputs(self._context, self.key, inputs)),
        )
        return record(
            command,
            request,
            environment or {},
            track=lambda scan: self._tracked(scan)[0],
            find_input=lambda path: known_source(self._context, self.key, path, self.file),
            set_status=self.set_status,
            clock=self._context.clock,
        )

    record_async = awaitable(record)

    files_async = awaitable(RunScans.files)

    open_async = awaitable(RunScans.open)

    read_bytes_async = awaitable(RunScans.read_bytes)

    restore_async = awaitable(RunScans.restore)
