"""Writing a batch of blobs into as few packs as it takes.

The calling thread reads and hashes, or reads alone where blobs are large; what the catalog does not
know is compressed by a small pool, appended to the current pack by one thread, and each full pack
is synced and published by another, or by as many as the backend takes at once, so that reading,
hashing, compressing and writing overlap. What waits between the stages is bounded in bytes,
whatever the size of the batch.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from itertools import chain
from typing import TYPE_CHECKING, Final, Self, TypeAlias

from cas.catalog import ChunkedBlob, Location, WrittenBatch
from cas.chunk_list import encode_chunk_list
from cas.codec import Codec, encode_all
from cas.digest import Buffer, Digest
from cas.hashing import HashingThread
from cas.pack import FOOTER_RECORD_SIZE, EntryKind, PackWriter, SealedPack, pack_object_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from types import TracebackType

    from cas.backend import Backend, StagedObject
    from cas.catalog import Catalog
    from cas.hashing import BackgroundHasher

__all__ = ["BatchWriter"]

PACK_SIZE: Final = 64 << 20
"""Bytes at which a pack is sealed: large enough that 10,000 steps make few objects, small enough
that one is rewritten or sent again without pain."""

_GROUP_BYTES: Final = 4 << 20
_GROUP_BLOBS: Final = 1_000
"""A group is looked up in one statement and compressed by one task; it ends at either bound."""

_IN_FLIGHT_GROUPS: Final = 6
"""Groups that may wait for compression and writing: about 24 MiB before compression. Four of 8 MiB
take 20 MiB more at the peak, and no less time."""

_COMPRESSORS: Final = 2
"""Compressing threads; they leave the interpreter to the reading thread while zstd works."""

_HASHED_AHEAD: Final = 4
"""Chunks that may wait to be hashed: 4 MiB."""

_KEPT_BY_MALLOC: Final = 16 << 20
"""Bytes of a block whose release tells glibc to keep twice as many for the next one. (mallopt(3),
M_MMAP_THRESHOLD: it adjusts both of its thresholds to the largest block that was freed, below 32
MiB.) As it begins, it gives most of what the chunks of a large file took back to the system, and
the next chunk faults it in again page by page: a third of the system's time where all is known."""

