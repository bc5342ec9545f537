"""Writing of a batch of blobs into as few packs as possible.

The calling thread hashes small blobs; two other threads read and hash large ones. A small thread
pool compresses new blobs, and the threads of `cas.packs.packer` write them to packs. Reading,
hashing, compressing and writing overlap. The queues between these stages hold a bounded number of
bytes, whatever the size of the batch.
"""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future
from contextlib import closing
from itertools import chain
from typing import TYPE_CHECKING, Final, Self

from cas.backends.posix import read_fully
from cas.catalog import ChunkedBlob, WrittenBatch
from cas.digest import Buffer, Digest, Hasher
from cas.digest_table import DigestTable
from cas.packs.chunk_list import encode_chunk_list
from cas.packs.frames import encode_blobs
from cas.packs.pack import FOOTER_RECORD_SIZE, EntryKind
from cas.packs.packer import Packer
from cas.segments import SegmentHasher, segments_of_file, segments_of_pieces
from cas.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from cas.backend import Backend
    from cas.catalog import Catalog, Places
    from cas.chunker import Chunker
    from cas.packs.frames import Frame
    from cas.packs.pack import SealedPack
    from cas.packs.packer import Encoded
    from cas.segments import Segment

__all__ = ["PIECE_SIZE", "BatchWriter"]

PIECE_SIZE: Final = 1 << 20
"""A good size of the pieces for `BatchWriter.add_pieces`, in bytes."""

_GROUP_BYTES: Final = 8 << 20
_GROUP_BLOBS: Final = 1_000
"""A group of blobs ends at either bound. One statement looks up a group. With twice as many bytes,
more misses of the processor's cache cost more than fewer statements save."""

_TASK_BYTES: Final = 4 << 20
"""Bytes that one task compresses."""

_COMPRESSORS: Final = 2
"""Number of compressing threads. zstd releases the interpreter for the reading thread."""

_RECOGNISED_FROM: Final = 16 << 20
"""Files of at least this many bytes are first checked for an existing copy. If there is none, a
sixteenth of the file is hashed once more."""

_CHUNKS_AT_THE_END: Final = 4
"""So many times the longest chunk is cut to find the last chunk of a file. A cut that begins
anywhere almost always meets the places where the whole file is cut before the end."""


