"""Verifying large blobs: whether what is known as their chunks makes them up."""

from __future__ import annotations

from collections import deque
from contextlib import closing
from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING

from cas.chunked import describe_chunks
from cas.errors import BlobNotFoundError, DigestMismatchError
from index.catalog import SqlCatalog
from index.large_blobs import hash_together, locate_in_order, noting_repeats
from index.repository import blobs as blob_rows
from index.repository import verification
from index.verification.packs import noting
from index.verification.records import Fault, FaultKind

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping

    from cas.catalog import ChunkedBlob
    from cas.digest import Buffer, Digest
    from index.services import Services
    from index.verification.findings import Findings

__all__ = ["verify_large"]


def verify_large(
    services: Services,
    findings: Findings,
    sizes: Mapping[Digest, int],
    report: Callable[[], None],
) -> set[Digest]:
    """Put large blobs together, and note which of them are whole and which can't be.

    Those with a chunk that is damaged, or gone, are passed over.

    Returns
    -------
    Chunks that could not be read: the packs that they are in need a look.
    """
    unreadable: set[Digest] = set()
    whole: set[Digest] = set()
    wrong = _hash(services, findings, sizes, whole, unreadable, report)
    if whole:
        findings.recovered += noting(
            services, lambda connection, now: verification.clear_large(connection, whole, now)
        )
    for digest in sorted(wrong):  # by itself, with rows that are read anew
        again = _hash(services, findings, {digest: sizes[digest]}, set(), set(), report)
        if digest in again:
            noting(services, partial(verification.mark_large, digests=[digest]))
            detail = f"{describe_chunks(again[digest])} does not make it up"
            findings.add(Fault(FaultKind.BROKEN_CHUNKS, f"large blob {digest}", detail, digest))
    return unreadable


def _hash(
    services: Services,
    findings: Findings,
    sizes: Mapping[Digest, int],
    whole: set[Digest],
    unreadable: set[Digest],
    report: Callable[[], None],
) -> dict[Digest, ChunkedBlob]:
    """Hash large blobs, adding to `whole` and `unreadable`; return those that are not whole."""
    wrong: dict[Digest, ChunkedBlob] = {}
    left = _load(services, sizes)

    def read(order: Iterable[Digest]) -> Generator[Buffer]:
        times: deque[int] = deque()
        catalog = SqlCatalog(services.database, services.clock)
        once = locate_in_order(catalog, noting_repeats(order, times))
        for _, data in services.blobs.read_ahead(once):
            findings.bytes_read += len(data)
            report()
            yield from repeat(data, times.popleft())

    while left:
        try:
            with closing(hash_together(list(left.values()), read)) as hashed:
                for blob, digest, size in hashed:
                    del left[blob.digest]
                    findings.blobs_read += 1
                    if (digest, size) == (blob.digest, blob.size):
                        whole.add(digest)
                    else:
                        wrong[blob.digest] = blob
        except (BlobNotFoundError, DigestMismatchError) as error:
            chunk = error.digest if isinstance(error, BlobNotFoundError) else error.expected
            unreadable.add(chunk)
            left = {digest: blob for digest, blob in left.items() if chunk not in blob.chunks}
    return wrong


def _load(services: Services, sizes: Mapping[Digest, int]) -> dict[Digest, ChunkedBlob]:
    """Return those large blobs whose chunks are all there, as the rows have them now."""
    with services.database.reading() as connection:
        still = [large.digest for large in verification.list_large(connection, list(sizes))]
        readable = verification.without_damage(connection, still)
        return blob_rows.locate_large(connection, {digest: sizes[digest] for digest in readable})
