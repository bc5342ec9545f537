"""Storing bytes that were found again, and leading the rows of damaged blobs to them."""

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
"""Bytes after which what was found is recorded: what an interruption loses at most."""


class _Unlisted:
    """A catalog that doesn't know some large blobs: their lists are then written anew."""

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
    """Takes bytes of damaged blobs; `finish` records what is left. A context manager.

    New bytes are durable before one transaction leads the rows to them, so that whatever interrupts
    a repair leaves each blob as it was, or whole.
    """

    def __init__(
        self, context: StoreContext, wanted: Mapping[Digest, int], *, dry_run: bool
    ) -> None:
        """Bind the mender to its store.

        Parameters
        ----------
        wanted
            The blobs that are damaged, with their sizes.
        dry_run
            Whether to write nothing, and only note what could be mended.
        """
        self._context = context
        self._catalog = _Unlisted(SqlCatalog(context.database, context.clock))
        self._stack = ExitStack()
        self._batch: BatchWriter | None = None
        self._batch_bytes = 0
        self._dry_run = dry_run
        self.wanted: dict[Digest, int] = dict(wanted)
        """What is still looked for."""
        self.records: Collection[Digest] = ()
        """Which of these are records of commits: entries of a kind of their own."""
        self._sizes = Counter(wanted.values())
        self.mended: set[Digest] = set()
        self.lists = 0
        self.bytes_read = 0
        self.bytes_stored = 0

    def offer(self, data: Buffer) -> Digest | None:
        """Take bytes if they are those of a wanted blob of one entry; return its digest then."""
        if not self.wants_size(len(data)):
            return None
        digest = Digest.of(data)
        return digest if self.take(digest, data) else None

    def take(self, digest: Digest, data: Buffer) -> bool:
        """Take the bytes of a wanted blob of one entry; false if they are not that."""
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
        """Take a chunk of a large blob that `take_large` is about to be called with."""
        if not self._dry_run:
            self._writer().add(data)
            self._add_size(len(data))

    def take_large(self, blob: ChunkedBlob) -> None:
        """Take the chunks of a large blob that is damaged; the caller has hashed them together."""
        self.settle(blob.digest)
        if not self._dry_run:
            self._writer().add_chunked(blob)

    def write_list(self, blob: ChunkedBlob) -> None:
        """Write the list of a large blob whose chunks are stored and right."""
        self.lists += 1
        if not self._dry_run:
            self._catalog.unlisted.add(blob.digest)
            self._writer().add_chunked(blob)

    def settle(self, digest: Digest) -> None:
        """Note that a blob is mended, by whatever way."""
        size = self.wanted.pop(digest, None)
        if size is not None:
            self._sizes[size] -= 1
            self.mended.add(digest)

    def wants_size(self, size: int) -> bool:
        """Whether a blob of that size is looked for."""
        return self._sizes[size] > 0

    def finish(self) -> None:
        """Record what was taken; on return it is durable and known."""
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
