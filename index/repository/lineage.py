"""Copies and what they are copies of, by what a version is in every index."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Text, and_, select, type_coerce

from index import tables
from index.bulk import batches

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from cas.digest import Digest

__all__ = ["Kin", "VersionKey", "find_first_copies", "find_kin", "find_origins", "has_copies"]


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
    is_orphan: bool
    """Whether it is a copy of what is not there."""


_KEY: Final = (
    type_coerce(tables.files.c.path, Text()),
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
    origin: Any = tables.files.alias()
    rows = connection.execute(
        select(
            *_KEY,
            tables.runs.c.name,
            tables.files.c.id,
            tables.files.c.origin_id,
            and_(tables.files.c.origin_id.is_not(None), origin.c.id.is_(None)),
        )
        .join(tables.runs, tables.runs.c.id == tables.files.c.run_id)
        .outerjoin(origin, origin.c.id == tables.files.c.origin_id)
        .where(condition, tables.runs.c.session_id == session_id)
        .order_by(tables.files.c.id)
    )
    return ((VersionKey(*row[:4]), Kin(*row[4:])) for row in rows.all())
