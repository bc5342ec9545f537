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
    from index.maintenance.repair.mender import Mender

__all__ = ["search_store"]


def search_store(
    source: StoreContext,
    context: StoreContext,
    mender: Mender,
    report: Callable[[], None],
) -> None:
    """Take what another store has; what is damaged or missing there is passed over.

    A chunk that it doesn't have by itself is cut out of a large blob that it has.
    """
    chunk_size = context.blobs.chunk_size
    catalog = SqlCatalog(source.database, source.clock)
    for digest, place in catalog.locate(list(mender.wanted)).items():
        if mender.wanted.get(digest) != place.size:
            continue
        try:
            if place.size > chunk_size:
                _take_large(source, digest, mender)
            else:
                data = source.blobs.read(digest)
                mender.bytes_read += len(data)
                mender.take(digest, data)
        except (BlobNotFoundError, DigestMismatchError):
            continue
        report()
    with context.database.reading() as connection:
        parts = repairs.positions_of(connection, list(mender.wanted))
    for digest, places in parts.items():
        for blob, position in places:
            if digest not in mender.wanted:
                break
            try:
                start = position * chunk_size
                data = source.blobs.read_range(blob, start, mender.wanted[digest])
            except (BlobNotFoundError, DigestMismatchError):
                continue
            mender.bytes_read += len(data)
            mender.take(digest, data)


def _take_large(source: StoreContext, digest: Digest, mender: Mender) -> None:
    """Take a large blob; raise as `BlobStore.iter_pieces` does, which hashes it whole."""
    whole = Hasher()
    chunks = []
    for piece in source.blobs.iter_pieces(digest):
        mender.bytes_read += len(piece)
        whole.update(piece)
        chunks.append(Digest.of(piece))
        mender.take_chunk(piece)
    if whole.digest() == digest:
        mender.take_large(ChunkedBlob(digest, whole.size, tuple(chunks)))
