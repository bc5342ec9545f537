"""Queries on blobs, their chunks and their packs."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from sqlalchemy import and_, case, delete, func, select, update

from cas.catalog import ChunkedBlob, Location
from cas.digest import Digest
from cas.packs.pack import MAX_ENTRY_SIZE
from index.db import tables
from index.db.bulk import batches, bound, dialect_insert, insert_rows, run_over

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime, timedelta
    from typing import Any

    from sqlalchemy.engine import Connection

    from cas.catalog import Placement, WrittenBatch
    from cas.packs.pack import SealedPack

__all__ = [
    "PLACE",
    "PLACE_NAMES",
    "SHARE",
    "find_known",
    "insert_blobs",
    "insert_pending_pack",
    "locate",
    "locate_entries",
    "locate_large",
    "make_packs_live",
    "note_damaged",
    "touch",
]


_blobs: Final = tables.blobs.c

PLACE: Final = (
    _blobs.pack_offset,
    _blobs.stored_size,
    _blobs.size,
    _blobs.codec,
    _blobs.frame_start,
    _blobs.frame_size,
)
"""The columns of a `Location` after its pack."""

PLACE_NAMES: Final = ("pack_id", *(column.name for column in PLACE))
"""The names of the columns that say where a blob is."""

SHARE: Final = case(
    (
        and_(_blobs.frame_size > 0, _blobs.stored_size <= MAX_ENTRY_SIZE),  # products fit
        _blobs.stored_size * (_blobs.frame_start + _blobs.size) // _blobs.frame_size
        - _blobs.stored_size * _blobs.frame_start // _blobs.frame_size,
    ),
    else_=func.coalesce(_blobs.stored_size, 0),
)
"""The blob's part of the stored bytes, as `PackEntry.share`; 0 for a large blob."""

_FIND_KNOWN: Final = "SELECT digest FROM cas_blobs WHERE digest {wanted} AND damaged_at IS NULL"

_LOCATE: Final = (
    "SELECT b.digest, b.size, b.damaged_at IS NULL, p.name,"  # noqa: S608 - names of our own columns
    f" {', '.join(f'b.{column.name}' for column in PLACE)}"
    " FROM cas_blobs AS b LEFT JOIN cas_packs AS p ON p.id = b.pack_id WHERE b.digest {wanted}"
)

_TOUCH: Final = """
UPDATE cas_blobs SET condemned_at = NULL, touched_at = {now}
WHERE digest {wanted} AND (
    condemned_at IS NOT NULL
    OR touched_at < {stale}
    OR (touched_at IS NULL AND created_at < {stale})
)
"""


def find_known(connection: Connection, digests: Collection[bytes]) -> set[Digest]:
    """Return those of `digests` that have a row and are not marked as damaged."""
    known: set[Digest] = set()
    for batch in batches(list(digests)):
        rows = run_over(connection, _FIND_KNOWN, tables.blobs.c.digest, batch).all()
        known.update(bytes.__new__(Digest, digest) for (digest,) in rows)
    return known


def locate(connection: Connection, digests: Collection[bytes]) -> dict[Digest, Placement]:
    """Return the places of blobs; blobs without a row are left out.

    A large blob that is marked as damaged has no chunks here, because its chunks may be wrong.
    """
    places, large = locate_entries(connection, digests)
    found: dict[Digest, Placement] = {**places}
    intact = {digest: size for digest, (size, is_intact) in large.items() if is_intact}
    for digest in large.keys() - intact.keys():
        found[digest] = ChunkedBlob(digest, large[digest][0], ())
    found.update(locate_large(connection, intact))
    return found


def locate_entries(
    connection: Connection, digests: Collection[bytes]
) -> tuple[dict[Digest, Location], dict[Digest, tuple[int, bool]]]:
    """Return the places of blobs of one entry, and the large ones among those that have a row.

    Of a large blob it returns the size, and whether it is not marked as damaged.
    """
    places: dict[Digest, Location] = {}
    large: dict[Digest, tuple[int, bool]] = {}
    packs: dict[bytes, Digest] = {}
    new = bytes.__new__
    for batch in batches(list(digests)):
        rows: Iterable[Any] = run_over(connection, _LOCATE, tables.blobs.c.digest, batch).all()
        for digest, size, is_intact, pack, *place in rows:
            if pack is None:
                large[new(Digest, digest)] = size, bool(is_intact)
                continue
            name = packs.get(pack)
            if name is None:
                name = packs[pack] = new(Digest, pack)
            places[new(Digest, digest)] = Location(name, *place)
    return places, large


def locate_large(connection: Connection, sizes: Mapping[Digest, int]) -> dict[Digest, ChunkedBlob]:
    """Return large blobs of known sizes, with their chunks."""
    chunks: defaultdict[Digest, list[Digest]] = defaultdict(list)
    for batch in batches(list(sizes)):
        rows = connection.execute(
            select(tables.blob_chunks.c.blob, tables.blob_chunks.c.chunk)
            .where(tables.blob_chunks.c.blob.in_(batch))
            .order_by(tables.blob_chunks.c.blob, tables.blob_chunks.c.position)
        )
        for blob, chunk in rows:
            chunks[blob].append(chunk)
    return {blob: ChunkedBlob(blob, size, tuple(chunks[blob])) for blob, size in sizes.items()}


def note_damaged(connection: Connection, digest: Digest, now: datetime) -> None:
    """Mark a blob as damaged, and its pack as not verified. Nothing happens to an unknown blob."""
    columns = tables.blobs.c
    pack = select(columns.pack_id).where(columns.digest == digest).scalar_subquery()
    connection.execute(
        update(tables.blobs)
        .where(columns.digest == digest, columns.damaged_at.is_(None))
        .values(damaged_at=now, verified_at=None)
    )
    connection.execute(
        update(tables.packs).where(tables.packs.c.id == pack).values(verified_at=None)
    )


