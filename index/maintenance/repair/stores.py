"""Search of another store for lost bytes, by digest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cas.catalog import ChunkedBlob
from cas.digest import Digest, Hasher
from cas.errors import BlobNotFoundError, DigestMismatchError
from index.db.catalog import SqlCatalog
from index.db.queries import repairs

if TYPE_CHECKING:
    from collections.abc import Callable

    from index.context import StoreContext
    from index.maintenance.repair.search import Search

__all__ = ["search_store"]


def search_store(
    source: StoreContext,
    context: StoreContext,
    search: Search,
    report: Callable[[], None],
) -> None:
    """Take the wanted blobs from another store; skip those that are damaged or missing there.

    If it lacks a wanted chunk as a blob, the chunk is read from a large blob that contains it.
    """
    catalog = SqlCatalog(source.database, source.clock)
    for digest, place in catalog.locate(list(search.wanted)).items():
        if search.wanted.get(digest) != place.size:
            continue
        try:
            if isinstance(place, ChunkedBlob):
                _take_large(source, digest, search)
            else:
                data = source.blobs.read(digest)
                search.bytes_read += len(data)
                search.take(digest, data)
        except (BlobNotFoundError, DigestMismatchError):
            continue
        report()
    with context.database.reading() as connection:
        parts = repairs.places_in_large(connection, list(search.wanted))
    for digest, places in parts.items():
        for blob, start in places:
            if digest not in search.wanted:
                break
            try:
                data = source.blobs.read_range(blob, start, search.wanted[digest])
            except (BlobNotFoundError, DigestMismatchError):
                continue
            search.bytes_read += len(data)
            search.take(digest, data)


def _take_large(source: StoreContext, digest: Digest, search: Search) -> None:
    """Take a large blob; raise as `BlobStore.iter_pieces` does, which hashes it whole."""
    whole = Hasher()
    chunks = []
    for piece in source.blobs.iter_pieces(digest):
        search.bytes_read += len(piece)
        whole.update(piece)
        chunks.append(Digest.of(piece))
        search.take_chunk(piece)
    if whole.digest() == digest:
        search.take_large(ChunkedBlob(digest, whole.size, tuple(chunks)))