_Encoded: TypeAlias = tuple[EntryKind, list[tuple[Digest, Codec, Buffer, int]]]


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
        self._unlisted: list[ChunkedBlob] = []
        self._records: dict[Digest, Buffer] = {}
        # An executor starts its threads at the first task: a batch that finds nothing new has none.
        self._compressors = ThreadPoolExecutor(_COMPRESSORS, "cas-compress")
        self._whole_hashing = HashingThread("cas-hash")
        self._chunk_hashing = ThreadPoolExecutor(1, "cas-hash-chunks")
        self._packer = _Packer(backend, catalog)

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
            Each of exactly the chunk size but for the last, which may be shorter.
        """
        begun = iter(pieces)
        first = next(begun, b"")
        second = next(begun, None)
        if second is None:
            return self.add(first), len(first)
        bytes(_KEPT_BY_MALLOC)  # never touched, so it costs no memory
        whole = self._whole_hashing.hasher()
        chunks: list[Digest] = []
        last: Buffer | None = None
        for digest, piece in self._hashed_ahead(chain((first, second), begun), whole):
            if last is not None and len(last) != self._chunk_size:
                raise ValueError("a piece before the last is not of the chunk size")
            last = piece
            self._add(digest, piece)
            chunks.append(digest)
        digest = whole.digest()
        self.add_chunked(ChunkedBlob(digest, whole.size, tuple(chunks)))
        return digest, whole.size

    def add_chunked(self, blob: ChunkedBlob) -> None:
        """Add a large blob whose chunks are stored or in this batch; the caller has hashed it."""
        if blob.digest not in self._seen:
            self._seen.add(blob.digest)
            self._new_chunked[blob.digest] = blob

    def add_list(self, blob: ChunkedBlob) -> None:
        """Add the list of chunks of a large blob that is stored, and has none."""
        self._unlisted.append(blob)

    def add_record(self, data: Buffer) -> Digest:
        """Add what a commit says of itself, of at most 64 MiB; return its digest.

        It is written whatever the catalog knows: no two records are the same bytes.
        """
        digest = Digest.of(data)
        self._records[digest] = data
        return digest

    def _hashed_ahead(
        self, pieces: Iterable[Buffer], whole: BackgroundHasher
    ) -> Iterator[tuple[Digest, Buffer]]:
        """Yield each piece with its digest, a few pieces after it was read.

        This thread reads, one hashes the chunks and another one the whole, so that on two cores
        2 GiB that are stored already take two thirds of the time that reading and hashing one
        after the other do.
        """
        waiting: deque[tuple[Future[Digest], Buffer]] = deque()
        for piece in pieces:
            waiting.append((self._chunk_hashing.submit(Digest.of, piece), piece))
            whole.update(piece)
            if len(waiting) > _HASHED_AHEAD:
                digest, piece = waiting.popleft()
                yield digest.result(), piece
        for digest, piece in waiting:
            yield digest.result(), piece

    def finish(self) -> WrittenBatch:
        """Write what is left; on return all of it is durable and published.

        Raises
        ------
        BackendError
            When storage failed; nothing may then be recorded of this batch.
        """
        self._submit_group()
        known = self._catalog.find_known(self._new_chunked) if self._new_chunked else set()
        chunked = tuple(blob for d, blob in self._new_chunked.items() if d not in known)
        lists = {blob.digest: encode_chunk_list(blob) for blob in (*chunked, *self._unlisted)}
        named = {blob: Digest.of(data) for blob, data in lists.items()}
        self._submit(EntryKind.CHUNK_LIST, {named[blob]: data for blob, data in lists.items()})
        self._submit(EntryKind.RECORD, self._records)
        packs, blobs = self._packer.finish()
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
        self._whole_hashing.close()
        self._chunk_hashing.shutdown(wait=False, cancel_futures=True)
        self._packer.abort()

    def _submit_group(self) -> None:
        group, self._group, self._group_bytes = self._group, {}, 0
        if not group:
            return
        known = self._catalog.find_known(group)
        fresh = {d: data for d, data in group.items() if d not in known} if known else group
        self._submit(EntryKind.BLOB, fresh)

    def _submit(self, kind: EntryKind, group: dict[Digest, Buffer]) -> None:
        if group:
            self._packer.wait_for_room()
            self._packer.put(self._compressors.submit(_encode_group, kind, group))


def _encode_group(kind: EntryKind, group: dict[Digest, Buffer]) -> _Encoded:
    encoded = encode_all(list(group.values()))
    return kind, [
        (digest, codec, stored, len(data))
        for (digest, data), (codec, stored) in zip(group.items(), encoded, strict=True)
    ]


class _Packer:
    """Appends encoded groups to packs on one thread, while others publish full packs."""

    def __init__(self, backend: Backend, catalog: Catalog) -> None:
        self._backend = backend
        self._queue: queue.SimpleQueue[Future[_Encoded] | None] = queue.SimpleQueue()
        self._room = threading.Semaphore(_IN_FLIGHT_GROUPS)
        self._thread: threading.Thread | None = None
        self._publisher = _Publisher(catalog, backend.publishes_at_once)
        self._error: BaseException | None = None
        self._aborted = False
        self._staged: StagedObject | None = None
        self._pack: PackWriter | None = None
        self._waiting: list[tuple[Digest, int, int, int, Codec]] = []
        self._packs: list[SealedPack] = []
        self._blobs: dict[Digest, Location] = {}

    def wait_for_room(self) -> None:
        """Block while too much waits; raise what went wrong so far."""
        self._room.acquire()
        if self._error is not None:
            raise self._error

    def put(self, group: Future[_Encoded]) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="cas-pack", daemon=True)
            self._thread.start()
        self._queue.put(group)

    def finish(self) -> tuple[tuple[SealedPack, ...], dict[Digest, Location]]:
        """Return packs and locations once every pack is published."""
        self._stop()
        if self._error is not None:
            raise self._error
        return tuple(self._packs), self._blobs

    def abort(self) -> None:
        """Stop and discard what is not published; harmless after `finish`."""
        self._aborted = True
        self._stop()

    def _stop(self) -> None:
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None
        self._publisher.close()

    def _run(self) -> None:
        try:
            while (group := self._queue.get()) is not None:
                try:
                    if not self._aborted and self._error is None:
                        self._append(group.result())
                except CancelledError:
                    return  # the pool was shut down: the batch is being abandoned
                finally:
                    self._room.release()
            if not self._aborted and self._error is None:
                self._seal()
                self._publisher.finish()
        except BaseException as error:  # noqa: BLE001 - raised on the thread that adds and finishes
            self._error = error
            self._drain()
        finally:
            if self._staged is not None:
                self._staged.discard()

    def _drain(self) -> None:
        """Let the adding thread come back for its error rather than wait for room."""
        self._room.release(_IN_FLIGHT_GROUPS)

    def _append(self, group: _Encoded) -> None:
        kind, entries = group
        for digest, codec, stored, size in entries:
            if self._pack is None:
                self._staged = self._backend.stage()
                self._pack = PackWriter(self._staged)
            offset = self._pack.append(kind, digest, codec, stored, size)
            self._waiting.append((digest, offset, len(stored), size, codec))
            if self._pack.size >= PACK_SIZE:
                self._seal()

    def _seal(self) -> None:
        if self._pack is None or self._staged is None:
            return
        sealed = self._pack.seal()
        self._packs.append(sealed)
        for digest, offset, stored_size, size, codec in self._waiting:
            self._blobs[digest] = Location(sealed.name, offset, stored_size, size, codec)
        self._waiting.clear()
        self._publisher.publish(self._staged, sealed)
        self._staged = self._pack = None


class _Publisher:
    """Publishes packs on threads of its own, a bounded number at once. Used by one thread."""

    def __init__(self, catalog: Catalog, at_once: int) -> None:
        self._catalog = catalog
        self._at_once = at_once
        self._threads = ThreadPoolExecutor(at_once, "cas-publish")
        self._running: set[Future[None]] = set()

    def publish(self, staged: StagedObject, sealed: SealedPack) -> None:
        """Begin to publish a pack once there is room, and discard it then; raise earlier errors.

        On raise it is the caller's as before.
        """
        self._settle(self._at_once - 1)
        self._running.add(self._threads.submit(self._publish, staged, sealed))

    def finish(self) -> None:
        """Return once everything is published; raise what went wrong."""
        self._settle(0)

    def close(self) -> None:
        """Wait for what has begun, however it ends; idempotent."""
        self._threads.shutdown()

    def _settle(self, most: int) -> None:
        """Wait until at most so many packs are being published."""
        while True:
            done = {future for future in self._running if future.done()}
            self._running -= done
            for future in done:
                future.result()
            if len(self._running) <= most:
                return
            wait(self._running, return_when=FIRST_COMPLETED)

    def _publish(self, staged: StagedObject, sealed: SealedPack) -> None:
        with staged:
            self._catalog.register_pack(sealed)
            staged.publish(pack_object_name(sealed.name))
