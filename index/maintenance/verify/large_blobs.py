"""Verification of large blobs: whether their chunks add up to them."""

from __future__ import annotations

from collections import deque
from contextlib import closing
from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING

from cas.errors import BlobNotFoundError, DigestMismatchError
from cas.shared_chunks import hash_together, locate_in_order, noting_repeats
from cas.spans import describe_chunks
from index.db.catalog import SqlCatalog
from index.db.queries import blobs as blob_rows
from index.db.queries import verification
from index.domain.faults import Fault, FaultKind
from index.maintenance.verify.packs import noting

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping

    from cas.catalog import ChunkedBlob, Location
    from cas.digest import Buffer, Digest
    from index.context import StoreContext
    from index.maintenance.verify.findings import Findings

__all__ = ["put_together", "verify_large"]


def verify_large(
    context: StoreContext,
    findings: Findings,
    sizes: Mapping[Digest, int],
    report: Callable[[], None],
) -> set[Digest]:
    """Assemble large blobs from their chunks, and mark them as verified or damaged.

    Blobs with a damaged or missing chunk are skipped. Chunks are hashed by themselves only if a
    whole is wrong: to verify them is part of verifying their packs.

    Returns
    -------
    Chunks that could not be read. Their packs must be verified.
    """

    def count(size: int) -> None:
        findings.bytes_read += size
        report()

    blobs = _load(context, sizes)
    whole, wrong, unreadable = put_together(context, blobs, count, context.blobs.read_parts)
    if wrong:
        doubtful = {digest: blobs[digest] for digest in wrong}
        right, wrong, lost = put_together(context, doubtful, count)
        whole, unreadable = whole | right, unreadable | lost
    findings.blobs_read += len(whole) + len(wrong)
    if whole:
        findings.recovered += noting(
            context, lambda connection, now: verification.clear_large(connection, whole, now)
        )
    for digest in sorted(wrong):  # check each alone, with its rows read again
        again = _load(context, {digest: sizes[digest]})
        if digest in put_together(context, again, count)[1]:
            noting(context, partial(verification.mark_large, digests=[digest]))
            detail = f"{describe_chunks(again[digest])} does not add up to its bytes"
            findings.add(Fault(FaultKind.BROKEN_CHUNKS, f"large blob {digest}", detail, digest))
    return unreadable


def put_together(
    context: StoreContext,
    blobs: Mapping[Digest, ChunkedBlob],
    count: Callable[[int], None],
    read_chunks: Callable[[Iterable[tuple[Digest, Location]]], Iterator[Buffer]] | None = None,
) -> tuple[set[Digest], set[Digest], set[Digest]]:
    """Return the large blobs whose chunks add up, those whose chunks don't, and lost chunks.

    Blobs with an unreadable chunk are in neither set.

    Parameters
    ----------
    count
        Called with the numbers of bytes read.
    read_chunks
        Reads chunks; None for one that verifies each.
    """
    whole: set[Digest] = set()
    wrong: set[Digest] = set()
    unreadable: set[Digest] = set()
    left = dict(blobs)
    catalog = SqlCatalog(context.database, context.clock)

    def verified(chunks: Iterable[tuple[Digest, Location]]) -> Iterator[Buffer]:
        return (data for _, data in context.blobs.read_ahead(chunks))

    def read(order: Iterable[Digest]) -> Generator[Buffer]:
        times: deque[int] = deque()
        # A hole in a sparse file repeats one chunk thousands of times: read it once.
        once = locate_in_order(catalog, noting_repeats(order, times))
        for data in (read_chunks or verified)(once):
            count(len(data))
            yield from repeat(data, times.popleft())

    while left:
        try:
            with closing(hash_together(catalog, left.values(), read)) as hashed:
                for blob, digest, size in hashed:
                    del left[blob.digest]
                    is_whole = (digest, size) == (blob.digest, blob.size)
                    (whole if is_whole else wrong).add(blob.digest)
        except (BlobNotFoundError, DigestMismatchError) as error:
            chunk = error.digest if isinstance(error, BlobNotFoundError) else error.expected
            unreadable.add(chunk)
            left = {digest: blob for digest, blob in left.items() if chunk not in blob.chunks}
    return whole, wrong, unreadable


def _load(context: StoreContext, sizes: Mapping[Digest, int]) -> dict[Digest, ChunkedBlob]:
    """Return the large blobs whose chunks all exist according to the current rows."""
    with context.database.reading() as connection:
        still = [large.digest for large in verification.list_large(connection, list(sizes))]
        readable = verification.without_damage(connection, still)
        return blob_rows.locate_large(connection, {digest: sizes[digest] for digest in readable})
