"""Queries on packs and large blobs for verification, and for its results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import and_, delete, func, or_, select, tuple_, update

from cas.catalog import Location
from cas.digest import Digest
from cas.packs.pack import EntryKind
from index.db import tables
from index.db.bulk import batches, run_over
from index.db.queries.blobs import PLACE
from index.db.queries.holders import is_needed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement
    from sqlalchemy.engine import Connection

__all__ = [
    "NO_CONTENT",
    "LargeRow",
    "VerifiablePack",
    "clear_large",
    "count_damaged",
    "find_damaged",
    "forget_list",
    "is_content",
    "list_chunk_lists",
    "list_kinds",
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


NO_CONTENT: Final = (
    (tables.chunk_lists.c.list, EntryKind.CHUNK_LIST),
    (tables.records.c.digest, EntryKind.RECORD),
    (tables.backups.c.record, EntryKind.RECORD),
)
"""Columns that refer to entries other than content, with the kind of these."""


_LOCATE: Final = (
    f"SELECT pack_id, digest, {', '.join(column.name for column in PLACE)}"  # noqa: S608 - names of our own columns
    " FROM cas_blobs WHERE pack_id {wanted}"
)


class VerifiablePack(NamedTuple):
    """A pack as the index describes it."""

    id: int
    name: Digest
    size: int
    state: str
    verified_at: datetime | None


class LargeRow(NamedTuple):
    """A large blob as the index describes it."""

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
    """Return the blobs and locations that rows have in each pack, by pack id."""
    found: dict[int, dict[Digest, Location]] = {pack.id: {} for pack in packs}
    names = {pack.id: pack.name for pack in packs}
    new = bytes.__new__
    for batch in batches(list(found)):
        rows: Iterable[Any] = run_over(connection, _LOCATE, tables.blobs.c.pack_id, batch).all()
        for pack_id, digest, *place in rows:
            found[pack_id][new(Digest, digest)] = Location(names[pack_id], *place)
    return found


def packs_of(connection: Connection, digests: Sequence[Digest]) -> list[VerifiablePack]:
    """Return the packs that hold the given blobs."""
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
    """Return the chunk lists in the given packs, each with its large blob."""
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


def list_kinds(connection: Connection, packs: Sequence[VerifiablePack]) -> dict[Digest, EntryKind]:
    """Return the kinds that entries in the given packs must have, without those of content."""
    found: dict[Digest, EntryKind] = {}
    for column, kind in NO_CONTENT:
        for batch in batches([pack.id for pack in packs]):
            digests = connection.scalars(
                select(column)
                .join(tables.blobs, tables.blobs.c.digest == column)
                .where(tables.blobs.c.pack_id.in_(batch), ~is_content(column))
            )
            found.update(dict.fromkeys(digests, kind))
    return found


def is_content(column: ColumnElement[Any]) -> ColumnElement[bool]:
    """Return the condition that a file or a large blob refers to a blob; then it is content.

    A damaged row may say that it is something else too.
    """
    files, chunks = tables.files.c.digest, tables.blob_chunks.c.chunk
    return or_(*(select(to).where(to == column).exists() for to in (files, chunks)))


def note_verified(connection: Connection, ids: Sequence[int], now: datetime) -> int:
    """Mark packs and all their blobs as verified; return how many blobs were damaged before."""
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
    """Mark the damaged blobs of a faulty pack; return how many other blobs had been damaged.

    The other blobs are marked as verified although their pack is faulty: `repair` copies them to
    another pack. Rows that point elsewhere by now stay unchanged.
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
    """Mark large blobs as damaged because their chunks don't add up to them."""
    blobs = tables.blobs.c
    for batch in batches(sorted(digests)):
        connection.execute(
            update(tables.blobs)
            .where(blobs.digest.in_(batch), blobs.pack_id.is_(None), blobs.damaged_at.is_(None))
            .values(damaged_at=now, verified_at=None)
        )


def forget_list(connection: Connection, _now: datetime, *, blob: Digest, digest: Digest) -> None:
    """Delete the row of a wrong chunk list of a large blob."""
    lists = tables.chunk_lists.c
    connection.execute(delete(tables.chunk_lists).where(lists.blob == blob, lists.list == digest))


def clear_large(connection: Connection, digests: Collection[Digest], now: datetime) -> int:
    """Mark large blobs as verified; return how many were damaged before."""
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
    """Return those of `large` without a damaged chunk."""
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
    """Return the number of blobs marked as damaged."""
    return (
        connection.scalar(
            select(func.count())
            .select_from(tables.blobs)
            .where(tables.blobs.c.damaged_at.is_not(None))
        )
        or 0
    )


def find_damaged(connection: Connection, limit: int) -> Iterator[tuple[Digest, datetime]]:
    """Yield damaged blobs that something needs, each with the time it was marked."""
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
    """Return the oldest verification time among live packs; None if one was never verified."""
    packs = tables.packs.c
    unverified, oldest = connection.execute(
        select(func.count().filter(packs.verified_at.is_(None)), func.min(packs.verified_at)).where(
            packs.state == "live"
        )
    ).one()
    return None if unverified else oldest
