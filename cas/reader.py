"""Reading blobs back, every byte checked against a digest before anyone sees it."""

from __future__ import annotations

import io
from bisect import bisect_right
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, chain
from typing import TYPE_CHECKING, BinaryIO, Final, TypeAlias

from cas.catalog import ChunkedBlob, Location
from cas.codec import decode, decode_all
from cas.digest import Digest, Hasher
from cas.errors import BlobNotFoundError, DigestMismatchError, ObjectNotFoundError
from cas.pack import pack_object_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from concurrent.futures import Future

    from cas.backend import Backend
    from cas.catalog import Catalog, Placement
    from cas.digest import Buffer

__all__ = ["BlobReader"]

Span: TypeAlias = "Sequence[tuple[Digest, Location]]"
"""Blobs of one entry and where they are; mostly neighbours in one pack, in order of offset."""

_SPAN_SIZE: Final = 8 << 20
"""Bytes that one request for neighbouring entries spans at most, and that they decode to."""

_SPAN_GAP: Final = 64 << 10
"""Bytes between two entries that are cheaper to read along than to skip with another request."""


class BlobReader:
    """Reads blobs by digest. Safe for use by several threads."""

    def __init__(self, backend: Backend, catalog: Catalog) -> None:
        self._backend = backend
        self._catalog = catalog

    def read(self, digest: Digest) -> bytes:
        """Return a blob whole; meant for small ones, `open` streams.

        Raises
        ------
        BlobNotFoundError
            When the catalog doesn't know the digest, or the pack it should be in is gone.
        DigestMismatchError
            When the bytes are damaged; none of them are returned.
        """
        return b"".join(self.iter_pieces(digest))

    def iter_pieces(self, digest: Digest) -> Iterator[Buffer]:
        """Yield a blob's bytes in order, each piece verified before it is yielded.

        Of a large blob the last piece is withheld until the whole is verified too, and neighbouring
        chunks are fetched together, as by `read_located`. Raises as `read` does.
        """
        placement = self._locate(digest)
        if isinstance(placement, Location):
            yield self.fetch(digest, placement)
            return
        whole = Hasher()
        locations = self.locate_chunks(placement)
        for _, piece in self.read_in_order(zip(placement.chunks, locations, strict=True)):
            whole.update(piece)
            if whole.size == placement.size:
                _check_whole(placement, whole)
            yield piece

    def read_range(self, digest: Digest, start: int, size: int) -> bytes:
        """Return at most `size` bytes from `start`, fetching only the chunks they lie in."""
        with self.open(digest) as stream:
            stream.seek(start)
            return stream.read(size)

    def open(self, digest: Digest) -> BinaryIO:
        """Return a seekable stream that holds one chunk at a time; the caller closes it.

        Every read is verified chunk by chunk; one that goes from start to end is verified against
        `digest` as well. Raises as `read` does, here and on every read.
        """
        placement = self._locate(digest)
        if isinstance(placement, Location):
            return io.BytesIO(self.fetch(digest, placement))
        return io.BufferedReader(_ChunkedStream(self, placement), buffer_size=64 << 10)

    def read_many(self, digests: Collection[Digest]) -> Iterator[tuple[Digest, Buffer]]:
        """Yield each blob of one entry once, in order of storage, neighbours in one request.

        Digests of large blobs are passed over: they are for `iter_pieces`. Raises as `read` does.
        """
        located = self._catalog.locate(set(digests))
        if missing := next((digest for digest in digests if digest not in located), None):
            raise BlobNotFoundError(missing)
        yield from self.read_located(
            [(digest, at) for digest, at in located.items() if isinstance(at, Location)]
        )

    def read_located(
        self, blobs: Iterable[tuple[Digest, Location]]
    ) -> Iterator[tuple[Digest, Buffer]]:
        """Yield blobs of one entry whose locations are known, as `read_many` does.

        While the caller is busy with some, a thread fetches and decodes the next ones: at most
        twice 8 MiB are held. Raises as `read` does.
        """
        yield from self.read_in_order(
            sorted(blobs, key=lambda blob: (blob[1].pack, blob[1].offset))
        )

    def read_in_order(
        self, blobs: Iterable[tuple[Digest, Location]]
    ) -> Iterator[tuple[Digest, Buffer]]:
        """Yield blobs as `read_located` does, but in the order given; repeated ones each time."""
        # Many small calls that release the interpreter are slower from two threads than from one.
        # So the thread makes few large calls, and everything else is done here.
        with ThreadPoolExecutor(1, "cas-read") as ahead:
            loading: Future[Sequence[Buffer | None]] | None = None
            current: Span = ()
            for span in chain(_spans(blobs), (None,)):
                following = ahead.submit(self._load, span) if span else None
                if loading is not None:
                    yield from self._verified(current, loading.result())
                loading, current = following, span or ()

    def _load(self, span: Span) -> Sequence[Buffer | None]:
        """Return the blobs of a span, decoded but unverified; None for what needs a second look."""
        first, last = span[0][1], span[-1][1]
        size = last.offset + last.stored_size - first.offset
        try:
            name = pack_object_name(first.pack)
            data = memoryview(self._backend.read(name, first.offset, size))
            starts = (location.offset - first.offset for _, location in span)
            return decode_all(
                [
                    (at.codec, data[start : start + at.stored_size], at.size)
                    for start, (_, at) in zip(starts, span, strict=True)
                ]
            )
        except (ObjectNotFoundError, ValueError):
            return [None] * len(span)

    def _verified(
        self, span: Span, loaded: Iterable[Buffer | None]
    ) -> Iterator[tuple[Digest, Buffer]]:
        for (digest, location), data in zip(span, loaded, strict=True):
            if data is None or Digest.of(data) != digest:
                # Moved or damaged: to read it alone tells which.
                yield digest, self.fetch(digest, location)
            else:
                yield digest, data

    def locate_chunks(self, blob: ChunkedBlob) -> list[Location]:
        """Return where the chunks of a large blob are, in order.

        DigestMismatchError if they don't add up to its size: the list itself is then damaged.
        """
        located = self._catalog.locate(set(blob.chunks))
        locations = [_single(chunk, located.get(chunk)) for chunk in blob.chunks]
        if not locations or sum(location.size for location in locations) != blob.size:
            raise DigestMismatchError(blob.digest, None, _chunk_list(blob))
        return locations

    def _locate(self, digest: Digest) -> Placement:
        try:
            return self._catalog.locate([digest])[digest]
        except KeyError:
            raise BlobNotFoundError(digest) from None

    def fetch(self, digest: Digest, location: Location) -> Buffer:
        """Return a blob of one entry whose location is known already; raises as `read` does."""
        try:
            stored = self._read_stored(location)
        except ObjectNotFoundError:
            # Compaction may have moved the blob since it was located: look once more.
            location = self._moved(digest, location)
            stored = self._read_stored(location)
        return _decoded(digest, location, stored)

    def _read_stored(self, location: Location) -> bytes:
        name = pack_object_name(location.pack)
        return self._backend.read(name, location.offset, location.stored_size)

    def _moved(self, digest: Digest, gone: Location) -> Location:
        again = self._locate(digest)
        if again == gone or not isinstance(again, Location):
            raise BlobNotFoundError(digest)
        return again


