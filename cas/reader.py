"""Reading of blobs. Every byte is verified against a digest before it is returned."""

from __future__ import annotations

import io
from contextlib import suppress
from operator import itemgetter
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from cas.catalog import ChunkedBlob, Location
from cas.chunked import ChunkedStream, joined
from cas.digest import Digest, Hasher
from cas.errors import (
    BlobNotFoundError,
    DigestMismatchError,
    ObjectNotFoundError,
    UnreadableObjectError,
)
from cas.loading import Loaded, SpanLoader
from cas.packs.codec import Codec
from cas.packs.frames import (
    Frame,
    RecentFrames,
    decode_frame,
    frames_again,
    slice_blob,
)
from cas.packs.pack import pack_object_name
from cas.packs.salvage import Salvaged, read_around
from cas.pieces import PIECE_SIZE, PieceDigests
from cas.spans import (
    Span,
    check_location,
    check_whole,
    cut_spans,
    describe_chunks,
    describe_location,
    find_cached,
    is_readable,
)
from cas.windows import Windows

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterable, Iterator

    from cas.backend import Backend
    from cas.cache.cache import PackCache
    from cas.catalog import Catalog, Placement
    from cas.digest import Buffer
    from cas.spans import Sought

__all__ = ["BlobReader", "ReadFrames"]


class ReadFrames(NamedTuple):
    """Blobs that were read, and what to store them again with."""

    blobs: list[tuple[Digest, Buffer]]
    """In the order asked for, with repetitions."""
    frames: list[Frame]
    """Each blob once."""


