"""Copies of the index that lie in storage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, func, insert, or_, select

from index import tables

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from cas.digest import Digest

__all__ = ["forget_lost", "insert_absent", "insert_backup"]


def insert_backup(
    connection: Connection, digest: Digest, record: Digest, now: datetime, *, keep: int
) -> int:
    """Note a copy, and let go of the oldest ones; return how many there are."""
    columns = tables.backups.c
    connection.execute(insert(tables.backups).values(digest=digest, record=record, created_at=now))
    newest = select(columns.id).order_by(columns.created_at.desc(), columns.id.desc()).limit(keep)
    connection.execute(delete(tables.backups).where(columns.id.not_in(newest)))
    return connection.scalar(select(func.count()).select_from(tables.backups)) or 0


def insert_absent(
    connection: Connection, digest: Digest, record: Digest, created_at: datetime
) -> None:
    """Note a copy that was found in storage, unless it is noted."""
    known = connection.scalar(select(tables.backups.c.id).where(tables.backups.c.record == record))
    if known is None:
        connection.execute(
            insert(tables.backups).values(digest=digest, record=record, created_at=created_at)
        )


def forget_lost(connection: Connection) -> int:
    """Forget copies whose bytes, or whose records, are missing; return how many."""
    columns, blobs = tables.backups.c, tables.blobs.c
    damaged = select(blobs.digest).where(blobs.damaged_at.is_not(None))
    lost = or_(columns.digest.in_(damaged), columns.record.in_(damaged))
    return connection.execute(delete(tables.backups).where(lost)).rowcount
