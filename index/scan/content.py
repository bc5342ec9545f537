"""The content of a single file from the caller: bytes, a path, or a stream."""

from __future__ import annotations

import io
import os
import stat
import tempfile
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, Final, TypeAlias

from index.domain.run_state import storable_time
from index.errors import WorkDirectoryError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Content", "Source", "opened"]

_SPOOL_SIZE: Final = 8 << 20
"""Bytes of an unseekable stream held in memory; larger ones go to a temporary file."""

Content: TypeAlias = bytes | bytearray | memoryview | str | os.PathLike[str] | BinaryIO
"""Bytes, the path of a file, or a binary file object, read from its current position."""


class Source:
    """An open, seekable source of bytes, with the mode and time of its file version."""

    def __init__(
        self, stream: BinaryIO, mode: int, mtime_ns: int, *, limit: int | None = None
    ) -> None:
        """Start at the stream's current position; read at most `limit` bytes, None for all."""
        self._stream = stream
        self._limit = limit
        self._start = stream.tell()
        self.mode: Final = mode
        self.mtime_ns: Final = mtime_ns

    def pieces(self, size: int) -> Iterator[bytes]:
        """Yield the rest of the stream in pieces of `size` bytes, the last one shorter."""
        left = self._limit
        while wanted := size if left is None else min(size, left):
            piece = self._read(wanted)
            if piece:
                yield piece
            if len(piece) < wanted:
                return  # the end, even if the file has grown since
            left = None if left is None else left - wanted

    def rewind(self) -> None:
        """Go back to the start of the source."""
        self._stream.seek(self._start)

    def _read(self, size: int) -> bytes:
        """Read `size` bytes, or fewer at the end. A raw stream may return fewer per call."""
        data = self._stream.read(size)
        while 0 < len(data) < size and (more := self._stream.read(size - len(data))):
            data += more
        return data


@contextmanager
def opened(content: Content) -> Iterator[Source]:
    """Open the content from a caller. The caller's own stream stays open.

    Raises
    ------
    WorkDirectoryError
        When a path can't be read or is not a regular file.
    """
    now = time.time_ns()
    plain = stat.S_IFREG | 0o644
    if isinstance(content, bytes | bytearray | memoryview):
        yield Source(io.BytesIO(content), plain, now)
    elif isinstance(content, str | os.PathLike):
        yield from _opened_file(os.fspath(content))
    elif content.seekable():
        yield Source(content, plain, now)
    else:
        with tempfile.SpooledTemporaryFile(_SPOOL_SIZE) as spool:
            while piece := content.read(1 << 20):
                spool.write(piece)
            spool.seek(0)
            yield Source(spool, plain, now)  # type: ignore[arg-type]  # has BinaryIO's methods


def _opened_file(path: str) -> Iterator[Source]:
    try:
        # O_NONBLOCK: do not wait for a writer if it is a FIFO.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise WorkDirectoryError(path, error.strerror or str(error)) from error
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise WorkDirectoryError(path, "it is not a regular file")
        with open(fd, "rb", closefd=False) as stream:
            mtime_ns = storable_time(status.st_mtime_ns)
            yield Source(stream, status.st_mode, mtime_ns, limit=status.st_size)
    finally:
        os.close(fd)
