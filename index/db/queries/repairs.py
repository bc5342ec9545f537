"""Queries that repair rows: point them to intact bytes, and away from damaged objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from sqlalchemy import BigInteger, and_, bindparam, delete, func, or_, select, update

from cas.packs.pack import EntryKind
from index.db import tables
from index.db.bulk import batches, insert_rows
from index.db.queries.blobs import PLACE_NAMES
from index.db.queries.holders import is_needed
from index.db.queries.verification import NO_CONTENT, VerifiablePack, is_content

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from cas.catalog import ChunkedBlob, Location
    from cas.digest import Digest

__all__ = [
    "DamagedRow",
    "bury_pack",
    "count_needed",
    "forget_lists",
    "forget_unneeded",
    "kinds_of",
    "lead",
    "list_damaged",
    "list_doubtful_packs",
    "list_unlisted",
    "lists_of",
    "places_in_large",
    "replace_chunks",
    "replaceable_lists",
]


class DamagedRow(NamedTuple):
    """A blob that is marked as damaged."""

    digest: Digest
    size: int
    is_large: bool


def list_damaged(connection: Connection) -> list[DamagedRow]:
    """Return all blobs that are marked as damaged."""
    blobs = tables.blobs.c
    rows = connection.execute(
        select(blobs.digest, blobs.size, blobs.pack_id.is_(None))
        .where(blobs.damaged_at.is_not(None))
        .order_by(blobs.digest)
    )
    return [DamagedRow(*row) for row in rows]


def count_needed(connection: Connection) -> int:
    """Return the number of damaged blobs that something needs."""
    damaged = and_(tables.blobs.c.damaged_at.is_not(None), is_needed())
    return connection.scalar(select(func.count()).select_from(tables.blobs).where(damaged)) or 0


def kinds_of(connection: Connection, digests: Collection[Digest]) -> dict[Digest, EntryKind]:
    """Return the kind of entry of each blob, judged by what refers to it."""
    kinds = dict.fromkeys(digests, EntryKind.BLOB)
    for batch in batches(sorted(digests)):
        for column, kind in NO_CONTENT:
            wanted = (column.in_(batch), ~is_content(column))
            found = connection.scalars(select(column).where(*wanted))
            kinds.update(dict.fromkeys(found, kind))
    return kinds


def list_doubtful_packs(connection: Connection) -> list[VerifiablePack]:
    """Return the packs that may be damaged; some of them may be intact.

    These are packs with a damaged blob; packs with blobs that are not live; packs with verified
    blobs that are not verified as a whole, as `mark_blobs` leaves them; and unverified packs
    without blobs.
    """
    blobs, packs = tables.blobs.c, tables.packs.c
    within = blobs.pack_id == packs.id
    damaged = select(blobs.digest).where(within, blobs.damaged_at.is_not(None)).exists()
    verified = select(blobs.digest).where(within, blobs.verified_at.is_not(None)).exists()
    used = select(blobs.digest).where(within).exists()
    unverified = and_(packs.state == "live", packs.verified_at.is_(None))
    statement = select(packs.id, packs.name, packs.size, packs.state, packs.verified_at).where(
        or_(damaged, and_(packs.state != "live", used), and_(unverified, or_(verified, ~used)))
    )
    return [VerifiablePack(*row) for row in connection.execute(statement.order_by(packs.id))]


_NEW: Final = tuple(f"new_{name}" for name in PLACE_NAMES)


def lead(connection: Connection, places: Iterable[tuple[Digest, Location, Location | None]]) -> int:
    """Point the rows of blobs to other places; return the number changed.

    Each item is the digest, the new place and the old place. A row stays unchanged if it no longer
    has the old place, if the old place is None and the blob is no longer damaged, or if the new
    pack is not live.
    """
    blobs, packs = tables.blobs.c, tables.packs.c
    # In order of digest, so two writers lock rows in the same order.
    ordered = sorted(places, key=lambda place: place[0])
    names = {place.pack for _, *both in ordered for place in both if place is not None}
    ids: dict[Digest, tuple[int, str]] = {}
    for batch in batches(sorted(names)):
        found = select(packs.name, packs.id, packs.state).where(packs.name.in_(batch))
        ids.update((name, (pack_id, state)) for name, pack_id, state in connection.execute(found))
    moved = [
        {
            "moved": digest,
            **dict(zip(_NEW, (ids[new.pack][0], *new[1:]), strict=True)),
            "old_pack": None if old is None else ids.get(old.pack, (None, ""))[0],
            "old_offset": None if old is None else old.offset,
        }
        for digest, new, old in ordered
        if ids.get(new.pack, (0, ""))[1] == "live"
    ]
    if not moved:
        return 0
    same = and_(
        blobs.pack_id == bindparam("old_pack"), blobs.pack_offset == bindparam("old_offset")
    )
    anywhere = and_(
        bindparam("old_pack", type_=BigInteger()).is_(None), blobs.damaged_at.is_not(None)
    )
    return connection.execute(
        update(tables.blobs)
        .where(blobs.digest == bindparam("moved"), or_(same, anywhere))
        .values(
            {name: bindparam(new) for name, new in zip(PLACE_NAMES, _NEW, strict=True)}
            | {"damaged_at": None, "verified_at": None}
        ),
        moved,
    ).rowcount


def lists_of(connection: Connection, large: Collection[Digest]) -> dict[Digest, Digest]:
    """Return the chunk lists of large blobs, by blob."""
    columns = tables.chunk_lists.c
    return {
        blob: digest
        for batch in batches(sorted(large))
        for blob, digest in connection.execute(
            select(columns.blob, columns.list).where(columns.blob.in_(batch))
        )
    }


def replace_chunks(connection: Connection, now: datetime, *, blob: ChunkedBlob) -> None:
    """Replace the chunks of a large blob with the right ones."""
    connection.execute(delete(tables.blob_chunks).where(tables.blob_chunks.c.blob == blob.digest))
    insert_rows(
        connection,
        tables.blob_chunks,
        ("blob", "position", "chunk"),
        [(blob.digest, position, chunk) for position, chunk in enumerate(blob.chunks)],
    )
    connection.execute(
        update(tables.blobs)
        .where(tables.blobs.c.digest == blob.digest, tables.blobs.c.pack_id.is_(None))
        .values(size=blob.size, damaged_at=None, verified_at=now)
    )


def list_unlisted(connection: Connection) -> list[tuple[Digest, int, bool]]:
    """Return the large blobs whose chunk list is missing from storage or damaged.

    Each comes with its size and whether its chunks were verified to add up to it. Large blobs that
    are marked as damaged are left out.
    """
    large, lists, kept = tables.blobs.c, tables.chunk_lists.c, tables.blobs.alias()
    rows = connection.execute(
        select(large.digest, large.size, large.verified_at.is_not(None))
        .outerjoin(tables.chunk_lists, lists.blob == large.digest)
        .outerjoin(kept, kept.c.digest == lists.list)
        .where(
            large.pack_id.is_(None),
            large.damaged_at.is_(None),
            or_(kept.c.pack_id.is_(None), kept.c.damaged_at.is_not(None)),
        )
        .order_by(large.digest)
    )
    return [(digest, size, bool(verified)) for digest, size, verified in rows]


def replaceable_lists(connection: Connection, wanted: Collection[Digest]) -> list[Digest]:
    """Return those of `wanted` that are chunk lists of a large blob which is not in `wanted`.

    None of its chunks is in `wanted` either.
    """
    lists, chunks = tables.chunk_lists.c, tables.blob_chunks.c
    found: list[Digest] = []
    for batch in batches(sorted(wanted)):
        rows = connection.execute(
            select(lists.list, lists.blob, chunks.chunk)
            .join(tables.blob_chunks, chunks.blob == lists.blob)
            .where(lists.list.in_(batch))
        ).all()
        short = {digest for digest, *needed in rows if any(each in wanted for each in needed)}
        found += sorted({digest for digest, *_ in rows} - short)
    return found


def forget_lists(connection: Connection, large: Collection[Digest]) -> None:
    """Delete the chunk lists of large blobs; the same transaction inserts new ones."""
    for batch in batches(sorted(large)):
        connection.execute(delete(tables.chunk_lists).where(tables.chunk_lists.c.blob.in_(batch)))


def places_in_large(
    connection: Connection, chunks: Collection[Digest]
) -> dict[Digest, list[tuple[Digest, int]]]:
    """Return for each chunk at most ten of its large blobs, with the offset of the chunk in each.

    A blob in which a chunk before it has no row is left out.
    """
    columns, sizes = tables.blob_chunks.c, tables.blobs.c
    found: dict[Digest, list[tuple[Digest, int]]] = {}
    for batch in batches(sorted(chunks)):
        ends = func.sum(sizes.size).over(partition_by=columns.blob, order_by=columns.position)
        with_rows = func.count(sizes.size).over(
            partition_by=columns.blob, order_by=columns.position
        )
        placed = (
            select(
                columns.blob,
                columns.chunk,
                (ends - sizes.size).label("start"),
                (with_rows - columns.position).label("is_known"),
            )
            .outerjoin(tables.blobs, sizes.digest == columns.chunk)
            .where(columns.blob.in_(select(columns.blob).where(columns.chunk.in_(batch))))
            .subquery()
        )
        rank = func.row_number().over(partition_by=placed.c.chunk, order_by=placed.c.blob)
        ranked = (
            select(placed.c.chunk, placed.c.blob, placed.c.start, rank.label("rank"))
            .where(placed.c.chunk.in_(batch), placed.c.is_known == 1)
            .subquery()
        )
        for chunk, blob, start in connection.execute(
            select(ranked.c.chunk, ranked.c.blob, ranked.c.start).where(ranked.c.rank <= 10)
        ):
            found.setdefault(chunk, []).append((blob, int(start)))
    return found


def forget_unneeded(connection: Connection) -> int:
    """Delete the rows of damaged blobs that nothing refers to; return the number.

    No writer relies on them: writers treat damaged blobs as missing. A large blob that nothing
    refers to goes first if a part of it is damaged: otherwise its parts would count as lost.
    """
    large, part = tables.blobs.c, tables.blobs.alias("part")
    damaged = [
        select(column)
        .join(part, part.c.digest == column)
        .where(whole == large.digest, part.c.damaged_at.is_not(None))
        .exists()
        for whole, column in (
            (tables.blob_chunks.c.blob, tables.blob_chunks.c.chunk),
            (tables.chunk_lists.c.blob, tables.chunk_lists.c.list),
        )
    ]
    connection.execute(
        delete(tables.blobs).where(large.pack_id.is_(None), or_(*damaged), ~is_needed())
    )
    return connection.execute(
        delete(tables.blobs).where(tables.blobs.c.damaged_at.is_not(None), ~is_needed())
    ).rowcount


def bury_pack(connection: Connection, pack_id: int) -> bool:
    """Declare a live pack dead if no row points to it; return whether it is dead now."""
    used = select(tables.blobs.c.digest).where(tables.blobs.c.pack_id == pack_id).exists()
    return (
        connection.execute(
            update(tables.packs)
            .where(tables.packs.c.id == pack_id, tables.packs.c.state == "live", ~used)
            .values(state="dead")
        ).rowcount
        == 1
    )
