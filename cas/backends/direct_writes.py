"""Writing of a file in large blocks that bypass the page cache, where the system allows it.

A pack of tens of megabytes is written once and seldom read soon. A copy of it in the page cache
costs more than it saves: it takes time, and evicts other pages. Measurements:
docs/adr/0020-packs-past-the-page-cache.md.
"""

from __future__ import annotations

import errno
import mmap
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cas.backends.posix import PosixCalls
    from cas.digest import Buffer

__all__ = ["BlockWriter"]

_BLOCK_SIZE: Final = 2 << 20
"""Bytes of one write: a multiple of every device's block size, and enough for a direct write at the
device's speed. A smaller file is written through the page cache."""

_COPIED_APART: Final = 64 << 10
"""Copies of at least this many bytes release the interpreter, which a copy between memoryviews does
not. When each chunk made four threads wait, a large file took an eighth longer."""


class BlockWriter:
    """Appends to one open file. The file may lack some bytes until `finish`."""

    def __init__(self, fd: int, calls: PosixCalls) -> None:
        self._fd = fd
        self._calls = calls
        # Direct writes need memory that is aligned to pages, as anonymous mappings are.
        self._block = memoryview(mmap.mmap(-1, _BLOCK_SIZE))
        self._filled = 0
        self._direct = False

    def write(self, data: Buffer) -> None:
        """Append `data`, which may change afterwards. Raises OSError as the platform does."""
        view = memoryview(data)
        apart = data if type(data) is bytes and len(data) >= _COPIED_APART else None
        done = 0
        while done < len(view):
            size = min(_BLOCK_SIZE - self._filled, len(view) - done)
            if apart is None:
                self._block[self._filled : self._filled + size] = view[done : done + size]
            else:
                _copy_apart(self._block, self._filled, apart, done, size)
            self._filled += size
            done += size
            if self._filled == _BLOCK_SIZE:
                self._begin_direct()
                self._drain()

    def finish(self) -> None:
        """Write the rest. The caller syncs the file."""
        self._end_direct()  # the last block may have any size, unlike a direct write
        self._drain()

    def _drain(self) -> None:
        rest = self._block[: self._filled]
        while rest:
            try:
                rest = rest[self._calls.write(self._fd, rest) :]
            except OSError as error:
                if not self._direct or error.errno != errno.EINVAL:
                    raise
                # The filesystem refuses late, or the rest of a short write isn't aligned.
                self._end_direct()
        self._filled = 0

    def _begin_direct(self) -> None:
        if not self._direct:
            with suppress(OSError):  # a filesystem without direct writes; write normally
                self._calls.set_direct(self._fd, direct=True)
                self._direct = True

    def _end_direct(self) -> None:
        if self._direct:
            self._calls.set_direct(self._fd, direct=False)
            self._direct = False


def _copy_apart(block: memoryview, at: int, data: bytes, start: int, size: int) -> None:
    """Copy part of `data` to `at` without the interpreter lock."""
    import ctypes  # importing it takes longer than a small batch

    source = ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value
    assert source is not None  # noqa: S101 - only of a null pointer
    ctypes.memmove(ctypes.addressof(ctypes.c_char.from_buffer(block, at)), source + start, size)
