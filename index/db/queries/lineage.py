"""Queries on lineage: forks, copies and their originals."""

from __future__ import annotations

from collections import defaultdict
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from sqlalchemy import (
    ColumnElement,
    Text,
    and_,
    case,
    func,
    insert,
    literal,
    null,
    or_,
    select,
    tuple_,
    type_coerce,
    update,
)

from index.db import tables
from index.db.bulk import batches
from index.db.queries import counts, inputs
from index.domain.drops import content_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement, Table
    from sqlalchemy.engine import Connection

    from cas.digest import Digest

__all__ = [
    "Kin",
    "VersionKey",
    "bring_back",
    "copy_history",
    "find_first_copies",
    "find_kin",
    "find_origins",
    "find_present",
    "has_copies",
    "was_produced",
]


class VersionKey(NamedTuple):
    """The columns that a version and its copies by fork share, in every index."""

    path: str
    """As stored in the column."""
    version: int
    digest: Digest | None
    """That which it had, if its bytes were dropped."""
    created_at: datetime

    @classmethod
    def of(
        cls,
        path: str,
        version: int,
        digest: Digest | None,
        created_at: datetime,
        dropped: Mapping[str, Any] | None,
    ) -> Self:
        """Return the key of a version with these columns."""
        return cls(path, version, content_of(digest, dropped), created_at)


class Kin(NamedTuple):
    """A version with a given key: its run and its ids."""

    run: str
    id: int
    origin_id: int | None


_KEY: Final = (
    type_coerce(tables.files.c.path, Text()).label("path"),
    tables.files.c.version,
    tables.files.c.digest,
    tables.files.c.created_at,
    tables.files.c.dropped,
)
"""The arguments of `VersionKey.of`."""


def has_copies(connection: Connection, session: str) -> bool:
    """Whether any version of a session is a copy."""
    found = connection.scalar(
        select(tables.files.c.id)
        .join(tables.runs, tables.runs.c.id == tables.files.c.run_id)
        .join(tables.sessions, tables.sessions.c.id == tables.runs.c.session_id)
        .where(tables.sessions.c.name == session, tables.files.c.origin_id.is_not(None))
        .limit(1)
    )
    return found is not None


def find_origins(connection: Connection, ids: Collection[int]) -> dict[int, tuple[str, VersionKey]]:
    """Return the run and key of versions by id; deleted versions are left out."""
    found: dict[int, tuple[str, VersionKey]] = {}
    for batch in batches(sorted(ids)):
        rows = connection.execute(
            select(tables.files.c.id, tables.runs.c.name, *_KEY)
            .join(tables.runs, tables.runs.c.id == tables.files.c.run_id)
            .where(tables.files.c.id.in_(batch))
        )
        found.update((row[0], (row[1], VersionKey.of(*row[2:]))) for row in rows)
    return found


def find_first_copies(
    connection: Connection, run_id: int, origins: Collection[int]
) -> dict[int, VersionKey]:
    """Return, by origin, the key of the first copy in a run.

    The first copy in a fork comes from the original itself, and has its key.
    """
    found: dict[int, VersionKey] = {}
    columns = tables.files.c
    for batch in batches(sorted(origins)):
        rows = connection.execute(
            select(columns.origin_id, *_KEY)
            .where(columns.origin_id.in_(batch), columns.run_id == run_id)
            .order_by(columns.version.desc())
        )
        found.update((row[0], VersionKey.of(*row[1:])) for row in rows)
    return found


def find_kin(
    connection: Connection, session_id: int, keys: Iterable[VersionKey]
) -> dict[VersionKey, list[Kin]]:
    """Return the versions of a session with the given keys, those of the oldest run first."""
    wanted = set(keys)
    found: defaultdict[VersionKey, list[Kin]] = defaultdict(list)
    digests = sorted({key.digest for key in wanted if key.digest is not None})
    paths = sorted({key.path for key in wanted})
    columns = tables.files.c
    conditions: list[ColumnElement[bool]] = [
        columns.digest.in_(batch) for batch in batches(digests)
    ]
    conditions += [and_(columns.digest.is_(None), _KEY[0].in_(batch)) for batch in batches(paths)]
    for condition in conditions:
        for key, kin in _kin(connection, session_id, condition):
            if key in wanted:
                found[key].append(kin)
    return found


def _kin(
    connection: Connection, session_id: int, condition: ColumnElement[bool]
) -> Iterable[tuple[VersionKey, Kin]]:
    columns = tables.files.c
    matching = select(*_KEY, columns.id, columns.origin_id, columns.run_id).where(condition).cte()
    # By digest first: without statistics of a new session, PostgreSQL would compare each version
    # of each run with each digest.
    matching = matching.prefix_with("MATERIALIZED", dialect="postgresql")
    rows = connection.execute(
        select(
            *(matching.c[column.name] for column in _KEY),
            tables.runs.c.name,
            matching.c.id,
            matching.c.origin_id,
        )
        .join(tables.runs, tables.runs.c.id == matching.c.run_id)
        .where(tables.runs.c.session_id == session_id)
        .order_by(tables.runs.c.created_at, tables.runs.c.name)
    )
    return ((VersionKey.of(*row[:5]), Kin(row[5], row[6], row[7])) for row in rows.all())


