"""Transfer of the blobs that a store lacks from another store. Existing bytes are not sent again.

Blobs travel as they are stored, and are not compressed again. They are committed batch by batch,
before anything refers to them. After an interruption the next transfer finds them there. Garbage
collection leaves them alone for its grace period.

Every blob is hashed on the way, large ones too. Chunks that the destination has need not cross the
network for that: they are read from the store that is on this machine. Large blobs that begin
alike, as the states of a growing log do, are hashed only once for their common beginning.
"""

from __future__ import annotations

from collections import deque
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from itertools import chain, groupby, repeat
from operator import itemgetter
from typing import TYPE_CHECKING, Final, Self

from cas.catalog import ChunkedBlob
from cas.errors import BlobNotFoundError, DigestMismatchError
from cas.shared_chunks import group_by_chunks, hash_together, locate_in_order, noting_repeats
from cas.spans import describe_chunks
from index.commit.write import CommitConflict, record_blobs
from index.db.catalog import SqlCatalog
from index.db.column_types import decode_path
from index.errors import IndexInterruptedError

if TYPE_CHECKING:
    from collections.abc import (
        Callable,
        Collection,
        Generator,
        Iterable,
        Iterator,
        Mapping,
        Sequence,
    )

    from cas.catalog import Location, WrittenBatch
    from cas.digest import Buffer, Digest
    from cas.reader import ReadFrames
    from cas.writer import BatchWriter
    from index.context import StoreContext
    from index.transfer.delta import Delta

__all__ = ["BlobTally", "BlobTransfer", "count_missing", "explain"]

_BATCH_SIZE: Final = 256 << 20
"""Bytes after which a batch is committed: four packs. An interruption loses at most this much."""


@dataclass(slots=True)
class BlobTally:
    """Counts of a transfer."""

    blobs: int = 0
    """Number of blobs and chunks stored."""
    bytes_read: int = 0
    """Bytes read from the source, before compression."""
    bytes_stored: int = 0


def count_missing(
    source: StoreContext, destination: StoreContext, sizes: Mapping[Digest, int]
) -> tuple[int, int]:
    """Return the number and bytes of the blobs and chunks that the destination lacks."""
    ours, theirs = _catalogs(source, destination)
    missing = sizes.keys() - theirs.find_known(sizes)
    _, large = ours.locate_entries(missing)
    lacking = {digest: sizes[digest] for digest in missing.difference(large)}
    for group in group_by_chunks(large, sizes, source.blobs.chunker.size):
        chunks = {
            chunk
            for blob in ours.locate(group).values()
            if isinstance(blob, ChunkedBlob)
            for chunk in blob.chunks
        }
        located = ours.locate(chunks - theirs.find_known(chunks))
        lacking.update((chunk, place.size) for chunk, place in located.items())
    return len(lacking), sum(lacking.values())


