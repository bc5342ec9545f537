"""Copies and what they are copies of, by what a version is in every index."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

from sqlalchemy import ColumnElement, Text, and_, select, type_coerce

from index import tables
from index.bulk import batches

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from cas.digest import Digest

__all__ = [
    "Kin",
    "VersionKey",
    "find_first_copies",
    "find_kin",
    "find_origins",
    "find_present",
    "has_copies",
]


class VersionKey(NamedTuple):
    """What a version and its copies by fork have in common, in every index."""

    path: str
    """As the column has it."""
    version: int
    digest: Digest | None
    created_at: datetime


class Kin(NamedTuple):
    """A version with some key: whose it is, and its ids."""

    run: str
    id: int
    origin_id: int | None


_KEY: Final = (
    type_coerce(tables.files.c.path, Text()).label("path"),
    tables.files.c.version,
    tables.files.c.digest,
    tables.files.c.created_at,
)


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
    """Return run and key of versions by id, without those that are gone."""
    found: dict[int, tuple[str, VersionKey]] = {}
    for batch in batches(sorted(ids)):
        rows = connection.execute(
            select(tables.files.c.id, tables.runs.c.name, *_KEY)
            .join(tables.runs, tables.runs.c.id == tables.files.c.run_id)
            .where(tables.files.c.id.in_(batch))
        )
        found.update((row[0], (row[1], VersionKey(*row[2:]))) for row in rows)
    return found


def find_first_copies(
    connection: Connection, run_id: int, origins: Collection[int]
) -> dict[int, VersionKey]:
    """Return, by origin, the key of the first copy that a run has of it.

    A run has copies of what it was forked with: the first is of the original itself, with its key.
    """
    found: dict[int, VersionKey] = {}
    columns = tables.files.c
    for batch in batches(sorted(origins)):
        rows = connection.execute(
            select(columns.origin_id, *_KEY)
            .where(columns.origin_id.in_(batch), columns.run_id == run_id)
            .order_by(columns.version.desc())
        )
        found.update((row[0], VersionKey(*row[1:])) for row in rows)
    return found


def find_kin(
    connection: Connection, session_id: int, keys: Iterable[VersionKey]
) -> dict[VersionKey, list[Kin]]:
    """Return the versions of a session that have some keys, oldest first."""
    wanted = set(keys)
    found: defaultdict[VersionKey, list[Kin]] = defaultdict(list)
    digests = sorted({key.digest for key in wanted if key.digest is not None})
    paths = sorted({key.path for key in wanted if key.digest is None})
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
    # By digest first: for a session of which it has no statistics yet, PostgreSQL would compare
    # each version of each run with each digest.
    matching = matching.prefix_with("MATERIALIZED", dialect="postgresql")
    rows = connection.execute(
        select(
            *(matching.c[name] for name in VersionKey._fields),
            tables.runs.c.name,
            matching.c.id,
            matching.c.origin_id,
        )
        .join(tables.runs, tables.runs.c.id == matching.c.run_id)
        .where(tables.runs.c.session_id == session_id)
        .order_by(matching.c.id)
    )
    return ((VersionKey(*row[:4]), Kin(row[4], row[5], row[6])) for row in rows.all())


def find_present(connection: Connection, ids: Collection[int]) -> set[int]:
    """Return those of some ids that a version has."""
    present: set[int] = set()
    for batch in batches(sorted(ids)):
        statement = select(tables.files.c.id).where(tables.files.c.id.in_(batch))
        present.update(connection.scalars(statement))
    return present