def find_present(connection: Connection, ids: Collection[int]) -> set[int]:
    """Return those of `ids` that exist."""
    present: set[int] = set()
    for batch in batches(sorted(ids)):
        statement = select(tables.files.c.id).where(tables.files.c.id.in_(batch))
        present.update(connection.scalars(statement))
    return present


def copy_history(connection: Connection, source: int, target: int, snapshot: int) -> None:
    """Copy the snapshots, versions and inputs of a run, up to a snapshot, to a new run."""
    rows = tables.snapshots.c
    _copy(
        connection,
        tables.snapshots,
        {**_copied(tables.snapshots), "run_id": literal(target)},
        rows.run_id == source,
        rows.number <= snapshot,
    )
    columns = tables.files.c
    ended_later = columns.end_snapshot > snapshot
    _copy(
        connection,
        tables.files,
        {
            **_copied(tables.files),
            "run_id": literal(target),
            "end_snapshot": case((ended_later, null()), else_=columns.end_snapshot),
            "origin_id": _original(),
        },
        columns.run_id == source,
        columns.first_snapshot <= snapshot,
        # A version without bytes ended at once. Without that end it would be current.
        or_(columns.digest.is_not(None), and_(columns.end_snapshot <= snapshot)),
    )
    inputs.copy(connection, source, target, snapshot)
    _take_back_condemned(connection, target)
    counts.count_again(connection, target)


def bring_back(connection: Connection, ids: Sequence[int], snapshot: int, now: datetime) -> None:
    """Make past versions of a run current again, as new versions of their paths."""
    columns = tables.files.c
    newer = tables.files.alias()
    newest = (
        select(func.max(newer.c.version))
        .where(newer.c.run_id == columns.run_id, newer.c.path == columns.path)
        .scalar_subquery()
    )
    for batch in batches(ids):
        _copy(
            connection,
            tables.files,
            {
                **_copied(tables.files),
                "version": newest + 1,
                "created_at": literal(now, tables.files.c.created_at.type),
                # The work directory may hold other content: the next scan must read it.
                "signature": null(),
                "first_snapshot": literal(snapshot),
                "end_snapshot": null(),
                "origin_id": _original(),
            },
            columns.id.in_(batch),
        )
    counts.add_copied(connection, ids)


def _copied(table: Table) -> dict[str, Any]:
    """Return the columns that a copy takes from its original: all except the id."""
    return {column.name: column for column in table.c if column.name != "id"}


def _copy(
    connection: Connection,
    table: Table,
    values: dict[str, Any],
    *conditions: ColumnElement[bool],
) -> None:
    source = select(*values.values()).select_from(table).where(*conditions)
    connection.execute(insert(table).from_select(list(values), source, include_defaults=False))


def _original() -> ColumnElement[int]:
    """Return the original of a row: the version itself, or the one it was copied from."""
    return func.coalesce(tables.files.c.origin_id, tables.files.c.id)


def _take_back_condemned(connection: Connection, run_id: int) -> None:
    """Clear the condemned mark of the blobs that a run refers to now."""
    wanted = select(tables.files.c.digest).where(tables.files.c.run_id == run_id)
    connection.execute(
        update(tables.blobs)
        .where(tables.blobs.c.condemned_at.is_not(None), tables.blobs.c.digest.in_(wanted))
        .values(condemned_at=None)
    )


@cache
def was_produced() -> ColumnElement[bool]:
    """Return the condition that a version was produced, not copied by a fork or a rewind.

    If the original is deleted, its oldest copy takes its place. Copies by fork have the time of the
    original: of these, the one in the oldest run. The statement joins the runs.
    """
    origin, older, its_run = tables.files.alias(), tables.files.alias(), tables.runs.alias()
    mine, my_run = tables.files.c, tables.runs.c
    is_older = tuple_(
        older.c.created_at, its_run.c.created_at, its_run.c.name, older.c.version
    ) < tuple_(mine.created_at, my_run.created_at, my_run.name, mine.version)
    return or_(
        mine.origin_id.is_(None),
        and_(
            ~select(origin.c.id).where(origin.c.id == mine.origin_id).exists(),
            ~select(older.c.id)
            .join(its_run, its_run.c.id == older.c.run_id)
            .where(older.c.origin_id == mine.origin_id, is_older)
            .exists(),
        ),
    )
