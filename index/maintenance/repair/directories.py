"""Search of a directory for lost bytes: files, chunks of files, and targets of links."""

from __future__ import annotations

import os
import stat
from itertools import zip_longest
from typing import TYPE_CHECKING, Final

from cas.catalog import ChunkedBlob
from cas.digest import Digest, Hasher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from index.maintenance.repair.search import Search

__all__ = ["search_directory"]

_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""These flags neither follow links nor wait for FIFOs."""


def search_directory(
    root: str, search: Search, chunk_size: int, report: Callable[[], None]
) -> None:
    """Offer the contents below a directory, whatever the file names. Unreadable files are skipped.

    A file is read only if, by its size, it may hold wanted bytes.
    """
    for path, status in _walk(root):
        if not search.wanted:
            return
        try:
            if stat.S_ISLNK(status.st_mode):
                search.offer(os.fsencode(os.readlink(path)))
            elif _may_have(search, status.st_size, chunk_size):
                _search_file(path, search, chunk_size, report)
        except OSError:
            continue


def _walk(root: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield regular files and links, without following links. Skip unreadable directories."""
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


def _may_have(search: Search, size: int, chunk_size: int) -> bool:
    if search.wants_size(size):
        return True
    return size > chunk_size and (
        search.wants_size(chunk_size) or search.wants_size(size % chunk_size)
    )


def _search_file(path: str, search: Search, chunk_size: int, report: Callable[[], None]) -> None:
    """Offer each chunk of a file, and the file itself if it is a wanted large blob."""
    whole = Hasher()
    chunks: list[Digest] = []
    with open(path, "rb", buffering=0, opener=_opener) as file:
        size = os.fstat(file.fileno()).st_size
        is_large = size > chunk_size and search.wants_size(size)
        for piece in _pieces(file.fileno(), chunk_size):
            search.bytes_read += len(piece)
            search.offer(piece)
            if is_large:
                whole.update(piece)
                chunks.append(Digest.of(piece))
            report()
        digest = whole.digest()
        if is_large and search.wanted.get(digest) == whole.size:
            blob = ChunkedBlob(digest, whole.size, tuple(chunks))
            _take_large(file.fileno(), blob, search, chunk_size)


def _take_large(fd: int, blob: ChunkedBlob, search: Search, chunk_size: int) -> None:
    """Take all chunks of a file. Take nothing if the file has changed since it was read."""
    os.lseek(fd, 0, os.SEEK_SET)
    for chunk, piece in zip_longest(blob.chunks, _pieces(fd, chunk_size)):
        if piece is None or Digest.of(piece) != chunk:
            return
        search.take_chunk(piece)
    search.take_large(blob)


def _pieces(fd: int, size: int) -> Iterator[bytes]:
    """Yield the readable bytes in pieces of `size`; the last one may be shorter."""
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
