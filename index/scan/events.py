"""Events of a work directory: which of them concern a scan, and when one is due.

The system tells of each change below a directory. A scan is due once the directory has been quiet
for a while, or has changed for long. Events of what a scan would pass over count for nothing, and
neither do those of the store itself, or of a file that this process prints or logs to: else each
scan would be the cause of the next.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import sys
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any, Final

from index.domain.names import from_native, to_native
from index.errors import MissingPackageError, WorkDirectoryError
from index.scan.descent import OpenDirectory, check_directory, open_root
from index.scan.findings import reason_of
from index.scan.scanner import Scan

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Generator, Iterable, Iterator

__all__ = ["Lookout", "due", "events", "load_watch"]

_STEP_MS: Final = 50
"""Milliseconds between two looks at what the system has reported."""

_TICK_MS: Final = 500
"""The longest time between two items of `events`."""

_REPLACED: Final = "\ufffd"
"""What stands in an event for bytes of a name that are not UTF-8."""

_NO_WATCH: Final = (
    "the system watches no more directories for this user (raise fs.inotify.max_user_watches, or "
    "set WATCHFILES_FORCE_POLLING=1)"
)


class Lookout(Scan):
    """A scan that walks nowhere: it is asked whether it would look at single paths."""

    def concerns(self, path: str) -> bool:
        """Whether a change at a path may change what the scan would find.

        Parameters
        ----------
        path
            Relative to the work directory, as the system tells it. There need not be anything.
        """
        if not path or _REPLACED in path:
            return True
        path = from_native(path)
        for scope in self._coverage.scopes:
            if not scope or path.startswith(f"{scope}/"):
                return self._may_see(path, below=scope.count("/") + 1 if scope else 0)
            if f"{scope}/".startswith(f"{path}/"):
                return True
        return False

    def _may_see(self, path: str, below: int) -> bool:
        """Return `concerns` for a path in a scope, whose first names are the scope."""
        *outer, name = path.split("/")
        here = OpenDirectory(-1, self._prefix)
        try:
            here.fd = open_root(self._root)
            for depth, folder in enumerate(outer):
                if self._is_own(here) or folder in here.own_names:
                    return False
                self._read_ignore_files(here)
                if depth >= below:
                    passed, here.reason = self._passes_over(here, folder, is_directory=True)
                    if passed:
                        return False
                here.descend(folder)
            if self._is_own(here) or name in here.own_names:
                return False
            self._read_ignore_files(here)
            return self._coverage.is_ignore_file(name) or self._may_see_in(here, name)
        except (OSError, WorkDirectoryError):
            return True  # what is gone, a scan tells best
        finally:
            here.close()

    def _may_see_in(self, here: OpenDirectory, name: str) -> bool:
        try:
            status = os.stat(to_native(name), dir_fd=here.fd, follow_symlinks=False)
        except FileNotFoundError:
            kinds: tuple[bool, ...] = (False, True)  # either may have been there
        else:
            if status in self.own or (status.st_dev, status.st_ino) in _outputs():
                return False
            kinds = (stat.S_ISDIR(status.st_mode),)
        return not all(self._passes_over(here, name, is_directory=kind)[0] for kind in kinds)


def _outputs() -> set[tuple[int, int]]:
    """Return device and inode of the files that this process prints and logs to."""
    loggers = map(logging.getLogger, (None, "cas", "index"))
    handlers = (handler for logger in loggers for handler in logger.handlers)
    streams: list[Any] = [
        sys.stdout,
        sys.stderr,
        *(getattr(each, "stream", None) for each in handlers),
    ]
    found = set()
    for stream in streams:
        with suppress(AttributeError, OSError, ValueError):  # it is none, closed, or has no number
            status = os.fstat(stream.fileno())
            found.add((status.st_dev, status.st_ino))
    return found


def events(
    root: str,
    concerns: Callable[[str], bool],
    *,
    quiet_period: float,
    stop: threading.Event | None,
) -> Generator[bool]:
    """Yield for each short while whether something changed that concerns a scan; end at `stop`.

    The first item says that the directory is watched from now on.

    Raises
    ------
    MissingPackageError
        When the package watchfiles is not installed.
    WorkDirectoryError
        When the directory is missing, or the system can't watch it.
    """
    watch = load_watch(root)
    tick = min(max(int(quiet_period * 250), 10), _TICK_MS)
    is_lost = False
    while True:
        check_directory(root)
        real = os.path.realpath(root)  # as the system names it, whatever links lead there
        watched_directory = os.stat(real)
        inside = f"{real.rstrip('/')}/"
        watched = watch(
            real,
            watch_filter=None,
            debounce=tick,
            step=min(_STEP_MS, tick),
            rust_timeout=tick,
            yield_on_timeout=True,
            stop_event=stop,
            ignore_permission_denied=True,  # a scan tells of it
        )
        try:
            with closing(watched):
                for changes in watched:
                    paths = [f"{path}/".removeprefix(inside)[:-1] for _, path in changes]
                    yield is_lost or any(map(concerns, paths))
                    # Its watch has perhaps ended, or a link leads elsewhere now.
                    is_lost = "" in paths or not _is_at(root, watched_directory)
                    if is_lost:
                        break
                else:
                    return
        except OSError as error:
            is_full = error.errno == errno.ENOSPC or "watch limit" in str(error)
            raise WorkDirectoryError(root, _NO_WATCH if is_full else reason_of(error)) from error
        except RuntimeError as error:
            if "decode path" not in str(error):
                raise WorkDirectoryError(root, str(error)) from error
            is_lost = True  # a name that is not UTF-8 ends the watch
            yield True


def _is_at(root: str, directory: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(root), directory)
    except OSError:  # a parent is gone; there is another one perhaps
        return False


def load_watch(root: str) -> Callable[..., Generator[set[tuple[object, str]]]]:
    """Return the function that tells of changes below a directory. Raises MissingPackageError."""
    try:
        from watchfiles import watch
    except ImportError:
        task = f"to watch {root!r}"
        raise MissingPackageError(task, "watchfiles", "runcas[watch]") from None
    return watch  # type: ignore[return-value]  # its sets are of a narrower type


def due(
    changes: Iterable[bool],
    *,
    quiet_period: float,
    max_delay: float,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[None]:
    """Yield when a scan is due: after a quiet period, or a longest delay, since the first change.

    Parameters
    ----------
    changes
        Whether there was one, for each short while.
    """
    first: float | None = None
    last = 0.0
    for changed in changes:
        now = clock()
        if changed:
            first = now if first is None else first
            last = now
        if first is not None and (now - last >= quiet_period or now - first >= max_delay):
            first = None  # what changes during the scan is for the next one
            yield
