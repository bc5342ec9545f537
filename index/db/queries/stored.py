"""The query that tells how a blob is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import func, select

from index.db import tables
from index.db.queries.blobs import SHARE
from index.domain.reports import StoredBlob

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from cas.digest import Digest

__all__ = ["find_stored"]

_TOLD: Final = 8
"""Packs of a large blob that are named."""


def find_stored(connection: Connection, digest: Digest) -> StoredBlob | None:
    """Return how a blob is stored; None if there is none."""
    blobs, packs, pieces = tables.blobs.c, tables.packs.c, tables.blob_chunks.c
    row = connection.execute(
        select(
            blobs.size, blobs.created_at, blobs.verified_at, blobs.damaged_at, SHARE,
            packs.name, packs.verified_at,
        )
        .select_from(tables.blobs)
        .outerjoin(tables.packs, packs.id == blobs.pack_id)
        .where(blobs.digest == digest)
    ).first()  # fmt: skip
    if row is None:
        return None
    size, created_at, verified_at, damaged_at, stored, pack, pack_verified_at = row
    if pack is not None:
        times = [each for each in (verified_at, pack_verified_at) if each is not None]
        verified_at = None if damaged_at is not None else max(times, default=None)
        return StoredBlob(
            digest, size, int(stored), 1, (pack,), created_at, verified_at, damaged_at
        )
    # A chunk that occurs twice is stored once.
    chunks = select(pieces.chunk).where(pieces.blob == digest).distinct().subquery()
    mine = select(tables.blobs).join(chunks, chunks.c.chunk == blobs.digest)
    count, stored = connection.execute(
        mine.with_only_columns(func.count(), func.coalesce(func.sum(SHARE), 0))
    ).one()
    names = connection.scalars(
        mine.with_only_columns(packs.name)
        .join(tables.packs, packs.id == blobs.pack_id)
        .distinct()
        .order_by(packs.name)
        .limit(_TOLD)
    ).all()
    return StoredBlob(
        digest, size, int(stored), count, tuple(names), created_at, verified_at, damaged_at
    )
