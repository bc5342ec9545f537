"""Packs and large blobs that are to be verified, and what was found of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import and_, delete, func, select, tuple_, update

from cas.catalog import Location
from index.db import tables
from index.db.bulk import batches
from index.db.queries.holders import is_needed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from cas.digest import Digest

__all__ = [
    "LargeRow",
    "VerifiablePack",
    "clear_large",
    "count_damaged",
    "find_damaged",
    "forget_list",
    "list_chunk_lists",
    "list_large",
    "list_packs",
    "locate_in_packs",
    "mark_blobs",
    "mark_large",
    "note_verified",
    "oldest_verified",
    "packs_of",
    "without_damage",
]


class VerifiablePack(NamedTuple):
    """A pack as the index has it."""

    id: int
    name: Digest
    size: int
    state: str
    verified_at: datetime | None


class LargeRow(NamedTuple):
    """A large blob as the index has it."""

    digest: Digest
    size: int
    verified_at: datetime | None


def list_packs(connection: Connection, ids: Sequence[int] | None = None) -> list[VerifiablePack]:
    """Return all packs, or those of `ids`."""
    packs = tables.packs.c
    statement = select(packs.id, packs.name, packs.size, packs.state, packs.verified_at)
    if ids is None:
        return [VerifiablePack(*row) for row in connection.execute(statement)]
    return [
        VerifiablePack(*row)
        for batch in batches(ids)
        for row in connection.execute(statement.where(packs.id.in_(batch)))
    ]


def list_large(connection: Connection, digests: Sequence[Digest] | None = None) -> list[LargeRow]:
    """Return all large blobs, or those of `digests`."""
    blobs = tables.blobs.c
    statement = select(blobs.digest, blobs.size, blobs.verified_at).where(blobs.pack_id.is_(None))
    if digests is None:
        return [LargeRow(*row) for row in connection.execute(statement)]
    return [
        LargeRow(*row)
        for batch in batches(digests)
        for row in connection.execute(statement.where(blobs.digest.in_(batch)))
    ]


def locate_in_packs(
    connection: Connection, packs: Sequence[VerifiablePack]
) -> dict[int, dict[Digest, Location]]:
    """Return what the rows have in each of some packs, by pack id."""
    blobs = tables.blobs.c
    found: dict[int, dict[Digest, Location]] = {pack.id: {} for pack in packs}
    names = {pack.id: pack.name for pack in packs}
    for batch in batches(list(found)):
        rows = connection.execute(
            select(
                blobs.pack_id, blobs.digest, blobs.pack_offset, blobs.stored_size, blobs.size,
                blobs.codec,
            ).where(blobs.pack_id.in_(batch))
        )  # fmt: skip
        for pack_id, digest, *place in rows:
            found[pack_id][digest] = Location(names[pack_id], *place)
    return found


def packs_of(connection: Connection, digests: Sequence[Digest]) -> list[VerifiablePack]:
    """Return the packs that some blobs are in."""
    blobs = tables.blobs.c
    ids = {
        pack_id
        for batch in batches(digests)
        for pack_id in connection.scalars(
            select(blobs.pack_id).where(blobs.digest.in_(batch), blobs.pack_id.is_not(None))
        )
    }
    return list_packs(connection, sorted(ids))


def list_chunk_lists(
    connection: Connection, packs: Sequence[VerifiablePack]
) -> dict[Digest, Digest]:
    """Return the chunk lists that are in some packs, each with the large blob that it is of."""
    lists = tables.chunk_lists.c
    return {
        digest: blob
        for batch in batches([pack.id for pack in packs])
        for digest, blob in connection.execute(
            select(lists.list, lists.blob)
            .join(tables.blobs, tables.blobs.c.digest == lists.list)
            .where(tables.blobs.c.pack_id.in_(batch))
        )
    }


def note_verified(connection: Connection, ids: Sequence[int], now: datetime) -> int:
    """Note packs as whole, and with them every blob in them; return how many were damaged."""
    recovered = 0
    for batch in batches(sorted(ids)):
        recovered += connection.execute(
            update(tables.blobs)
            .where(tables.blobs.c.pack_id.in_(batch), tables.blobs.c.damaged_at.is_not(None))
            .values(damaged_at=None, verified_at=now)
        ).rowcount
        connection.execute(
            update(tables.packs).where(tables.packs.c.id.in_(batch)).values(verified_at=now)
        )
    return recovered


def mark_blobs(
    connection: Connection,
    pack: VerifiablePack,
    located: Mapping[Digest, Location],
    damaged: Collection[Digest],
    now: datetime,
) -> int:
    """Note which blobs of a faulty pack are damaged; return how many of the others had been.

    Of the others it is noted that they are right, although their pack is not: `repair` carries
    them elsewhere. A row that leads elsewhere by now is left alone.
    """
    blobs = tables.blobs.c
    for batch in batches(sorted(damaged)):
        places = [(digest, located[digest].offset) for digest in batch]
        connection.execute(
            update(tables.blobs)
            .where(
                blobs.pack_id == pack.id,
                tuple_(blobs.digest, blobs.pack_offset).in_(places),
                blobs.damaged_at.is_(None),
            )
            .values(damaged_at=now, verified_at=None)
        )
    recovered = 0
    for batch in batches(sorted(located.keys() - set(damaged))):
        right = and_(blobs.pack_id == pack.id, blobs.digest.in_(batch))
        recovered += connection.execute(
            update(tables.blobs).where(right, blobs.damaged_at.is_not(None)).values(damaged_at=None)
        ).rowcount
        connection.execute(update(tables.blobs).where(right).values(verified_at=now))
    connection.execute(
        update(tables.packs).where(tables.packs.c.id == pack.id).values(verified_at=None)
    )
    return recovered


def mark_large(connection: Connection, now: datetime, *, digests: Collection[Digest]) -> None:
    """Note that the chunks of large blobs are not what makes them up."""
    blobs = tables.blobs.c
    for batch in batches(sorted(digests)):
        connection.execute(
            update(tables.blobs)
            .where(blobs.digest.in_(batch), blobs.pack_id.is_(None), blobs.damaged_at.is_(None))
            .values(damaged_at=now, verified_at=None)
        )


def forget_list(connection: Connection, _now: datetime, *, blob: Digest, digest: Digest) -> None:
    """Let go of what is known as a large blob's list of chunks and is not that."""
    lists = tables.chunk_lists.c
    connection.execute(delete(tables.chunk_lists).where(lists.blob == blob, lists.list == digest))


