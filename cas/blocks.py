"""Writing a file in large blocks that pass the page cache by, where the system can.

A pack of tens of megabytes is written once and seldom read soon, so a copy of it in the page cache
costs more than it brings: the copying itself, and what it drives out. Figures:
docs/adr/0020-packs-past-the-page-cache.md.
"""

from __future__ import annotations

import errno
import mmap
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cas.digest import Buffer
    from cas.posix import PosixCalls

__all__ = ["BlockWriter"]

_BLOCK_SIZE: Final = 4 << 20
"""Bytes gathered for one write: a multiple of every device's block, large enough that a direct
write runs at the device's speed. A file that stays below is written through the cache."""


class BlockWriter:
    """Appends to one open file. Nothing is sure to be in the file before `finish`."""

    def __init__(self, fd: int, calls: PosixCalls) -> None:
        self._fd = fd
        self._calls = calls
        # Direct writes want their memory aligned to pages, which anonymous mappings are.
        self._block = memoryview(mmap.mmap(-1, _BLOCK_SIZE))
        self._filled = 0
        self._direct = False

    def write(self, data: Buffer) -> None:
        """Append `data`; it may change afterwards. OSError as the platform raises it."""
        rest = memoryview(data)
        while rest:
            piece = rest[: _BLOCK_SIZE - self._filled]
            self._block[self._filled : self._filled + len(piece)] = piece
            self._filled += len(piece)
            rest = rest[len(piece) :]
            if self._filled == _BLOCK_SIZE:
                self._begin_direct()
                self._drain()

    def finish(self) -> None:
        """Write what is left; the caller syncs the file."""
        self._end_direct()  # the last block is of any size, which a direct write can't be
        self._drain()

    def _drain(self) -> None:
        rest = self._block[: self._filled]
        while rest:
            try:
                rest = rest[self._calls.write(self._fd, rest) :]
            except OSError as error:
                if not self._direct or error.errno != errno.EINVAL:
                    raise
                # Refused only now, or the rest of a write that was cut short isn't aligned.
                self._end_direct()
        self._filled = 0

    def _begin_direct(self) -> None:
        if not self._direct:
            with suppress(OSError):  # a filesystem that can't; the bytes get there all the same
                self._calls.set_direct(self._fd, direct=True)
                self._direct = True

    def _end_direct(self) -> None:
        if self._direct:
            self._calls.set_direct(self._fd, direct=False)
            self._direct = False
