"""Writing a batch of blobs into as few packs as it takes.

The calling thread hashes, and two others read and hash where blobs are large; what the catalog does
not know is compressed by a small pool, and put into packs by threads of `cas.packs.packer`, so that
reading, hashing, compressing and writing overlap. What waits between the stages is bounded in
bytes, whatever the size of the batch.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import chain
from typing import TYPE_CHECKING, Final, Self

from cas.backends.posix import read_fully
from cas.catalog import ChunkedBlob, WrittenBatch
from cas.digest import Buffer, Digest, Hasher
from cas.packs.chunk_list import encode_chunk_list
from cas.packs.codec import encode_all
from cas.packs.pack import FOOTER_RECORD_SIZE, EntryKind
from cas.packs.packer import Packer
from cas.segments import StretchHasher, stretches_of_file, stretches_of_pieces

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import TracebackType

    from cas.backend import Backend
    from cas.catalog import Catalog, Location
    from cas.packs.pack import SealedPack
    from cas.packs.packer import Encoded
    from cas.segments import Segment

__all__ = ["BatchWriter"]

_GROUP_BYTES: Final = 8 << 20
_GROUP_BLOBS: Final = 1_000
"""A group is looked up in one statement; it ends at either bound. Twice as many bytes cost more in
the processor's cache than fewer statements bring."""

_TASK_BYTES: Final = 4 << 20
"""Bytes that one task compresses."""

_COMPRESSORS: Final = 2
"""Compressing threads; they leave the interpreter to the reading thread while zstd works."""

_RECOGNISED_FROM: Final = 16 << 20
"""Bytes of a file from which on it is looked whether it is stored already: a sixteenth is hashed
once more where it is not."""

_KEPT_BY_MALLOC: Final = 4 << 20
"""Bytes of a block whose release tells glibc that each thread keep twice as many for the next one.
(mallopt(3), M_MMAP_THRESHOLD: it adjusts both of its thresholds to the largest block that was
freed, below 32 MiB.) As it begins, it gives most of what the chunks of a large file took back to
the system, and the next chunk faults it in again page by page: a third of the system's time where
all is known. With four times as much nothing is quicker, and five threads keep 60 MiB more."""


