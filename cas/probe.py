"""What the filesystem of a local store can do, and what time storage has: tried, not assumed.

The probe creates two files in ``tmp/`` of a store, and removes them. They are like those that a
writer stages: if this process is killed, the next writer removes them.
"""

from __future__ import annotations

import os
import re
import time
import uuid
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

from cas.backends.posix import NO_LINKS, UNSUPPORTED, PosixCalls
from cas.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from datetime import datetime

    from cas.backend import Backend

__all__ = [
    "Features",
    "filesystem_of",
    "is_network",
    "is_writable",
    "probe_directory",
    "storage_time",
]

_MOUNTS: Final = Path("/proc/self/mountinfo")
"""Mounted filesystems. Source: proc_pid_mountinfo(5). Only Linux has it."""

_ESCAPED: Final = re.compile(r"\\(\d{3})", re.ASCII)
"""A blank or backslash of a mount point, in octal."""

_NETWORK: Final = frozenset(
    (
        *("9p", "afs", "beegfs", "ceph", "cifs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs"),
        *("nfs4", "pvfs2", "smb3", "smbfs", "fuse.ceph", "fuse.glusterfs", "fuse.rclone"),
        *("fuse.s3fs", "fuse.sshfs"),
    )
)
"""Types of filesystems whose files other hosts may change."""


@dataclass(frozen=True, slots=True)
class Features:
    """What a directory's filesystem can do."""

    has_links: bool
    """Whether a file can have a second name."""
    has_locks: bool
    syncs_directories: bool
    """Whether new names survive a power loss."""
    folds_case: bool
    """Whether it takes ``a`` and ``A`` for one name."""
    clock_ahead_s: float
    """Seconds by which the times of new files are ahead of this host's clock."""


def probe_directory(path: str | Path, *, calls: PosixCalls | None = None) -> Features:
    """Try out what the filesystem of an existing directory can do. No file of the probe stays.

    Raises
    ------
    BackendError
        When no file can be written there.
    """
    calls = calls or PosixCalls()
    name = f"{path}/probe-{uuid.uuid4().hex}"
    try:
        with ExitStack() as stack:
            fd = calls.create_exclusive(name)
            stack.callback(calls.close, fd)
            stack.callback(_remove, calls, name)
            has_locks = _works(lambda: calls.lock_exclusive(fd, wait=False), UNSUPPORTED)
            calls.write(fd, b"\0")
            calls.fsync(fd)
            ahead = calls.modified(name) / 1e9 - time.time()
            stack.callback(_remove, calls, f"{name}-link")
            has_links = _works(lambda: calls.link(name, f"{name}-link"), NO_LINKS)
            folder = calls.open_read(str(path))
            stack.callback(calls.close, folder)
            return Features(
                has_links=has_links,
                has_locks=has_locks,
                syncs_directories=_works(lambda: calls.fsync(folder), UNSUPPORTED),
                folds_case=_exists(calls, f"{path}/{Path(name).name.upper()}"),
                clock_ahead_s=ahead,
            )
    except OSError as error:
        raise BackendError(str(path), error.strerror or str(error)) from error


def _works(call: Callable[[], object], unsupported: Collection[int]) -> bool:
    try:
        call()
    except OSError as error:
        if error.errno not in unsupported:
            raise
        return False
    return True


def _exists(calls: PosixCalls, name: str) -> bool:
    try:
        calls.modified(name)
    except FileNotFoundError:
        return False
    return True


def _remove(calls: PosixCalls, name: str) -> None:
    with suppress(FileNotFoundError):
        calls.unlink(name)


def filesystem_of(path: str | Path) -> str | None:
    """Return the type of the filesystem of a path, as ``mount`` names it; None if unknown."""
    place = os.path.realpath(path)
    found, longest = None, -1
    try:
        lines = _MOUNTS.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return None
    for line in lines:
        before, _, after = line.partition(" - ")
        mount = _ESCAPED.sub(lambda found: chr(int(found[1], 8)), before.split()[4])
        folder = mount.rstrip("/")
        # Of two mounts at one place, the later one is seen.
        if f"{place}/".startswith(f"{folder}/") and len(folder) >= longest:
            found, longest = after.split()[0], len(folder)
    return found


def is_network(filesystem: str | None) -> bool:
    """Whether other hosts may change files of a filesystem of this type."""
    return filesystem in _NETWORK


@runtime_checkable
class _Service(Protocol):
    """A backend on a service, which has rights and a clock of its own."""

    def time(self) -> datetime | None: ...

    def is_writable(self, name: str) -> bool | None: ...


def storage_time(backend: Backend) -> datetime | None:
    """Return the time of the service that keeps objects; None if it tells none."""
    return backend.time() if isinstance(backend, _Service) else None


def is_writable(backend: Backend, name: str) -> bool | None:
    """Whether a service would take objects, without giving it one; None if it does not tell.

    Parameters
    ----------
    name
        An object that exists.
    """
    return backend.is_writable(name) if isinstance(backend, _Service) else None
