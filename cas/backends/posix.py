"""The system calls of the local backend and the cache, as methods that tests replace."""

from __future__ import annotations

import errno
import fcntl
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cas.digest import Buffer

__all__ = ["NO_LINKS", "UNSUPPORTED", "PosixCalls", "read_fully"]

UNSUPPORTED: Final = frozenset(
    (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.ENOLCK, errno.EBADF)
)
"""Errors of a filesystem that has no locks, or can't sync a directory. An NFS client answers EBADF
to a lock of a file that is open for reading only."""

NO_LINKS: Final = frozenset((*UNSUPPORTED, errno.EPERM, errno.EMLINK, errno.EXDEV))
"""Errors of a filesystem without hard links, or without links between directories (AFS)."""

_O_DIRECT: Final[int] = getattr(os, "O_DIRECT", 0)
"""Only Linux has this flag. Elsewhere every write goes through the page cache."""


def read_fully(
    pread: Callable[[int, int, int], bytes], fd: int, size: int, offset: int = 0
) -> bytes:
    """Return `size` bytes of a file from an offset, or fewer if the file ends before.

    Parameters
    ----------
    pread
        A function like `os.pread`. It may return fewer bytes: at 2 GiB, or after a signal.
    """
    first = pread(fd, size, offset)
    if len(first) == size or not first:
        return first
    pieces = [first]
    done = len(first)
    while done < size and (piece := pread(fd, size - done, offset + done)):
        pieces.append(piece)
        done += len(piece)
    return b"".join(pieces)


class PosixCalls:
    """Thin wrappers of system calls. They raise OSError as the platform does."""

    def create_exclusive(self, path: str) -> int:
        """Open a new file for writing; FileExistsError if the name is taken."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)

    def open_read(self, path: str) -> int:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def open_shared(self, path: str) -> int:
        """Open or create a file that several processes read and write. Links are not followed."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)

    def write(self, fd: int, data: Buffer) -> int:
        return os.write(fd, data)

    def pwrite(self, fd: int, data: Buffer, offset: int) -> int:
        return os.pwrite(fd, data, offset)

    def set_direct(self, fd: int, *, direct: bool) -> None:
        """Turn direct writes on or off. Raises OSError if the filesystem does not support them."""
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        flags = flags | _O_DIRECT if direct else flags & ~_O_DIRECT
        fcntl.fcntl(fd, fcntl.F_SETFL, flags)

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        return os.pread(fd, size, offset)

    def size(self, fd: int) -> int:
        return os.fstat(fd).st_size

    def touch(self, fd: int) -> None:
        """Set the times of the open file to now."""
        os.utime(fd)

    def modified(self, path: str) -> int:
        """Return the modification time of a file or directory in nanoseconds."""
        return os.stat(path).st_mtime_ns  # noqa: PTH116 - this class is the seam below pathlib

    def space(self, fd: int) -> tuple[int, int]:
        """Return the free bytes and all bytes of the open file's filesystem."""
        found = os.statvfs(fd)
        return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize

    def links(self, fd: int) -> int:
        """Return the number of names of the open file; 0 after it was unlinked."""
        return os.fstat(fd).st_nlink

    def resize(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def fsync(self, fd: int) -> None:
        os.fsync(fd)

    def close(self, fd: int) -> None:
        os.close(fd)

    def lock_exclusive(self, fd: int, *, wait: bool) -> None:
        """Take the advisory lock of the file. Closing the file releases it.

        Raises BlockingIOError if another open file holds the lock and `wait` is false.
        """
        fcntl.flock(fd, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        os.mkdir(path, mode)  # noqa: PTH102

    def rename(self, source: str, target: str) -> None:
        os.rename(source, target)  # noqa: PTH104

    def link(self, source: str, target: str) -> None:
        os.link(source, target)

    def unlink(self, path: str) -> None:
        os.unlink(path)  # noqa: PTH108

    def fsync_directory(self, path: str) -> None:
        """Make the names in a directory durable, if its filesystem can sync a directory."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
        finally:
            os.close(fd)

    def list_directory(self, path: str) -> Iterator[os.DirEntry[str]]:
        with os.scandir(path) as entries:
            yield from entries
