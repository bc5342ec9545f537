"""Directories below an open directory, entered by descriptor and without following links.

Each directory is opened relative to its parent. So neither a hostile path nor a link planted in the
destination leads out of it, and a path may be longer than the system takes at once.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import OrderedDict
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from cas.digest import Digest, Hasher
from index.errors import RestoreFailedError, UnsafePathError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from index.db.queries.restorable import RestorableFile

__all__ = [
    "OPEN_DIRECTORY",
    "OPEN_EXISTING",
    "InTheWay",
    "Walker",
    "entries_of",
    "failed",
    "failing",
    "remove_tree",
    "split",
]

OPEN_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
OPEN_EXISTING: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OPEN_DIRECTORIES: Final = 64
"""Directories that a walker holds open. Storage yields files nearly in directory order."""

_READ_SIZE: Final = 1 << 20

_NOT_THERE: Final = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}
"""Errors of a path that nothing is at."""


class InTheWay(NamedTuple):
    """Something else where a file should be."""

    path: str
    """The path of the file, or that of a parent directory where there is a file."""
    is_directory: bool


class Walker:
    """Opens directories below a root, and holds recent ones open. For one thread.

    Parameters
    ----------
    root
        An open directory. It stays open.
    replaceable
        Paths of files that may be replaced by directories.
    """

    def __init__(self, root: int, replaceable: Collection[str] = ()) -> None:
        self._root = root
        self._replaceable = replaceable
        self._open: OrderedDict[str, int] = OrderedDict()
        self._last: tuple[str, int] = ("", root)
        """The directory entered last. It is mostly the next one too, and is never closed first."""

    def close(self) -> None:
        """Close all open directories."""
        for fd in self._open.values():
            os.close(fd)
        self._open.clear()
        self._last = "", self._root

    def find(self, version: RestorableFile) -> InTheWay | bool:
        """Return whether the version's path holds its content, or what else is there."""
        directory, name = split(version.path)
        with failing(version.path):
            try:
                fd = self.enter(directory)
                status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            except FileNotFoundError:
                return False
            except NotADirectoryError as error:
                return InTheWay(error.filename, is_directory=False)
            kind = stat.S_IFMT(status.st_mode)
            wanted = stat.S_IFLNK if version.is_link else stat.S_IFREG
            fits = kind == wanted and (version.is_link or status.st_size == version.size)
            if fits and _digest_at(name, fd, kind) == version.digest:
                return True
            return InTheWay(version.path, is_directory=kind == stat.S_IFDIR)

    def status(self, path: str) -> os.stat_result | None:
        """Return the `stat` of a file, or of a link itself; None if nothing is there.

        What is behind a link is not there.
        """
        directory, name = split(path)
        try:
            return os.stat(name, dir_fd=self.enter(directory), follow_symlinks=False)
        except UnsafePathError:
            return None
        except OSError as error:
            if error.errno in _NOT_THERE:
                return None
            raise failed(path, error) from error

    def digest(self, path: str, status: os.stat_result) -> Digest | None:
        """Return the digest of a file, or of the target of a link; None for anything else."""
        kind = stat.S_IFMT(status.st_mode)
        if kind not in (stat.S_IFREG, stat.S_IFLNK):
            return None
        directory, name = split(path)
        with failing(path):
            return _digest_at(name, self.enter(directory), kind)

    def remove(self, path: str) -> None:
        """Remove a file or a link, and then the directories above it that are empty."""
        directory, name = split(path)
        with failing(path):
            os.unlink(name, dir_fd=self.enter(directory))
        while directory:
            above, name = split(directory)
            try:
                os.rmdir(name, dir_fd=self.enter(above))
            except OSError:
                return
            directory = above

    def files_below(self, directory: str) -> Iterator[tuple[str, os.stat_result]]:
        """Yield the paths of all that is below a directory, but of directories, with their `stat`.

        The caller may enter other directories meanwhile.
        """
        left = [directory]
        with failing(directory):
            while left:
                inside = left.pop()
                for name, is_directory in entries_of(self.enter(inside)):
                    path = f"{inside}/{name}"
                    if is_directory:
                        left.append(path)
                    elif (status := self.status(path)) is not None:
                        yield path, status

    def enter(self, directory: str, *, make: bool = False) -> int:
        """Return a descriptor of a directory, valid until the next call.

        Raises FileNotFoundError if the directory is missing and `make` is False, and
        NotADirectoryError, with the path as ``filename``, if a file is in its place.
        """
        if directory == self._last[0]:
            return self._last[1]
        if (fd := self._open.get(directory, -1)) >= 0:
            self._open.move_to_end(directory)
            self._last = directory, fd
            return fd
        self._last = "", self._root  # the old one may be closed below
        known = directory
        while known and known not in self._open:
            known = split(known)[0]
        fd = self._open[known] if known else self._root
        if known:
            self._open.move_to_end(known)
        for name in directory[len(known) :].split("/"):
            if name:
                known = f"{known}/{name}" if known else name
                fd = self._enter_one(fd, name, known, make=make)
                self._open[known] = fd
                if len(self._open) > _OPEN_DIRECTORIES:
                    os.close(self._open.popitem(last=False)[1])
        self._last = directory, fd
        return fd

    def _enter_one(self, parent: int, name: str, path: str, *, make: bool) -> int:
        if make:
            self._make(parent, name, path)
        try:
            return os.open(name, OPEN_DIRECTORY, dir_fd=parent)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                raise
            reason = "the destination has a link or a file where it needs a directory"
            if _is_file(name, parent):
                raise NotADirectoryError(errno.ENOTDIR, reason, path) from error
            raise UnsafePathError(path, reason) from error

    def _make(self, parent: int, name: str, path: str) -> None:
        """Make a directory unless it exists. Another thread may do the same."""
        with suppress(FileExistsError):
            os.mkdir(name, dir_fd=parent)
            return
        if path in self._replaceable and _is_file(name, parent):
            with suppress(FileNotFoundError, IsADirectoryError, PermissionError):
                os.unlink(name, dir_fd=parent)
            with suppress(FileExistsError):
                os.mkdir(name, dir_fd=parent)


