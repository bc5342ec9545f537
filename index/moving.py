"""Giving a finished file its name without taking the name from another."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import Final

__all__ = ["discard", "move_unless_taken"]

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
