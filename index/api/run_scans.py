"""Scans of a run's work directory: to record it, and to see what that would record."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cas.waiting import check_wait
from index.api.inputs import planned_inputs, reads_for
from index.api.run_reader import RunReader
from index.decorators import awaitable
from index.domain.marks import Marks
from index.domain.provenance import Provenance
from index.domain.scopes import current_provenance

if TYPE_CHECKING:
    import os
    import threading
    from collections.abc import Callable, Iterator, Sequence

    from index.commit.track import Tracker, TrackRequest
    from index.domain.inputs import InputSource
    from index.domain.names import Label
    from index.domain.progress import Progress
    from index.domain.run_state import RunState
    from index.domain.runs import RunStatus
    from index.domain.snapshots import Snapshot
    from index.domain.status import Status
    from index.scan.events import Lookout

__all__ = ["MAX_DELAY_S", "QUIET_PERIOD_S", "RunScans"]

QUIET_PERIOD_S: Final = 2.0
"""As long as the racy window: a file that was not written to since is not read again."""

MAX_DELAY_S: Final = 60.0


@dataclass(frozen=True, slots=True, repr=False)
class RunScans(RunReader):
    """The part of `Run` that scans work directories. Safe for use by several threads."""

    def track(
        self,
        work_dir: str | os.PathLike[str],
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
        notes: object = None,
        status: RunStatus | None = None,
        reason: str | None = None,
        inputs: Sequence[InputSource] = (),
        progress: Callable[[Progress], None] | None = None,
    ) -> Snapshot:
        """Record the present files of a work directory.

        On return all new bytes are durable, and everything found is recorded in one transaction. On
        raise nothing is recorded. Provenance that you don't pass comes from the enclosing
        `provenance` scope. It is recorded for content that is new, and fills missing fields where
        the content of the same node is unchanged. Several threads and processes may track one run
        at once.

        The run remembers the directory. If another one is scanned later, the run is what that one
        holds: files that are missing there are removed, as after a move. A scan removes only what
        one with the same `prefix` has seen. One with a prefix does not replace the directory.

        The result lists what is not recorded, or perhaps not well: `Snapshot.skipped`, `torn` and
        `absent`. It counts what the scan passed over: `hidden` and `ignored`.

        Parameters
        ----------
        scope
            Directories to scan, relative to `work_dir`; None for all. The scan finds removed files
            only in them.
        ignore
            Patterns of files to leave out, as git has them in ``.gitignore``. One that begins with
            ``!`` brings in what it names, also a hidden file. They take precedence over those in
            files named ``.casignore``, which may be in any directory.
        hidden
            Whether to record files and directories whose names begin with a dot. Without it, the
            scan looks only at those that the run holds, perhaps by a `put`.
        default_ignores
            Whether to leave out what hardly anyone wants: ``.git``, ``node_modules``, ``.venv``,
            ``__pycache__``, ``.ipynb_checkpoints``, ``*.tmp``, editors' files, and the like.
        gitignore
            Whether to leave out what git's ignore files in the work directory name.
        prefix
            The path in the run under which to record the directory, of at most 62 names. Only
            there can a missing file count as removed.
        same_directory
            Refuse another directory than that of the scan before. The command does so if it takes
            the run's id from the directory's name.
        final
            Paths in `work_dir`, or patterns as in `ignore`. Files that match are final outputs from
            now on, be they new, changed or unchanged. Other files stay what they are.
        notes
            Any value that JSON can represent, to keep with the snapshot: `Snapshot.notes`. A scan
            with notes makes a snapshot even if no file has changed.
        status, reason
            How the run goes from now on, in the same transaction; see `set_status`.
        inputs
            What was read to make the files, noted in the same transaction: as in `Run.use`. A path
            means the version before this scan; of one that is new, the version that the scan
            records.
        progress
            Called now and then with the files and bytes scanned so far.

        Raises
        ------
        WorkDirectoryError
            When the directory is missing or can't be listed.
        OtherDirectoryError
            When it is another directory, and `same_directory` is true.
        UnsafePathError, InvalidNameError
            When a scope leaves the directory, or a path, an id or a pattern is not valid.
        UnknownFileError, UnknownDigestError
            When the session does not have one of `inputs`.
        BackendError, IndexUnavailableError
            When storage or the database fails.
        """
        given = Provenance(phase, agent, node_id, step_id, event_id, code_hash)
        whole = given.over(current_provenance())
        with reads_for(self._context, self.key, whole) as read:
            used = planned_inputs(self._context, self.key, inputs)
            request = self._request(
                work_dir,
                whole,
                scope=scope,
                ignore=ignore,
                hidden=hidden,
                default_ignores=default_ignores,
                gitignore=gitignore,
                prefix=prefix,
                same_directory=same_directory,
                final=final,
                marks=Marks(notes, status, reason, inputs=(*used, *read)),
                progress=progress,
            )
            return self._tracked(request)[0]

    track_async = awaitable(track)

    def status(
        self,
        work_dir: str | os.PathLike[str],
        *,
        scope: Sequence[str] | None = None,
        ignore: Sequence[str] = (),
        hidden: bool = False,
        default_ignores: bool = True,
        gitignore: bool = False,
        prefix: str | os.PathLike[str] | None = None,
        same_directory: bool = False,
        progress: Callable[[Progress], None] | None = None,
    ) -> Status:
        """Return what `track` would record with these arguments, and record nothing.

        Nothing is written, and storage gets no request. A run that was never written to has no
        files. A file is read only if it has the size of the version that the run holds, and another
        time: so a file that was only touched counts as unchanged. The enclosing `provenance` scope
        says whose scan it would be.

        Raises
        ------
        WorkDirectoryError
            When the directory is missing or can't be listed.
        OtherDirectoryError
            When it is another directory, and `same_directory` is true.
        UnsafePathError, InvalidNameError
            When a scope leaves the directory, or a path or a pattern is not valid.
        IndexUnavailableError
            When the database fails.
        """
        request = self._request(
            work_dir,
            current_provenance(),
            scope=scope,
            ignore=ignore,
            hidden=hidden,
            default_ignores=default_ignores,
            gitignore=gitignore,
            prefix=prefix,
            same_directory=same_directory,
            progress=progress,
        )
        states = self._context.states
        cached = states.get(self.key.session, self.key.run)
        status, state = self._tracker.status(request, cached)
        states.keep(self.key.session, self.key.run, state)
        return status

    status_async = awaitable(status)

    def watch(
        self,
        work_dir: str | os.PathLike[str],
        *,
        quiet_period: float = QUIET_PERIOD_S,
        max_delay: float = MAX_DELAY_S,
        stop: threading.Event | None = None,
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
    ) -> Iterator[Snapshot]:
        """Track a work directory each time it has changed; yield the result of each scan.

        The first scan is made at once. Further ones follow changes, once the directory is quiet.
        Changes of what a scan passes over, of the store, and of files that this process prints or
        logs to, cause none. A change that happens
        during a scan, or while the caller has the result, causes the next one.

        An error of a scan is raised, and ends the iteration. Call `watch` again to go on: its first
        scan records what the failed one did not. The arguments besides these are as in `track`.

        Parameters
        ----------
        quiet_period
            Seconds without a change after which the directory is scanned.
        max_delay
            Seconds after a change by which it is scanned even if changes go on.
        stop
            Ends the iteration when it is set, after a last scan.

        Raises
        ------
        MissingPackageError
            When the package watchfiles is missing: ``pip install 'runcas[watch]'``.
        """
        for name, value in (("quiet_period", quiet_period), ("max_delay", max_delay)):
            check_wait(name, value)
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
        )
        return self._watch(request, quiet_period, max_delay, stop)

    def _watch(
        self,
        request: TrackRequest,
        quiet_period: float,
        max_delay: float,
        stop: threading.Event | None,
    ) -> Iterator[Snapshot]:
        from index.scan.events import Lookout, due, events  # only a watch needs them

        lookout: Lookout | None = None

        def concerns(path: str) -> bool:
            return lookout is None or lookout.concerns(path)

        def scanned() -> Snapshot:
            nonlocal lookout
            snapshot, state = self._tracked(request)
            lookout = Lookout(
                request.root,
                state.directories,
                request.coverage,
                own=self._context.own_files,
                prefix=request.prefix,
            )
            return snapshot

        changes = events(request.root, concerns, quiet_period=quiet_period, stop=stop)
        with closing(changes):
            next(changes, None)  # a change during the first scan is not missed
            yield scanned()
            for _ in due(changes, quiet_period=quiet_period, max_delay=max_delay):
                yield scanned()
        yield scanned()

    @property
    def _tracker(self) -> Tracker:
        from index.commit.track import Tracker  # and much that no reader needs

        return Tracker(self._context)

    def _request(
        self,
        work_dir: str | os.PathLike[str],
        provenance: Provenance,
        **options: Any,  # noqa: ANN401 - as in `track`
    ) -> TrackRequest:
        from index.commit.track import TrackRequest

        return TrackRequest.of(self.key, work_dir, provenance, **options)

    def _tracked(self, request: TrackRequest) -> tuple[Snapshot, RunState]:
        states = self._context.states
        cached = states.get(self.key.session, self.key.run)
        snapshot, state = self._tracker.track(request, cached)
        states.keep(self.key.session, self.key.run, state)
        return snapshot, state
