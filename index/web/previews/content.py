"""A file's content, as a worker reads it: through the previewer, as much as that allows."""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING, Any, Final

from index.web.previews.protocol import READ, SPENT, receive, send

if TYPE_CHECKING:
    from typing import BinaryIO

__all__ = ["Content", "SpentError", "UnreadableError"]

_PIECE: Final = 1 << 20
_BUFFER: Final = 8 << 10
_RANGE: Final = struct.Struct(">QQ")


class UnreadableError(Exception):
    """Content that can't be shown as what it seems to be. Its text is a sentence for readers."""


class SpentError(OSError):
    """A preview has read as many bytes as it may."""


class Content:
    """The bytes of a file, and its name or the ending of it."""

    def __init__(self, name: str, size: int, incoming: BinaryIO, outgoing: BinaryIO) -> None:
        self.name = name
        self.size = size
        self.is_spent = False
        """Whether more bytes were wanted than may be read."""
        self._pipes = (incoming, outgoing)

    @property
    def ending(self) -> str:
        """The name in lower case."""
        return self.name.lower()

    def read(self, offset: int, count: int) -> bytes:
        """Return bytes, fewer only at the end of the file.

        Raises
        ------
        SpentError
            When that is more than the preview may still read.
        """
        pieces = []
        end = min(offset + count, self.size)
        while offset < end:
            piece = self._piece(offset, min(end - offset, _PIECE))
            if not piece:
                break
            pieces.append(piece)
            offset += len(piece)
        return b"".join(pieces)

    def open(self) -> io.BufferedReader:
        """Return the content as a file, for a library that reads files."""
        return io.BufferedReader(_File(self), _BUFFER)

    def _piece(self, offset: int, count: int) -> bytes:
        incoming, outgoing = self._pipes
        send(outgoing, READ, _RANGE.pack(offset, count))
        letter, payload = receive(incoming)
        if letter == SPENT:
            self.is_spent = True
            raise SpentError
        return payload


class _File(io.RawIOBase):
    """A content as a raw file."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._content.size}
        position = start[whence] + offset
        if position < 0:
            raise ValueError("a negative position")
        self._position = position
        return position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - `Buffer` needs Python 3.12
        view = memoryview(buffer).cast("B")
        data = self._content.read(self._position, len(view))
        view[: len(data)] = data
        self._position += len(data)
        return len(data)
