"""Finding bytes in a directory: whole files, chunks of files, and where links point."""

from __future__ import annotations

import os
import stat
from itertools import zip_longest
from typing import TYPE_CHECKING, Final

from cas.catalog import ChunkedBlob
from cas.digest import Digest, Hasher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from index.maintenance.repair.mender import Mender

__all__ = ["search_directory"]

_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""Neither a link nor a FIFO is followed or waited for."""


def search_directory(
    root: str, mender: Mender, chunk_size: int, report: Callable[[], None]
) -> None:
    """Offer what lies below a directory, whatever its names; files that can't be read are passed.

    A file is read only if its size says that it may have something that is looked for.
    """
    for path, status in _walk(root):
        if not mender.wanted:
            return
        try:
            if stat.S_ISLNK(status.st_mode):
                mender.offer(os.fsencode(os.readlink(path)))
            elif _may_have(mender, status.st_size, chunk_size):
                _search_file(path, mender, chunk_size, report)
        except OSError:
            continue


def _walk(root: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield regular files and links, without following a link; what can't be listed is passed."""
    waiting = [root]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            if stat.S_ISDIR(status.st_mode):
                waiting.append(entry.path)
            elif stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
                yield entry.path, status


def _may_have(mender: Mender, size: int, chunk_size: int) -> bool:
    if mender.wants_size(size):
        return True
    return size > chunk_size and (
        mender.wants_size(chunk_size) or mender.wants_size(size % chunk_size)
    )


def _search_file(path: str, mender: Mender, chunk_size: int, report: Callable[[], None]) -> None:
    """Offer each chunk of a file, and the file if it is a large blob that is looked for."""
    whole = Hasher()
    chunks: list[Digest] = []
    with open(path, "rb", buffering=0, opener=_opener) as file:
        size = os.fstat(file.fileno()).st_size
        is_large = size > chunk_size and mender.wants_size(size)
        for piece in _pieces(file.fileno(), chunk_size):
            mender.bytes_read += len(piece)
            mender.offer(piece)
            if is_large:
                whole.update(piece)
                chunks.append(Digest.of(piece))
            report()
        digest = whole.digest()
        if is_large and mender.wanted.get(digest) == whole.size:
            blob = ChunkedBlob(digest, whole.size, tuple(chunks))
            _take_large(file.fileno(), blob, mender, chunk_size)


def _take_large(fd: int, blob: ChunkedBlob, mender: Mender, chunk_size: int) -> None:
    """Take all chunks of a file; nothing is believed of it if it has changed since it was read."""
    os.lseek(fd, 0, os.SEEK_SET)
    for chunk, piece in zip_longest(blob.chunks, _pieces(fd, chunk_size)):
        if piece is None or Digest.of(piece) != chunk:
            return
        mender.take_chunk(piece)
    mender.take_large(blob)


def _pieces(fd: int, size: int) -> Iterator[bytes]:
    """Yield what can be read, in pieces of that size but for the last."""
    while True:
        piece = b""
        while len(piece) < size and (data := os.read(fd, size - len(piece))):
            piece += data
        if piece:
            yield piece
        if len(piece) < size:
            return


def _opener(path: str, _flags: int) -> int:
    return os.open(path, _OPEN)