def insert_pending_pack(connection: Connection, pack: SealedPack, now: datetime) -> None:
    """Insert a pack that is about to be published. Idempotent."""
    connection.execute(
        dialect_insert(connection, tables.packs)
        .values(name=pack.name, size=pack.size, state="pending", created_at=now)
        .on_conflict_do_nothing()
    )


def make_packs_live(
    connection: Connection, packs: Sequence[SealedPack]
) -> dict[Digest, int] | None:
    """Make pending packs live; return their ids, or None if one of them is no longer pending."""
    ids: dict[Digest, int] = {}
    for batch in batches([pack.name for pack in packs]):
        changed = connection.execute(
            update(tables.packs)
            .where(tables.packs.c.name.in_(batch), tables.packs.c.state == "pending")
            .values(state="live")
        )
        if changed.rowcount != len(batch):
            return None
        rows = connection.execute(
            select(tables.packs.c.name, tables.packs.c.id).where(tables.packs.c.name.in_(batch))
        )
        ids.update((name, pack_id) for name, pack_id in rows)
    return ids


def insert_blobs(
    connection: Connection, written: WrittenBatch, pack_ids: dict[Digest, int], now: datetime
) -> bool:
    """Insert the blobs of a batch; return whether another writer inserted some of them first.

    Rows are locked in order of digest, so two writers lock them in the same order. Damaged blobs
    are repaired: their rows now point to the bytes of this batch.
    """
    columns = ("digest", *PLACE_NAMES)
    inserted = insert_rows(
        connection,
        tables.blobs,
        columns,
        _blob_rows(written, pack_ids),
        shared={"created_at": now},
        ignore_conflicts=True,
    )
    raced = inserted != len(written.blobs) + len(written.chunked)
    if raced:
        _mend(connection, columns, _blob_rows(written, pack_ids))
    there = _intact_chunks(connection, written.chunked) if raced else {}
    insert_rows(
        connection,
        tables.blob_chunks,
        ("blob", "position", "chunk"),
        (
            (blob.digest, position, chunk)
            for blob in written.chunked
            if blob.digest not in there
            for position, chunk in enumerate(blob.chunks)
        ),
    )
    insert_rows(
        connection,
        tables.chunk_lists,
        ("blob", "list"),
        sorted(
            (blob.digest, written.chunk_lists[blob.digest])
            for blob in written.chunked
            if there.get(blob.digest, blob.chunks) == blob.chunks
        ),
        ignore_conflicts=True,
    )
    return raced


def _intact_chunks(
    connection: Connection, chunked: Collection[ChunkedBlob]
) -> dict[Digest, tuple[Digest, ...]]:
    """Return the chunks that large blobs have already; delete those that are not intact.

    Another store may have cut such a blob at other places. Its chunks stay if all of them are
    intact, and else give way as a whole: of two lists mixed, nothing could be read.
    """
    found = locate_large(connection, {blob.digest: blob.size for blob in chunked})
    there = {digest: blob.chunks for digest, blob in found.items() if blob.chunks}
    known = find_known(connection, {chunk for chunks in there.values() for chunk in chunks})
    broken = [digest for digest, chunks in there.items() if not known.issuperset(chunks)]
    for batch in batches(broken):
        for table in (tables.blob_chunks, tables.chunk_lists):
            connection.execute(delete(table).where(table.c.blob.in_(batch)))
    return {digest: chunks for digest, chunks in there.items() if digest not in set(broken)}


def _blob_rows(
    written: WrittenBatch, pack_ids: Mapping[Digest, int]
) -> Iterator[tuple[bytes | int | None, ...]]:
    ids = [pack_ids[pack] for pack in written.blobs.packs]
    for digest, *place, number in written.blobs.rows():
        yield digest, ids[number], *place
    for blob in sorted(written.chunked, key=lambda blob: blob.digest):
        yield blob.digest, None, None, None, blob.size, None, None, None


def _mend(connection: Connection, columns: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> None:
    """Point the rows of damaged blobs to their new bytes."""
    by_digest = {row[0]: row for row in rows}
    for batch in batches(list(by_digest)):
        blobs = tables.blobs.c
        wanted = (blobs.digest.in_(batch), blobs.damaged_at.is_not(None))
        # Locked before their chunks, in the order that a sweep uses.
        damaged = select(blobs.digest).where(*wanted).order_by(blobs.digest).with_for_update()
        for digest in connection.scalars(damaged).all():
            # The chunk list of a large blob may be the damaged part, so it is written again.
            for table in (tables.blob_chunks, tables.chunk_lists):
                connection.execute(delete(table).where(table.c.blob == digest))
            values = dict(zip(columns[1:], by_digest[digest][1:], strict=True))
            connection.execute(
                update(tables.blobs)
                .where(blobs.digest == digest)
                .values(**values, damaged_at=None, verified_at=None)
            )


def touch(
    connection: Connection, digests: Iterable[bytes], now: datetime, freshness: timedelta
) -> None:
    """Clear the condemned mark of blobs, and note that they are in use.

    Rows touched within `freshness` stay unchanged, so that reuse costs no writes.
    """
    times = bound(connection, tables.blobs, {"touched_at": now, "created_at": now - freshness})
    moments = {"now": times["touched_at"], "stale": times["created_at"]}
    for batch in batches(sorted(digests)):
        run_over(connection, _TOUCH, tables.blobs.c.digest, batch, extra=moments)
