"""The size of the cache, and eviction.

All processes that use a cache share one number in a file. Before a process writes to the cache, it
adds the size of the new file, under a lock. A read never waits for the lock: a size that it can't
add now, it adds with the next one. So the number may lack files that are just being written or that
a killed process wrote, and may include files that someone deleted. A file that is lent is as large
as its content, so it waits. If the number would exceed the
limit, all files are counted again, and the least recently used ones are evicted until a tenth of
the limit is free. The modification time of a file is the time of its last use. Each process applies
its own limit when it writes.

Partial files of dead processes are counted and evicted like all others.
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
"""Block size of filesystems in bytes: a file of one byte takes a block."""

_FREED: Final = 10
"""An eviction frees a tenth of the limit, so that evictions are rare: each one has to look at every
file."""

_EVICTED_AT_ONCE: Final = 100_000
"""Largest number of files that one eviction removes. All of them are in memory then."""

_SPARED: Final = 1 << 30
"""Bytes that stay free on the disk whatever the limit, or a twentieth of a small disk. Restored
files are often on the same disk, and the cache must not fill it."""

_DIGITS: Final = 20


class _File(NamedTuple):
    used: int
    """Time of the last use, in nanoseconds."""
    size: int
    path: str
    is_lent: bool
    """Whether it has another name, as a file in use. It is not evicted then."""


class CacheSize:
    """The size of a cache in a directory that several processes use. Safe for several threads.

    Parameters
    ----------
    root
        Directory of the files, in ``packs/``, ``files/`` and ``tmp/``.
    limit
        Largest total size of the files in bytes.
    """

    def __init__(self, root: str, limit: int, calls: PosixCalls) -> None:
        self._root = root
        self._path = f"{root}/size"
        self._limit = limit
        self._calls = calls
        self._lock = threading.Lock()
        self._pending = 0

    def allows(self, size: int) -> bool:
        """Return whether a file of `size` bytes fits, and would not have to be evicted at once."""
        return occupied(size) <= self._goal

    def refuse_to_fill_disk(self, fd: int, size: int) -> None:
        """Raise OSError if `size` more bytes in an open file would leave too little free space."""
        free, total = self._calls.space(fd)
        if free - size < min(_SPARED, total // 20):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def make_room(self, size: int, *, wait: bool = False) -> None:
        """Count a file before it is written, and evict others if there is too little room.

        With `wait`, it waits until no other process counts. Raises OSError if the directory can't
        be used, or nothing in it can be removed. The file is then not counted.
        """
        self._note(occupied(size), wait=wait)

    def give_back(self, size: int) -> None:
        """Subtract the size of a file that could not be written after all."""
        with suppress(OSError):
            self._note(-occupied(size))

    def used(self) -> int:
        """Return the size of the cache in bytes, according to the shared number."""
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

    def _note(self, more: int, *, wait: bool = False) -> None:
        """Add `more` to the number that all processes share."""
        fd = self._calls.open_shared(self._path)
        try:
            with self._lock:
                self._pending += more
            with suppress(OSError):  # without locks the number is less exact
                try:
                    self._calls.lock_exclusive(fd, wait=wait)
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
        """Evict the least recently used files if `more` does not fit; return the remaining size."""
        if total + more <= self._limit:
            return total
        for file in self._oldest(total + more - self._goal):
            with suppress(OSError):
                self._calls.unlink(file.path)
                total -= file.size
        return total

    def _oldest(self, size: int) -> list[_File]:
        """Return the least recently used files with `size` bytes together, oldest first."""
        newest_first: list[tuple[int, _File]] = []
        sum_of_sizes = 0
        for file in self._files():
            if file.is_lent:
                continue
            heapq.heappush(newest_first, (-file.used, file))
            sum_of_sizes += file.size
            while len(newest_first) > _EVICTED_AT_ONCE or (
                sum_of_sizes - newest_first[0][1].size >= size
            ):
                sum_of_sizes -= heapq.heappop(newest_first)[1].size
        return sorted(file for _, file in newest_first)

    def _files(self) -> Iterator[_File]:
        for folder in ("packs", "files", "tmp"):
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
                    size, is_lent = occupied(found.st_size), found.st_nlink > 1
                    yield _File(found.st_mtime_ns, size, entry.path, is_lent)


def occupied(size: int) -> int:
    """Return the bytes that a file of `size` bytes takes on disk."""
    return -(-size // _BLOCK) * _BLOCK
