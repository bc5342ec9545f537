"""Loading of spans, from the cache or from storage, on threads while the caller works."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from cas.errors import ObjectNotFoundError, UnreadableObjectError
from cas.packs.frames import decode_blobs
from cas.packs.pack import pack_object_name
from cas.spans import cut_spans
from cas.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from concurrent.futures import Future

    from cas.backend import Backend
    from cas.cache.cache import PackCache
    from cas.digest import Buffer
    from cas.spans import Sought, Span

__all__ = ["Loaded", "SpanLoader"]


class Loaded(NamedTuple):
    """The result of one request."""

    span: Span
    """The requested span. With an extent it was read from the cache, else from storage."""
    data: bytes | None
    """The stored bytes; None if the pack does not exist."""
    blobs: Sequence[Buffer | None]
    """Decoded but unverified blobs; None for those that must be read alone."""


class SpanLoader:
    """Loads spans. Nothing is verified here. Safe for use by several threads."""

    def __init__(self, backend: Backend, cache: PackCache | None) -> None:
        self._backend = backend
        self._cache = cache

    def ahead(self, blobs: Iterable[Sought]) -> Iterator[Loaded]:
        """Yield spans of blobs in the order given, and load the next ones meanwhile.

        One span more than `Backend.reads_at_once` is in memory.
        """
        # Many small calls that release the interpreter are slower on two threads than on one.
        # So the other threads make few large calls, and this one does everything else.
        most = self._backend.reads_at_once
        with Threads(most, "cas-read") as threads:
            loading: deque[Future[Loaded]] = deque()
            for span in cut_spans(blobs, self._backend.span_size):
                loading.append(threads.submit(self.load, span))
                if len(loading) > most:
                    yield loading.popleft().result()
            while loading:
                yield loading.popleft().result()

    def load(self, span: Span) -> Loaded:
        """Load a span with one request, or from the cache."""
        if span.extent is not None and self._cache is not None:
            data = self._cache.read(span.extent, span.start, span.stop)
            if data is not None:
                return _decoded(span, data)
            span = span.rest(0)  # it was evicted
        if span.start == span.stop:  # empty blobs need no request
            return _decoded(span, b"")
        name = pack_object_name(span.pack)
        try:
            data = self._backend.read(name, span.start, span.stop - span.start)
        except ObjectNotFoundError:
            return Loaded(span, None, [None] * len(span.blobs))
        except UnreadableObjectError:  # read each blob alone: only one may be damaged
            return Loaded(span, b"", [None] * len(span.blobs))
        return _decoded(span, data)


def _decoded(span: Span, data: bytes) -> Loaded:
    places = [blob.location for blob in span.blobs]
    return Loaded(span, data, decode_blobs(places, memoryview(data), span.start))
