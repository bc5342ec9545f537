"""Search of a directory for lost bytes: files, chunks of files, and targets of links."""

from __future__ import annotations

import os
import stat
from itertools import zip_longest
from typing import TYPE_CHECKING, Final

from cas.catalog import ChunkedBlob
from cas.digest import Digest, Hasher
from cas.segments import iter_chunks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cas.chunker import Chunker
    from index.maintenance.repair.search import Search

__all__ = ["search_directory"]

_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""These flags neither follow links nor wait for FIFOs."""


def search_directory(
    root: str, search: Search, chunker: Chunker, report: Callable[[], None]
) -> None:
    """Offer the contents below a directory, whatever the file names. Unreadable files are skipped.

    A small file is read only if it has the size of wanted bytes. A large one is read in any case:
    one of its chunks may be wanted.
    """
    for path, status in _walk(root):
        if not search.wanted:
            return
        try:
            if stat.S_ISLNK(status.st_mode):
                search.offer(os.fsencode(os.readlink(path)))
            elif status.st_size > chunker.whole or search.wants_size(status.st_size):
                _search_file(path, search, chunker, report)
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


def _search_file(path: str, search: Search, chunker: Chunker, report: Callable[[], None]) -> None:
    """Offer a small file, or each chunk of a large one and, if it is wanted, that file itself."""
    whole = Hasher()
    chunks: list[Digest] = []
    with open(path, "rb", buffering=0, opener=_opener) as file:
        size = os.fstat(file.fileno()).st_size
        is_large = size > chunker.whole and search.wants_size(size)
        for chunk in iter_chunks(file.fileno(), size, chunker):
            search.bytes_read += len(chunk)
            search.offer(chunk)
            if is_large:
                whole.update(chunk)
                chunks.append(Digest.of(chunk))
            report()
        digest = whole.digest()
        if is_large and search.wanted.get(digest) == whole.size:
            blob = ChunkedBlob(digest, whole.size, tuple(chunks))
            _take_large(file.fileno(), blob, search, chunker)


def _take_large(fd: int, blob: ChunkedBlob, search: Search, chunker: Chunker) -> None:
    """Take all chunks of a file. Take nothing if the file has changed since it was read."""
    for digest, chunk in zip_longest(blob.chunks, iter_chunks(fd, blob.size, chunker)):
        if chunk is None or Digest.of(chunk) != digest:
            return
        search.take_chunk(chunk)
    search.take_large(blob)


def _opener(path: str, _flags: int) -> int:
    return os.open(path, _OPEN)
