"""Files inside a directory that may hold anything: read without leaving it, with their digests."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

from index.errors import ImportSourceError
from index.imports.sources import why_unsafe

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

__all__ = ["ListedFile", "beside", "open_inside", "read_inside"]

_PIECE: Final = 1 << 20
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LARGEST: Final = 1 << 30
"""Bytes of a list that is read into memory."""


def open_inside(root: Path, path: str) -> BinaryIO:
    """Open a regular file in a directory. No link is followed, but the directory may be one.

    Raises ImportSourceError if there is none, or it can't be read.
    """
    reason = why_unsafe(path)
    if reason is not None:
        raise ImportSourceError(str(root), f"{path!r} can't be used: {reason}")
    *folders, name = path.split("/")
    try:
        folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for each in folders:
                inner = os.open(each, _FOLDER, dir_fd=folder)
                os.close(folder)
                folder = inner
            opened = os.fdopen(os.open(name, _FILE, dir_fd=folder), "rb")
        finally:
            os.close(folder)
    except OSError as error:
        raise _unreadable(root, path, error) from error
    if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
        opened.close()
        raise ImportSourceError(str(root), f"{path!r} is no regular file")
    return opened


def _read(root: Path, path: str, opened: BinaryIO, size: int) -> bytes:
    try:
        return opened.read(size)
    except OSError as error:
        raise _unreadable(root, path, error) from error


def _unreadable(root: Path, path: str, error: OSError) -> ImportSourceError:
    return ImportSourceError(str(root), f"{path!r} can't be read: {error.strerror or error}")


def read_inside(root: Path, path: str) -> bytes:
    """Return all bytes of a file in a directory, which has at most 1 GiB.

    Raises ImportSourceError as `open_inside` does, and if the file is larger.
    """
    with open_inside(root, path) as opened:
        data = _read(root, path, opened, _LARGEST + 1)
    if len(data) > _LARGEST:
        raise ImportSourceError(str(root), f"{path!r} is larger than {_LARGEST >> 20} MiB")
    return data


def beside(root: Path, path: str, algorithm: str) -> ListedFile:
    """Return a file with the digest that the file of its name and the algorithm's holds."""
    first, *_ = [*read_inside(root, f"{path}.{algorithm}").split(), b""]
    return ListedFile(root, path, algorithm, first.decode("ascii", "replace"))


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file of a directory, with the digest by which a list knows it: a `SourceFile`."""

    root: Path
    path: str
    algorithm: str
    digest: str
    mode: int = stat.S_IFREG | 0o644
    remark: None = None

    @property
    def key(self) -> str:
        """The digest."""
        return self.digest.lower()

    def __iter__(self) -> Iterator[bytes]:
        return self.pieces()

    def pieces(self) -> Iterator[bytes]:
        """Yield the content. Raises ImportSourceError at the end if it has another digest."""
        hashed = hashlib.new(self.algorithm)
        with open_inside(self.root, self.path) as opened:
            while piece := _read(self.root, self.path, opened, _PIECE):
                hashed.update(piece)
                yield piece
        if hashed.hexdigest() != self.key:
            raise ImportSourceError(
                str(self.root),
                f"{self.path!r} is damaged: its {self.algorithm} is {hashed.hexdigest()}, and"
                f" {self.digest} is listed",
            )

    def agrees(self, pieces: Iterable[bytes], size: int) -> bool:
        """Whether bytes have the digest."""
        del size
        hashed = hashlib.new(self.algorithm)
        for piece in pieces:
            hashed.update(piece)
        return hashed.hexdigest() == self.key
