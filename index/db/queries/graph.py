"""Queries on what was made from what: each takes one step from many versions or inputs at once.

All are bounded, and see one session: ids of runs come from `find_runs`. An activity is given as a
run and a node here; its step and event are compared later, because they are often missing.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from sqlalchemy import Boolean, and_, bindparam, func, not_, or_, select

from index.db import tables
from index.db.bulk import batches, filled, one_of
from index.db.queries.files import VERSION_FIELDS
from index.db.queries.inputs import INPUT_FIELDS
from index.db.queries.lineage import was_produced
from index.domain.drops import content_of
from index.domain.inputs import Input
from index.domain.snapshots import FileVersion

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from sqlalchemy import ColumnElement, Select, Table
    from sqlalchemy.engine import Connection

    from cas.digest import Digest

    Maker: TypeAlias = tuple[int, str | None]
    """The id of a run, and a node of it."""
    VersionName: TypeAlias = tuple[str, str, int]
    """A run, a path and the number of a version."""

__all__ = [
    "FoundRun",
    "Graph",
    "Reached",
    "Superseded",
]


class Reached(NamedTuple):
    """A version, and the one that a fork or rewind copied it from."""

    version: FileVersion
    origin_id: int | None


class Superseded(NamedTuple):
    """A version that was read, and what its path holds now."""

    version: FileVersion
    newer: FileVersion


class FoundRun(NamedTuple):
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
_REACHED: Final = (
    select(_files.id, _runs.name, *VERSION_FIELDS, _files.origin_id)
    .outerjoin(tables.runs, _runs.id == _files.run_id)
    .where(_IN_SESSION)
)
_NAMED: Final = _REACHED.where(
    one_of(_files.digest, "digests"), one_of(func.coalesce(_runs.name, ""), "runs")
)
_DROPPED: Final = (
    select(_files.id, _runs.name, *VERSION_FIELDS, _files.origin_id)
    .join(tables.runs, _runs.id == _files.run_id)
    .join(tables.sessions, tables.sessions.c.id == _runs.session_id)
    .where(
        tables.sessions.c.name == bindparam("session"),
        one_of(_files.path, "paths"),
        one_of(_runs.name, "runs"),
        _files.dropped.is_not(None),
    )
)
_BY_ID: Final = _REACHED.where(one_of(_files.id, "ids"))
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
_SHARED: Final = (
    select(_files.digest)
    .where(one_of(_files.digest, "digests"))
    .group_by(_files.digest)
    .having(func.count() > 1)
)
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
"""Runs whose nodes one statement names."""


def _by_makers(statement: Select[Any], table: Table) -> tuple[Select[Any], Select[Any]]:
    """Return a statement for nodes of some runs, and one for what no node did in them.

    An index finds a node, but not one that is null in a list, or in a comparison.
    """
    run_id, node_id = table.c.run_id, table.c.node_id
    nodes = (
        and_(run_id == bindparam(f"run_{n}"), one_of(node_id, f"nodes_{n}"))
        for n in range(_RUNS_AT_ONCE)
    )
    bounded = statement.limit(bindparam("limit"))
    return (
        bounded.where(node_id.is_not(None), or_(*nodes)),
        bounded.where(node_id.is_(None), one_of(run_id, "runs")),
    )


_USED: Final = _by_makers(
    select(_inputs.run_id, *INPUT_FIELDS)
    .where(or_(not_(_inputs.is_copy), one_of(_inputs.run_id, "orphans")))
    .order_by(_inputs.run_id, _inputs.position),
    tables.inputs,
)
_VERSIONS: Final = select(_files.id, _files.run_id, *VERSION_FIELDS, _files.origin_id).order_by(
    _files.run_id, _files.first_snapshot, _files.path
)
# The index of what nodes made has no copies.
_MADE: Final = _by_makers(_VERSIONS.where(_files.origin_id.is_(None)), tables.files)
_COPIED: Final = _by_makers(_VERSIONS.where(_files.origin_id.is_not(None)), tables.files)


@dataclass(frozen=True, slots=True)
class Graph:
    """What was made from what in one session, in one transaction."""

    connection: Connection
    session: str

    def find_runs(self, names: Collection[str]) -> list[FoundRun]:
        """Return runs of the session by their names."""
        return [
            FoundRun(row[0], row[1], row[2] is not None and row[3] is None)
            for row in self._rows(_RUNS, "runs", names)
        ]

    def list_used(
        self, runs: Mapping[int, FoundRun], makers: Collection[Maker], limit: int, *, copies: bool
    ) -> list[Input]:
        """Return the inputs of activities, in the order in which each run noted them.

        Parameters
        ----------
        copies
            Whether those are wanted that a fork has of its parent run. They always are if that run
            is deleted.
        """
        orphans = {run for run, _ in makers if copies or runs[run].is_orphan}
        rows = self._of_makers(_USED, makers, limit, orphans=filled(sorted(orphans)))
        return [Input(self.session, runs[row[0]].name, *row[1:]) for row in rows]

    def list_readers(self, digests: Collection[Digest], limit: int, *, copies: bool) -> list[Input]:
        """Return the inputs with some digests; see `list_used`."""
        rows = self._rows(_READERS, "digests", digests, limit=limit, copies=copies)
        return [Input(self.session, *row) for row in islice(rows, limit)]

    def list_made(
        self, runs: Mapping[int, FoundRun], makers: Collection[Maker], limit: int, *, copies: bool
    ) -> list[Reached]:
        """Return the versions that activities made, in the order in which each run got them.

        Parameters
        ----------
        copies
            Whether copies by fork and rewind are wanted. Those of a fork always are if its parent
            run is deleted.
        """
        copied = [maker for maker in makers if copies or runs[maker[0]].is_orphan]
        rows = chain(self._of_makers(_MADE, makers, limit), self._of_makers(_COPIED, copied, limit))
        return [
            Reached(FileVersion(row[0], self.session, runs[row[1]].name, *row[2:-1]), row[-1])
            for row in islice(rows, limit)
        ]

    def find_named(self, names: Mapping[VersionName, Digest]) -> dict[VersionName, Reached]:
        """Return versions by run, path and number, which have these digests or had them.

        An index finds the digests; few versions of one run share one. Dropped ones are found by
        their names.
        """
        found: dict[VersionName, Reached] = {}

        def add(some: Iterable[Reached]) -> None:
            for each in some:
                version = each.version
                name = (version.run, version.path, version.version)
                if names.get(name) == content_of(version.digest, version.dropped):
                    found[name] = each

        for batch in batches(sorted((digest, name) for name, digest in names.items())):
            digests = {digest for digest, _ in batch}
            runs = sorted({run for _, (run, _, _) in batch})
            add(self._reached(_NAMED, "digests", digests, runs=runs))
        for missing in batches(sorted(names.keys() - found.keys())):
            paths = {path for _, path, _ in missing}
            runs = sorted({run for run, _, _ in missing})
            add(self._reached(_DROPPED, "paths", paths, runs=runs))
        return found

    def find_by_id(self, ids: Collection[int]) -> dict[int, FileVersion]:
        """Return versions by their ids; deleted ones are left out."""
        return {each.version.id: each.version for each in self._reached(_BY_ID, "ids", ids)}

    def find_shared(self, digests: Collection[Digest]) -> set[Digest]:
        """Return those digests that more than one version has, perhaps in other sessions."""
        return {row[0] for row in self._rows(_SHARED, "digests", digests)}

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
            .order_by(old.id)
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

    def _reached(
        self, statement: Select[Any], name: str, values: Collection[Any], **others: object
    ) -> Iterator[Reached]:
        for row in self._rows(statement, name, values, **others):
            yield Reached(FileVersion(row[0], self.session, *row[1:-1]), row[-1])

    def _of_makers(
        self,
        statements: tuple[Select[Any], Select[Any]],
        makers: Collection[Maker],
        limit: int,
        **others: object,
    ) -> Iterator[Any]:
        """Yield at most `limit` rows of what `_by_makers` has made."""
        by_node, by_none = statements
        nodes: defaultdict[int, list[str]] = defaultdict(list)
        for run, node in makers:
            if node is not None:
                nodes[run].append(node)

        def rows() -> Iterator[Any]:
            named = sorted(nodes)
            for at in range(0, len(named), _RUNS_AT_ONCE):
                parameters: dict[str, Any] = {"limit": limit, **others}
                some = named[at : at + _RUNS_AT_ONCE]
                some += some[-1:] * (_RUNS_AT_ONCE - len(some))
                for n, run in enumerate(some):
                    parameters |= {f"run_{n}": run, f"nodes_{n}": filled(sorted(nodes[run]))}
                yield from self.connection.execute(by_node, parameters).all()
            unnamed = {run for run, node in makers if node is None}
            yield from self._rows(by_none, "runs", unnamed, limit=limit, **others)

        return islice(rows(), limit)

    def _rows(
        self, statement: Select[Any], name: str, values: Collection[Any], **others: object
    ) -> Iterator[Any]:
        """Yield what a statement finds of some values, in batches of the IN list of that name."""
        for batch in batches(sorted(values)):
            parameters = {"session": self.session, name: filled(batch), **others}
            yield from self.connection.execute(statement, parameters).all()
