"""A run as a whole: its status and tags, forks, rewinds and deletion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from index.api.run_reader import RunReader
from index.decorators import awaitable
from index.domain.marks import Marks
from index.domain.names import RunKey, check_id
from index.domain.provenance import Provenance, current_provenance
from index.domain.tags import NewTag, Tag, check_tag

if TYPE_CHECKING:
    import os

    from index.commit.named import NamedFiles
    from index.domain.names import Label
    from index.domain.reports import DeletionReceipt
    from index.domain.runs import RunStatus, RunSummary
    from index.domain.snapshots import At, Snapshot

__all__ = ["RunLifecycle"]


@dataclass(frozen=True, slots=True, repr=False)
class RunLifecycle(RunReader):
    """What concerns a run as a whole. Safe for use by several threads."""

    @property
    def _named(self) -> NamedFiles:
        from index.commit.named import NamedFiles  # and much that no reader needs

        return NamedFiles(self._context, self.key)

    def set_status(self, status: RunStatus, *, reason: str | None = None) -> RunSummary:
        """Say how the run goes: ``"running"``, or that it is over; return it as `summary` does.

        It is over when it is ``"finished"``, ``"failed"`` or ``"cancelled"``. The last word counts:
        a run that was over may be said to run again. Nothing else depends on the status, and the
        store never changes it by itself. There is no snapshot. The call creates the run if it does
        not exist.

        Parameters
        ----------
        reason
            Why, in a line of up to 255 characters. What is longer is cut.

        Raises
        ------
        ValueError
            When there is no such status.
        """
        self._named.mark(Marks(status=status, reason=reason), current_provenance())
        return self.summary()

    set_status_async = awaitable(set_status)

    def tag(
        self,
        name: str,
        *,
        at: At = None,
        path: str | os.PathLike[str] | None = None,
        version: int | None = None,
        agent: Label | None = None,
    ) -> Tag:
        """Give a name to a snapshot, or to a version of a file; return the tag.

        A tag that exists moves, and `tag_history` tells where it was. Wherever a snapshot is asked
        for, the name of its tag will do: ``run.files(at="best")``. The name of a version will do
        where its file is read: ``run.open("model.bin", at="best")``. Tags belong to the run: a fork
        begins without any. There is no snapshot.

        Parameters
        ----------
        name
            Up to 64 ASCII letters, digits, ``.``, ``_`` and ``-``, but not a number or ``v2``.
        at
            The snapshot, or that with the version of `path`; None for the newest.
        path
            A file whose version gets the name.
        version
            Its number; None for the present one, or that of `at`.
        agent
            Who says so; by default the agent of the enclosing `provenance` scope.

        Raises
        ------
        InvalidNameError
            When no tag can have that name.
        UnknownRunError, UnknownSnapshotError, UnknownFileError, UnknownTagError
            When there is no such run, snapshot or version.
        """
        checked = check_tag(name)
        told = Provenance(agent=agent).over(current_provenance())
        if path is None:
            if version is not None:
                raise ValueError("a version goes with a path; give both")
            with self._reading() as (connection, found):
                number = self._check_snapshot(connection, found, at)
            snapshot = found.newest_snapshot if number is None else number
            new = NewTag(checked, snapshot, agent=told.agent)
        else:
            file = self.file(path, version=version, at=at)
            new = NewTag(checked, None, file.path, file.version, told.agent)
        return self._move(new, told)

    tag_async = awaitable(tag)

    def untag(self, name: str, *, agent: Label | None = None) -> Tag:
        """Remove a tag; return it. What it named stays, and `tag_history` tells of it.

        Raises UnknownTagError if the run has no such tag.
        """
        told = Provenance(agent=agent).over(current_provenance())
        with self._reading() as (connection, found):
            self._tagged(connection, found, name)
        return self._move(NewTag(name, agent=told.agent), told)

    untag_async = awaitable(untag)

    def _move(self, new: NewTag, provenance: Provenance) -> Tag:
        made_at = self._named.mark(Marks(tags=(new,)), provenance)
        names = (new.snapshot, new.path, new.version)
        return Tag(self.key.session, self.id, new.name, *names, new.agent, made_at)

    def fork(self, run_id: Label, *, at: At = None) -> Self:
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
        fork(self._context, self.key, target, self._number(at))
        return type(self)(target, self._context)

    def rewind(self, at: int | Snapshot | str) -> Snapshot:
        """Return the run to the state of a snapshot, as a new snapshot. The history is kept.

        The new versions keep the provenance of the original ones. The snapshot has the provenance
        of the enclosing `provenance` scope. The work directory does not change: call `restore` with
        ``overwrite=True, delete=True``, or its next scan records its present files again.

        Raises UnknownSnapshotError if the run has no such snapshot.
        """
        from index.commit.branch import rewind

        number = self._number(at)
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
