"""The directories that a walk holds open, from where it began down to where it is.

Each is opened by its name in the one above, and no link is followed. So a directory that is
replaced by a link during the walk leads nowhere.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from index.domain.names import to_native
from index.errors import WorkDirectoryError
from index.scan.findings import reason_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from index.scan.coverage import Reason

__all__ = ["Descent", "OpenDirectory", "check_directory", "open_root"]

_OPEN: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_OPEN_LEVELS: Final = 32
"""Directories that are open at once. In a deeper tree the outer ones are closed, and opened again
if the walk comes back: a process has few descriptors, and other uses for them."""


@dataclass(slots=True)
class OpenDirectory:
    """A directory in the walk."""

    fd: int
    """-1 while it is closed."""
    prefix: str
    """Its path in the run, with a slash."""
    reason: Reason | None = None
    """Why the scan passes over all but the files of the run in it; None if it does not."""
    own_names: Collection[str] = ()
    """Names in it that belong to the store."""
    subdirectories: list[tuple[str, Reason | None]] = field(default_factory=list)
    """Those left to visit, each with its own `reason`."""

    def descend(self, name: str) -> None:
        """Become the subdirectory of that name. Raises OSError."""
        inner = _open_below(self.fd, name)
        self.close()
        self.fd = inner
        self.prefix += f"{name}/"

    def close(self) -> None:
        """Close the descriptor; a second call does nothing."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Descent:
    """A stack of open directories."""

    def __init__(self, root: int, prefix: str, first: OpenDirectory) -> None:
        """Begin at `first`.

        Parameters
        ----------
        root
            Descriptor of the work directory. It stays open.
        prefix
            The path of the work directory in the run, with a slash.
        """
        self._root = root
        self._prefix = prefix
        self._stack = [first]

    def current(self) -> OpenDirectory | None:
        """Return the innermost directory that has subdirectories left; close all inside it."""
        while self._stack and not self._stack[-1].subdirectories:
            self._stack.pop().close()
        return self._stack[-1] if self._stack else None

    def enter(self, name: str, reason: Reason | None) -> OpenDirectory:
        """Open a subdirectory of the innermost directory. Raises OSError."""
        outer = self._stack[-1]
        if outer.fd < 0:
            outer.fd = self._open_again(outer.prefix)
        inner = OpenDirectory(_open_below(outer.fd, name), f"{outer.prefix}{name}/", reason)
        self._stack.append(inner)
        if len(self._stack) > _OPEN_LEVELS:
            self._stack[-_OPEN_LEVELS - 1].close()
        return inner

    def close(self) -> None:
        """Close all directories."""
        for directory in self._stack:
            directory.close()

    def _open_again(self, prefix: str) -> int:
        again = OpenDirectory(os.dup(self._root), self._prefix)
        try:
            for name in filter(None, prefix[len(self._prefix) :].split("/")):
                again.descend(name)
        except OSError:
            again.close()
            raise
        return again.fd


def _open_below(directory: int, name: str) -> int:
    """Open a subdirectory of an open directory. Raises OSError, also for a link."""
    return os.open(to_native(name), _OPEN, dir_fd=directory)


def check_directory(path: str) -> None:
    """Raise `WorkDirectoryError` unless the path is a readable directory."""
    os.close(open_root(path))


def open_root(path: str) -> int:
    """Open a work directory, which may be named by a link. Raises `WorkDirectoryError`."""
    try:
        return os.open(path, _OPEN & ~os.O_NOFOLLOW)
    except OSError as error:
        raise WorkDirectoryError(path, _root_reason(error)) from error


def _root_reason(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such directory"
    if isinstance(error, NotADirectoryError):
        return "it is a file, not a directory (`run.put(…)` records a single file)"
    return reason_of(error)