class BlobReader:
    """Reads blobs by digest. Safe for use by several threads.

    A reader takes cached bytes from the cache and verifies them like all others. If they are
    damaged, it fetches them from storage. In memory it keeps up to 4 MiB of decoded frames, which
    it verifies again, and 8 MiB of digests (`cas.pieces`). If requests have latency, it also keeps
    up to 64 MiB of what lies around small blobs (`cas.windows`), and verifies each of them.
    """

    def __init__(self, backend: Backend, catalog: Catalog, cache: PackCache | None = None) -> None:
        self._backend = backend
        self._catalog = catalog
        self._cache = cache
        self._spans = SpanLoader(backend, cache)
        self._windows = Windows(backend, cache) if backend.window_size else None
        self._frames = RecentFrames()
        self._pieces = PieceDigests()

    @property
    def reads_at_once(self) -> int:
        return self._backend.reads_at_once

    def read(self, digest: Digest, location: Location | None = None) -> bytes:
        """Return all bytes of a blob. Use `open` for large blobs.

        Parameters
        ----------
        location
            Where the blob is, if it has one entry and the caller knows.

        Raises
        ------
        BlobNotFoundError
            When the catalog doesn't know the digest, or the pack of the blob is missing.
        DigestMismatchError
            When the bytes are damaged. No bytes are returned then.
        """
        placement = location or self._locate(digest)
        if isinstance(placement, Location):
            return bytes(self._fetch_near(digest, placement))
        return joined(self._iter_chunks(placement), placement.size)

    def iter_pieces(self, digest: Digest) -> Generator[Buffer]:
        """Yield a blob's bytes in order, each piece verified before it is yielded.

        For a large blob, the last piece comes after the digest of the whole is verified, and
        neighbouring chunks are fetched together, as by `read_located`. Raises as `read` does.
        """
        placement = self._locate(digest)
        if isinstance(placement, Location):
            yield self._fetch_near(digest, placement)
        else:
            yield from self._iter_chunks(placement)

    def _iter_chunks(self, placement: ChunkedBlob) -> Generator[Buffer]:
        whole = Hasher()
        locations = self.locate_chunks(placement)
        chunks = zip(placement.chunks, locations, strict=True)
        for _, piece in self.read_ahead(chunks):
            whole.update(piece)
            if whole.size == placement.size:
                check_whole(placement, whole)
            yield piece

    def read_range(self, digest: Digest, start: int, size: int) -> bytes:
        """Return at most `size` bytes from `start`; fetch only the chunks that contain them.

        Raises as `read` does.
        """
        if start < 0:
            raise ValueError(f"position {start} is before the start")
        placement = self._locate(digest)
        if isinstance(placement, Location):
            return bytes(self._fetch_near(digest, placement)[start : start + size])
        wanted, skipped, position = [], 0, 0
        for chunk in zip(placement.chunks, self.locate_chunks(placement), strict=True):
            ends = position + chunk[1].size
            if ends <= start:
                skipped = ends
            elif position < start + size:
                wanted.append(chunk)
            position = ends
        data = b"".join(piece for _, piece in self.read_in_order(wanted))
        return data[start - skipped : start - skipped + size]

    def open(self, digest: Digest, location: Location | None = None) -> BinaryIO:
        """Return a seekable stream that holds about 8 MiB in memory. The caller closes it.

        Sequential reads from remote storage hold up to 48 MiB, and threads until it is closed.

        `location` is that of `read`.
        A read after a seek fetches a single chunk, or pieces of one that was verified before.
        Sequential reads prefetch more and more chunks. Every byte is verified. Reading from start
        to end also verifies `digest`. Raises as `read` does, here and on every read.
        """
        placement = location or self._locate(digest)
        if isinstance(placement, Location):
            return io.BytesIO(self._fetch_near(digest, placement))
        stream = ChunkedStream(self, placement, self.locate_chunks(placement))
        return io.BufferedReader(stream, buffer_size=PIECE_SIZE)

    def read_many(self, digests: Collection[Digest]) -> Iterator[tuple[Digest, Buffer]]:
        """Yield each blob of one entry once, as `read_located` does.

        Digests of large blobs are skipped; use `iter_pieces` for them. Raises as `read` does.
        """
        located = self._catalog.locate(set(digests))
        if missing := next((digest for digest in digests if digest not in located), None):
            raise BlobNotFoundError(missing)
        yield from self.read_located(
            [(digest, at) for digest, at in located.items() if isinstance(at, Location)]
        )

    def read_located(
        self, blobs: Iterable[tuple[Digest, Location]]
    ) -> Generator[tuple[Digest, Buffer]]:
        """Yield blobs of one entry at known locations; fetch neighbours in one request.

        Cached blobs come first, then the rest in order of storage. While the caller works on some
        blobs, threads prefetch and decode the next ones. `Backend.span_size` of decoded bytes, and
        their stored bytes, are in memory once more than `Backend.reads_at_once`. Raises as `read`
        does.
        """
        ordered = sorted(blobs, key=itemgetter(1))  # by pack, then by offset, then in a frame
        sought: Iterable[Sought] = find_cached(ordered, self._cache)
        if self._cache is not None:
            # Cached blobs come first, so that they do not split the requests for the others.
            sought = sorted(sought, key=lambda blob: blob.extent is None)
        for loaded in self._spans.ahead(sought):
            yield from self._verified(loaded)

    def read_in_order(
        self, blobs: Iterable[tuple[Digest, Location]]
    ) -> Iterator[tuple[Digest, Buffer]]:
        """Yield blobs as `read_located` does, but in the order given and without a thread."""
        for span in cut_spans(find_cached(blobs, self._cache), self._backend.span_size):
            yield from self._verified(self._spans.load(span))

    def read_ahead(
        self, blobs: Iterable[tuple[Digest, Location]]
    ) -> Generator[tuple[Digest, Buffer]]:
        """Yield blobs as `read_located` does, but in the order given, with repetitions."""
        for loaded in self._spans.ahead(find_cached(blobs, self._cache)):
            yield from self._verified(loaded)

    def read_parts(self, blobs: Iterable[tuple[Digest, Location]]) -> Iterator[Buffer]:
        """Yield blobs as `read_ahead` does, but not verified one by one.

        For parts of a whole, when the caller compares the digest of the whole. If that is wrong,
        `read_ahead` finds the part.
        """
        for loaded in self._spans.ahead(find_cached(blobs, self._cache)):
            decoded = [data for data in loaded.blobs if data is not None]
            if len(decoded) < len(loaded.blobs):
                decoded = [data for _, data in self._verified(loaded)]
            yield from decoded

    def read_frames(self, blobs: Iterable[tuple[Digest, Location]]) -> Iterator[ReadFrames]:
        """Yield blobs as `read_ahead` does, some MiB at once, with the frames to store them again.

        Frames are as they are stored here, unless some of their blobs are not asked for.
        """
        for loaded in self._spans.ahead(find_cached(blobs, self._cache)):
            read = list(self._verified(loaded))
            span, stored, decoded = loaded
            sought = ((*blob[:2], data) for blob, data in zip(span.blobs, decoded, strict=True))
            frames = frames_again(dict(read), sought, stored or b"", span.start)
            yield ReadFrames(read, list(frames))

    def _verified(self, loaded: Loaded) -> Iterator[tuple[Digest, Buffer]]:
        """Yield the blobs of a span; put the span into the cache if all of it is intact."""
        span, stored, blobs = loaded
        if stored is None:
            yield from self._relocated(span)
            return
        right = True
        for number, (blob, data) in enumerate(zip(span.blobs, blobs, strict=True)):
            digest = blob[0]
            if data is not None and Digest.of(data) == digest:
                yield digest, data
            elif span.extent is not None and self._cache is not None:
                self._cache.forget(span.extent)
                yield from self._verified(self._spans.load(span.rest(number)))
                return
            else:
                # Reading it alone raises an error that says what is wrong.
                right = False
                yield digest, self.fetch(digest, blob.location)
        if right and span.extent is None and self._cache is not None:
            self._cache.keep(span.pack, span.start, stored)

    def _relocated(self, span: Span) -> Iterator[tuple[Digest, Buffer]]:
        """Yield the blobs of a span whose pack is gone, from their new locations."""
        located = self._catalog.locate({blob.digest for blob in span.blobs})
        blobs = []
        for digest, gone, _ in span.blobs:
            place = _single(digest, located.get(digest))
            if place == gone:
                raise BlobNotFoundError(digest)
            blobs.append((digest, place))
        for again in cut_spans(find_cached(blobs, self._cache), self._backend.span_size):
            yield from self._verified(self._spans.load(again))

    def locate_chunks(self, blob: ChunkedBlob) -> list[Location]:
        """Return the locations of the chunks of a large blob, in order.

        Raises DigestMismatchError if their sizes don't add up: the list itself is then damaged.
        """
        located = self._catalog.locate(set(blob.chunks))
        locations = [_single(chunk, located.get(chunk)) for chunk in blob.chunks]
        if not locations or sum(location.size for location in locations) != blob.size:
            raise DigestMismatchError(blob.digest, None, describe_chunks(blob))
        return locations

    def note_pieces(self, digest: Digest, location: Location, data: Buffer) -> None:
        if location.codec == Codec.RAW:
            self._pieces.note(digest, data)

    def read_known_part(self, digest: Digest, location: Location, part: range) -> memoryview | None:
        if location.codec != Codec.RAW or not is_readable(location):
            return None

        def read(start: int, stop: int) -> bytes | None:
            start, stop = location.offset + start, location.offset + min(stop, location.size)
            if self._cache is not None:
                extents = self._cache.extents(location.pack)
                extent = extents.find(location.offset, location.stored_size)
                if extent is not None:
                    return self._cache.read(extent, start, stop)
            with suppress(ObjectNotFoundError, UnreadableObjectError):
                return self._backend.read(pack_object_name(location.pack), start, stop - start)
            return None

        return self._pieces.read(digest, part, read)

    def _locate(self, digest: Digest) -> Placement:
        try:
            return self._catalog.locate([digest])[digest]
        except KeyError:
            raise BlobNotFoundError(digest) from None

    def _fetch_near(self, digest: Digest, location: Location) -> Buffer:
        """Return a blob as `fetch` does. If a request is needed, it may fetch neighbours, too."""
        if self._windows is None or not is_readable(location):
            return self.fetch(digest, location)
        if (data := self._in_frame(digest, location)) is not None:
            return data
        (sought,) = find_cached([(digest, location)], self._cache)
        stored = self._windows.read(location, fetch=sought.extent is None)
        if stored is not None:
            with suppress(DigestMismatchError):
                return self._decoded(digest, location, stored)
            self._windows.forget(location)
        return self.fetch(digest, location)

    def _in_frame(self, digest: Digest, location: Location) -> Buffer | None:
        """Return a blob of a frame that was decoded lately."""
        if location.frame_size and (frame := self._frames.find(location)) is not None:
            data = slice_blob(location, frame)
            if Digest.of(data) == digest:
                return data
        return None

    def fetch(self, digest: Digest, location: Location) -> Buffer:
        """Return a blob of one entry at a known location. Raises as `read` does."""
        if (data := self._in_frame(digest, location)) is not None:
            return data
        if self._cache is not None:
            (sought,) = find_cached([(digest, location)], self._cache)
            if sought.extent is not None:
                span = next(cut_spans([sought], self._backend.span_size))
                ((_, data),) = self._verified(self._spans.load(span))
                return data
        location, stored = self._read_moved(digest, location)
        data = self._decoded(digest, location, stored)
        if self._cache is not None:
            self._cache.keep(location.pack, location.offset, stored)
        return data

    def _decoded(self, digest: Digest, location: Location, stored: Buffer) -> Buffer:
        try:
            frame = decode_frame(location, stored)
        except ValueError as error:
            raise DigestMismatchError(digest, None, describe_location(location)) from error
        data = slice_blob(location, frame)
        actual = Digest.of(data)
        if actual != digest:
            raise DigestMismatchError(digest, actual, describe_location(location))
        if location.frame_size:
            self._frames.keep(location, frame)
        return data

    def _read_stored(self, location: Location) -> Salvaged:
        if not location.stored_size:
            return Salvaged(b"", ())
        name = pack_object_name(location.pack)
        return read_around(self._backend, name, location.offset, location.stored_size)

    def _read_moved(self, digest: Digest, location: Location) -> tuple[Location, bytes]:
        """Return the location and the stored bytes of a blob, even if compaction has moved it."""
        while True:
            check_location(digest, location)
            try:
                stored, holes = self._read_stored(location)
            except ObjectNotFoundError:
                location = self._moved(digest, location)
                continue
            if holes:
                raise DigestMismatchError(digest, None, describe_location(location))
            return location, stored

    def _moved(self, digest: Digest, gone: Location) -> Location:
        again = self._locate(digest)
        if again == gone or not isinstance(again, Location):
            raise BlobNotFoundError(digest)
        return again


def _single(digest: Digest, placement: Placement | None) -> Location:
    if not isinstance(placement, Location):
        raise BlobNotFoundError(digest)
    return placement
