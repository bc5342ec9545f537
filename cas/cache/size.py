"""How much the cache holds, and what goes when that is too much.

All processes that use a cache add what they are about to put in it to one number in a file, under
a lock that nobody waits for: what can't be added now is added with the next. So the number may be
wrong by what is just being written, by what a killed process did not add, and by what somebody
deleted by hand. Whenever it would exceed the limit everything is counted again, and the files that
were used least recently go until a tenth of the limit is free. A file's time of modification says
when it was last used. Of processes with different limits each keeps to its own when it writes.

What dead processes left half-written is counted and removed like everything else.
"""

from __future__ import annotations

import errno
import heapq
import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cas.backends.posix import PosixCalls

__all__ = ["CacheSize", "occupied"]

_BLOCK: Final = 4096
"""Bytes in which filesystems give space: a file of one byte takes a block."""

_FREED: Final = 10
"""A tenth of the limit is free after an eviction, so that the next one is some writing away: the
cost of looking at every file is shared by what fills that tenth."""

_EVICTED_AT_ONCE: Final = 100_000
"""Files that one eviction removes at most: they are all in memory then."""

_SPARED: Final = 1 << 30
"""Bytes that stay free on the disk, or a twentieth of a small one, whatever the limit allows: what
is restored often lies on the same disk, and the cache must not be what fills it."""

_DIGITS: Final = 20


class _File(NamedTuple):
    used: int
    """When, in nanoseconds."""
    size: int
    path: str


class CacheSize:
    """The size of a cache in a directory that several processes use. Safe for several threads.

    Parameters
    ----------
    root
        Where the files are, in ``packs/`` and ``tmp/``.
    limit
        Bytes that they may take together.
    """

    def __init__(self, root: str, limit: int, calls: PosixCalls) -> None:
        self._root = root
        self._path = f"{root}/size"
        self._limit = limit
        self._calls = calls
        self._lock = threading.Lock()
        self._pending = 0

    def allows(self, size: int) -> bool:
        """Return whether a file of so many bytes may be kept, or would be evicted by itself."""
        return occupied(size) <= self._goal

    def refuse_to_fill_disk(self, fd: int, size: int) -> None:
        """Raise OSError if `size` bytes in an open file would leave the disk too little room."""
        free, total = self._calls.space(fd)
        if free - size < min(_SPARED, total // 20):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def make_room(self, size: int) -> None:
        """Count a file that is about to be written, and evict others if it would be too much.

        OSError when the directory can't be worked with, or nothing in it can be removed; the file
        is then not counted.
        """
        self._note(occupied(size))

    def give_back(self, size: int) -> None:
        """Take back what was counted of a file that could not be written after all."""
        with suppress(OSError):
            self._note(-occupied(size))

    def used(self) -> int:
        """Return how many bytes the cache takes, by the number that processes keep."""
        try:
            fd = self._calls.open_read(self._path)
        except OSError:
            return 0
        try:
            return self._noted(fd) or 0
        except OSError:
            return 0
        finally:
            self._calls.close(fd)

    @property
    def _goal(self) -> int:
        return self._limit - self._limit // _FREED

    def _note(self, more: int) -> None:
        """Add to the number that all processes share."""
        fd = self._calls.open_shared(self._path)
        try:
            with self._lock:
                self._pending += more
            with suppress(OSError):  # where there are no locks the number is less exact
                try:
                    self._calls.lock_exclusive(fd, wait=False)
                except BlockingIOError:
                    return
            with self._lock:
                pending, self._pending = self._pending, 0
            total = self._noted(fd)
            if total is None or total + pending > self._limit:
                total = self._evict(self._count(), pending)
            refused = more > 0 and total + pending > self._limit  # nothing could be removed
            total += pending - (more if refused else 0)
            self._calls.pwrite(fd, f"{max(total, 0):0{_DIGITS}}\n".encode(), 0)
            if refused:
                raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
        finally:
            self._calls.close(fd)

    def _noted(self, fd: int) -> int | None:
        text = self._calls.pread(fd, _DIGITS, 0)
        return int(text) if len(text) == _DIGITS and text.isdigit() else None

    def _count(self) -> int:
        return sum(file.size for file in self._files())

    def _evict(self, total: int, more: int) -> int:
        """Remove what was used least recently if `more` is too much; return what is left."""
        if total + more <= self._limit:
            return total
        for file in self._oldest(total + more - self._goal):
            with suppress(OSError):
                self._calls.unlink(file.path)
                total -= file.size
        return total

    def _oldest(self, size: int) -> list[_File]:
        """Return the files used least recently that take `size` bytes together, oldest first."""
        newest_first: list[tuple[int, _File]] = []
        sum_of_sizes = 0
        for file in self._files():
            heapq.heappush(newest_first, (-file.used, file))
            sum_of_sizes += file.size
            while len(newest_first) > _EVICTED_AT_ONCE or (
                sum_of_sizes - newest_first[0][1].size >= size
            ):
                sum_of_sizes -= heapq.heappop(newest_first)[1].size
        return sorted(file for _, file in newest_first)

    def _files(self) -> Iterator[_File]:
        for folder in ("packs", "tmp"):
            yield from self._files_below(f"{self._root}/{folder}")

    def _files_below(self, folder: str) -> Iterator[_File]:
        try:
            entries = list(self._calls.list_directory(folder))
        except OSError:
            return  # removed meanwhile
        for entry in entries:
            with suppress(OSError):
                # Links are neither followed nor removed: they are not ours.
                if entry.is_dir(follow_symlinks=False):
                    yield from self._files_below(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    found = entry.stat(follow_symlinks=False)
                    yield _File(found.st_mtime_ns, occupied(found.st_size), entry.path)


def occupied(size: int) -> int:
    """Return the bytes that a file of `size` bytes takes on disk."""
    return -(-size // _BLOCK) * _BLOCK