def clear_large(connection: Connection, digests: Collection[Digest], now: datetime) -> int:
    """Note large blobs as whole; return how many were damaged."""
    blobs = tables.blobs.c
    recovered = 0
    for batch in batches(sorted(digests)):
        whole = and_(blobs.digest.in_(batch), blobs.pack_id.is_(None))
        recovered += connection.execute(
            update(tables.blobs).where(whole, blobs.damaged_at.is_not(None)).values(damaged_at=None)
        ).rowcount
        connection.execute(update(tables.blobs).where(whole).values(verified_at=now))
    return recovered


def without_damage(connection: Connection, large: Sequence[Digest]) -> set[Digest]:
    """Return those of some large blobs none of whose chunks is known to be damaged."""
    chunks, blobs = tables.blob_chunks.c, tables.blobs.c
    broken: set[Digest] = set()
    for batch in batches(large):
        broken.update(
            connection.scalars(
                select(chunks.blob)
                .join(tables.blobs, blobs.digest == chunks.chunk)
                .where(chunks.blob.in_(batch), blobs.damaged_at.is_not(None))
            )
        )
    return set(large) - broken


def count_damaged(connection: Connection) -> int:
    """Return how many blobs are known to be damaged."""
    return (
        connection.scalar(
            select(func.count())
            .select_from(tables.blobs)
            .where(tables.blobs.c.damaged_at.is_not(None))
        )
        or 0
    )


def find_damaged(connection: Connection, limit: int) -> Iterator[tuple[Digest, datetime]]:
    """Yield blobs that are known to be damaged and that something needs, and since when."""
    blobs = tables.blobs.c
    yield from (
        (digest, since)
        for digest, since in connection.execute(
            select(blobs.digest, blobs.damaged_at)
            .where(blobs.damaged_at.is_not(None), is_needed())
            .order_by(blobs.digest)
            .limit(limit)
        )
    )


def oldest_verified(connection: Connection) -> datetime | None:
    """Return when the live pack that was not verified for the longest was; None if never."""
    packs = tables.packs.c
    unverified, oldest = connection.execute(
        select(func.count().filter(packs.verified_at.is_(None)), func.min(packs.verified_at)).where(
            packs.state == "live"
        )
    ).one()
    return None if unverified else oldest
