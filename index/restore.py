"""Writing a run's files back to disk, below one directory and nowhere else.

Every file is written under a temporary name beside its place, verified on the way, given its mode
and time, and then moved into place at once: a reader sees the old content, the new, or none.
Directories are opened one below the other without following links, so that neither a hostile path
nor a link planted in the destination leads out of it.
"""

from __future__ import annotations

import errno
import os
import stat
import uuid
from collections import OrderedDict
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Self

from cas.digest import Digest, Hasher
from cas.errors import BlobNotFoundError
from index.errors import (
    DanglingFileError,
    RestoreConflictError,
    RestoreFailedError,
    UnsafePathError,
)
from index.names import check_path
from index.records import Progress, RestoreResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from cas.digest import Buffer
    from cas.store import BlobStore
    from index.records import FileVersion

__all__ = ["restore"]

_OPEN_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PERMISSIONS: Final = 0o777
"""Mode bits that are restored: a stored run must not plant set-user-id programs."""

_READ_SIZE: Final = 1 << 20
_REPORT_EVERY: Final = 256
_OPEN_DIRECTORIES: Final = 64
"""Directories held open: storage yields files nearly in the order of directories."""

_NO_LINKS: Final = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


def restore(
    versions: Sequence[FileVersion],
    blobs: BlobStore,
    destination: str,
    *,
    overwrite: bool,
    progress: Callable[[Progress], None] | None = None,
) -> RestoreResult:
    """Write file versions below `destination`, which is made if it is missing.

    On return every file is whole and verified, but not yet synced to disk. On raise each file is
    whole or not there. Files that hold the right content already are not written again.

    Raises
    ------
    UnsafePathError
        When a path would leave the destination, also through a link that is there.
    RestoreConflictError
        When different content is in the way and `overwrite` is false; nothing was written.
    RestoreFailedError
        When the destination can't be written.
    DigestMismatchError
        When stored bytes are damaged; the file they belong to is not written.
    """
    with _Destination(destination) as target:
        wanted, same = _compare(versions, target, overwrite=overwrite)
        writer = _Writer(target, blobs, overwrite=overwrite, progress=progress)
        written = writer.write_all(wanted)
        for version in same:
            writer.settle(version)
    return RestoreResult(len(wanted), len(same), written)


def _compare(
    versions: Iterable[FileVersion], target: _Destination, *, overwrite: bool
) -> tuple[list[FileVersion], list[FileVersion]]:
    """Tell what must be written from what is there, before anything is written."""
    wanted, same, conflicts = [], [], []
    for version in versions:
        if check_path(version.path) != version.path:
            raise UnsafePathError(version.path, "it is not in its plain spelling")
        there = target.find(version)
        if there is None:
            wanted.append(version)
        elif there:
            same.append(version)
        else:
            conflicts.append(version)
    if conflicts and not overwrite:
        raise RestoreConflictError(conflicts[0].path, len(conflicts))
    return wanted + conflicts, same


class _Destination:
    """The directory that a restore writes below, with the last used ones in it held open."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._root = -1
        self._empty = False
        self._open: OrderedDict[str, int] = OrderedDict()
        self._made: set[str] = set()

    def __enter__(self) -> Self:
        with _failing(self._path):
            os.makedirs(self._path, exist_ok=True)
            self._root = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            with os.scandir(self._root) as entries:
                self._empty = next(entries, None) is None
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self._open.values():
            os.close(fd)
        self._open.clear()
        os.close(self._root)

    def find(self, version: FileVersion) -> bool | None:
        """Whether the version's place holds its content; None if nothing is there."""
        if self._empty:
            return None
        directory, name = _split(version.path)
        with _failing(version.path):
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
        """Return a descriptor of a directory, good until the next call.

        FileNotFoundError if it isn't there and `make` is false.
        """
        if not directory:
            return self._root
        fd = self._open.get(directory)
        if fd is not None:
            self._open.move_to_end(directory)
            return fd
        parent, name = _split(directory)
        fd = self._enter_one(self.enter(parent, make=make), name, directory, make=make)
        self._open[directory] = fd
        if len(self._open) > _OPEN_DIRECTORIES:
            os.close(self._open.popitem(last=False)[1])
        return fd

    def is_ours(self, directory: str) -> bool:
        """Whether this restore made the directory, so that nobody else's files are in it."""
        return directory in self._made

    def _enter_one(self, parent: int, name: str, path: str, *, make: bool) -> int:
        if make and path not in self._made:
            with suppress(FileExistsError):
                os.mkdir(name, dir_fd=parent)
                self._made.add(path)
        try:
            return os.open(name, _OPEN_DIRECTORY, dir_fd=parent)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                reason = "the destination has a link or a file where it needs a directory"
                raise UnsafePathError(path, reason) from error
            raise


