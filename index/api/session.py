"""A session: the tenant scope of its runs and of all reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from index.api.finding import Finding
from index.api.named_runs import key_of
from index.api.run import Run
from index.api.session_contents import SessionContents
from index.api.session_rules import SessionRules
from index.context import Handle
from index.db.queries import names, run_tags, runs, tags
from index.db.queries.summaries import list_runs
from index.domain.names import RunKey, check_id
from index.domain.provenance import Provenance
from index.domain.reports import check_labels
from index.domain.runs import HTML_RUNS
from index.domain.scopes import current_provenance
from index.domain.tags import RunTag, check_tag
from index.errors import (
    UnknownSessionError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from index.api.meaning import Meaning
    from index.context import StoreContext
    from index.domain.names import Label
    from index.domain.progress import Progress
    from index.domain.reports import DeletionReceipt, GroupStats, StatsLabel
    from index.domain.tags import Tag
    from index.transfer.report import SyncReport

__all__ = ["Session"]


@dataclass(frozen=True, slots=True)
class Session(SessionContents, SessionRules, Finding, Handle):
    """A handle for one session. It is cheap to create, and valid as long as its store is open.

    It copies and pickles as its store does: see `ArtifactStore`.

    It gives no access to other sessions: their runs, files and bytes behave as if they did not
    exist.
    """

    id: str
    _context: StoreContext = field(repr=False, compare=False)

    def __repr__(self) -> str:
        return f"<Session {self.id!r} in {self._context.database.url}>"

    @property
    def _searched(self) -> str:
        return self.id

    def _repr_html_(self) -> str:
        from index.domain.html import counted, paragraph, table  # only notebooks need it

        with self._context.database.reading() as connection:
            found = list_runs(connection, self.id)
        about = paragraph(f"session {self.id}", counted(len(found), "run"))
        return about + table(HTML_RUNS, [each.html_row for each in reversed(found)])

    def to_frame(self) -> pd.DataFrame:
        """Return the session's runs, in the order of `runs`, as a pandas data frame."""
        from index.domain.frames import frame_of

        return frame_of(each.to_dict() for each in self.runs())

    def run(self, run_id: Label) -> Run:
        """Return a run of this session. The first write to it creates it.

        ``session.run("@best")`` returns the run that the tag ``best`` names now: see `tag_run`.

        Raises
        ------
        InvalidNameError
            When `run_id` is no valid id.
        UnknownRunError
            When no run has that tag.
        """
        return Run(key_of(self._context, self.id, run_id), self._context)

    def tag_run(self, name: str, run_id: Label, *, agent: Label | None = None) -> RunTag:
        """Give a name to a run itself; return the tag. In the session it names one run.

        A tag that exists moves, and `run_tag_history` tells where it was. ``@best`` stands for the
        run wherever a run's id is taken. The tag is another one than a `Run.tag` of that name,
        which names a snapshot or a version. It keeps the run: `Run.delete` refuses. A fork begins
        without tags.

        Parameters
        ----------
        name
            As of `Run.tag`.
        agent
            Who says so; by default the agent of the enclosing `provenance` scope.

        Raises
        ------
        InvalidNameError
            When no tag can have that name.
        UnknownRunError
            When there is no such run.
        """
        return self._move_run_tag(check_tag(name), self.run(run_id), agent, is_removed=False)

    def untag_run(self, name: str, *, agent: Label | None = None) -> RunTag:
        """Remove the tag of a run; return it. The run stays, and `run_tag_history` tells of it.

        Raises UnknownRunError if no run has that tag.
        """
        return self._move_run_tag(name, self.run(f"@{name}"), agent, is_removed=True)

    def run_tags(self) -> tuple[RunTag, ...]:
        """Return the tags of the runs themselves by name, each with the run that it names now."""
        with self._context.database.reading() as connection:
            return tuple(run_tags.list_run_tags(connection, self.id))

    def run_tag_history(self, name: str) -> tuple[RunTag, ...]:
        """Return which runs a tag has named, oldest first.

        It named nothing where it was removed, and where the run has been deleted. Raises
        UnknownRunError if no run ever had it.
        """
        checked = check_tag(name)
        with self._context.database.reading() as connection:
            moves = run_tags.list_moves_of(connection, self.id, checked)
            if not moves:
                raise names.unknown_run(connection, self.id, f"@{checked}")
        return tuple(moves)

    def _move_run_tag(
        self, name: str, run: Run, agent: Label | None, *, is_removed: bool
    ) -> RunTag:
        from index.commit.marking import MarkedRun

        given = Provenance(agent=agent).over(current_provenance())
        marked = MarkedRun(self._context, run.key)
        made_at = marked.move_run_tag(name, given, is_removed=is_removed)
        return RunTag(self.id, name, None if is_removed else run.id, given.agent, made_at)

    def tags(self) -> tuple[Tag, ...]:
        """Return the tags of all runs of the session, by run and name."""
        with self._context.database.reading() as connection:
            return tuple(tags.list_tags(connection, self.id))

    def stats_by(self, *labels: StatsLabel) -> tuple[GroupStats, ...]:
        """Return counts and sizes of the session's files for each combination of labels.

        ``session.stats_by("run", "file_type")``; see `Run.stats_by`. Raises UnknownSessionError if
        nothing was ever written to the session.
        """
        from index.db.queries import stats

        checked = check_labels(labels)
        with self._context.database.reading() as connection:
            found = stats.group_stats(connection, checked, session=self.id)
            if not found and not runs.session_exists(connection, self.id):
                raise UnknownSessionError(self.id)
        return found

    def resolve(self, word: str, *, run: Label | None = None) -> Meaning:
        """Return what a word means in this session: one rule for all that takes such words.

        It may be

        * ``RUN`` or ``RUN@``: a run; in the place of its id, ``@TAG`` is the run of a tag,
        * ``N``, ``@N`` or ``RUN@N``: a snapshot by its number,
        * ``TAG``, ``@TAG`` or ``RUN@TAG``: what a tag names,
        * ``PATH`` or ``./PATH``: a file as it is now, or as it was last if it is gone,
        * ``PATH@N`` or ``PATH@TAG``: a version of a file,
        * a digest, or at least its first seven digits.

        Parameters
        ----------
        run
            The run that has the snapshot or path, if the word does not say; by default the only
            one of the session.

        Raises
        ------
        UnknownNameError
            When it means nothing. The error names the closest runs and paths.
        AmbiguousNameError
            When it means several things. The error has for each a word that means nothing else.
        UnknownSessionError, UnknownRunError
            When there is no such session or run.
        """
        from index.api.meaning import resolve

        given = None if run is None else self.run(run)
        return resolve(self, self._context.database, word, given)

    def copy_run(
        self,
        run: Run,
        *,
        run_id: Label | None = None,
        with_work_dir: bool = True,
        progress: Callable[[Progress], None] | None = None,
    ) -> SyncReport:
        """Copy a run of another store, with its history, into this session; return the report.

        It is a sync of one run, which may come from a session of another name: see
        `ArtifactStore.sync_to`. The bytes that this store lacks are verified. If the report has a
        reason why the run was not copied, nothing has changed. What holds the run or its session
        there holds the copy here. Tags of runs come along, but for those of a name that this
        session has had for other runs.

        Parameters
        ----------
        run_id
            The id of the run here; by default the one that it has there.
        with_work_dir
            Whether the run takes its work directory along. Say False for a store of somebody else:
            a restore in place would write wherever they say. A work directory that the run has here
            stays.
        progress
            Called now and then with the file versions and bytes copied so far.

        Raises
        ------
        InvalidNameError
            When `run_id` is no valid id.
        SameStoreError
            When the run is one of this store. Use `Run.fork`.
        BackendError, IndexUnavailableError
            When storage or a database of either store fails.
        """
        from index.transfer.sync import copy_run

        to = RunKey(self.id, run.id if run_id is None else check_id("run", run_id))
        ours = run._context  # noqa: SLF001 - a handle
        return copy_run(ours, self._context, run.key, to, progress, with_work_dir=with_work_dir)

    def delete(self) -> DeletionReceipt:
        """Delete the rows of the session, including forks. Garbage collection removes the bytes.

        See `ArtifactStore.plan_gc`. Raises UnknownSessionError if nothing was ever written to the
        session, and HeldError if it or one of its runs is held.
        """
        from index.commit.delete import delete_session

        return delete_session(self._context, self.id)
