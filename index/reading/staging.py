"""A hidden directory inside an empty destination, where a restore gives files their final names.

A temporary name and a rename make up a third of the cost of a small file. In a staging directory
no other program looks for files, so they need neither. At the end one rename for each top-level
entry publishes all files.

A killed restore leaves the directory behind. A staging directory is locked while its restore runs;
the next restore into the same destination removes those that are not locked. A recovery uses one
too, beside the index that it makes.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import uuid
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from index.errors import RestoreConflictError, UnsafePathError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["OPEN_DIRECTORY", "Staging", "discard", "move_unless_taken", "remove_abandoned"]

OPEN_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_NAME: Final = re.compile(r"\.cas-[0-9a-f]{32}", re.ASCII)

_NOT_AS_A_WHOLE: Final = {errno.ENOTEMPTY, errno.EEXIST, errno.EXDEV}
"""The target directory has appeared meanwhile, or the filesystem can't move directories. Some
layered filesystems can't."""


class Staging:
    """A staging directory. One thread makes and publishes it; any thread may write into it."""

    def __init__(self, root: int) -> None:
        """Make the staging directory in an open directory."""
        self._root = root
        self.name = ""
        """Its name in the parent directory."""
        self.fd = -1
        """Its descriptor."""
        while self.fd < 0:
            self.name = f".cas-{uuid.uuid4().hex}"
            os.mkdir(self.name, 0o700, dir_fd=root)
            # Until it is locked, another restore may take it for abandoned and remove it.
            with suppress(FileNotFoundError, BlockingIOError):
                self.fd = self._open_locked()

    def publish(self, *, overwrite: bool) -> None:
        """Move the files to their final paths.

        Raises RestoreConflictError if some paths were taken since the restore began. The other
        files are moved all the same.
        """
        taken = sorted(_move_all(self.fd, self._root, "", overwrite=overwrite))
        if taken:
            raise RestoreConflictError(taken[0], len(taken))

    def discard(self) -> None:
        """Remove the directory and everything that was not published."""
        shutil.rmtree(self.name, ignore_errors=True, dir_fd=self._root)
        os.close(self.fd)

    def _open_locked(self) -> int:
        fd = os.open(self.name, OPEN_DIRECTORY, dir_fd=self._root)
        try:
            _lock(fd)
            os.stat(self.name, dir_fd=self._root, follow_symlinks=False)
        except BaseException:
            os.close(fd)
            raise
        return fd


def remove_abandoned(root: int) -> bool:
    """Remove the leftovers of killed restores; return whether the directory is then empty."""
    with os.scandir(root) as entries:
        names = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    removed = 0
    for name, is_directory in names:
        if is_directory and _NAME.fullmatch(name):
            # A directory that can't be opened or locked may be in use.
            with suppress(OSError), _opened(name, root) as fd:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(name, dir_fd=root)
                removed += 1
    return removed == len(names)


def _lock(fd: int) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return  # a filesystem without locks: no other restore can lock and remove it


def _move_all(source: int, target: int, prefix: str, *, overwrite: bool) -> Iterator[str]:
    """Move everything from one directory to another; yield the paths that are taken."""
    with os.scandir(source) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_directory in found:
        path = f"{prefix}{name}"
        try:
            if is_directory:
                yield from _move_directory(name, source, target, path, overwrite=overwrite)
            elif overwrite:
                os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)
            elif not move_unless_taken(name, name, source, target):
                discard(name, source)
        except FileExistsError:
            yield path


def _move_directory(
    name: str, source: int, target: int, path: str, *, overwrite: bool
) -> Iterator[str]:
    try:
        os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)
    except NotADirectoryError as error:
        reason = "the destination has a link or a file where it needs a directory"
        raise UnsafePathError(path, reason) from error
    except OSError as error:
        if error.errno not in _NOT_AS_A_WHOLE:
            raise
        with suppress(FileExistsError):
            os.mkdir(name, dir_fd=target)
        with _opened(name, source) as inner, _opened(name, target) as outer:
            yield from _move_all(inner, outer, f"{path}/", overwrite=overwrite)


@contextmanager
def _opened(name: str, parent: int) -> Iterator[int]:
    fd = os.open(name, OPEN_DIRECTORY, dir_fd=parent)
    try:
        yield fd
    finally:
        os.close(fd)


_NO_LINKS: Final = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


def move_unless_taken(old: str, new: str, source: int, target: int) -> bool:
    """Give a finished file its name; return whether the old name is gone.

    Raises FileExistsError if the name is taken.
    """
    try:
        os.link(old, new, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
    else:
        return False
    _refuse_taken(new, target)  # a filesystem without hard links: check, then move
    os.rename(old, new, src_dir_fd=source, dst_dir_fd=target)
    return True


def discard(name: str, directory: int) -> None:
    """Remove a file if it exists."""
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)


def _refuse_taken(name: str, fd: int) -> None:
    with suppress(FileNotFoundError):
        os.stat(name, dir_fd=fd, follow_symlinks=False)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
