"""The directory that a restore writes to, entered without following links.

Directories are opened by descriptor, each relative to its parent. So neither a hostile path nor a
link planted in the destination leads out of it.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections import OrderedDict
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final, Self

from cas.digest import Digest, Hasher
from index.errors import RestoreFailedError, UnsafePathError
from index.reading.staging import OPEN_DIRECTORY, Staging, remove_abandoned

if TYPE_CHECKING:
    from collections.abc import Iterator

    from index.db.queries.restorable import RestorableFile

__all__ = ["OPEN_EXISTING", "Destination", "Walker", "failed", "failing", "split"]

OPEN_EXISTING: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OPEN_DIRECTORIES: Final = 64
"""Directories that a walker holds open. Storage yields files nearly in directory order."""

_READ_SIZE: Final = 1 << 20


class Destination:
    """A directory to write to, made if it is missing. Its walkers serve several threads."""

    def __init__(self, path: str, *, threads: int) -> None:
        self._path = path
        self._threads = threads
        self._walkers: SimpleQueue[Walker] = SimpleQueue()
        self._root = -1
        self.is_empty = False
        """Whether the directory was empty when it was opened."""
        self.is_staged = False
        """Whether walkers write into the hidden staging directory."""

    def __enter__(self) -> Self:
        with failing(self._path):
            os.makedirs(self._path, exist_ok=True)
            self._root = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                self.is_empty = remove_abandoned(self._root)
            except BaseException:
                os.close(self._root)
                raise
        self._add_walkers(self._root)
        return self

    def __exit__(self, *error: object) -> None:
        self._close_walkers()
        os.close(self._root)

    @contextmanager
    def staged(self, *, overwrite: bool) -> Iterator[None]:
        """Make walkers write into a `Staging` while the block runs. Call it before lending any.

        When the block ends, also by an error, the files written are moved to their final places.
        After that walkers write to the destination again.
        """
        with failing(self._path):
            staging = Staging(self._root)
        self._close_walkers()
        self._add_walkers(staging.fd)
        self.is_staged = True
        try:
            try:
                yield
            except BaseException:
                with suppress(Exception):  # the caller must see the first error
                    staging.publish(overwrite=overwrite)
                raise
            with failing(self._path):
                staging.publish(overwrite=overwrite)
        finally:
            self.is_staged = False
            self._close_walkers()
            self._add_walkers(self._root)
            staging.discard()

    def _add_walkers(self, root: int) -> None:
        made = _Made()
        for _ in range(self._threads):
            self._walkers.put(Walker(root, made))

    def _close_walkers(self) -> None:
        for _ in range(self._threads):
            self._walkers.get().close()

    @contextmanager
    def walker(self) -> Iterator[Walker]:
        """Lend a walker to this thread."""
        walker = self._walkers.get()
        try:
            yield walker
        finally:
            self._walkers.put(walker)


class _Made:
    """The directories that this restore made itself."""

    def __init__(self) -> None:
        self._paths: set[str] = set()
        self._lock = threading.Lock()

    def make(self, name: str, path: str, parent: int) -> None:
        """Make a directory unless it exists."""
        with self._lock:
            if path not in self._paths:
                with suppress(FileExistsError):
                    os.mkdir(name, dir_fd=parent)
                    self._paths.add(path)

    def __contains__(self, path: str) -> bool:
        return path in self._paths


class Walker:
    """Opens directories of a destination, and holds recent ones open. For one thread."""

    def __init__(self, root: int, made: _Made) -> None:
        self._root = root
        self._made = made
        self._open: OrderedDict[str, int] = OrderedDict()
        self._last: tuple[str, int] = ("", root)
        """The directory entered last. It is mostly the next one too, and is never closed first."""

    def close(self) -> None:
        """Close all open directories."""
        for fd in self._open.values():
            os.close(fd)
        self._open.clear()

    def find(self, version: RestorableFile) -> bool | None:
        """Whether the version's path holds its content; None if nothing is there."""
        directory, name = split(version.path)
        with failing(version.path):
            try:
                fd = self.enter(directory)
                status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            except FileNotFoundError:
                return None
            if version.is_link:
                if not stat.S_ISLNK(status.st_mode):
                    return False
                return Digest.of(os.fsencode(os.readlink(name, dir_fd=fd))) == version.digest
            if not stat.S_ISREG(status.st_mode) or status.st_size != version.size:
                return False
            return _hash_file(name, fd) == version.digest

    def enter(self, directory: str, *, make: bool = False) -> int:
        """Return a descriptor of a directory, valid until the next call.

        Raises FileNotFoundError if the directory is missing and `make` is False.
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

    def is_ours(self, directory: str) -> bool:
        """Whether this restore made the directory, so that it holds no other files."""
        return directory in self._made

    def _enter_one(self, parent: int, name: str, path: str, *, make: bool) -> int:
        if make:
            self._made.make(name, path, parent)
        try:
            return os.open(name, OPEN_DIRECTORY, dir_fd=parent)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                reason = "the destination has a link or a file where it needs a directory"
                raise UnsafePathError(path, reason) from error
            raise


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


def _hash_file(name: str, directory: int) -> Digest:
    hasher = Hasher()
    fd = os.open(name, OPEN_EXISTING, dir_fd=directory)
    try:
        while data := os.read(fd, _READ_SIZE):
            hasher.update(data)
    finally:
        os.close(fd)
    return hasher.digest()
