"""A run as a whole: its status, description and tags, forks, rewinds and deletion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from index.api.holding import find_holds, hold, release
from index.api.run_reader import RunReader
from index.db.queries.summaries import list_runs
from index.decorators import awaitable
from index.domain.drops import Drop
from index.domain.marks import Marks
from index.domain.names import RunKey, check_id, check_reason
from index.domain.provenance import Provenance
from index.domain.scopes import current_provenance
from index.domain.snapshots import check_wanted
from index.domain.tags import NewTag, Tag, check_tag

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping

    from index.commit.marking import MarkedRun
    from index.domain.holds import Hold
    from index.domain.names import Label
    from index.domain.reports import DeletionReceipt
    from index.domain.runs import RunStatus, RunSummary
    from index.domain.snapshots import At, FileVersion, Snapshot

__all__ = ["RunLifecycle"]


@dataclass(frozen=True, slots=True, repr=False)
class RunLifecycle(RunReader):
    """What concerns a run as a whole. Safe for use by several threads."""

    @property
    def _named(self) -> MarkedRun:
        from index.commit.marking import MarkedRun  # and much that no reader needs

        return MarkedRun(self._context, self.key)

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

    def describe(
        self, *, parent: Label | None = None, notes: Mapping[str, Any] | None = None
    ) -> RunSummary:
        """Say what the run is a part of, or note something of it; return it as `summary` does.

        There is no snapshot. The call creates the run if it does not exist.

        ``session.run("trial-3").describe(parent="sweep-1", notes={"rate": 0.1})``

        Parameters
        ----------
        parent
            The run of this session that this run is a part of, as a trial is of a sweep; ``""`` for
            none. It need not exist yet. A deletion of it leaves this run, without a parent. A fork
            is no part of the run that it was forked from.
        notes
            JSON values by name. Other notes of the run stay, and None removes a note. `record`
            notes its command: see there.

        Raises
        ------
        ParentCycleError
            When `parent` is this run, or a part of it.
        InvalidNameError, UnknownRunError
            When no run can have the id `parent`, or no run has that tag.
        InvalidMetaError
            When JSON can't hold the notes.
        """
        name = None
        if parent is not None:
            name = "" if parent == "" else self._other(parent).run
        self._named.mark(Marks(parent=name, run_notes=notes), current_provenance())
        return self.summary()

    describe_async = awaitable(describe)

    def children(self) -> list[RunSummary]:
        """Return the runs that are a part of this one, by last activity, the newest last.

        See `describe`. Those that are a part of these are not among them. The run itself need not
        exist if it has children; without any, UnknownRunError is raised.
        """
        with self._context.database.reading() as connection:
            found = list_runs(connection, self.key.session, parent=self.id)
            if not found:
                self._find(connection)
        return found

    def _other(self, run_id: Label) -> RunKey:
        from index.api.named_runs import key_of

        return key_of(self._context, self.key.session, run_id)

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
        labels = Provenance(agent=agent).over(current_provenance())
        if path is None:
            if version is not None:
                raise ValueError("a version goes with a path; give both")
            with self._reading() as (connection, found):
                number = self._check_snapshot(connection, found, at)
            snapshot = found.newest_snapshot if number is None else number
            new = NewTag(checked, snapshot, agent=labels.agent)
        else:
            file = self.file(path, version=version, at=at)
            new = NewTag(checked, None, file.path, file.version, labels.agent)
        return self._move(new, labels)

    tag_async = awaitable(tag)

    def untag(self, name: str, *, agent: Label | None = None) -> Tag:
        """Remove a tag; return it. What it named stays, and `tag_history` tells of it.

        Raises UnknownTagError if the run has no such tag.
        """
        labels = Provenance(agent=agent).over(current_provenance())
        with self._reading() as (connection, found):
            self._tagged(connection, found, name)
        return self._move(NewTag(name, agent=labels.agent), labels)

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

    def history_records(self) -> Iterator[bytes]:
        """Yield the whole history of the run as journal records, each a JSON object in one line.

        `docs/format.md` describes them: some ``versions``, then one ``history``, which names the
        others by the digests of these lines. All are of one moment. With the contents of the
        versions, `rebuild_storage` makes a store of them.

        Raises UnknownRunError if there is no such run.
        """
        from index.commit.chain import iter_history

        return iter_history(self._context, self.key)

    def drop(
        self,
        path: str | os.PathLike[str],
        *,
        version: int,
        reason: str,
        agent: Label | None = None,
    ) -> FileVersion:
        """Let the bytes of a past version go; return the version, which stays on record.

        `FileVersion.dropped` says from now on what digest it had, when and why it was dropped, and
        by whom. Its other values stay. Reading it raises `BytesNotKeptError`; a fork from, or a
        rewind to, a snapshot that had it goes without it. Other runs keep the same bytes; garbage
        collection removes those that nothing refers to. There is no snapshot.

        A sync neither brings the bytes back nor drops them elsewhere.

        Parameters
        ----------
        reason
            Why, in a line of up to 255 characters.

        Raises
        ------
        UnknownRunError, UnknownFileError
            When there is no such run or version.
        VersionKeptError
            When the version is current, when a tag names it or a snapshot that has it, or when it
            has no bytes.
        HeldError
            When the run or session is held.
        """
        clean, _, _ = check_wanted(self.id, path, version, None)
        wanted = Drop(clean, version, check_reason(reason))
        provenance = Provenance(agent=agent).over(current_provenance())
        self._named.drop([wanted], provenance)
        return self.file(path, version=version)

    drop_async = awaitable(drop)

    def hold(self, reason: str, *, agent: Label | None = None) -> Hold:
        """Hold the run: until `release_hold` nothing of it can be deleted or dropped.

        The run can still be written to. Other runs, its forks included, are not held. Holds travel
        with `ArtifactStore.plan_sync`, and releases do not.

        Raises UnknownRunError if there is no such run.
        """
        return hold(self._context, self.key.session, self.id, reason, agent)

    hold_async = awaitable(hold)

    def release_hold(self, reason: str, *, agent: Label | None = None) -> tuple[Hold, ...]:
        """Release all holds of the run; return those that were released.

        They are kept with the reason of their release. A hold of the session stays.
        """
        return release(self._context, self.key.session, self.id, reason, agent)

    release_hold_async = awaitable(release_hold)

    def holds(self, *, past: bool = False) -> tuple[Hold, ...]:
        """Return the holds of the run and of its session, oldest first.

        Parameters
        ----------
        past
            Return released holds, too.
        """
        found = find_holds(self._context, self.key.session, past=past)
        return tuple(each for each in found if each.run in (None, self.id))

    def delete(self, *, force: bool = False) -> DeletionReceipt:
        """Delete the run; its forks and children stay. Garbage collection removes the bytes.

        See `ArtifactStore.plan_gc`. The receipt lists what was deleted, the bytes that nothing in
        the session refers to any more, and the bytes that other runs still need.

        Parameters
        ----------
        force
            Also if the run itself has tags: see `Session.tag_run`. They name nothing then.

        Raises
        ------
        UnknownRunError
            When there is no such run.
        TaggedRunError
            When the run itself has tags, unless `force` is true.
        HeldError
            When the run or session is held.
        """
        from index.commit.delete import delete_run

        return delete_run(self._context, self.key, force=force)
