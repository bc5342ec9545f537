"""The system calls of a local backend, recorded, with a fault at the n-th of them."""

from __future__ import annotations

import errno
import os
import shutil

from cas.backends.posix import PosixCalls


class PowerCut(BaseException):
    """The process ends here. No handler for ordinary errors may catch it."""


READS = {"open_read", "pread", "size", "close", "list_directory"}
"""System calls that change nothing in storage."""


class FaultyCalls(PosixCalls):
    """Counts every call. Raises `error` at number `fail_at`, and at all later ones if `dead`."""

    def __init__(self, fail_at=None, error=None, *, dead=False, only=None):
        self.calls = []
        self.fired = 0
        self.open = set()
        self._fail_at = fail_at
        self._error = error or PowerCut()
        self._dead = dead
        self._only = only

    def end_process(self):
        """Close open files, as the kernel does for a dead process."""
        for fd in self.open:
            os.close(fd)
        self.open.clear()

    def leaves_more(self, number):
        """Whether the fault can have left something else than one at the call before it.

        What fails before it has written anything more does not. One in eight of those is looked at
        all the same.
        """
        return not self.fired or self.calls[number][0] not in READS or number % 8 == 0

    def _count(self, name, detail):
        number = len(self.calls)
        self.calls.append((name, detail))
        if self._only is not None and name not in self._only:
            return
        if self._fail_at is not None and (
            number == self._fail_at or (self._dead and number > self._fail_at)
        ):
            self.fired += 1
            raise self._error


def _counted(name):
    original = getattr(PosixCalls, name)

    def call(self, *args, **kwargs):
        detail = args[0] if args else None
        if isinstance(detail, int) and name in ("write", "pwrite", "fsync", "close"):
            detail = _path_of(detail)
        elif name in ("rename", "link"):
            detail = args
        self._count(name, detail)
        result = original(self, *args, **kwargs)
        if name in ("create_exclusive", "open_read", "open_shared"):
            self.open.add(result)
        elif name == "close":
            self.open.discard(args[0])
        return result

    return call


def _path_of(fd):
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return str(fd)


for _name in (
    "create_exclusive",
    "open_read",
    "open_shared",
    "write",
    "pwrite",
    "set_direct",
    "pread",
    "size",
    "touch",
    "modified",
    "space",
    "links",
    "fsync",
    "close",
    "lock_exclusive",
    "mkdir",
    "rename",
    "link",
    "unlink",
    "fsync_directory",
    "list_directory",
):
    setattr(FaultyCalls, _name, _counted(_name))


class ShortCalls(PosixCalls):
    """Writes and reads only a part, as the system may, and counts how often."""

    def __init__(self):
        self.short = 0

    def write(self, fd, data):
        return super().write(fd, self._part(data))

    def pwrite(self, fd, data, offset):
        return super().pwrite(fd, self._part(data), offset)

    def pread(self, fd, size, offset):
        return super().pread(fd, len(self._part(range(size))), offset)

    def _part(self, data):
        if len(data) < 2:
            return data
        self.short += 1
        return data[: len(data) // 2 + 1]


class BadSectors(PosixCalls):
    """A disk that refuses to read some blocks, and counts how often it did."""

    BLOCK = 4096

    def __init__(self, times=None):
        self.refused = 0
        self.bad = set()
        """Blocks, as inode and number."""
        self._times = times

    def damage(self, path, offset, size=1):
        """Make the blocks of these bytes bad; return the blocks as a range of bytes."""
        first, last = offset // self.BLOCK, (offset + size - 1) // self.BLOCK
        inode = os.stat(path).st_ino
        self.bad |= {(inode, number) for number in range(first, last + 1)}
        return range(first * self.BLOCK, (last + 1) * self.BLOCK)

    def pread(self, fd, size, offset):
        inode = os.fstat(fd).st_ino
        last = min(offset + size, self.size(fd)) - 1
        asked = range(offset // self.BLOCK, last // self.BLOCK + 1)
        if self.refused != self._times and any((inode, number) in self.bad for number in asked):
            self.refused += 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().pread(fd, size, offset)


class Disk(PosixCalls):
    """Knows what a power cut would leave; one fsync of a file fails.

    Bytes written before a failed fsync are lost, even if a later fsync succeeds: the kernel has
    dropped the pages and reported it once. (Source: PostgreSQL wiki, "Fsync Errors".)
    """

    def __init__(self, fail_at):
        self.fired = 0
        self.synced = 0
        self._fail_at = fail_at
        self._volatile = {}
        """Inodes with bytes that are not durable, and whether they can still become durable."""
        self._unsure = {}
        """Names that are not durable, by directory."""

    def create_exclusive(self, path):
        fd = super().create_exclusive(path)
        self._volatile[os.fstat(fd).st_ino] = True
        self._name(path)
        return fd

    def write(self, fd, data):
        self._volatile.setdefault(os.fstat(fd).st_ino, True)
        return super().write(fd, data)

    def fsync(self, fd):
        inode = os.fstat(fd).st_ino
        self.synced += 1
        if self.synced == self._fail_at + 1:
            self.fired += 1
            self._volatile[inode] = False
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().fsync(fd)
        if self._volatile.get(inode):
            del self._volatile[inode]

    def mkdir(self, path, mode=0o777):
        super().mkdir(path, mode)
        self._name(path)

    def rename(self, source, target):
        self._forget(target)
        super().rename(source, target)
        self._name(target)

    def unlink(self, path):
        self._forget(path)
        super().unlink(path)

    def link(self, source, target):
        super().link(source, target)
        self._name(target)

    def fsync_directory(self, path):
        super().fsync_directory(path)
        self._unsure.pop(path, None)

    def cut_power(self, root):
        """Leave only durable data below a directory; return how many files lost their bytes."""
        for name in [name for names in self._unsure.values() for name in names]:
            if os.path.isdir(name):
                shutil.rmtree(name)
            elif os.path.exists(name):
                os.unlink(name)
        lost = 0
        for folder, _, files in os.walk(root):
            for path in (os.path.join(folder, name) for name in files):
                if os.stat(path).st_ino in self._volatile:
                    os.truncate(path, 0)
                    lost += 1
        return lost

    def _forget(self, path):
        """Note that a name goes away. The next file may get the inode of its last one."""
        if os.path.exists(path) and (found := os.stat(path)).st_nlink == 1:
            self._volatile.pop(found.st_ino, None)

    def _name(self, path):
        self._unsure.setdefault(os.path.dirname(path), []).append(path)