def entries_of(directory: int) -> list[tuple[str, bool]]:
    """Return the names in an open directory, and whether each is a directory itself."""
    with os.scandir(directory) as entries:
        return [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]


def remove_tree(name: str, parent: int) -> None:
    """Remove a directory and all that is in it, however deep it is. Links are not followed."""
    found = [name]  # it grows in the loop; parents come before their subdirectories
    with closing(Walker(parent)) as walker:
        for directory in found:
            fd = walker.enter(directory)
            for entry, is_directory in entries_of(fd):
                if is_directory:
                    found.append(f"{directory}/{entry}")
                else:
                    os.unlink(entry, dir_fd=fd)
        for directory in reversed(found):
            above, last = split(directory)
            os.rmdir(last, dir_fd=walker.enter(above))


def split(path: str) -> tuple[str, str]:
    """Return the directory and name of a relative path."""
    directory, _, name = path.rpartition("/")
    return directory, name


@contextmanager
def failing(subject: str) -> Iterator[None]:
    """Turn errors of the destination into `RestoreFailedError`."""
    try:
        yield
    except (OSError, ValueError) as error:
        if isinstance(error, UnsafePathError):
            raise
        raise failed(subject, error) from error


def failed(subject: str, error: Exception) -> RestoreFailedError:
    """Return the error that names the path that could not be restored, and the reason."""
    return RestoreFailedError(subject, getattr(error, "strerror", None) or str(error))


def _is_file(name: str, directory: int) -> bool:
    with suppress(FileNotFoundError):
        return stat.S_ISREG(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
    return False


def _digest_at(name: str, directory: int, kind: int) -> Digest:
    """Return the digest of a file, or of the target of a link."""
    if kind == stat.S_IFLNK:
        return Digest.of(os.fsencode(os.readlink(name, dir_fd=directory)))
    hasher = Hasher()
    fd = os.open(name, OPEN_EXISTING, dir_fd=directory)
    try:
        while data := os.read(fd, _READ_SIZE):
            hasher.update(data)
    finally:
        os.close(fd)
    return hasher.digest()
