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
import uuid
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Final

from index.errors import RestoreConflictError, UnsafePathError
from index.reading.new_files import discard
from index.reading.walker import OPEN_DIRECTORY, Walker, entries_of, remove_tree

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Staging", "move_unless_taken", "remove_abandoned", "sync_directory"]

_NAME: Final = re.compile(r"\.cas-[0-9a-f]{32}", re.ASCII)

_UNSUPPORTED: Final = {errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOLCK, errno.EBADF}
"""Errors of a filesystem that has no locks, or can't sync a directory."""

_NO_LINKS: Final = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}

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
        with closing(Walker(self.fd)) as source, closing(Walker(self._root)) as target:
            taken = sorted(_move_all(source, target, overwrite=overwrite))
        if taken:
            raise RestoreConflictError(taken[0], len(taken))

    def discard(self) -> None:
        """Remove the directory and everything that was not published."""
        with suppress(OSError):  # the next restore removes what is left
            remove_tree(self.name, self._root)
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
    names = entries_of(root)
    removed = 0
    for name, is_directory in names:
        if is_directory and _NAME.fullmatch(name):
            # A directory that can't be opened or locked may be in use.
            with suppress(OSError):
                fd = os.open(name, OPEN_DIRECTORY, dir_fd=root)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    remove_tree(name, root)
                finally:
                    os.close(fd)
                removed += 1
    return removed == len(names)


def _lock(fd: int) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return  # a filesystem without locks: no other restore can lock and remove it


def _move_all(source: Walker, target: Walker, *, overwrite: bool) -> Iterator[str]:
    """Move everything from one directory to another; yield the paths that are taken."""
    left = [""]
    while left:
        directory = left.pop()
        old, new = source.enter(directory), target.enter(directory)
        for name, is_directory in entries_of(old):
            path = f"{directory}/{name}" if directory else name
            try:
                if is_directory:
                    if not _move_directory(name, old, new, path):
                        left.append(path)
                elif overwrite:
                    os.rename(name, name, src_dir_fd=old, dst_dir_fd=new)
                elif not move_unless_taken(name, name, old, new):
                    discard(name, old)
            except FileExistsError:
                yield path


def _move_directory(name: str, source: int, target: int, path: str) -> bool:
    """Move a directory; if it must be merged with another one, make that and return False."""
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
        return False
    return True


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
    # A filesystem without hard links: check, then move. The lock keeps other processes of this
    # library away meanwhile.
    with suppress(OSError):
        fcntl.flock(target, fcntl.LOCK_EX)
    try:
        _refuse_taken(new, target)
        os.rename(old, new, src_dir_fd=source, dst_dir_fd=target)
    finally:
        with suppress(OSError):
            fcntl.flock(target, fcntl.LOCK_UN)
    return True


def sync_directory(directory: int) -> None:
    """Make the names in an open directory durable, if its filesystem can sync a directory."""
    try:
        os.fsync(directory)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise


def _refuse_taken(name: str, fd: int) -> None:
    with suppress(FileNotFoundError):
        os.stat(name, dir_fd=fd, follow_symlinks=False)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
