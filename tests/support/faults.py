"""A local backend's system calls with a fault at the n-th of them, and a record of all."""

from __future__ import annotations

import os

from cas.posix import PosixCalls


class PowerCut(BaseException):
    """The process ends here: no handler for ordinary errors may run to completion because of it."""


class FaultyCalls(PosixCalls):
    """Counts every call; at number `fail_at` raises `error`, and from then on if `dead`."""

    def __init__(self, fail_at=None, error=None, *, dead=False, only=None):
        self.calls = []
        self.fired = 0
        self.open = set()
        self._fail_at = fail_at
        self._error = error or PowerCut()
        self._dead = dead
        self._only = only

    def end_process(self):
        """Close what is open, as the kernel does for a process that is gone."""
        for fd in self.open:
            os.close(fd)
        self.open.clear()

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