class _Writer:
    """Writes versions into a destination, in the order in which storage yields them."""

    def __init__(
        self,
        target: _Destination,
        blobs: BlobStore,
        *,
        overwrite: bool,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self._target = target
        self._blobs = blobs
        self._overwrite = overwrite
        self._progress = progress
        self._prefix = f".cas-{uuid.uuid4().hex[:16]}-"
        self._files = self._bytes = 0
        self._total = Progress(0, 0)

    def write_all(self, versions: Sequence[FileVersion]) -> int:
        """Write all; return the bytes written."""
        self._total = Progress(0, 0, len(versions), sum(version.size for version in versions))
        small: dict[Digest, list[FileVersion]] = {}
        large: list[FileVersion] = []
        for version in versions:
            if version.size <= self._blobs.chunk_size:
                small.setdefault(version.digest, []).append(version)
            else:
                large.append(version)
        with _explaining(versions):
            for digest, data in self._blobs.read_many(small):
                for version in small[digest]:
                    self._write(version, (data,))
            for version in large:
                self._write(version, self._blobs.iter_pieces(version.digest))
        self._report()
        return self._bytes

    def settle(self, version: FileVersion) -> None:
        """Give a file that has the right content already its mode and time."""
        if version.is_link:
            return
        directory, name = _split(version.path)
        with _failing(version.path):
            fd = os.open(name, _READ, dir_fd=self._target.enter(directory))
            try:
                _give_mode_and_time(fd, version)
            finally:
                os.close(fd)

    def _write(self, version: FileVersion, pieces: Iterable[Buffer]) -> None:
        directory, name = _split(version.path)
        with _failing(version.path):
            fd = self._target.enter(directory, make=True)
            may_replace = self._overwrite or self._target.is_ours(directory)
            staged = f"{self._prefix}{self._files}"
            try:
                if version.is_link:
                    _write_link(staged, fd, version, b"".join(pieces))
                else:
                    _write_file(staged, fd, version, pieces)
                moved = _move_into_place(staged, name, fd, may_replace=may_replace)
            except FileExistsError:
                _discard(staged, fd)
                raise RestoreConflictError(version.path, 1) from None
            except BaseException:  # Ctrl-C too leaves no half-written file behind
                _discard(staged, fd)
                raise
            if not moved:
                _discard(staged, fd)
        self._files += 1
        self._bytes += version.size
        if self._files % _REPORT_EVERY == 0:
            self._report()

    def _report(self) -> None:
        if self._progress is not None:
            self._progress(replace(self._total, files=self._files, bytes=self._bytes))


def _write_file(name: str, fd: int, version: FileVersion, pieces: Iterable[Buffer]) -> None:
    file = os.open(name, _CREATE, 0o600, dir_fd=fd)
    try:
        for piece in pieces:
            view = memoryview(piece)
            while view:
                view = view[os.write(file, view) :]
        _give_mode_and_time(file, version)
    finally:
        os.close(file)


def _write_link(name: str, fd: int, version: FileVersion, target: bytes) -> None:
    os.symlink(os.fsdecode(target), name, dir_fd=fd)
    os.utime(name, ns=(version.mtime_ns, version.mtime_ns), dir_fd=fd, follow_symlinks=False)


def _move_into_place(staged: str, name: str, fd: int, *, may_replace: bool) -> bool:
    """Give a finished file its name; return whether the staged name is gone with it.

    FileExistsError if the name is taken and `may_replace` is false.
    """
    if not may_replace:
        try:
            os.link(staged, name, src_dir_fd=fd, dst_dir_fd=fd, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            _refuse_taken(name, fd)  # a filesystem without hard links: look, then move
        else:
            return False
    os.rename(staged, name, src_dir_fd=fd, dst_dir_fd=fd)
    return True


def _refuse_taken(name: str, fd: int) -> None:
    with suppress(FileNotFoundError):
        os.stat(name, dir_fd=fd, follow_symlinks=False)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)


def _discard(name: str, fd: int) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=fd)


def _give_mode_and_time(fd: int, version: FileVersion) -> None:
    os.fchmod(fd, stat.S_IMODE(version.mode) & _PERMISSIONS)
    os.utime(fd, ns=(version.mtime_ns, version.mtime_ns))


def _hash_file(name: str, directory: int) -> Digest:
    hasher = Hasher()
    fd = os.open(name, _READ, dir_fd=directory)
    try:
        while data := os.read(fd, _READ_SIZE):
            hasher.update(data)
    finally:
        os.close(fd)
    return hasher.digest()


def _split(path: str) -> tuple[str, str]:
    directory, _, name = path.rpartition("/")
    return directory, name


@contextmanager
def _failing(subject: str) -> Iterator[None]:
    """Raise what the destination can't do as `RestoreFailedError`."""
    try:
        yield
    except (OSError, ValueError) as error:
        if isinstance(error, UnsafePathError):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise RestoreFailedError(subject, reason) from error


@contextmanager
def _explaining(versions: Iterable[FileVersion]) -> Iterator[None]:
    """Name the file when its blob or its pack is gone."""
    try:
        yield
    except BlobNotFoundError as error:
        path = next((v.path for v in versions if v.digest == error.digest), "a chunk")
        raise DanglingFileError(path, error.digest) from error
