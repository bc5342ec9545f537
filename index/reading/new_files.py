"""One restored file or link: its bytes, then its mode and time.

A destination may take bytes, but no modes, times or links: a share, a FAT filesystem, a file of
another user. Then the bytes are what matters, and what could not be set is reported.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cas.digest import Buffer
    from index.db.queries.restorable import RestorableFile

__all__ = ["CREATE", "NoLinksError", "create", "discard", "give_mode_and_time"]

CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PERMISSIONS: Final = 0o777
"""Mode bits that are restored. Others are not: a run must not plant set-user-id programs."""

_NO_LINKS: Final = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS}
"""Errors of a filesystem without symbolic links. (Linux, fs/namei.c: vfs_symlink.)"""

_HOLE: Final = 64 << 10
"""Bytes: so many zeros in a row become a hole. Shorter holes save little, and cost a call each."""

_ZEROS: Final = bytes(_HOLE)


class NoLinksError(Exception):
    """The destination has no symbolic links. The message says why."""


def create(name: str, fd: int, version: RestorableFile, pieces: Iterable[Buffer]) -> list[str]:
    """Make a complete file or link, or none; return what could not be set.

    Raises
    ------
    FileExistsError
        When the name is taken.
    NoLinksError
        When it is a link, and the filesystem has none.
    """
    try:
        if version.is_link:
            return _create_link(name, fd, version, b"".join(pieces))
        return _create_file(name, fd, version, pieces)
    except (FileExistsError, NoLinksError):
        raise
    except BaseException:  # Ctrl-C leaves no half-written file either
        discard(name, fd)
        raise


def give_mode_and_time(
    fd: int, version: RestorableFile, status: os.stat_result | None = None
) -> list[str]:
    """Set mode and time of an open file; return what could not be set, with the reason.

    Parameters
    ----------
    status
        The `stat` of the file if it is known. What is right already is not set.
    """
    problems = []
    mode, mtime_ns = version.mode & _PERMISSIONS, version.mtime_ns
    try:
        if status is None or stat.S_IMODE(status.st_mode) != mode:
            os.fchmod(fd, mode)
    except OSError as error:
        problems.append(f"its mode could not be set: {error.strerror}")
    try:
        if status is None or status.st_mtime_ns != mtime_ns:
            os.utime(fd, ns=(mtime_ns, mtime_ns))
    except OSError as error:
        problems.append(f"its time could not be set: {error.strerror}")
    return problems


def discard(name: str, directory: int) -> None:
    """Remove a file if it exists."""
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)


def _create_file(
    name: str, fd: int, version: RestorableFile, pieces: Iterable[Buffer]
) -> list[str]:
    file = os.open(name, CREATE, 0o600, dir_fd=fd)
    try:
        end = written = 0
        for piece in pieces:
            end += len(piece)
            if len(piece) < _HOLE:
                _write(file, piece)
                written = end
            elif _write_around_holes(file, piece):
                written = end
        if written < end:  # it ends with a hole
            os.ftruncate(file, end)
        return give_mode_and_time(file, version)
    finally:
        os.close(file)


def _write_around_holes(file: int, piece: Buffer) -> bool:
    """Write a piece at the position of a new file; return whether its end was written.

    Zeros are skipped. The position is then behind them.
    """
    view = memoryview(piece)
    begin = 0
    for start in range(0, len(view), _HOLE):
        stop = min(start + _HOLE, len(view))
        if view[start] or view[stop - 1]:
            continue
        if view[start:stop].tobytes() != _ZEROS[: stop - start]:  # faster than to compare views
            continue
        if begin < start:
            _write(file, view[begin:start])
        os.lseek(file, stop - start, os.SEEK_CUR)
        begin = stop
    if begin < len(view):
        _write(file, view[begin:] if begin else piece)
    return begin < len(view)


def _write(file: int, piece: Buffer) -> None:
    done = os.write(file, piece)
    while done < len(piece):  # a signal or a full disk can cut a write short
        done += os.write(file, memoryview(piece)[done:])


def _create_link(name: str, fd: int, version: RestorableFile, target: bytes) -> list[str]:
    try:
        os.symlink(os.fsdecode(target), name, dir_fd=fd)
    except OSError as error:
        if error.errno in _NO_LINKS:
            raise NoLinksError(f"links can't be made: {error.strerror}") from error
        raise
    try:
        os.utime(name, ns=(version.mtime_ns, version.mtime_ns), dir_fd=fd, follow_symlinks=False)
    except OSError as error:
        return [f"its time could not be set: {error.strerror}"]
    return []