class BatchWriter:
    """One batch: add blobs, then `finish`. Used by one thread; not used again after `finish`.

    Leaving the ``with`` block without `finish` discards what was staged; packs that were already
    published stay behind as orphans, which is harmless.
    """

    def __init__(self, backend: Backend, catalog: Catalog, *, chunk_size: int) -> None:
        self._catalog = catalog
        self._chunk_size = chunk_size
        self._group: dict[Digest, Buffer] = {}
        self._group_bytes = 0
        self._seen: set[Digest] = set()
        self._new_chunked: dict[Digest, ChunkedBlob] = {}
        self._records: dict[Digest, Buffer] = {}
        # An executor starts its threads at the first task: a batch that finds nothing new has none.
        self._compressors = ThreadPoolExecutor(_COMPRESSORS, "cas-compress")
        self._hashing = StretchHasher()
        self._packer = Packer(backend, catalog)

    def add(self, data: Buffer, *, unless: bytes | None = None) -> Digest:
        """Add a blob of at most the chunk size; return its digest.

        Parameters
        ----------
        data
            Kept until it is written; must not change.
        unless
            A digest whose bytes are known to be stored: if `data` has it, nothing is added.
        """
        digest = Digest.of(data)
        if digest != unless:
            self._add(digest, data)
        return digest

    def _add(self, digest: Digest, data: Buffer) -> None:
        if digest not in self._seen:
            self._seen.add(digest)
            self._group[digest] = data
            self._group_bytes += len(data)
            if self._group_bytes >= _GROUP_BYTES or len(self._group) >= _GROUP_BLOBS:
                self._submit_group()

    def add_pieces(self, pieces: Iterable[Buffer]) -> tuple[Digest, int]:
        """Add a blob of any size in pieces; return its digest and size.

        A bounded number of pieces is held in memory. Without any piece the blob is empty.

        Parameters
        ----------
        pieces
            Each of exactly the chunk size but for the last, which may be shorter. Taken on the
            calling thread.
        """
        begun = iter(pieces)
        first = next(begun, b"")
        second = next(begun, None)
        if second is None:
            return self.add(first), len(first)
        return self._add_stretches(stretches_of_pieces(chain((first, second), begun)))

    def add_file(self, fd: int, size: int, *, unless: bytes | None = None) -> tuple[Digest, int]:
        """Add the first `size` bytes of an open file, or what there is; return digest and size.

        A bounded part of it is held in memory. What is large is read on other threads, none of
        which does so any more on return or raise.

        Parameters
        ----------
        unless
            As of `add`; it makes no difference for a large file.

        Raises
        ------
        OSError
            When reading fails.
        """
        if size > self._chunk_size:
            return self._recognise(fd, size) or self._add_stretches(
                stretches_of_file(fd, size, self._chunk_size)
            )
        data = read_fully(os.pread, fd, size)
        return self.add(data, unless=unless), len(data)

    def _recognise(self, fd: int, size: int) -> tuple[Digest, int] | None:
        """Return digest and size of a large file that is stored already: it is hashed once, then.

        That is tried where both its ends are known; if it is in vain, the file is read once more.
        """
        if size < _RECOGNISED_FROM:
            return None
        starts = (0, (size - 1) // self._chunk_size * self._chunk_size)
        ends = {Digest.of(read_fully(os.pread, fd, self._chunk_size, start)) for start in starts}
        if len(self._catalog.find_known(ends)) < len(ends):
            return None
        whole = Hasher()
        segments = stretches_of_file(fd, size, self._chunk_size)
        with closing(self._hashing.hash(segments, whole, chunked=False)) as hashed:
            for _ in hashed:
                pass
        digest = whole.digest()
        return (digest, whole.size) if self._is_whole(digest) else None

    def _is_whole(self, digest: Digest) -> bool:
        """Whether a large blob is known, and all of its chunks are."""
        if not self._catalog.find_known([digest]):
            return False
        blob = self._catalog.locate([digest]).get(digest)
        if not isinstance(blob, ChunkedBlob):
            return False
        chunks = set(blob.chunks)
        return len(self._catalog.find_known(chunks)) == len(chunks)

    def _add_stretches(self, segments: Iterable[Segment]) -> tuple[Digest, int]:
        bytes(_KEPT_BY_MALLOC)  # never touched, so it costs no memory
        whole = Hasher()
        chunks: list[Digest] = []
        last: Buffer | None = None
        with closing(self._hashing.hash(segments, whole)) as hashed:
            for segment in hashed:
                for digest, chunk in segment.chunks:
                    if last is not None and len(last) != self._chunk_size:
                        raise ValueError("a piece before the last is not of the chunk size")
                    last = chunk
                    self._add(digest, chunk)
                    chunks.append(digest)
        if len(chunks) > 1:
            digest = whole.digest()
            self.add_chunked(ChunkedBlob(digest, whole.size, tuple(chunks)))
            return digest, whole.size
        return self.add(last or b""), whole.size

    def add_chunked(self, blob: ChunkedBlob) -> None:
        """Add a large blob whose chunks are stored or in this batch; the caller has hashed it."""
        if blob.digest not in self._seen:
            self._seen.add(blob.digest)
            self._new_chunked[blob.digest] = blob

    def add_record(self, data: Buffer) -> Digest:
        """Add what a commit says of itself, of at most 64 MiB; return its digest.

        It is written whatever the catalog knows: no two records are the same bytes.
        """
        digest = Digest.of(data)
        self._records[digest] = data
        return digest

    def finish(self) -> WrittenBatch:
        """Write what is left; on return all of it is durable and published.

        Records, and lists of chunks, are only once everything that they tell of is.

        Raises
        ------
        BackendError
            When storage failed; nothing may then be recorded of this batch.
        """
        self._submit_group()
        known = self._catalog.find_known(self._new_chunked) if self._new_chunked else set()
        chunked = tuple(blob for d, blob in self._new_chunked.items() if d not in known)
        lists = {blob.digest: encode_chunk_list(blob) for blob in chunked}
        named = {blob: Digest.of(data) for blob, data in lists.items()}
        told = (
            (EntryKind.CHUNK_LIST, {named[blob]: data for blob, data in lists.items()}),
            (EntryKind.RECORD, self._records),
        )
        last = [self._compressors.submit(_encode, *each) for each in told if each[1]]
        packs, blobs = self._packer.finish(last)
        return WrittenBatch(
            packs=packs,
            blobs=blobs,
            chunked=chunked,
            bytes_stored=self._bytes_stored(packs, blobs),
            chunk_lists=named,
        )

    def _bytes_stored(self, packs: Sequence[SealedPack], blobs: Mapping[Digest, Location]) -> int:
        if blobs.keys() == self._records.keys():
            return 0
        records = sum(blobs[digest].stored_size + FOOTER_RECORD_SIZE for digest in self._records)
        return sum(pack.size for pack in packs) - records

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._compressors.shutdown(wait=False, cancel_futures=True)
        self._hashing.close()
        self._packer.abort()

    def _submit_group(self) -> None:
        group, self._group, self._group_bytes = self._group, {}, 0
        if not group:
            return
        known = self._catalog.find_known(group)
        task: dict[Digest, Buffer] = {}
        size = 0
        for digest, data in group.items():
            if digest not in known:
                task[digest] = data
                size += len(data)
                if size >= _TASK_BYTES:
                    self._submit(task)
                    task, size = {}, 0
        if task:
            self._submit(task)

    def _submit(self, task: dict[Digest, Buffer]) -> None:
        self._packer.wait_for_room()
        self._packer.put(self._compressors.submit(_encode, EntryKind.BLOB, task))


def _encode(kind: EntryKind, blobs: dict[Digest, Buffer]) -> Encoded:
    encoded = encode_all(list(blobs.values()))
    return kind, [
        (digest, codec, stored, len(data))
        for (digest, data), (codec, stored) in zip(blobs.items(), encoded, strict=True)
    ]
