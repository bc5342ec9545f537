"""Queries on the journal: the chains of records of runs, and backups of the index."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, func, insert, literal, or_, select

from index.db import tables
from index.db.bulk import insert_rows

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from sqlalchemy import ColumnElement, Select
    from sqlalchemy.engine import Connection

    from cas.digest import Digest

__all__ = [
    "append",
    "copy",
    "count_useless",
    "forget_lost",
    "forget_useless",
    "insert_absent",
    "insert_backup",
    "insert_loose",
    "list_damaged_chains",
    "list_damaged_digests",
    "remove",
]


def append(connection: Connection, run_id: int, after: int, digests: Iterable[bytes]) -> None:
    """Append records to a run's chain, after the position of its newest one (0 for none)."""
    rows = [(run_id, position, d) for position, d in enumerate(digests, after + 1)]
    insert_rows(connection, tables.records, ("run_id", "position", "digest"), rows)


def copy(connection: Connection, source: int, target: int) -> None:
    """Copy the chain of a run to another run, so that it outlives the first."""
    columns = tables.records.c
    rows = (
        select(literal(target), columns.position, columns.digest)
        .where(columns.run_id == source)
        .order_by(columns.position)
    )
    names = ["run_id", "position", "digest"]
    connection.execute(insert(tables.records).from_select(names, rows))


def remove(connection: Connection, run_id: int) -> None:
    """Delete a run's chain, so that a new one can begin."""
    connection.execute(delete(tables.records).where(tables.records.c.run_id == run_id))


def insert_loose(connection: Connection, digest: bytes) -> None:
    """Insert a record that outlives the runs that it describes."""
    newest = select(func.coalesce(func.max(tables.records.c.position), 0) + 1).where(
        tables.records.c.run_id.is_(None)
    )
    connection.execute(
        insert(tables.records).values(run_id=None, position=newest.scalar_subquery(), digest=digest)
    )


def list_damaged_chains(connection: Connection) -> list[tuple[str, str]]:
    """Return the session and name of runs with a damaged record in their chain."""
    rows = connection.execute(
        select(tables.sessions.c.name, tables.runs.c.name)
        .join(tables.runs, tables.runs.c.session_id == tables.sessions.c.id)
        .where(tables.runs.c.id.in_(select(tables.records.c.run_id).where(_is_damaged())))
        .order_by(tables.sessions.c.name, tables.runs.c.name)
    )
    return [(session, run) for session, run in rows]


def list_damaged_digests(connection: Connection) -> list[Digest]:
    """Return the digests of damaged records, and of all blobs that unusable backups need."""
    backups = tables.backups.c
    useless = select(backups.id).where(_is_useless())
    digests = set(connection.scalars(select(tables.records.c.digest).where(_is_damaged())))
    for column in (backups.digest, backups.record):
        digests.update(connection.scalars(select(column).where(backups.id.in_(useless))))
    chunks = (
        select(tables.blob_chunks.c.chunk)
        .join(tables.backups, backups.digest == tables.blob_chunks.c.blob)
        .where(backups.id.in_(useless))
    )
    digests.update(connection.scalars(chunks))
    return sorted(digests)


def count_useless(connection: Connection) -> int:
    """Return the number of deletion records and backups that can't be read any more."""
    records = tables.records.c
    loose = select(func.count()).where(records.run_id.is_(None), _is_damaged())
    copies = select(func.count()).select_from(tables.backups).where(_is_useless())
    return (connection.scalar(loose) or 0) + (connection.scalar(copies) or 0)


def forget_useless(connection: Connection) -> int:
    """Delete the rows of deletion records and backups that can't be read; return the number."""
    records = tables.records.c
    loose = delete(tables.records).where(records.run_id.is_(None), _is_damaged())
    copies = delete(tables.backups).where(_is_useless())
    return connection.execute(loose).rowcount + connection.execute(copies).rowcount


def _is_damaged() -> ColumnElement[bool]:
    """Return the condition that a record's bytes are damaged."""
    return tables.records.c.digest.in_(_damaged())


def _is_useless() -> ColumnElement[bool]:
    """Return the condition that a backup of the index, or its record, is damaged."""
    copies = tables.backups.c
    in_pieces = select(tables.blob_chunks.c.blob).where(
        tables.blob_chunks.c.blob == copies.digest, tables.blob_chunks.c.chunk.in_(_damaged())
    )
    return or_(copies.digest.in_(_damaged()), copies.record.in_(_damaged()), in_pieces.exists())


def _damaged() -> Select[tuple[Digest]]:
    return select(tables.blobs.c.digest).where(tables.blobs.c.damaged_at.is_not(None))


def insert_backup(
    connection: Connection, digest: Digest, record: Digest, now: datetime, *, keep: int
) -> int:
    """Insert a backup, and drop the oldest ones beyond `keep`; return how many there are."""
    columns = tables.backups.c
    connection.execute(insert(tables.backups).values(digest=digest, record=record, created_at=now))
    newest = select(columns.id).order_by(columns.created_at.desc(), columns.id.desc()).limit(keep)
    connection.execute(delete(tables.backups).where(columns.id.not_in(newest)))
    return connection.scalar(select(func.count()).select_from(tables.backups)) or 0


def insert_absent(
    connection: Connection, digest: Digest, record: Digest, created_at: datetime
) -> None:
    """Insert a backup found in storage, unless the index has it."""
    known = connection.scalar(select(tables.backups.c.id).where(tables.backups.c.record == record))
    if known is None:
        connection.execute(
            insert(tables.backups).values(digest=digest, record=record, created_at=created_at)
        )


def forget_lost(connection: Connection) -> int:
    """Delete backups whose bytes or records are missing; return the number."""
    columns, blobs = tables.backups.c, tables.blobs.c
    damaged = select(blobs.digest).where(blobs.damaged_at.is_not(None))
    lost = or_(columns.digest.in_(damaged), columns.record.in_(damaged))
    return connection.execute(delete(tables.backups).where(lost)).rowcount
