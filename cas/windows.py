"""Windows: parts of remote packs, which one request reads around a small blob.

A request over a network takes longer than the bytes of a small blob, and a program that reads one
mostly reads its neighbours, too: the chunks of an array, the files of a directory. So the first
read in a pack fetches one blob alone. Each further one also fetches what lies around its blob.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Final
from weakref import WeakSet

from cas.errors import ObjectNotFoundError, UnreadableObjectError
from cas.packs.pack import MAX_PACK_SIZE, pack_object_name
from cas.waiting import result_of

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from cas.backend import Backend
    from cas.cache.cache import PackCache
    from cas.catalog import Location
    from cas.digest import Digest

__all__ = ["Windows"]

_MOST_BYTES: Final = 64 << 20
"""Bytes of windows in memory: those of one pack, so that it can be read in any order."""

_GROWTH: Final = 4
"""How much larger a window is than one that served another blob."""

_USED: Final = 4
"""A window was worth its bytes if at least one in so many of them was read."""

_MOST_PACKS: Final = 4096
"""Number of packs whose first read is remembered."""

_EDGE: Final = 64 << 10
"""Bytes of its neighbours that a cache keeps with a window; most stored blobs are smaller."""

_PATIENCE_S: Final = 90.0
"""Seconds to wait for the request of another thread; storage is retried for 60."""


class _Window:
    """Neighbouring blocks of a pack."""

    def __init__(self, pack: Digest, blocks: range, wanted: int) -> None:
        self.pack = pack
        self.blocks = blocks
        self.wanted = wanted
        """Offset of the blob that it is read for."""
        self.served = 0
        """Stored bytes of the blobs that were read from it."""
        self.data: Future[bytes | None] = Future()
        """None if the bytes could not be read."""
        self.data.set_running_or_notify_cancel()  # so that no waiting thread can cancel it


class Windows:
    """The windows that were used last. Safe for use by several threads, and after a fork.

    A window has blocks of `Backend.window_size`. Threads that need the same block wait for one
    request. Windows grow to `Backend.span_size` while they serve other blobs as well, and shrink
    while they don't, or when few of their bytes were read in the end. So reads that are far apart
    transfer little.

    At most 64 MiB are kept. In addition, each thread that fetches holds a window. If there is a
    cache, it keeps each window. Nothing is verified here: the reader verifies each blob.
    """

    def __init__(self, backend: Backend, cache: PackCache | None) -> None:
        self._backend = backend
        self._cache = cache
        self._block = backend.window_size
        self._most = max(1, backend.span_size // self._block)
        self.start_anew()
        _opened.add(self)

    def start_anew(self) -> None:
        """Forget everything, also locks and requests of other threads."""
        self._lock = threading.Lock()
        self._windows: OrderedDict[_Window, None] = OrderedDict()
        """The one that was used last is the last."""
        self._by_block: dict[tuple[Digest, int], _Window] = {}
        self._packs: OrderedDict[Digest, tuple[int, int]] = OrderedDict()
        """The offset of the first blob that was read, and where the pack ends if that is known."""
        self._kept = 0
        """Number of blocks in windows."""
        self._next, self._largest = 1, self._most
        """Number of blocks in the next window, and in the largest."""
        self._has_served = False
        """Whether a window has served another blob since the last request."""

    def read(self, place: Location, *, fetch: bool) -> bytes | None:
        """Return the stored bytes of a blob, unverified; None if it is to be read alone.

        Raises BackendError when storage fails.

        Parameters
        ----------
        place
            A place for which `cas.spans.is_readable` is true.
        fetch
            Whether to send a request if no window has the blob.
        """
        if not 0 < place.stored_size <= self._block:
            return None
        own: list[_Window] = []
        try:
            with self._lock:
                found = [self._by_block.get(block) for block in self._blocks(place)]
                if None in found:
                    if not fetch or not self._follows_another(place):
                        return None
                    own.append(self._around(place, found))
                    self._add(own[0])
                used = dict.fromkeys(self._by_block[block] for block in self._blocks(place))
                self._note_use(used, place)
            for window in own:
                self._fetch(window)
        finally:
            for window in own:
                if not window.data.done():
                    self._drop(window)
                    window.data.set_result(None)  # threads that wait read their blobs alone
        stored = b"".join([self._part(window, place) for window in used])
        return stored if len(stored) == place.stored_size else None

    def forget(self, place: Location) -> None:
        """Drop the windows that have a blob, because it is damaged in them."""
        for block in self._blocks(place):
            window = self._by_block.get(block)
            if window is not None:
                self._drop(window)

    def _blocks(self, place: Location) -> Sequence[tuple[Digest, int]]:
        last = (place.offset + place.stored_size - 1) // self._block
        return [(place.pack, number) for number in range(place.offset // self._block, last + 1)]

    def _follows_another(self, place: Location) -> bool:
        """Note a blob; return whether it is in its pack, and another one was read there before."""
        first, end = self._packs.setdefault(place.pack, (place.offset, MAX_PACK_SIZE))
        self._packs.move_to_end(place.pack)
        while len(self._packs) > _MOST_PACKS:
            self._packs.popitem(last=False)
        return first != place.offset and place.offset + place.stored_size <= end

    def _around(self, place: Location, found: Sequence[_Window | None]) -> _Window:
        """Return a new window with the missing blocks of a blob, and others around them."""
        grown = self._next * _GROWTH if self._has_served else self._next // 2
        self._next = max(1, min(grown, self._largest))
        self._has_served = False
        missing = [
            number
            for (_, number), window in zip(self._blocks(place), found, strict=True)
            if window is None
        ]
        low = missing[0] // self._next * self._next
        high = min(low + self._next, -(-self._packs[place.pack][1] // self._block))
        # What is known at its ends is not read again. Inside, that saves a request.
        while low < missing[0] and (place.pack, low) in self._by_block:
            low += 1
        while high - 1 > missing[-1] and (place.pack, high - 1) in self._by_block:
            high -= 1
        return _Window(place.pack, range(low, max(high, missing[-1] + 1)), place.offset)

    def _add(self, window: _Window) -> None:
        for number in window.blocks:
            other = self._by_block.get((window.pack, number))
            if other and other.blocks[0] in window.blocks and other.blocks[-1] in window.blocks:
                window.served += other.served
                self._remove(other)
            self._by_block[window.pack, number] = window
        self._windows[window] = None
        self._kept += len(window.blocks)

    def _note_use(self, used: Collection[_Window], place: Location) -> None:
        for window in used:
            window.served += place.stored_size
            self._has_served |= window.wanted != place.offset
            self._windows.move_to_end(window)
        while self._kept * self._block > _MOST_BYTES and len(self._windows) > len(used):
            oldest = next(iter(self._windows))
            was_worth = oldest.served * _USED >= len(oldest.blocks) * self._block
            largest = self._largest * 2 if was_worth else self._largest // 2
            self._largest = max(1, min(largest, self._most))
            self._remove(oldest)

    def _remove(self, window: _Window) -> None:
        if window in self._windows:
            del self._windows[window]
            self._kept -= len(window.blocks)
            for number in window.blocks:
                if self._by_block.get((window.pack, number)) is window:
                    del self._by_block[window.pack, number]

    def _drop(self, window: _Window) -> None:
        with self._lock:
            self._remove(window)

    def _fetch(self, window: _Window) -> None:
        """Read a window. It stays without bytes if the pack is gone, or unreadable in parts."""
        start = window.blocks.start * self._block
        with self._lock:
            first, end = self._packs.get(window.pack, (-1, MAX_PACK_SIZE))
        stop = min(window.blocks.stop * self._block, end)
        with suppress(ObjectNotFoundError, UnreadableObjectError):
            data = self._backend.read(pack_object_name(window.pack), start, stop - start)
            if len(data) < stop - start:  # a remote backend checks a short answer once more
                with self._lock:
                    self._packs[window.pack] = first, start + len(data)
            window.data.set_result(data)
            if self._cache is not None:
                before, after = self._beside(window)
                self._cache.keep(window.pack, start - len(before), before + data + after)

    def _beside(self, window: _Window) -> tuple[bytes, bytes]:
        """Return bytes before and after a window, so that the cache has also blobs on its ends."""
        found = []
        for number in (window.blocks.start - 1, window.blocks.stop):
            other = self._by_block.get((window.pack, number))
            data = other.data.result() if other is not None and other.data.done() else None
            start = (number - other.blocks.start) * self._block if other is not None else 0
            found.append((data or b"")[start : start + self._block])
        return found[0][-_EDGE:], found[1][:_EDGE]

    def _part(self, window: _Window, place: Location) -> bytes:
        """Return what a window has of a blob."""
        try:
            data = result_of(window.data, _PATIENCE_S)
        except TimeoutError:  # its thread was interrupted in an unlucky moment
            self._drop(window)
            return b""
        if data is None:
            return b""
        start = place.offset - window.blocks.start * self._block
        stop = min(start + place.stored_size, len(window.blocks) * self._block)
        return data[max(start, 0) : max(stop, 0)]


_opened: Final[WeakSet[Windows]] = WeakSet()


def _start_all_anew() -> None:
    for windows in _opened:  # in the child no other thread is left to end what it began
        windows.start_anew()


os.register_at_fork(after_in_child=_start_all_anew)
