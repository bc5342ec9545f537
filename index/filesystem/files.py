"""Files that are open for reading."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from index.filesystem.errors import as_os_errors

if TYPE_CHECKING:
    from typing import BinaryIO

    from fsspec import AbstractFileSystem

__all__ = ["ReadFile", "SmallFile"]


class _Raw(io.RawIOBase):
    """The stream of a large file. Its errors are those that fsspec's users expect."""

    def __init__(self, raw: io.RawIOBase, path: str) -> None:
        self._raw = raw
        self._path = path

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        return self._raw.tell()

    def readinto(self, buffer: Any, /) -> int | None:
        with as_os_errors(self._path):
            return self._raw.readinto(buffer)

    def readall(self) -> bytes:
        with as_os_errors(self._path):
            return self._raw.readall() or b""

    def close(self) -> None:
        self._raw.close()
        super().close()


class ReadFile(io.BufferedReader):
    """A file that is open for reading, with what fsspec's users look for."""

    def __init__(self, raw: io.RawIOBase, fs: AbstractFileSystem, path: str, ahead: int) -> None:
        super().__init__(_Raw(raw, path), ahead)
        self.fs = fs
        self.path = path

    @property
    def size(self) -> int:
        """The size in bytes."""
        return _size_of(self)

    @property
    def details(self) -> dict[str, Any]:
        """What `info` returns for the file."""
        found: dict[str, Any] = self.fs.info(self.path)
        return found


class SmallFile(io.BytesIO):
    """A file that is open for reading and was small enough to be read at once."""

    def __init__(self, content: bytes, fs: AbstractFileSystem, path: str) -> None:
        super().__init__(content)
        self.fs = fs
        self.path = path

    size = ReadFile.size
    details = ReadFile.details

    def writable(self) -> bool:
        return False

    def write(self, _data: object, /) -> int:
        raise io.UnsupportedOperation("write: the file is open for reading")

    def truncate(self, _size: int | None = None, /) -> int:
        raise io.UnsupportedOperation("truncate: the file is open for reading")


def _size_of(stream: BinaryIO | io.BufferedIOBase) -> int:
    before = stream.tell()
    size = stream.seek(0, io.SEEK_END)
    stream.seek(before)
    return size
