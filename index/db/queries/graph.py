"""Queries on what was made from what: each takes one step from many versions or inputs at once.

All are bounded, and see one session: ids of runs come from `find_runs`. An activity is given as a
run and a node here; its step and event are compared later, because they are often missing.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from sqlalchemy import and_, func, not_, or_, select

from index.db import tables
from index.db.bulk import batches
from index.db.queries.files import VERSION_FIELDS, was_produced
from index.db.queries.inputs import INPUT_FIELDS
from index.domain.inputs import Input
from index.domain.snapshots import FileVersion

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from sqlalchemy import ColumnElement, Table
    from sqlalchemy.engine import Connection

    from cas.digest import Digest
    from index.db.queries.files import Condition

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


@dataclass(frozen=True, slots=True)
class Graph:
    """What was made from what in one session, in one transaction."""

    connection: Connection
    session: str

    def find_runs(self, names: Collection[str]) -> list[FoundRun]:
        """Return runs of the session by their names."""
        found: list[FoundRun] = []
        columns = tables.runs.c
        for batch in batches(sorted(names)):
            statement = (
                select(columns.id, columns.name, columns.forked_snapshot, columns.forked_from_id)
                .join(tables.sessions, tables.sessions.c.id == columns.session_id)
                .where(tables.sessions.c.name == self.session, columns.name.in_(batch))
            )
            found += [
                FoundRun(row[0], row[1], row[2] is not None and row[3] is None)
                for row in self.connection.execute(statement).all()
            ]
        return found

    def list_used(
        self,
        runs: Mapping[int, FoundRun],
        makers: Collection[Maker],
        limit: int,
    ) -> list[Input]:
        """Return the inputs of activities, in the order in which each run noted them.

        Copies in a fork whose parent run has them still are left out.
        """
        columns = tables.inputs.c
        found: list[Input] = []
        for condition in _by_makers(makers, tables.inputs):
            rows = self.connection.execute(
                select(columns.run_id, columns.is_copy, *INPUT_FIELDS)
                .where(condition)
                .order_by(columns.run_id, columns.position)
                .limit(limit - len(found))
            ).all()
            found += [
                Input(self.session, runs[row[0]].name, *row[2:])
                for row in rows
                if runs[row[0]].is_orphan or not row[1]
            ]
        return found

    def list_readers(self, digests: Collection[Digest], limit: int) -> list[Input]:
        """Return the inputs with some digests; see `list_used`."""
        found: list[Input] = []
        columns, run = tables.inputs.c, tables.runs.c
        for batch in batches(sorted(digests)):
            rows = self.connection.execute(
                select(run.name, *INPUT_FIELDS)
                .join(tables.runs, run.id == columns.run_id)
                .where(
                    columns.digest.in_(batch),
                    _is_in(self.session),
                    or_(not_(columns.is_copy), run.forked_from_id.is_(None)),
                )
                .order_by(run.name, columns.position)
                .limit(limit - len(found))
            ).all()
            found += [Input(self.session, *row) for row in rows]
        return found

    def list_made(
        self,
        runs: Mapping[int, FoundRun],
        makers: Collection[Maker],
        limit: int,
    ) -> list[FileVersion]:
        """Return the versions that activities made.

        Copies by fork count if the parent run is deleted.
        """
        columns = tables.files.c
        orphans = [maker for maker in makers if runs[maker[0]].is_orphan]
        found: list[FileVersion] = []
        for made, some in (
            (columns.origin_id.is_(None), makers),
            (columns.origin_id.is_not(None), orphans),
        ):
            for condition in _by_makers(some, tables.files):
                rows = self.connection.execute(
                    select(columns.id, columns.run_id, *VERSION_FIELDS)
                    .where(condition, made)
                    .order_by(columns.run_id, columns.first_snapshot, columns.path)
                    .limit(limit - len(found))
                ).all()
                found += [
                    FileVersion(row[0], self.session, runs[row[1]].name, *row[2:]) for row in rows
                ]
        return found

    def find_named(self, names: Mapping[VersionName, Digest]) -> dict[VersionName, Reached]:
        """Return versions by run, path and number, which have these digests.

        An index finds the digests; few versions of one run share one.
        """
        found: dict[VersionName, Reached] = {}
        wanted = sorted((digest, name) for name, digest in names.items())
        for batch in batches(wanted):
            condition = and_(
                tables.files.c.digest.in_(sorted({digest for digest, _ in batch})),
                tables.runs.c.name.in_(sorted({run for _, (run, _, _) in batch})),
            )
            for each in self._reached(condition):
                version = each.version
                name = (version.run, version.path, version.version)
                if names.get(name) == version.digest:
                    found[name] = each
        return found

    def find_by_id(self, ids: Collection[int]) -> dict[int, FileVersion]:
        """Return versions by their ids; deleted ones are left out."""
        found: dict[int, FileVersion] = {}
        for batch in batches(sorted(ids)):
            for each in self._reached(tables.files.c.id.in_(batch)):
                found[each.version.id] = each.version
        return found

    def find_first(self, digests: Collection[Digest]) -> dict[Digest, int]:
        """Return the id of the version that was the first to be produced with each digest."""
        columns, run = tables.files.c, tables.runs.c
        order = (columns.created_at, run.created_at, run.name, columns.path, columns.version)
        place = func.row_number().over(partition_by=columns.digest, order_by=order).label("place")
        found: dict[Digest, int] = {}
        for batch in batches(sorted(digests)):
            ranked = (
                select(columns.digest, columns.id, place)
                .join(tables.runs, run.id == columns.run_id)
                .where(columns.digest.in_(batch), _is_in(self.session), was_produced())
                .subquery()
            )
            first = select(ranked.c.digest, ranked.c.id).where(ranked.c.place == 1)
            found.update((row[0], row[1]) for row in self.connection.execute(first).all())
        return found

    def list_superseded(self, run: str | None, path: str | None, limit: int) -> list[Superseded]:
        """Return versions that were read, and whose path holds other bytes now.

        Without a run and a path that is a pass over all past versions of the session.

        Parameters
        ----------
        run, path
            Where they are; None for anywhere.
        """
        old, new = tables.files.c, tables.files.alias()
        wanted: list[Condition] = [old.end_snapshot.is_not(None), new.c.end_snapshot.is_(None)]
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
        rows = self.connection.execute(
            select(old.id, new.c.id)
            .select_from(tables.files)
            .join(tables.runs, tables.runs.c.id == old.run_id)
            .join(tables.sessions, tables.sessions.c.id == tables.runs.c.session_id)
            .join(
                new,
                and_(
                    new.c.run_id == old.run_id, new.c.path == old.path, new.c.digest != old.digest
                ),
            )
            .where(tables.sessions.c.name == self.session, *wanted, was_read)
            .order_by(old.id)
            .limit(limit)
        ).all()
        versions = self.find_by_id({each for row in rows for each in row})
        return [Superseded(versions[old_id], versions[new_id]) for old_id, new_id in rows]

    def _reached(self, condition: ColumnElement[bool]) -> list[Reached]:
        columns = tables.files.c
        rows = self.connection.execute(
            select(columns.id, tables.runs.c.name, *VERSION_FIELDS, columns.origin_id)
            .join(tables.runs, tables.runs.c.id == columns.run_id)
            .where(condition, _is_in(self.session))
        ).all()
        return [Reached(FileVersion(row[0], self.session, *row[1:-1]), row[-1]) for row in rows]


def _is_in(session: str) -> ColumnElement[bool]:
    """Return the condition that a run is of a session.

    It adds nothing to the number, so that no database begins with all runs of the session: the rows
    are few by their digests.
    """
    wanted = select(tables.sessions.c.id).where(tables.sessions.c.name == session)
    return tables.runs.c.session_id + 0 == wanted.scalar_subquery()


_RUNS_AT_ONCE: Final = 16
"""Runs whose nodes one statement names. It is filled up, so that all statements are alike and are
compiled once."""


def _by_makers(makers: Collection[Maker], table: Table) -> Iterator[ColumnElement[bool]]:
    """Yield conditions that hold for the nodes of some runs.

    An index finds a node, but not one that is null in a list, or in a comparison.
    """
    run_id, node_id = table.c.run_id, table.c.node_id
    by_run: defaultdict[int, list[str]] = defaultdict(list)
    for run, node in makers:
        if node is not None:
            by_run[run].append(node)
    named = sorted(by_run)
    for at in range(0, len(named), _RUNS_AT_ONCE):
        some = named[at : at + _RUNS_AT_ONCE]
        some += some[-1:] * (_RUNS_AT_ONCE - len(some))
        nodes = (and_(run_id == run, node_id.in_(sorted(by_run[run]))) for run in some)
        yield and_(node_id.is_not(None), or_(*nodes))
    for batch in batches(sorted({run for run, node in makers if node is None})):
        yield and_(run_id.in_(batch), node_id.is_(None))
