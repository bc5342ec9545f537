"""Search and listing of the runs of a session, or of all sessions of a store."""

from __future__ import annotations

import threading
from abc import abstractmethod
from functools import partial
from typing import TYPE_CHECKING, Final

from cas.waiting import check_wait
from index.api.named_runs import key_of
from index.db.queries.runs import session_exists
from index.db.queries.summaries import list_runs
from index.domain.listing import check_filters, check_limit, id_pattern, name_pattern
from index.domain.names import check_id, check_label, check_prefix, storable
from index.domain.provenance import Provenance
from index.domain.runs import RunSummary, check_status
from index.errors import UnknownSessionError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from cas.digest import Digest
    from index.context import StoreContext
    from index.domain.listing import IdPattern
    from index.domain.names import Label
    from index.domain.runs import RunChange, RunStatus
    from index.domain.snapshots import FileVersion

__all__ = ["Finding"]

_LEAST_READ: Final = 200
"""Runs that are read at once while their ids are compared with a pattern."""


class Finding:
    """The part of `Session` and `ArtifactStore` that searches and lists their runs."""

    __slots__ = ()

    _context: StoreContext

    @property
    @abstractmethod
    def _searched(self) -> str | None:
        """The session that is searched; None for all."""

    def runs(
        self,
        *,
        limit: int | None = None,
        before: RunSummary | None = None,
        matching: str | None = None,
        status: RunStatus | None = None,
        agent: Label | None = None,
        parent: Label | None = None,
    ) -> list[RunSummary]:
        """Return the runs by last activity, the newest last.

        What each holds comes from counts that the index keeps: the cost does not grow with the
        number of files. With a limit, only the runs of the result are read; with a pattern also
        those that may match it.

        Parameters
        ----------
        limit
            The largest number of runs: those that were active last.
        before
            Only runs that come before this one in the order. Pass the first run of a page to get
            the page before it. A run that becomes active between two pages moves to the end: you
            may see it twice, or not at all.
        matching
            Text that the run's id contains, or a pattern for the whole id: ``"run-*"``. ``*``,
            ``?`` and ``[a-z]`` are as in `fnmatch`. Case matters.
        status
            Only runs with this status.
        agent
            Only runs that have a version by this agent, current or past.
        parent
            Only runs that are a part of the run with this id: see `Run.describe`.

        Raises
        ------
        UnknownSessionError
            When nothing was ever written to the session.
        InvalidNameError
            When no id can match `matching`, or no agent or run can be named so.
        """
        most = check_limit(limit, "runs")
        given: object = before  # callers without a type checker give anything
        if not isinstance(given, RunSummary | None):
            raise TypeError(f"before is a run of a listing, not {given!r}")
        if status is not None:
            check_status(status)
        pattern = id_pattern(matching) if matching else None
        parent_id = None
        if parent is not None:
            session = self._searched
            named = session is not None and key_of(self._context, session, parent).run
            parent_id = named or check_id("run", parent)
        with self._context.database.reading() as connection:
            read = partial(
                list_runs,
                connection,
                self._searched,
                like=None if pattern is None else pattern.like,
                status=status,
                agent=None if agent is None else check_label("agent", agent),
                parent=parent_id,
            )
            if pattern is None:
                found = read(limit=most, before=before)
            else:
                found = _matching(read, pattern, limit=most, before=before)
            searched = self._searched
            if not (found or searched is None or session_exists(connection, searched)):
                raise UnknownSessionError(searched)
        return found

    def follow(self, *, stop: threading.Event, interval: float = 1.0) -> Iterator[RunChange]:
        """Return an iterator of the changes of the runs from now on, by any process.

        There is one for each run that was made, changed or deleted: by a scan, a `put`, a status, a
        tag or a note, in this process or another one, on any host. Several commits to a run between
        two looks are one change. A run that was deleted and made again is two.

        The iterator asks each `interval` whether anything was committed, and reads the runs only
        then. It waits in the thread that iterates. It ends within about `interval` when `stop` is
        set or the store is closed. A session that does not exist is followed, too.

        While a database server is down it waits as other reads do, and then raises
        `IndexUnavailableError`.

        Parameters
        ----------
        interval
            Seconds between two looks.
        """
        from index.db.changes import follow_runs

        given: object = stop  # callers without a type checker give anything
        if not isinstance(given, threading.Event):
            raise TypeError(f"stop is a threading.Event, not {given!r}")
        check_wait("interval", interval)
        if not interval:
            raise ValueError("interval is more than 0 seconds")
        return follow_runs(self._context.database, self._searched, stop=stop, interval=interval)

    def find(
        self,
        pattern: str | None = None,
        *,
        phase: Label | None = None,
        agent: Label | None = None,
        node_id: Label | None = None,
        step_id: Label | None = None,
        event_id: Label | None = None,
        code_hash: Label | None = None,
        file_type: str | None = None,
        priority: str | None = None,
        is_final_output: bool | None = None,
        prefix: str | os.PathLike[str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        larger: int | None = None,
        smaller: int | None = None,
        digest: Digest | str | None = None,
        run: str | None = None,
        where: str | None = None,
        all_versions: bool = False,
        limit: int | None = None,
    ) -> Iterator[FileVersion]:
        """Yield the files that match all arguments: by run, the oldest first, then by path.

        It looks only at runs that hold such labels or digests, which the index knows at once. A
        name, a time or a size takes a pass over these runs. It reads them in pages, each in a
        transaction of its own, with bounded memory: commits meanwhile may show or not. An argument
        that is wrong raises at once; an unknown session when the first file is asked for.

        Parameters
        ----------
        pattern
            Text that the name contains, or a pattern for it: ``"result"``, ``"*.csv"``. With a
            slash it is for the whole path: ``"data/raw"``, ``"data/**/*.csv"``. ``*``, ``?`` and
            ``[a-z]`` are as in `Run.files`. Case matters.
        prefix
            Plain text that the path begins with.
        since, until
            Only versions that were recorded at this time or later; before this time.
        larger, smaller
            Only files of more, or less, than so many bytes.
        digest
            A digest, also as text with at least its first seven digits.
        run
            The id of a run, or a pattern for ids: ``"run-*"``.
        where
            An expression over columns and notes: ``'meta.rmse < 0.1 and agent = "engineer"'``. See
            `search`.
        all_versions
            Past versions, too, not only the current ones.
        limit
            The largest number of files.

        Raises
        ------
        InvalidExpressionError
            When `where` can't be read.
        UnknownSessionError
            When nothing was ever written to the session.
        """
        from index.domain.expressions import read_expression
        from index.reading.digests import check_prefix_of_digest
        from index.reading.search import Search

        check_filters(file_type, priority, is_final_output)
        for name, moment in (("since", since), ("until", until)):
            if moment is not None and moment.tzinfo is None:
                raise ValueError(f"{name} is a time with a time zone, not {moment!r}")
        search = Search(
            labels={
                "provenance": Provenance(phase, agent, node_id, step_id, event_id, code_hash),
                "file_type": file_type,
                "priority": priority,
                "is_final_output": is_final_output,
            },
            prefix="" if prefix is None else check_prefix(prefix),
            name=None if not pattern else name_pattern(pattern),
            since=since,
            until=until,
            larger=None if larger is None else storable(larger),
            smaller=None if smaller is None else storable(smaller),
            digest=None if digest is None else check_prefix_of_digest(digest),
            run=run,
            where=None if where is None else read_expression(where, self._context.clock()),
            past=all_versions,
        )
        return search.iter_found(self._context.database, self._searched, check_limit(limit))

    def search(
        self, where: str, *, all_versions: bool = False, limit: int | None = None
    ) -> Iterator[FileVersion]:
        """Yield the files for which an expression is true, as `find` does with `where`.

        ``'type = "data" and (size > 10 MB or created >= 2d) and not meta.draft'``: columns are
        compared by ``=``, ``!=``, ``<``, ``<=``, ``>``, ``>=``, ``in (…)``, ``is null``, and ``~``
        for a pattern, and comparisons are joined by ``and``, ``or`` and ``not``. Values are bound
        parameters, and nothing is evaluated as code.

        A comparison with a value that a version lacks, or that is of another kind, is unknown, with
        ``not``, too: the version is not found.

        Raises
        ------
        InvalidExpressionError
            When the expression can't be read. It says where.
        UnknownSessionError
            When nothing was ever written to the session. It is raised with the first file.
        """
        return self.find(where=where, all_versions=all_versions, limit=limit)


def _matching(
    read: Callable[..., list[RunSummary]],
    pattern: IdPattern,
    *,
    limit: int | None,
    before: RunSummary | None,
) -> list[RunSummary]:
    """Return the runs whose ids match a pattern, read page by page until there are enough."""
    size = None if limit is None else max(limit, _LEAST_READ)
    found: list[RunSummary] = []
    while limit is None or len(found) < limit:
        page = read(limit=size, before=before)
        found[:0] = [each for each in page if pattern.matches(each.run)]
        if size is None or len(page) < size:
            break
        before = page[0]
        size *= 4  # each page is a pass over the runs
    return found if limit is None else found[max(len(found) - limit, 0) :]
