"""Storing recovered bytes, and pointing the rows of damaged blobs to them."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, Self

from cas.digest import Digest
from index.commit.write import CommitConflict, record_blobs
from index.db.catalog import SqlCatalog
from index.db.queries import repairs
from index.maintenance.verify.packs import noting

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime
    from types import TracebackType

    from sqlalchemy.engine import Connection

    from cas.catalog import ChunkedBlob, Placement
    from cas.digest import Buffer
    from cas.packs.pack import SealedPack
    from cas.writer import BatchWriter
    from index.context import StoreContext

__all__ = ["Mender"]

_BATCH_SIZE: Final = 256 << 20
"""Bytes after which recovered blobs are committed. An interruption loses at most this much."""


class _Unlisted:
    """A catalog that hides some large blobs, so that their chunk lists are written again."""

    def __init__(self, catalog: SqlCatalog) -> None:
        self._catalog = catalog
        self.unlisted: set[Digest] = set()

    def find_known(self, digests: Collection[Digest]) -> set[Digest]:
        return self._catalog.find_known(digests) - self.unlisted

    def locate(self, digests: Collection[Digest]) -> Mapping[Digest, Placement]:
        return self._catalog.locate(digests)

    def register_pack(self, pack: SealedPack) -> None:
        self._catalog.register_pack(pack)


class Mender:
    """Takes bytes of damaged blobs; `finish` commits the rest. A context manager.

    New bytes are durable before a transaction points the rows to them. So an interrupted repair
    leaves each blob as it was, or intact.
    """

    def __init__(
        self, context: StoreContext, wanted: Mapping[Digest, int], *, dry_run: bool
    ) -> None:
        """Bind the mender to its store.

        Parameters
        ----------
        wanted
            The damaged blobs, with their sizes.
        dry_run
            Write nothing, and only note which blobs can be repaired.
        """
        self._context = context
        self._catalog = _Unlisted(SqlCatalog(context.database, context.clock))
        self._stack = ExitStack()
        self._batch: BatchWriter | None = None
        self._batch_bytes = 0
        self._dry_run = dry_run
        self.wanted: dict[Digest, int] = dict(wanted)
        """The blobs that are still wanted."""
        self.records: Collection[Digest] = ()
        """The wanted blobs that are journal records, which have their own kind of entry."""
        self._sizes = Counter(wanted.values())
        self.mended: set[Digest] = set()
        self.lists = 0
        self.bytes_read = 0
        self.bytes_stored = 0

    def offer(self, data: Buffer) -> Digest | None:
        """Take bytes if they belong to a wanted blob of one entry; return its digest, else None."""
        if not self.wants_size(len(data)):
            return None
        digest = Digest.of(data)
        return digest if self.take(digest, data) else None

    def take(self, digest: Digest, data: Buffer) -> bool:
        """Take the bytes of a wanted blob of one entry; return False if the digest differs."""
        if self.wanted.get(digest) != len(data) or Digest.of(data) != digest:
            return False
        self.settle(digest)
        if not self._dry_run:
            writer = self._writer()
            if digest in self.records:
                writer.add_record(data)
            else:
                writer.add(data)
            self._add_size(len(data))
        return True

    def take_chunk(self, data: Buffer) -> None:
        """Take a chunk of a large blob, before the call of `take_large` for that blob."""
        if not self._dry_run:
            self._writer().add(data)
            self._add_size(len(data))

    def take_large(self, blob: ChunkedBlob) -> None:
        """Take the chunks of a damaged large blob, whose whole hash the caller has checked."""
        self.settle(blob.digest)
        if not self._dry_run:
            self._writer().add_chunked(blob)

    def write_list(self, blob: ChunkedBlob) -> None:
        """Write the chunk list of a large blob whose chunks are stored and intact."""
        self.lists += 1
        if not self._dry_run:
            self._catalog.unlisted.add(blob.digest)
            self._writer().add_chunked(blob)

    def settle(self, digest: Digest) -> None:
        """Note that a blob is repaired."""
        size = self.wanted.pop(digest, None)
        if size is not None:
            self._sizes[size] -= 1
            self.mended.add(digest)

    def wants_size(self, size: int) -> bool:
        """Whether a blob of this size is wanted."""
        return self._sizes[size] > 0

    def finish(self) -> None:
        """Commit the blobs taken; on return they are durable and in the index."""
        if self._batch is None:
            return
        written = self._batch.finish()
        self._stack.close()
        self._batch, self._batch_bytes = None, 0
        listed, self._catalog.unlisted = self._catalog.unlisted, set()
        self.bytes_stored += written.bytes_stored

        def record(connection: Connection, now: datetime) -> None:
            repairs.forget_lists(connection, listed)
            record_blobs(connection, written, (), now)

        try:
            noting(self._context, record)
        except CommitConflict:
            # Tried again after a commit that had arrived: its packs are live already. Otherwise
            # garbage collection took them, and the blobs are as damaged as before.
            return

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def _writer(self) -> BatchWriter:
        if self._batch is None:
            self._batch = self._stack.enter_context(self._context.blobs.batch(self._catalog))
        return self._batch

    def _add_size(self, size: int) -> None:
        self._batch_bytes += size
        if self._batch_bytes >= _BATCH_SIZE:
            self.finish()
