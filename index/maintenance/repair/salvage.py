"""Salvage of bytes from the store itself: damaged packs, other packs, and the cache."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from cas.catalog import ChunkedBlob, Location
from cas.errors import (
    BlobNotFoundError,
    DigestMismatchError,
    ObjectNotFoundError,
    UnreadableObjectError,
)
from cas.packs.chunk_list import decode_chunk_list
from cas.packs.inspector import PackInspector, verified
from cas.packs.pack import EntryKind, pack_object_name
from cas.packs.rewriter import PackRewriter
from cas.packs.salvage import read_around
from cas.spans import SPAN_SIZE
from index.db.catalog import SqlCatalog
from index.db.queries import blobs as blob_rows
from index.db.queries import repairs, verification
from index.maintenance.verify.packs import noting

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from cas.digest import Digest
    from cas.packs.pack import SealedPack
    from cas.packs.rewriter import MovedEntry
    from index.context import StoreContext
    from index.db.queries.verification import VerifiablePack
    from index.maintenance.repair.search import Search

__all__ = [
    "chunks_from_list",
    "copy_entries",
    "find_elsewhere",
    "salvage_pack",
    "set_aside",
    "take_cached",
]

_ASIDE: Final = "damaged/"


def salvage_pack(context: StoreContext, pack: VerifiablePack) -> int:
    """Copy the intact blobs of a damaged pack to new packs, and point the rows there.

    Return the number of rows changed. Stored bytes are copied unchanged after each blob is
    verified. The footer need not be readable.
    """
    with context.database.reading() as connection:
        located = verification.locate_in_packs(connection, [pack])[pack.id]
        kinds = repairs.kinds_of(connection, located.keys())
        damaged = {row.digest for row in repairs.list_damaged(connection)}
    right = [(digest, place) for digest, place in located.items() if digest not in damaged]
    return copy_entries(context, pack, right, kinds, is_located=True)


def copy_entries(
    context: StoreContext,
    pack: VerifiablePack,
    entries: Sequence[tuple[Digest, Location]],
    kinds: Mapping[Digest, EntryKind] | None,
    *,
    is_located: bool,
) -> int:
    """Copy entries of a pack to new packs, and point rows there; return the number of rows.

    Parameters
    ----------
    is_located
        Whether the rows point to these entries. Otherwise they point to damaged places.
    """
    if not entries:
        return 0
    led = 0

    def record(sealed: SealedPack, copied: Sequence[MovedEntry]) -> None:
        nonlocal led
        places = [
            (each.digest, each.target, each.source if is_located else None) for each in copied
        ]
        led += noting(context, partial(_lead, places=places, sealed=sealed))

    catalog = SqlCatalog(context.database, context.clock)
    with PackRewriter(
        context.blobs.backend, register=catalog.register_pack, on_published=record
    ) as rewriter:
        rewriter.copy(pack.name, pack.size, entries, kinds=kinds)
        rewriter.finish()
    return led


def _lead(
    connection: Connection,
    _now: datetime,
    *,
    places: Sequence[tuple[Digest, Location, Location | None]],
    sealed: SealedPack,
) -> int:
    # If it is not pending any more, an earlier attempt of this transaction succeeded.
    blob_rows.make_packs_live(connection, [sealed])
    return repairs.lead(connection, places)


def find_elsewhere(context: StoreContext, search: Search) -> None:
    """Search the footers of all packs for wanted blobs, and copy the intact ones.

    A row may point to the wrong place, bytes may be stored twice, or an object may have another
    object's name. The blobs are copied to new packs, because garbage collection relies on this:
    nobody points more rows to a live pack.
    """
    if not search.wanted:
        return
    with context.database.reading() as connection:
        packs = verification.list_packs(connection)
    with PackInspector(context.blobs.backend) as inspector:
        for pack in packs:
            if pack.state != "live" or not search.wanted:
                continue
            found = []
            for entry in inspector.look(pack.name, {}).entries:
                if search.wanted.get(entry.digest) == entry.size:
                    place = Location.of(pack.name, entry)
                    if _is_right(context, entry.digest, place):
                        found.append((entry.digest, place))
            search.take_entries(pack, found)


def _is_right(context: StoreContext, digest: Digest, place: Location) -> bool:
    try:
        stored = context.blobs.backend.read(
            pack_object_name(place.pack), place.offset, place.stored_size
        )
    except (ObjectNotFoundError, UnreadableObjectError):
        return False
    return verified(digest, place, stored) is not None


def take_cached(context: StoreContext, search: Search) -> None:
    """Take wanted blobs from the cache of remote packs."""
    if context.blobs.cache is None:
        return
    with context.database.reading() as connection:
        located = blob_rows.locate(connection, list(search.wanted))
    for digest, place in located.items():
        if isinstance(place, Location):
            try:
                data = context.blobs.fetch(digest, place)
            except (BlobNotFoundError, DigestMismatchError):
                continue
            search.take(digest, data)


def chunks_from_list(context: StoreContext, large: Sequence[Digest]) -> Iterator[ChunkedBlob]:
    """Yield damaged large blobs with the chunks from their chunk lists in storage.

    A list counts only if it is readable, belongs to the blob, and names chunks in the index.
    """
    with context.database.reading() as connection:
        lists = repairs.lists_of(connection, large)
    for blob, digest in lists.items():
        try:
            listed = decode_chunk_list(context.blobs.read(digest)).blob
        except (BlobNotFoundError, DigestMismatchError, ValueError):
            continue
        with context.database.reading() as connection:
            known = blob_rows.find_known(connection, set(listed.chunks))
        if listed.digest == blob and known == set(listed.chunks):
            yield listed


def set_aside(context: StoreContext, pack: VerifiablePack) -> bool:
    """Copy a damaged object below ``damaged/``, and declare its pack dead.

    Bytes that the medium can't read become zeros in the copy. The pack becomes dead only if no row
    points to it; garbage collection then deletes the object. Return whether the pack is dead now.
    """
    with context.database.reading() as connection:
        if verification.locate_in_packs(connection, [pack])[pack.id]:
            return False
    _copy_aside(context, pack)
    return noting(context, lambda connection, _now: repairs.bury_pack(connection, pack.id))


def _copy_aside(context: StoreContext, pack: VerifiablePack) -> None:
    backend, name = context.blobs.backend, pack_object_name(pack.name)
    try:
        size = backend.size(name)
    except ObjectNotFoundError:
        return
    with backend.stage() as staged:
        for start in range(0, size, SPAN_SIZE):
            length = min(SPAN_SIZE, size - start)
            staged.write(read_around(backend, name, start, length).data)
        staged.publish(f"{_ASIDE}{pack.name}.pack")