class _ChunkedStream(io.RawIOBase):
    """A large blob as a seekable file."""

    def __init__(self, reader: BlobReader, blob: ChunkedBlob) -> None:
        self._reader = reader
        self._blob = blob
        self._locations = reader.locate_chunks(blob)
        self._ends = list(accumulate(location.size for location in self._locations))
        self._position = 0
        self._loaded = -1
        self._data: Buffer = b""
        self._whole = Hasher()
        self._hashed = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._blob.size}[whence]
        if base + offset < 0:
            raise ValueError(f"position {base + offset} is before the start")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Buffer) -> int:  # type: ignore[override]  # a narrower buffer type
        if self._position >= self._blob.size:
            return 0
        number = bisect_right(self._ends, self._position)
        self._load(number)
        start = self._position - (self._ends[number] - self._locations[number].size)
        piece = memoryview(self._data)[start : start + len(buffer)]
        memoryview(buffer)[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)

    def _load(self, number: int) -> None:
        if number == self._loaded:
            return
        data = self._reader.fetch(self._blob.chunks[number], self._locations[number])
        if number == self._hashed:
            self._whole.update(data)
            self._hashed += 1
            if self._hashed == len(self._locations):
                _check_whole(self._blob, self._whole)
        self._data, self._loaded = data, number


def _spans(blobs: Iterable[tuple[Digest, Location]]) -> Iterator[Span]:
    """Group blobs into runs that lie one behind the other, so that one request reads a run."""
    span: list[tuple[Digest, Location]] = []
    decoded = 0
    for digest, place in blobs:
        if span:
            first, last = span[0][1], span[-1][1]
            gap = place.offset - (last.offset + last.stored_size)
            near = place.pack == last.pack and 0 <= gap <= _SPAN_GAP
            stored = place.offset + place.stored_size - first.offset
            if not near or max(stored, decoded + place.size) > _SPAN_SIZE:
                yield span
                span, decoded = [], 0
        span.append((digest, place))
        decoded += place.size
    if span:
        yield span


def _single(digest: Digest, placement: Placement | None) -> Location:
    if not isinstance(placement, Location):
        raise BlobNotFoundError(digest)
    return placement


def _decoded(digest: Digest, location: Location, stored: Buffer) -> Buffer:
    try:
        data = decode(location.codec, stored, location.size)
    except ValueError as error:
        raise DigestMismatchError(digest, None, _place(location)) from error
    actual = Digest.of(data)
    if actual != digest:
        raise DigestMismatchError(digest, actual, _place(location))
    return data


def _place(location: Location) -> str:
    return f"{pack_object_name(location.pack)} at offset {location.offset}"


def _chunk_list(blob: ChunkedBlob) -> str:
    return f"its list of {len(blob.chunks)} chunks"


def _check_whole(blob: ChunkedBlob, read: Hasher) -> None:
    actual = read.digest()
    if actual != blob.digest:
        raise DigestMismatchError(blob.digest, actual, _chunk_list(blob))
