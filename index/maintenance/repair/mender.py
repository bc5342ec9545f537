"""Storing recovered bytes, and pointing the rows of damaged blobs to them."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, Self

from index.commit.write import CommitConflict, record_blobs
from index.db.catalog import SqlCatalog
from index.db.queries import repairs
from index.maintenance.repair.salvage import copy_entries
from index.maintenance.repair.search import Search
from index.maintenance.verify.packs import noting

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from cas.catalog import ChunkedBlob, Location
    from cas.digest import Buffer, Digest
    from cas.writer import BatchWriter
    from index.context import StoreContext
    from index.db.queries.verification import VerifiablePack

__all__ = ["Mender"]

_BATCH_SIZE: Final = 256 << 20
"""Bytes after which recovered blobs are committed. An interruption loses at most this much."""


class _Unlisted(SqlCatalog):
    """A catalog that hides some large blobs, so that their chunk lists are written again."""

    def __init__(self, context: StoreContext) -> None:
        super().__init__(context.database, context.clock)
        self.unlisted: set[Digest] = set()

    def find_known(self, digests: Collection[Digest]) -> set[Digest]:
        return super().find_known(digests) - self.unlisted


class Mender(Search):
    """A search that stores the bytes it takes; `finish` commits the rest. A context manager.

    New bytes are durable before a transaction points the rows to them. So an interrupted repair
    leaves each blob as it was, or intact.
    """

    def __init__(
        self, context: StoreContext, wanted: Mapping[Digest, int], records: Collection[Digest]
    ) -> None:
        """Bind the mender to its store.

        Parameters
        ----------
        wanted
            The damaged blobs, with their sizes.
        records
            The wanted journal records, which have their own kind of entry.
        """
        super().__init__(wanted)
        self._context = context
        self._records = records
        self._catalog = _Unlisted(context)
        self._stack = ExitStack()
        self._batch: BatchWriter | None = None
        self._batch_bytes = 0
        self.lists = 0
        self.bytes_stored = 0

    def take(self, digest: Digest, data: Buffer) -> bool:
        is_taken = super().take(digest, data)
        if is_taken:
            self._add(data, is_record=digest in self._records)
        return is_taken

    def take_chunk(self, data: Buffer) -> None:
        self._add(data, is_record=False)

    def take_large(self, blob: ChunkedBlob) -> None:
        super().take_large(blob)
        self._writer().add_chunked(blob)

    def take_entries(
        self, pack: VerifiablePack, entries: Sequence[tuple[Digest, Location]]
    ) -> None:
        copy_entries(self._context, pack, entries, None, is_located=False)
        super().take_entries(pack, entries)

    def write_list(self, blob: ChunkedBlob) -> None:
        """Write the chunk list of a large blob whose chunks are stored and intact."""
        self.lists += 1
        self._catalog.unlisted.add(blob.digest)
        self._writer().add_chunked(blob)

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
            # Either an earlier attempt has succeeded, and its packs are live already. Or garbage
            # collection has declared them dead, and the blobs stay damaged.
            return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    def _writer(self) -> BatchWriter:
        if self._batch is None:
            self._batch = self._stack.enter_context(self._context.blobs.batch(self._catalog))
        return self._batch

    def _add(self, data: Buffer, *, is_record: bool) -> None:
        writer = self._writer()
        if is_record:
            writer.add_record(data)
        else:
            writer.add(data)
        self._batch_bytes += len(data)
        if self._batch_bytes >= _BATCH_SIZE:
            self.finish()
