"""Objects as files below a local directory.

To publish a file, the backend writes it under ``tmp/`` on the same filesystem, syncs it, renames
it, and syncs its new directory. After a power loss, a name therefore refers to a complete file or
to none. (Each step is needed: Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014,
section 4.) fsspec's local filesystem does not sync, so this backend does not use it.

A writer locks its staged file while the file is open. An unlocked file in ``tmp/`` was left by a
dead writer. The first `stage` of each process removes such files, without using a clock.

Some filesystems lack a call. Without hard links, a lock of the root makes `create` exclusive.
Without locks, nobody removes what dead writers leave. Without both, `create` is exclusive among the
threads that share a backend. If a directory can't be synced, a power loss
may take the name of a new object. docs/deploying.md says what that means for a store.
"""

from __future__ import annotations

import errno
import os
import threading
import uuid
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from cas.backend import ObjectInfo, check_name
from cas.backends.direct_writes import BlockWriter
from cas.backends.posix import NO_LINKS, UNSUPPORTED, PosixCalls, read_fully
from cas.errors import (
    BackendError,
    ObjectNotFoundError,
    StorageFullError,
    UnreadableObjectError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cas.digest import Buffer

__all__ = ["LocalBackend"]

_FULL: Final = {errno.ENOSPC, errno.EDQUOT}

_REFUSED: Final = {errno.EIO, errno.EBADMSG, getattr(errno, "EUCLEAN", errno.EIO)}
"""Errors of a read from a bad sector, or from a block with a wrong checksum. (Linux, fs/ext4/ext4.h
and fs/xfs/xfs_linux.h: EFSBADCRC is EBADMSG, EFSCORRUPTED is EUCLEAN; btrfs and ZFS use EIO.)"""


class LocalBackend:
    """A `cas.backend.Backend` in a directory, which the first write creates."""

    publishes_at_once: Final = 1  # one disk syncs one file no slower than two
    writes_at_once: Final = 2  # one is filled while the other waits for the disk
    span_size: Final = 2 << 20  # of 8 MiB, a GB takes 0.12 s longer to read, as much as to hash
    window_size: Final = 0
    reads_at_once: Final = 1

    def __init__(self, root: str | Path, *, calls: PosixCalls | None = None) -> None:
        self.root: Final = Path(root).absolute()
        self._calls = calls or PosixCalls()
        self._tmp = str(self.root / "tmp")
        self._lock = threading.Lock()
        self._ready = False
        self._made: set[str] = set()

    @property
    def url(self) -> str:
        return str(self.root)

    def stage(self) -> _StagedFile:
        self._prepare()
        with _Translated(self._tmp):
            return _StagedFile(self, self._calls, self._tmp)

    def create(self, name: str, data: bytes) -> bool:
        with self.stage() as staged:
            staged.write(data)
            return staged.publish_if_absent(name)

    def read(self, name: str, start: int = 0, size: int | None = None) -> bytes:
        path = self.path(name)
        with _Translated(path, reading=True):
            fd = self._calls.open_read(path)
            try:
                there = max(self._calls.size(fd) - start, 0)
                wanted = there if size is None else min(size, there)
                try:
                    return read_fully(self._calls.pread, fd, wanted, start)
                except OSError as error:
                    # Only for reads: if a file can't even be opened, the storage has failed.
                    if error.errno in _REFUSED:
                        raise UnreadableObjectError(path, error.strerror or str(error)) from error
                    raise
            finally:
                self._calls.close(fd)

    def size(self, name: str) -> int:
        path = self.path(name)
        with _Translated(path, reading=True):
            fd = self._calls.open_read(path)
            try:
                return self._calls.size(fd)
            finally:
                self._calls.close(fd)

    def iter_objects(self, prefix: str) -> Iterator[ObjectInfo]:
        with _Translated(str(self.root)):
            yield from self._iter_below(prefix.rstrip("/"))

    def delete(self, name: str) -> None:
        target = self.path(name)
        with _Translated(target):
            try:
                self._calls.unlink(target)
                self._calls.fsync_directory(os.path.dirname(target))
            except FileNotFoundError:
                return

    def close(self) -> None:
        return

    def path(self, name: str) -> str:
        """Return the path of the object `name`."""
        return f"{self.root}/{check_name(name)}"

    def _iter_below(self, folder: str) -> Iterator[ObjectInfo]:
        try:
            entries = list(self._calls.list_directory(f"{self.root}/{folder}"))
        except FileNotFoundError:
            return
        for entry in entries:
            name = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir(follow_symlinks=False):
                if name != "tmp":
                    yield from self._iter_below(name)
            else:
                with suppress(FileNotFoundError):
                    yield ObjectInfo(name, entry.stat(follow_symlinks=False).st_size)

    def _prepare(self) -> None:
        """Create the root and ``tmp/``, and remove files of dead writers; once."""
        with self._lock, _Translated(str(self.root)):
            if self._ready:
                return
            self.make_directory(self._tmp)
            self._remove_abandoned()
            self._ready = True

    def make_directory(self, path: str) -> None:
        """Create a directory and its missing parents. Parents become durable before children.

        This is done once for each directory and process.
        """
        if path in self._made:
            return
        parent = os.path.dirname(path)
        missing = not os.path.isdir(path)
        if missing or path.startswith(f"{self.root}/"):
            self.make_directory(parent)
            if missing:
                with suppress(FileExistsError):  # another process may be quicker
                    self._calls.mkdir(path)
            # Sync an existing one too: its creator may have died, or not have synced it yet.
            self._calls.fsync_directory(parent)
        self._made.add(path)

    def lock(self, fd: int) -> None:
        """Lock an open file or directory, if its filesystem has locks."""
        try:
            self._calls.lock_exclusive(fd, wait=True)
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise

    def move_unless_taken(self, source: str, target: str) -> bool:
        """Rename a file unless the name is taken; return whether this call did.

        A lock of the root keeps other writers away meanwhile; without locks, those of this object.
        """
        with self._lock:
            root = self._calls.open_read(str(self.root))
            try:
                self.lock(root)
                try:
                    self._calls.modified(target)
                except FileNotFoundError:
                    self._calls.rename(source, target)
                    return True
                return False
            finally:
                self._calls.close(root)

    def _remove_abandoned(self) -> None:
        for entry in self._calls.list_directory(self._tmp):
            with suppress(OSError):  # skip files that can't be opened or locked
                fd = self._calls.open_read(entry.path)
                try:
                    self._calls.lock_exclusive(fd, wait=False)
                    self._calls.unlink(entry.path)
                finally:
                    self._calls.close(fd)


class _StagedFile:
    """A locked file under ``tmp/``."""

    def __init__(self, backend: LocalBackend, calls: PosixCalls, tmp: str) -> None:
        self._backend = backend
        self._calls = calls
        self._fd: int | None = None
        self._path: str | None = None
        while self._fd is None:
            path = f"{tmp}/{uuid.uuid4().hex}"
            fd = calls.create_exclusive(path)
            self._path, self._fd = path, fd
            try:
                backend.lock(fd)
                lost = calls.links(fd) == 0
            except BaseException:
                self.discard()
                raise
            self._file = BlockWriter(fd, calls)
            if lost:
                # Another process removed it as abandoned before it was locked.
                calls.close(fd)
                self._path = self._fd = None

    def write(self, data: Buffer) -> None:
        assert self._fd is not None, "written after publish or discard"  # noqa: S101
        with _Translated(self._backend.url):
            self._file.write(data)

    def publish(self, name: str) -> None:
        target = self._backend.path(name)
        with _Translated(target):
            source = self._sync(target)
            self._calls.rename(source, target)
            self._path = None
            self._calls.fsync_directory(os.path.dirname(target))
            self._close()

    def publish_if_absent(self, name: str) -> bool:
        """Publish unless `name` is taken; return whether this call did."""
        target = self._backend.path(name)
        with _Translated(target):
            source = self._sync(target)
            try:
                self._calls.link(source, target)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in NO_LINKS:
                    raise
                if not self._backend.move_unless_taken(source, target):
                    return False
                self._path = None
            self._calls.fsync_directory(os.path.dirname(target))
            return True

    def discard(self) -> None:
        path, self._path = self._path, None
        if path is not None:
            with suppress(OSError):
                self._calls.unlink(path)
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.discard()

    def _sync(self, target: str) -> str:
        """Sync the bytes, create the directory of `target`, and return the staged path."""
        assert self._fd is not None, "published after publish or discard"  # noqa: S101
        assert self._path is not None, "published after publish or discard"  # noqa: S101
        self._file.finish()
        self._calls.fsync(self._fd)
        self._backend.make_directory(os.path.dirname(target))
        return self._path

    def _close(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            with suppress(OSError):  # all bytes are synced already
                self._calls.close(fd)


class _Translated:
    """Translates OSError to the errors of `cas.errors`. No generator: reads take long enough."""

    __slots__ = ("_reading", "_subject")

    def __init__(self, subject: str, *, reading: bool = False) -> None:
        self._subject = subject
        self._reading = reading

    def __enter__(self) -> None:
        return

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        if not isinstance(error, OSError):
            return
        if self._reading and isinstance(error, FileNotFoundError):
            raise ObjectNotFoundError(self._subject) from None
        if error.errno in _FULL:
            raise StorageFullError(self._subject) from error
        if error.errno == errno.ENOTDIR and (file := _file_above(self._subject)):
            raise BackendError(file, "it is a file; give a directory") from error
        raise BackendError(self._subject, error.strerror or str(error)) from error


def _file_above(path: str) -> str | None:
    """Return the file that is in the place of a directory above `path`."""
    place = Path(path)
    return next((str(each) for each in place.parents if os.path.isfile(each)), None)
