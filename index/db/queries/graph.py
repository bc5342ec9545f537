"""Queries on what was made from what: each takes one step from many versions or inputs at once.

All are bounded, and see one session. An activity is given as a
run and a node here; its step and event are compared later, because they are often missing.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import chain, islice, repeat
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from sqlalchemy import Boolean, and_, bindparam, false, func, not_, or_, select

from index.db import tables
from index.db.bulk import batches, filled, one_of
from index.db.queries.files import VERSION_FIELDS, make_version
from index.db.queries.inputs import INPUT_FIELDS, make_input
from index.db.queries.lineage import was_produced
from index.domain.drops import content_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from sqlalchemy import Column, ColumnElement, Select, Table
    from sqlalchemy.engine import Connection

    from cas.digest import Digest
    from index.domain.inputs import Input
    from index.domain.snapshots import FileVersion

    Maker: TypeAlias = tuple[str, str | None]
    """A run, and a node of it."""
    VersionName: TypeAlias = tuple[str, str | None, int | None, Digest | None]
    """A run, a path, the number of a version and its digest: a run that was deleted and made again
    has other bytes under the same number. That of no version has no path."""

__all__ = [
    "Graph",
    "Reached",
    "Superseded",
]


class Reached(NamedTuple):
    """A version, and what may have the same bytes."""

    version: FileVersion
    origin_id: int | None
    """The version that a fork or rewind copied it from."""
    is_shared: bool
    """Whether another version has its digest, perhaps in another session; found by name alone."""


class Superseded(NamedTuple):
    """A version that was read, and what its path holds now."""

    version: FileVersion
    newer: FileVersion


class _FoundRun(NamedTuple):
    """What the queries need of a run."""

    id: int
    name: str
    is_orphan: bool
    """Whether it is a fork of a run that is deleted: its copies are all that is left."""


_files, _runs, _inputs = tables.files.c, tables.runs.c, tables.inputs.c

# Statements are made once: to make one takes as long as the database takes to answer it.
_IN_SESSION: Final = (
    # With an outer join of the runs and `coalesce`, no database begins with all runs of a session:
    # the rows are few by their digests.
    func.coalesce(_runs.session_id, 0)
    == select(tables.sessions.c.id)
    .where(tables.sessions.c.name == bindparam("session"))
    .scalar_subquery()
)
_BY_ID: Final = (
    select(_files.id, _runs.name, *VERSION_FIELDS)
    .outerjoin(tables.runs, _runs.id == _files.run_id)
    .where(one_of(_files.id, "ids"), _IN_SESSION)
)
_RANKED: Final = (
    select(
        _files.digest,
        _files.id,
        func.row_number()
        .over(
            partition_by=_files.digest,
            order_by=(
                _files.created_at, _runs.created_at, _runs.name, _files.path, _files.version
            ),
        )
        .label("place"),
    )
    .outerjoin(tables.runs, _runs.id == _files.run_id)
    .where(one_of(_files.digest, "digests"), _IN_SESSION, was_produced())
    .subquery()
)  # fmt: skip
_FIRST: Final = select(_RANKED.c.digest, _RANKED.c.id).where(_RANKED.c.place == 1)
_READ: Final = (
    select(_inputs.digest)
    .distinct()
    .outerjoin(tables.runs, _runs.id == _inputs.run_id)
    .where(one_of(_inputs.digest, "digests"), _IN_SESSION)
)
_READERS: Final = (
    select(_runs.name, *INPUT_FIELDS)
    .outerjoin(tables.runs, _runs.id == _inputs.run_id)
    .where(
        one_of(_inputs.digest, "digests"),
        _IN_SESSION,
        or_(
            not_(_inputs.is_copy),
            _runs.forked_from_id.is_(None),
            bindparam("copies", type_=Boolean),
        ),
    )
    .order_by(_runs.name, _inputs.position)
    .limit(bindparam("limit"))
)
_RUNS: Final = (
    select(_runs.id, _runs.name, _runs.forked_snapshot, _runs.forked_from_id)
    .join(tables.sessions, tables.sessions.c.id == _runs.session_id)
    .where(tables.sessions.c.name == bindparam("session"), one_of(_runs.name, "runs"))
)

_RUNS_AT_ONCE: Final = 16
"""Runs that one statement names; see `_in_runs`."""


def _in_runs(run_id: Column[Any], column: Column[Any]) -> ColumnElement[bool]:
    """Return the condition that a column has one of the values of its run; see `_by_run`."""
    return or_(
        *(
            and_(run_id == bindparam(f"run_{n}"), one_of(column, f"values_{n}"))
            for n in range(_RUNS_AT_ONCE)
        )
    )


def _by_run(
    connection: Connection, wanted: Mapping[int, Collection[str]]
) -> Iterator[dict[str, Any]]:
    """Yield the parameters of `_in_runs` for values by the ids of their runs.

    Runs with as many values come together, so that many statements have one text.
    """
    parts = sorted(
        (len(part), run, part) for run, values in wanted.items() for part in batches(sorted(values))
    )
    for at in range(0, len(parts), _RUNS_AT_ONCE):
        some = parts[at : at + _RUNS_AT_ONCE]
        count, run, part = some[-1]
        some += repeat((1, run, part[:1]), _RUNS_AT_ONCE - len(some))
        parameters: dict[str, Any] = {}
        for n, (_, run, part) in enumerate(some):
            parameters[f"run_{n}"] = run
            parameters[f"values_{n}"] = filled(connection, part, count)
        yield parameters


def _by_makers(statement: Select[Any], table: Table) -> tuple[Select[Any], Select[Any]]:
    """Return a statement for nodes of some runs, and one for what no node did in them.

    An index finds a node, but not one that is null in a list, or in a comparison.
    """
    run_id, node_id = table.c.run_id, table.c.node_id
    bounded = statement.limit(bindparam("limit"))
    return (
        bounded.where(node_id.is_not(None), _in_runs(run_id, node_id)),
        bounded.where(node_id.is_(None), one_of(run_id, "runs")),
    )


_USED: Final = _by_makers(
    select(_inputs.run_id, *INPUT_FIELDS)
    .where(or_(not_(_inputs.is_copy), one_of(_inputs.run_id, "orphans")))
    .order_by(_inputs.run_id, _inputs.position),
    tables.inputs,
)
_VERSIONS: Final = (_files.id, _files.run_id, *VERSION_FIELDS, _files.origin_id)
_same = tables.files.alias()
_WITH_SAME: Final = select(
    *_VERSIONS,
    # Whether there is a second one: the index of digests alone says it.
    select(_same.c.run_id)
    .where(_same.c.digest == _files.digest)
    .limit(1)
    .offset(1)
    .correlate(tables.files)
    .exists(),
)
_NAMED: Final = _WITH_SAME.where(
    # The index of digests has the run as well. The rows are few, so no run is looked for in it.
    one_of(_files.digest, "digests"),
    one_of(func.coalesce(_files.run_id, 0), "runs"),
)
_DROPPED: Final = _WITH_SAME.where(
    _files.dropped.is_not(None), _in_runs(_files.run_id, _files.path)
)
_IN_ORDER: Final = select(*_VERSIONS, false()).order_by(
    _files.run_id, _files.first_snapshot, _files.path
)
# The index of what nodes made has no copies.
_MADE: Final = _by_makers(_IN_ORDER.where(_files.origin_id.is_(None)), tables.files)
_COPIED: Final = _by_makers(_IN_ORDER.where(_files.origin_id.is_not(None)), tables.files)


@dataclass(frozen=True, slots=True)
class Graph:
    """What was made from what in one session, in one transaction."""

    connection: Connection
    session: str
    _runs: dict[str, _FoundRun] = field(default_factory=dict, init=False, repr=False)
    """Those that were found."""

    def expect_few(self) -> None:
        """Have PostgreSQL start no workers in this transaction: it expects more rows than come."""
        if self.connection.dialect.name == "postgresql":
            self.connection.exec_driver_sql("SET LOCAL max_parallel_workers_per_gather = 0")

    def list_used(self, makers: Collection[Maker], limit: int, *, copies: bool) -> list[Input]:
        """Return the inputs of activities, in the order in which each run noted them.

        Parameters
        ----------
        copies
            Whether those are wanted that a fork has of its parent run. They always are if that run
            is deleted.
        """
        runs = self._find_runs({run for run, _ in makers})
        orphans = sorted(run.id for run in runs.values() if copies or run.is_orphan)
        rows = self._of_makers(_USED, makers, limit, orphans=filled(self.connection, orphans))
        return [make_input(self.session, runs[row[0]].name, *row[1:]) for row in rows]

    def list_readers(self, digests: Collection[Digest], limit: int, *, copies: bool) -> list[Input]:
        """Return the inputs with some digests; see `list_used`."""
        rows = self._rows(_READERS, "digests", digests, limit=limit, copies=copies)
        return [make_input(self.session, *row) for row in islice(rows, limit)]

    def list_made(self, makers: Collection[Maker], limit: int, *, copies: bool) -> list[Reached]:
        """Return the versions that activities made, in the order in which each run got them.

        Parameters
        ----------
        copies
            Whether copies by fork and rewind are wanted. Those of a fork always are if its parent
            run is deleted.
        """
        runs = self._find_runs({run for run, _ in makers})
        orphans = {run.name for run in runs.values() if copies or run.is_orphan}
        copied = [maker for maker in makers if maker[0] in orphans]
        rows = chain(self._of_makers(_MADE, makers, limit), self._of_makers(_COPIED, copied, limit))
        return self._versions(islice(rows, limit), runs)

    def find_named(self, names: Collection[VersionName]) -> dict[VersionName, Reached]:
        """Return the versions that have these names, or had these digests before they were dropped.

        An index finds the digests; few versions of one run share one. Dropped ones are found by
        their paths.
        """
        runs = self._find_runs({run for run, _, _, _ in names})
        ids = {run.name: run.id for run in runs.values()}
        known = [each for each in names if each[0] in ids and each[1] is not None]
        found: dict[VersionName, Reached] = {}

        def add(rows: Iterable[Any]) -> None:
            for each in self._versions(rows, runs):
                version = each.version
                name = (version.run, version.path, version.version, version.content)
                if name in names:
                    found[name] = each

        for batch in batches(known):
            digests = {digest for _, _, _, digest in batch}
            some = sorted({ids[run] for run, _, _, _ in batch})
            add(self._rows(_NAMED, "digests", digests, runs=filled(self.connection, some)))
        missing: defaultdict[int, list[str]] = defaultdict(list)
        for run, path, _, _ in {*known} - found.keys():
            missing[ids[run]].append(path or "")
        for parameters in _by_run(self.connection, missing):
            add(self.connection.execute(_DROPPED, parameters).all())
        return found

    def find_by_id(self, ids: Collection[int]) -> dict[int, FileVersion]:
        """Return versions by their ids; deleted ones are left out."""
        rows = self._rows(_BY_ID, "ids", ids)
        return {row[0]: make_version(row[0], self.session, *row[1:]) for row in rows}

    def find_first(self, digests: Collection[Digest]) -> dict[Digest, int]:
        """Return the id of the version that was the first to be produced with each digest."""
        return {row[0]: row[1] for row in self._rows(_FIRST, "digests", digests)}

    def list_superseded(self, run: str | None, path: str | None, limit: int) -> list[Superseded]:
        """Return versions that were read, and whose path holds other bytes now.

        Without a run and a path that is a pass over all past versions of the session.

        Parameters
        ----------
        run, path
            Where they are; None for anywhere.
        """
        old, new = tables.files.c, tables.files.alias()
        wanted: list[ColumnElement[bool]] = [
            old.end_snapshot.is_not(None), new.c.end_snapshot.is_(None)
        ]  # fmt: skip
        wanted += [] if run is None else [tables.runs.c.name == run]
        wanted += [] if path is None else [old.path == path]
        reader = tables.runs.alias()
        was_read = (
            select(tables.inputs.c.id)
            .join(reader, reader.c.id == tables.inputs.c.run_id)
            .where(
                tables.inputs.c.digest == old.digest,
                reader.c.session_id == tables.runs.c.session_id,
            )
            .correlate(tables.files, tables.runs)
            .exists()
        )
        # What read a dropped version is found in a second step: its digest is in no column.
        rows = self.connection.execute(
            select(old.id, new.c.id, old.dropped, new.c.digest)
            .select_from(tables.files)
            .join(tables.runs, tables.runs.c.id == old.run_id)
            .join(tables.sessions, tables.sessions.c.id == tables.runs.c.session_id)
            .join(new, and_(new.c.run_id == old.run_id, new.c.path == old.path))
            .where(
                tables.sessions.c.name == self.session,
                *wanted,
                or_(and_(old.digest != new.c.digest, was_read), old.dropped.is_not(None)),
            )
            .order_by(tables.runs.c.name, old.path, old.version)
            .limit(limit)
        ).all()
        dropped = {row[0]: content_of(None, row[2]) for row in rows if row[2] is not None}
        read = {row[0] for row in self._rows(_READ, "digests", set(dropped.values()))}
        pairs = [
            (row[0], row[1])
            for row in rows
            if row[2] is None or (dropped[row[0]] in read and dropped[row[0]] != row[3])
        ]
        versions = self.find_by_id({each for pair in pairs for each in pair})
        return [Superseded(versions[old_id], versions[new_id]) for old_id, new_id in pairs]

    def _find_runs(self, names: Collection[str]) -> dict[int, _FoundRun]:
        """Return runs of the session by their ids."""
        for row in self._rows(_RUNS, "runs", set(names) - self._runs.keys()):
            is_orphan = row[2] is not None and row[3] is None
            self._runs[row[1]] = _FoundRun(row[0], row[1], is_orphan)
        return {run.id: run for name in names if (run := self._runs.get(name)) is not None}

    def _versions(self, rows: Iterable[Any], runs: Mapping[int, _FoundRun]) -> list[Reached]:
        """Return the versions of rows of `_VERSIONS` and a boolean."""
        return [
            Reached(make_version(row[0], self.session, runs[row[1]].name, *row[2:-2]), *row[-2:])
            for row in rows
        ]

    def _of_makers(
        self,
        statements: tuple[Select[Any], Select[Any]],
        makers: Collection[Maker],
        limit: int,
        **others: object,
    ) -> Iterator[Any]:
        """Yield at most `limit` rows of what `_by_makers` has made, for runs that were found."""
        by_node, by_none = statements
        nodes: defaultdict[int, list[str]] = defaultdict(list)
        unnamed = set()
        for run, node in makers:
            found = self._runs.get(run)
            if found is not None and node is not None:
                nodes[found.id].append(node)
            elif found is not None:
                unnamed.add(found.id)

        def rows() -> Iterator[Any]:
            for parameters in _by_run(self.connection, nodes):
                parameters |= {"limit": limit, **others}
                yield from self.connection.execute(by_node, parameters).all()
            yield from self._rows(by_none, "runs", unnamed, limit=limit, **others)

        return islice(rows(), limit)

    def _rows(
        self, statement: Select[Any], name: str, values: Collection[Any], **others: object
    ) -> Iterator[Any]:
        """Yield what a statement finds of some values, in batches of the IN list of that name."""
        for batch in batches(sorted(values)):
            parameters = {"session": self.session, name: filled(self.connection, batch), **others}
            yield from self.connection.execute(statement, parameters).all()