class BlobTransfer:
    """A transfer: call `bring` as often as needed, then `finish`. A context manager.

    Leaving the block without `finish` discards blobs that are not committed yet.
    """

    def __init__(
        self,
        source: StoreContext,
        destination: StoreContext,
        tally: BlobTally,
        report: Callable[[], None],
    ) -> None:
        """Bind the transfer to its stores.

        Parameters
        ----------
        tally
            Updated as bytes are read and stored.
        report
            Called from time to time.
        """
        self._source = source
        self._destination = destination
        self._ours, self._theirs = _catalogs(source, destination)
        self._is_near = "://" not in destination.blobs.url
        self._tally = tally
        self._report = report
        self._stack = ExitStack()
        self._batch: BatchWriter | None = None
        self._batch_bytes = 0
        self._in_batch: set[Digest] = set()
        self._small: dict[Digest, deque[tuple[Digest, Location]]] = {}
        """What is not large and still to bring, by pack, in the order in which it is stored."""

    def bring(self, sizes: Mapping[Digest, int]) -> None:
        """Store the contents, given with their sizes, that the destination lacks.

        Raises
        ------
        BlobNotFoundError, DigestMismatchError
            When bytes are missing or damaged at the source.
        CommitConflict
            When the transfer must be repeated, because a blob that it relied on was removed.
        """
        wanted = sizes.keys() - self._in_batch
        missing = wanted - self._theirs.find_known(wanted)
        places, large = self._ours.locate_entries(missing)
        if lost := missing - places.keys() - set(large):
            raise BlobNotFoundError(min(lost))
        self._set_small(places.items())
        for group in group_by_chunks(large, sizes, self._source.blobs.chunker.size):
            located = self._ours.locate(group)
            blobs = [place for place in located.values() if isinstance(place, ChunkedBlob)]
            if lost := set(group) - {blob.digest for blob in blobs}:
                raise BlobNotFoundError(min(lost))
            self._bring_large(blobs)
        for read in self._source.blobs.read_frames(chain(*self._small.values())):
            self._add(read)

    def finish(self) -> None:
        """Commit the rest; on return all blobs brought are durable and in the index."""
        if self._batch is None:
            return
        written = self._batch.finish()
        self._stack.close()
        self._batch, self._batch_bytes = None, 0
        self._in_batch.clear()
        self._tally.blobs += len(written.blobs) - len(written.chunk_lists)
        self._tally.bytes_stored += written.bytes_stored
        if written.packs or written.chunked:
            self._record(written)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    def _record(self, written: WrittenBatch) -> None:
        database, now = self._destination.database, self._destination.clock()
        try:
            database.write(lambda connection: record_blobs(connection, written, (), now))
        except IndexInterruptedError as error:
            if error.may_have_committed:  # the next transfer looks up what is stored
                raise CommitConflict from error
            raise

    def _bring_large(self, blobs: Sequence[ChunkedBlob]) -> None:
        """Store large blobs chunk by chunk, each hashed whole before it is recorded."""
        chunks = {chunk for blob in blobs for chunk in blob.chunks}
        self._set_small(small for small in chain(*self._small.values()) if small[0] not in chunks)
        read = partial(self._read, chunks=chunks, known=self._theirs.find_known(chunks))
        with closing(hash_together(self._ours, blobs, read)) as hashed:
            for blob, digest, size in hashed:
                if (digest, size) != (blob.digest, blob.size):
                    raise DigestMismatchError(blob.digest, digest, describe_chunks(blob))
                self._writer().add_chunked(blob)
                self._in_batch.add(blob.digest)

    def _read(
        self, order: Iterable[Digest], chunks: set[Digest], known: set[Digest]
    ) -> Generator[Buffer]:
        """Yield chunks in the given order; store those that are not `known`, which then are."""
        times: deque[int] = deque()
        # A hole in a sparse file repeats one chunk thousands of times: read it once.
        once = noting_repeats(order, times)
        there = frozenset(known) if self._is_near else frozenset()
        read_here = partial(self._read_here, chunks=chunks, known=known)
        for is_there, group in groupby(once, there.__contains__):
            for data in (self._read_there if is_there else read_here)(group):
                yield from repeat(data, times.popleft())

    def _read_here(
        self, order: Iterable[Digest], chunks: set[Digest], known: set[Digest]
    ) -> Iterator[Buffer]:
        """Yield chunks from the source, and store those that are not `known`, which then are."""
        located = self._with_small(locate_in_order(self._ours, order))
        for read in self._source.blobs.read_frames(located):
            self._add(read, known)
            for digest, data in read.blobs:
                if digest in chunks:
                    known.add(digest)
                    yield data

    def _set_small(self, blobs: Iterable[tuple[Digest, Location]]) -> None:
        ordered = sorted(blobs, key=itemgetter(1))
        self._small = {
            pack: deque(found) for pack, found in groupby(ordered, lambda blob: blob[1].pack)
        }

    def _with_small(
        self, chunks: Iterable[tuple[Digest, Location]]
    ) -> Iterator[tuple[Digest, Location]]:
        """Yield chunks, each after the small blobs that lie before it and in its frame."""
        for chunk in chunks:
            small = self._small.get(chunk[1].pack)
            while small and small[0][1].offset <= chunk[1].offset:
                yield small.popleft()
            yield chunk

    def _read_there(self, chunks: Iterable[Digest]) -> Iterator[Buffer]:
        """Yield chunks from the destination itself."""
        blobs = self._destination.blobs
        try:
            for _, data in blobs.read_ahead(locate_in_order(self._theirs, chunks)):
                yield data
        except BlobNotFoundError as error:
            if self._theirs.find_known([error.digest]):
                raise DigestMismatchError(error.digest, None, blobs.url) from error
            raise CommitConflict from error  # garbage collection took it
        except DigestMismatchError as error:
            where = f"{error.where} of {blobs.url}"
            raise DigestMismatchError(error.expected, error.actual, where) from error

    def _writer(self) -> BatchWriter:
        if self._batch is None:
            self._batch = self._stack.enter_context(self._destination.blobs.batch())
        return self._batch

    def _add(self, read: ReadFrames, known: Collection[Digest] = frozenset()) -> None:
        """Store blobs as they are stored at the source, without those that are known there."""
        self._in_batch.update(digest for digest, _ in read.blobs)
        self._writer().add_frames(read.frames, dict(read.blobs), known=known)
        size = sum(len(data) for _, data in read.blobs)
        self._batch_bytes += size
        self._finish_if_full()
        self._tally.bytes_read += size
        self._report()

    def _finish_if_full(self) -> None:
        if self._batch_bytes >= _BATCH_SIZE:
            self.finish()


def _catalogs(source: StoreContext, destination: StoreContext) -> tuple[SqlCatalog, SqlCatalog]:
    return (
        SqlCatalog(source.database, source.clock),
        SqlCatalog(destination.database, destination.clock),
    )


def explain(error: BlobNotFoundError | DigestMismatchError, delta: Delta) -> str:
    """Return why a run can't be copied, with the file that it affects."""
    digest: Digest = error.digest if isinstance(error, BlobNotFoundError) else error.expected
    rows = (row for batch in delta.batches() for row in batch.inserts)
    path = next((decode_path(row.path) for row in rows if row.digest == digest), None)
    reason = str(error)
    if isinstance(error, BlobNotFoundError):
        where = "repair the store that it comes from with `store.repair(DIR)`"
        reason = f"blob {digest} is missing from storage; {where}"
    return reason if path is None else f"{path!r}: {reason}"
