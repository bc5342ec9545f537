"""Reading of a run: history, snapshots, diffs and statistics."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

from cas.errors import CasError
from index.api.listing import Listing
from index.api.run_restores import RunRestores
from index.db.queries import files, listings, runs, states, tags
from index.db.queries.listings import Position
from index.db.queries.restorable import choose
from index.db.queries.summaries import list_runs
from index.decorators import relaxed_gc
from index.domain.listing import check_limit
from index.domain.manifest import group_for_display, manifest_of
from index.domain.names import as_paths, check_path
from index.domain.provenance import Provenance
from index.domain.reports import check_labels
from index.domain.snapshots import (
    HTML_HEAD,
    ChangeCounts,
    LazyVersions,
    assemble,
    with_lazy_changes,
)
from index.domain.tags import check_tag
from index.errors import (
    ArtifactIndexError,
    UnknownRunError,
    UnknownSnapshotError,
    UnknownTagError,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import pandas as pd
    from sqlalchemy.engine import Connection

    from index.db.queries.files import Condition
    from index.db.queries.runs import FoundRun
    from index.domain.diff import Diff
    from index.domain.names import Label
    from index.domain.reports import GroupStats, RunStats, StatsLabel
    from index.domain.runs import RunSummary
    from index.domain.snapshots import At, FileVersion, Snapshot
    from index.domain.tags import Tag
    from index.reading.differences import Pair

__all__ = ["RunReader"]

T = TypeVar("T")

_PAGE: Final = 1_000
"""Versions of each state that `RunReader.iter_diff` holds at once."""


@dataclass(frozen=True, slots=True, repr=False)
class RunReader(RunRestores):
    """The reading half of `Run`. Safe for use by several threads.

    Reading a run that was never written to raises `UnknownRunError`. Where a method takes a
    snapshot, pass its number, its tag or the `Snapshot` itself. None means the present state.
    """

    def history(self, path: str | os.PathLike[str]) -> tuple[FileVersion, ...]:
        """Return every version that `path` ever had, including removed ones, oldest first.

        Raises UnknownFileError if there never was one.
        """
        clean = check_path(path)
        with self._reading() as (connection, found):
            versions = self._versions(connection, found, files.has_path(clean))
            if not versions:
                raise self._unknown(connection, found, clean)
        return versions

    def tags(self) -> tuple[Tag, ...]:
        """Return the tags of the run by name, each with what it names now."""
        with self._reading() as (connection, _):
            return tuple(tags.list_tags(connection, self.key.session, self.id))

    def tag_history(self, name: str) -> tuple[Tag, ...]:
        """Return what a tag has named, oldest first; nothing where it was removed.

        Raises UnknownTagError if the run never had it.
        """
        checked = check_tag(name)
        with self._reading() as (connection, _):
            moves = tags.list_moves(connection, self.key.session, self.id, checked)
        if not moves:
            raise UnknownTagError(self.id, checked)
        return tuple(moves)

    def snapshots(
        self,
        *,
        limit: int | None = None,
        before: At = None,
        phase: Label | None = None,
        agent: Label | None = None,
        node_id: Label | None = None,
        step_id: Label | None = None,
        event_id: Label | None = None,
        code_hash: Label | None = None,
    ) -> tuple[Snapshot, ...]:
        """Return the snapshots of the run whose provenance matches all arguments, oldest first.

        The changes of each are read when you ask for them: those of the first one alone, then those
        of all others of the result together.

        Parameters
        ----------
        limit
            The largest number of snapshots: the newest ones.
        before
            Only snapshots before this one. Pass the first one of a page to get the page before it.
        """
        wanted = Provenance(phase, agent, node_id, step_id, event_id, code_hash)
        most = check_limit(limit, "snapshots")
        with self._reading() as (connection, found):
            bound = self._check_snapshot(connection, found, before)
            heads = runs.list_snapshots(
                connection, found.id, provenance=wanted, before=bound, limit=most
            )
        return self._with_changes(found.id, heads)

    def snapshot(self, at: int | str) -> Snapshot:
        """Return a snapshot by its number or tag. Its changes are read when you ask for them.

        Raises UnknownSnapshotError or UnknownTagError if the run has none.
        """
        with self._reading() as (connection, found):
            number = self._check_snapshot(connection, found, at) or 0
            heads = runs.list_snapshots(connection, found.id, number)
        if not heads:
            raise UnknownSnapshotError(self.id, number, found.newest_snapshot)
        return self._with_changes(found.id, heads)[0]

    def find_snapshot(
        self,
        *,
        phase: str | None = None,
        agent: str | None = None,
        node_id: str | None = None,
        step_id: str | None = None,
        event_id: str | None = None,
        code_hash: str | None = None,
    ) -> Snapshot | None:
        """Return the newest snapshot whose provenance matches all arguments; None if none does.

        Its changes are read when you ask for them. A scan that found nothing new made no snapshot.
        """
        wanted = Provenance(phase, agent, node_id, step_id, event_id, code_hash)
        with self._reading() as (connection, found):
            heads = runs.list_snapshots(connection, found.id, provenance=wanted, limit=1)
        return self._with_changes(found.id, heads)[0] if heads else None

    def _with_changes(self, run_id: int, heads: Sequence[Snapshot]) -> tuple[Snapshot, ...]:
        """Return snapshots of a run, given without changes, that read them when asked."""

        @relaxed_gc()
        def assembled(wanted: Sequence[Snapshot]) -> dict[int, Snapshot]:
            touched = states.touches([snapshot.number for snapshot in wanted])
            versions = self._read(run_id, lambda db, mine: self._versions(db, mine, touched))
            return {snapshot.number: snapshot for snapshot in assemble(wanted, versions)}

        every = cache(lambda: assembled(heads))
        numbers = [snapshot.number for snapshot in heads]
        counts = cache(
            lambda: self._read(run_id, lambda db, _: runs.count_changes(db, run_id, numbers))
        )
        alone: list[int] = []

        def load(snapshot: Snapshot) -> Snapshot:
            if alone:
                return every()[snapshot.number]
            alone.append(snapshot.number)
            return assembled([snapshot])[snapshot.number]

        return tuple(
            with_lazy_changes(
                snapshot,
                partial(load, snapshot),
                lambda number=snapshot.number: counts().get(number, ChangeCounts()),  # type: ignore[misc]
            )
            for snapshot in heads
        )

    def _read(self, run_id: int, query: Callable[[Connection, FoundRun], T]) -> T:
        """Return what a query finds, unless there is another run of this name by now."""
        with self._reading() as (connection, found):
            if found.id != run_id:
                raise UnknownRunError(self.key.session, self.id)
            return query(connection, found)

    def diff(
        self,
        first: At | RunReader,
        second: At = None,
        *,
        at: At = None,
        paths: Iterable[str | os.PathLike[str]] | None = None,
    ) -> Diff:
        """Compare two snapshots of this run, or this run with another run of the session.

        ``run.diff(1, 2)`` returns the changes from snapshot 1 to 2, and ``run.diff(1)`` those from
        1 until now. ``run.diff(other)`` returns the changes from this run to `other`.

        Parameters
        ----------
        first, second
            Two snapshots; without the second, the present state. Or the other run and one of its
            snapshots.
        at
            With another run: the snapshot of this run.
        paths
            Files and directories to compare; None for all.

        Raises
        ------
        UnknownFileError
            When neither state has a file at one of `paths`.
        UnknownRunError
            When the other run does not exist or belongs to another session.
        """
        from index.domain.diff import diff_versions

        wanted = None if paths is None else [check_path(path) for path in as_paths("paths", paths)]
        with self._context.database.reading() as connection:
            other, mine, found, numbers = self._compared(connection, first, second, at)
            if wanted is None and mine.id == found.id:
                return self._diff_within(connection, mine, *numbers)
            old = self._visible(connection, mine, numbers[0])
            new = other._visible(connection, found, numbers[1])  # noqa: SLF001 - of its class
            if wanted is not None:
                either = {version.path: version for version in (*old, *new)}
                missing = choose([*either.values()], wanted)[1]
                if missing is not None:
                    raise other._unknown(connection, found, missing)  # noqa: SLF001
                old, new = (tuple(choose(each, wanted)[0]) for each in (old, new))
        return diff_versions(old, new)

    def _diff_within(
        self, connection: Connection, found: FoundRun, first: int, second: int
    ) -> Diff:
        """Compare two states of this run; read only the versions that are in one of them alone."""
        from index.domain.diff import diff_versions

        earlier, later = sorted((first, second))
        changed = self._versions(connection, found, states.changed_between(earlier, later))
        ends = [version for version in changed if version.first_snapshot <= earlier]
        begins = [version for version in changed if version.first_snapshot > earlier]
        stayed = states.stayed_between(earlier, later)
        in_both = LazyVersions(
            lambda: self._read(found.id, lambda db, mine: self._versions(db, mine, stayed)),
            listings.count_files(connection, found.id, stayed),
        )
        if first <= second:
            return diff_versions(ends, begins, in_both)
        return diff_versions(begins, ends, in_both)

    def _compared(
        self, connection: Connection, first: At | RunReader, second: At, at: At
    ) -> tuple[RunReader, FoundRun, FoundRun, tuple[int, int]]:
        """Return the other run of a comparison, the rows of this run and of it, and two snapshots.

        The other run may be this one.
        """
        if isinstance(first, RunReader):
            other, before, after = first, at, second
        elif at is not None:
            raise ValueError("at goes with another run; give two snapshots of one run as they are")
        else:
            other, before, after = self, first, second
        # A run of another session or store behaves as if it did not exist.
        if other.key.session != self.key.session or other._context is not self._context:
            raise UnknownRunError(self.key.session, other.id)
        mine, found = self._find(connection), other._find(connection)
        numbers = (
            self._check_snapshot(connection, mine, before),
            other._check_snapshot(connection, found, after),
        )
        old, new = (
            run.newest_snapshot if number is None else number
            for run, number in zip((mine, found), numbers, strict=True)
        )
        return other, mine, found, (old, new)

    def iter_diff(
        self,
        first: At | RunReader,
        second: At = None,
        *,
        at: At = None,
        limit: int | None = None,
        after: str | os.PathLike[str] | None = None,
    ) -> Iterator[Pair]:
        """Yield the versions of each path that differs, by path: those of `Diff.pairs`.

        It reads pages, each in a transaction of its own, with bounded memory. Of one run it reads
        only what changed between the two snapshots. The first three parameters are those of `diff`.
        An argument that is wrong raises at once.

        Parameters
        ----------
        limit
            The largest number of paths.
        after
            The last path of the page before: the differences begin after it.
        """
        from index.reading.differences import differing, paired

        most, last = check_limit(limit, "paths"), None if after is None else check_path(after)
        with self._context.database.reading() as connection:
            other, mine, found, (old, new) = self._compared(connection, first, second, at)
        only: tuple[tuple[Condition, ...], ...] = ((), ())
        if mine.id == found.id:
            # What both snapshots have is not read.
            earlier, later = (states.ends_by(max(old, new)),), (states.begins_after(min(old, new)),)
            only = (earlier, later) if old <= new else (later, earlier)
        position = None if last is None else Position(last, last)
        old_files, new_files = (
            run._listed(  # noqa: SLF001
                Listing(each, None, number, ("path", False), None, position), _PAGE
            )
            for run, number, each in ((self, old, only[0]), (other, new, only[1]))
        )
        return islice(differing(paired(old_files, new_files)), most)

    def final_outputs(self) -> dict[str, tuple[FileVersion, ...]]:
        """Return the final outputs grouped by file type, in display order."""
        return group_for_display(self.files(is_final_output=True))

    def manifest(self, *, at: At = None) -> dict[str, Any]:
        """Return the run's files with all their metadata, as JSON types."""
        with self._reading() as (connection, found):
            number = self._check_snapshot(connection, found, at)
            newest = found.newest_snapshot if number is None else number
        return manifest_of(self.key, self.files(at=number), newest)

    def to_frame(self, *, at: At = None) -> pd.DataFrame:
        """Return the files, by path, as a pandas data frame; its columns are as in `to_dict`."""
        from index.domain.frames import frame_of

        return frame_of(version.to_dict() for version in self.iter_files(at=at))

    def _repr_html_(self) -> str:
        from index.domain import html  # only notebooks need it

        about = (f"run {self.id}", f"session {self.key.session}")
        try:
            count, shown = len(self), self.files(order_by="path", limit=html.SHOWN)
        except UnknownRunError:
            return html.paragraph(*about, "nothing was recorded yet")
        figures = []
        for version in shown:
            if 0 < version.size <= html.PREVIEWED and not version.is_link:
                with suppress(CasError, ArtifactIndexError):  # damage is for who reads the file
                    data = self.read_bytes(version.path, version=version.version)
                    figures.append(html.figure(version.path, html.preview(data)))
        rows = [version.html_row for version in shown]
        listing = html.table(HTML_HEAD, rows, count=count)
        return html.paragraph(*about, html.counted(count, "file")) + listing + "".join(figures)

    def summary(self) -> RunSummary:
        """Return the run as `Session.runs` lists it: with its origin, size and status."""
        with self._reading() as (connection, _):
            return list_runs(connection, self.key.session, self.id)[0]

    def stats(self) -> RunStats:
        """Return counts and sizes of the run."""
        from index.db.queries import stats

        with self._reading() as (connection, found):
            return stats.run_stats(connection, found.id, self.key.session, self.id)

    def stats_by(self, *labels: StatsLabel) -> tuple[GroupStats, ...]:
        """Return counts and sizes of the run's files for each combination of labels.

        ``run.stats_by("phase", "agent")`` has a `GroupStats` for each agent of each phase, sorted
        by these labels, None last. Raises ValueError if a label is not one of `StatsLabel`.
        """
        from index.db.queries import stats

        with self._reading() as (connection, found):
            return stats.group_stats(connection, check_labels(labels), run_id=found.id)
