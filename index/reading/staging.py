"""A hidden directory inside an empty destination, where a restore gives files their final names.

A temporary name and a rename for each file are a third of what writing a small file costs. Here
nobody looks for files, so that they need neither, and what is whole takes its place by one rename
for each entry of the topmost directory.

A restore that is killed leaves the directory behind. It is locked for as long as its restore runs;
one that is not is removed by the next restore into the same destination. A recovery has one as
well, beside the place of the index that it makes.
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
"""A directory came there meanwhile; or one can't be moved on this filesystem, as on some layered
ones."""


class Staging:
    """One such directory. Used by one thread but for what is written into it."""

    def __init__(self, root: int) -> None:
        """Make it in an open directory."""
        self._root = root
        self.name = ""
        """Its name in that directory."""
        self.fd = -1
        """Its descriptor."""
        while self.fd < 0:
            self.name = f".cas-{uuid.uuid4().hex}"
            os.mkdir(self.name, 0o700, dir_fd=root)
            # Another restore that begins now may take it for abandoned until it is locked.
            with suppress(FileNotFoundError, BlockingIOError):
                self.fd = self._open_locked()

    def publish(self, *, overwrite: bool) -> None:
        """Move what is in it to its places.

        RestoreConflictError if some are taken, which nothing was when the restore began; what is
        not taken is moved all the same.
        """
        taken = sorted(_move_all(self.fd, self._root, "", overwrite=overwrite))
        if taken:
            raise RestoreConflictError(taken[0], len(taken))

    def discard(self) -> None:
        """Remove it, with what was not published."""
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
    """Remove what killed restores left in a directory; return whether nothing is in it then."""
    with os.scandir(root) as entries:
        names = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    removed = 0
    for name, is_directory in names:
        if is_directory and _NAME.fullmatch(name):
            # What can't be opened or locked may be in use.
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
        return  # a filesystem without locks: nobody else can lock it either, and it is left alone


def _move_all(source: int, target: int, prefix: str, *, overwrite: bool) -> Iterator[str]:
    """Move everything from one directory into another; yield the paths that are taken."""
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
    """Give a finished file its name; return whether the old name is gone with it.

    FileExistsError if the name is taken.
    """
    try:
        os.link(old, new, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
    else:
        return False
    _refuse_taken(new, target)  # a filesystem without hard links: look, then move
    os.rename(old, new, src_dir_fd=source, dst_dir_fd=target)
    return True


def discard(name: str, directory: int) -> None:
    """Remove a file if it is there."""
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)


def _refuse_taken(name: str, fd: int) -> None:
    with suppress(FileNotFoundError):
        os.stat(name, dir_fd=fd, follow_symlinks=False)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
