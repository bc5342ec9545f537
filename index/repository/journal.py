"""The chain of records that a run has in storage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, func, insert, literal, select

from index import tables
from index.bulk import insert_rows

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.engine import Connection

__all__ = ["append", "copy", "insert_loose", "remove"]


def append(connection: Connection, run_id: int, after: int, digests: Iterable[bytes]) -> None:
    """Add records to a run's chain, behind the position of its newest one (0 for none)."""
    rows = [(run_id, position, d) for position, d in enumerate(digests, after + 1)]
    insert_rows(connection, tables.records, ("run_id", "position", "digest"), rows)


def copy(connection: Connection, source: int, target: int) -> None:
    """Give a run the chain of another, so that it outlives that."""
    columns = tables.records.c
    rows = (
        select(literal(target), columns.position, columns.digest)
        .where(columns.run_id == source)
        .order_by(columns.position)
    )
    names = ["run_id", "position", "digest"]
    connection.execute(insert(tables.records).from_select(names, rows))


def remove(connection: Connection, run_id: int) -> None:
    """Forget a run's chain, for a new one to begin."""
    connection.execute(delete(tables.records).where(tables.records.c.run_id == run_id))


def insert_loose(connection: Connection, digest: bytes) -> None:
    """Add a record that outlives the runs that it tells of."""
    newest = select(func.coalesce(func.max(tables.records.c.position), 0) + 1).where(
        tables.records.c.run_id.is_(None)
    )
    connection.execute(
        insert(tables.records).values(run_id=None, position=newest.scalar_subquery(), digest=digest)
    )