class BatchWriter:
    """One batch: add blobs, then `finish`. Used by one thread; not used again after `finish`.

    Leaving the ``with`` block without `finish` discards staged packs. Packs that were already
    published stay behind as harmless orphans.
    """

    def __init__(self, backend: Backend, catalog: Catalog, chunker: Chunker) -> None:
        self._catalog = catalog
        self._chunker = chunker
        self._group: dict[Digest, Buffer] = {}
        self._group_bytes = 0
        self._seen = DigestTable("Q")
        """What was added in groups, with sizes."""
        self._new_chunked: dict[Digest, ChunkedBlob] = {}
        self._records: list[Digest] = []
        self._last: deque[Future[Encoded]] = deque()
        """What is published after all else."""
        # They start with the first task: a batch without new blobs has none.
        self._compressors = Threads(_COMPRESSORS, "cas-compress")
        self._hashing = SegmentHasher()
        self.on_read: Callable[[int], None] | None = None
        """Called with the bytes of a large file that were cut since the last call."""
        self.on_new: Callable[[int], None] | None = None
        """Called with the bytes of blobs that are not stored yet, before they are written. If it
        raises, they are not."""
        self._packer = Packer(backend, catalog)

    def add(self, data: Buffer, *, unless: bytes | None = None) -> Digest:
        """Add a blob of at most 64 MiB as one entry; return its digest.

        Parameters
        ----------
        data
            The bytes. They are kept until they are written, and must not change.
        unless
            A digest that is known to be stored. If `data` has this digest, nothing is added.
        """
        digest = Digest.of(data)
        if digest != unless:
            self._add(digest, data)
        return digest

    def _add(self, digest: Digest, data: Buffer) -> None:
        if digest not in self._group:
            self._group[digest] = data
            self._group_bytes += len(data)
            if self._group_bytes >= _GROUP_BYTES or len(self._group) >= _GROUP_BLOBS:
                self._submit_group()

    def add_frames(
        self,
        frames: Iterable[Frame],
        data: Mapping[Digest, Buffer],
        *,
        known: Collection[Digest] = frozenset(),
    ) -> None:
        """Add blobs as another store has them. A frame with a blob that is known is not reused.

        Parameters
        ----------
        data
            The bytes of all blobs in the frames, which the caller has verified.
        known
            Blobs that the caller has found in the catalog. It is not asked again.
        """
        reused = []
        for frame in frames:
            unseen = self._seen.missing(digest for digest, _ in frame.blobs)
            new = [digest for digest in unseen if digest not in known]
            if len(new) == len(frame.blobs):
                self._seen.add_new(frame.blobs)
                reused.append(frame)
            else:
                # Their sizes may be needed for the list of a large blob.
                self._seen.add_new(blob for blob in frame.blobs if blob[0] in known)
                for digest in new:
                    self._add(digest, data[digest])
        if reused:
            encoded: Future[Encoded] = Future()
            encoded.set_result((EntryKind.BLOB, reused))
            self._packer.wait_for_room()
            self._packer.put(encoded)

    def add_pieces(self, pieces: Iterable[Buffer]) -> tuple[Digest, int]:
        """Add a blob of any size in pieces; return its digest and size.

        A bounded number of pieces is in memory. The calling thread iterates over them.
        """
        begun = iter(pieces)
        first = b""
        while len(first) <= self._chunker.whole:
            piece = next(begun, None)
            if piece is None:
                return self.add(first), len(first)
            first = b"".join((first, piece)) if first else bytes(piece)
        return self._add_segments(segments_of_pieces(chain((first,), begun)))

    def add_file(self, fd: int, size: int, *, unless: bytes | None = None) -> tuple[Digest, int]:
        """Add up to `size` bytes from the start of an open file; return digest and size.

        A file of size 0 is read to its end: in procfs, and on some other filesystems, it may have
        content all the same. A bounded part of the file is in memory. Other threads read a large
        file; on return or raise they have stopped reading it. They do not read its holes.

        Parameters
        ----------
        unless
            As in `add`. Large files ignore it.

        Raises
        ------
        OSError
            When reading fails.
        """
        if size > self._chunker.whole:
            return self._recognise(fd, size) or self._add_segments(
                segments_of_file(fd, size, self._chunker)
            )
        if not size:
            return self.add_pieces(self._to_the_end(fd))
        data = read_fully(os.pread, fd, size)
        return self.add(data, unless=unless), len(data)

    def _to_the_end(self, fd: int) -> Iterator[Buffer]:
        """Yield the pieces of a file of unknown size. One that grows ends with a piece."""
        offset = 0
        while piece := read_fully(os.pread, fd, PIECE_SIZE, offset):
            yield piece
            offset += len(piece)
            if len(piece) < PIECE_SIZE or os.fstat(fd).st_size:
                return

    def _recognise(self, fd: int, size: int) -> tuple[Digest, int] | None:
        """Return digest and size of a large file if it is stored already; hash it once.

        The file is hashed only if its first and last chunks are known. If there is no existing copy
        after all, the caller reads the file once more.
        """
        if size < _RECOGNISED_FROM:
            return None
        end = max(size - _CHUNKS_AT_THE_END * self._chunker.longest(size), 0)
        first = self._chunker.cut(read_fully(os.pread, fd, self._chunker.longest(0)), 0)[:1]
        last = self._chunker.cut(read_fully(os.pread, fd, size - end, end), end)[-1:]
        if not first or not last:
            return None  # the file has become shorter
        ends = {Digest.of(first[0]), Digest.of(last[0])}
        if len(self._catalog.find_known(ends)) < len(ends):
            return None
        whole = Hasher()
        segments = segments_of_file(fd, size, self._chunker)
        with closing(self._hashing.hash(segments, whole, None)) as hashed:
            for _ in hashed:
                pass
        digest = whole.digest()
        return (digest, whole.size) if self._is_whole(digest) else None

    def _is_whole(self, digest: Digest) -> bool:
        """Return whether a large blob and all of its chunks are known."""
        if not self._catalog.find_known([digest]):
            return False
        blob = self._catalog.locate([digest]).get(digest)
        if not isinstance(blob, ChunkedBlob):
            return False
        chunks = set(blob.chunks)
        return len(self._catalog.find_known(chunks)) == len(chunks)

    def _add_segments(self, segments: Iterable[Segment]) -> tuple[Digest, int]:
        whole = Hasher()
        chunks: list[Digest] = []
        last: Buffer = b""
        with closing(self._hashing.hash(segments, whole, self._chunker)) as hashed:
            for segment in hashed:
                for digest, last in segment.chunks:
                    self._add(digest, last)
                    chunks.append(digest)
                if self.on_read is not None:
                    self.on_read(sum(len(chunk) for _, chunk in segment.chunks))
        if len(chunks) > 1:
            digest = whole.digest()
            self.add_chunked(ChunkedBlob(digest, whole.size, tuple(chunks)))
            return digest, whole.size
        return self.add(last), whole.size

    def add_chunked(self, blob: ChunkedBlob) -> None:
        """Add a large blob that the caller has hashed, with chunks stored or in this batch."""
        if self._seen.add_new([(blob.digest, blob.size)]):
            self._new_chunked[blob.digest] = blob

    def add_record(self, data: Buffer) -> Digest:
        """Add a journal record of at most 64 MiB; return its digest.

        It is written without a lookup in the catalog: no two records have the same bytes.
        """
        digest = Digest.of(data)
        self._records.append(digest)
        self._last.append(self._compressors.submit(_encode, EntryKind.RECORD, {digest: data}))
        return digest

    def finish(self) -> WrittenBatch:
        """Write the rest of the batch. On return all packs are durable and published.

        Journal records and chunk lists are published after all blobs that they refer to.

        Raises
        ------
        BackendError
            When storage failed. The caller must then record nothing of this batch.
        """
        self._submit_group()
        known = self._stored_whole() if self._new_chunked else set()
        chunked = tuple(blob for d, blob in self._new_chunked.items() if d not in known)
        lists = {blob.digest: encode_chunk_list(blob, self._sizes(blob)) for blob in chunked}
        named = {blob: Digest.of(data) for blob, data in lists.items()}
        if lists:
            task: dict[Digest, Buffer] = {named[blob]: data for blob, data in lists.items()}
            self._last.appendleft(self._compressors.submit(_encode, EntryKind.CHUNK_LIST, task))
        self._seen = DigestTable("")  # before the places are there, which take as much
        packs, blobs = self._packer.finish(self._last)
        return WrittenBatch(
            packs=packs,
            blobs=blobs,
            chunked=chunked,
            bytes_stored=self._bytes_stored(packs, blobs),
            chunk_lists=named,
        )

    def _stored_whole(self) -> set[Digest]:
        """Return those of the new large blobs that are stored with all of their chunks.

        This batch has all chunks of each. Another store may have cut it at other places.
        """
        known = self._catalog.find_known(self._new_chunked)
        stored = self._catalog.locate(known)
        elsewhere = {
            digest: frozenset(blob.chunks)
            for digest, blob in stored.items()
            if isinstance(blob, ChunkedBlob) and blob.chunks != self._new_chunked[digest].chunks
        }
        if elsewhere:
            intact = self._catalog.find_known(frozenset().union(*elsewhere.values()))
            known -= {digest for digest, chunks in elsewhere.items() if not chunks <= intact}
        return known

    def _sizes(self, blob: ChunkedBlob) -> list[int]:
        """Return the sizes of the chunks of a large blob, in order."""
        seen = [self._seen.find(chunk) for chunk in blob.chunks]
        others = set(self._seen.missing(blob.chunks))
        stored = self._catalog.locate(others) if others else {}
        return [
            row[1] if row else stored[chunk].size
            for row, chunk in zip(seen, blob.chunks, strict=True)
        ]

    def _bytes_stored(self, packs: Sequence[SealedPack], blobs: Places) -> int:
        if len(blobs) == len(self._records):
            return 0
        records = sum(blobs[digest].stored_size + FOOTER_RECORD_SIZE for digest in self._records)
        return sum(pack.size for pack in packs) - records

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._compressors.shutdown(wait=False, cancel_futures=True)
        self._hashing.close()
        self._packer.abort()

    def _submit_group(self) -> None:
        group, self._group, self._group_bytes = self._group, {}, 0
        new = self._seen.add_new((digest, len(data)) for digest, data in group.items())
        if not new:
            return
        known = self._catalog.find_known([digest for digest, _ in new])
        unknown = [(digest, length) for digest, length in new if digest not in known]
        if self.on_new is not None:
            self.on_new(sum(length for _, length in unknown))
        task: dict[Digest, Buffer] = {}
        size = 0
        for digest, length in unknown:
            task[digest] = group[digest]
            size += length
            if size >= _TASK_BYTES:
                self._submit(task)
                task, size = {}, 0
        if task:
            self._submit(task)

    def _submit(self, task: dict[Digest, Buffer]) -> None:
        self._packer.wait_for_room()
        self._packer.put(self._compressors.submit(_encode, EntryKind.BLOB, task))


def _encode(kind: EntryKind, blobs: dict[Digest, Buffer]) -> Encoded:
    return kind, list(encode_blobs(blobs.items(), share=kind == EntryKind.BLOB))
