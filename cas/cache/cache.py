"""A local cache of the parts of remote packs that were read, in a directory of limited size.

    <root>/CACHEDIR.TAG          makes backup programs skip the cache
    <root>/runcas-v1/size        see `cas.cache.size`
    <root>/runcas-v1/tmp/        files being written
    <root>/runcas-v1/packs/ab/<name of pack>/<start>-<stop>
                                 these bytes of the pack, as stored
    <root>/runcas-v1/files/, lent/  see `cas.cache.files`

The name of a pack determines its content and is never reused. So cached parts never become stale,
and stores may share a cache. A file is the result of one request: mostly 8 MiB with hundreds of
blobs, or a window around a small blob (`cas.windows`). The directories are the only index, and
readers take no locks. A file appears completely, by renaming. If it is evicted during a read, that
read can still finish.

**The cache is not trusted.** `cas.reader` verifies a blob by its digest each time it comes from the
cache. So the cache syncs nothing: a file that was lost in a power failure, damaged or put there by
someone else is dropped and fetched again. The result of a request for known blobs is cached once
all of them have been verified; a window is cached as it came.

**A failure of the cache is never a failure of a read.** A file that can't be read counts as
missing, and one that can't be written is not cached. You may delete the directory at any time.

The caller decides who may read a blob, before it asks the cache for a location.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import threading
import uuid
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cas.backends.posix import PosixCalls
from cas.cache.extents import Extent, Extents
from cas.cache.size import CacheSize
from cas.errors import CacheUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cas.digest import Buffer, Digest

__all__ = ["DEFAULT_CACHE_SIZE", "PackCache"]

DEFAULT_CACHE_SIZE: Final = 10 << 30
"""Default limit in bytes: some runs of a few GB on a laptop. About 1,300 requests fill it."""

_VERSION: Final = "runcas-v1"
_TMP: Final = "tmp"
_TAG_NAME: Final = "CACHEDIR.TAG"
_OURS: Final = re.compile(r"runcas-v\d+|CACHEDIR\.TAG|lost\+found")
"""Names allowed in the directory of a cache; ``lost+found`` exists at the root of a volume."""

_TAG: Final = b"""Signature: 8a477f597d28d172789f06886806bc55
# This directory holds copies that runcas fetches again when they are gone.
# About cache directory tags, see https://bford.info/cachedir/
"""
_BOUNDS: Final = re.compile(r"(\d{1,12})-(\d{1,12})", re.ASCII)
_LISTED_PACKS: Final = 256
"""Number of packs whose extents stay in memory."""

_ATTEMPTS: Final = 5
"""Attempts to create the directory while someone deletes it."""

_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_log: Final = logging.getLogger("cas.cache")


class PackCache:
    """Parts of packs in a local directory. Safe for several threads, processes and stores.

    Parameters
    ----------
    root
        A directory that is missing, empty, or a cache.
    limit
        Largest size of the files in bytes. `cas.cache.size` describes how exact it is.

    Raises
    ------
    CacheUnavailableError
        When the directory can't be written to, or contains other files.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        limit: int = DEFAULT_CACHE_SIZE,
        calls: PosixCalls | None = None,
    ) -> None:
        if limit <= 0:
            raise ValueError(f"a cache of {limit} bytes keeps nothing; give a larger size")
        self.root: Final = Path(root).absolute()
        self.limit: Final = limit
        self._calls = calls or PosixCalls()
        self._packs = f"{self.root}/{_VERSION}/packs"
        self._tmp = f"{self.root}/{_VERSION}/{_TMP}"
        self._size = CacheSize(f"{self.root}/{_VERSION}", limit, self._calls)
        self._lock = threading.Lock()
        self._listed: OrderedDict[Digest, tuple[int, Extents]] = OrderedDict()
        self._has_warned = False
        self._prepare()

    @property
    def used(self) -> int:
        """Size of the cache in bytes, as far as known without counting the files."""
        return self._size.used()

    def extents(self, pack: Digest) -> Extents:
        """Return the cached parts of a pack that this process knows."""
        folder = self._folder(pack)
        with self._lock:
            stamp, extents = self._listed.get(pack, (-1, None))
            try:
                changed = self._calls.modified(folder)
                if extents is None or stamp != changed:
                    extents = Extents(pack, self._list(folder))
                    stamp = changed
            except OSError:
                stamp, extents = -1, Extents(pack)
            self._remember(pack, stamp, extents)
            return extents

    def read(self, extent: Extent, start: int, stop: int) -> bytes | None:
        """Return the bytes of a pack from `start` to before `stop`; None if they are gone.

        They are not verified. The whole extent counts as used.
        """
        try:
            fd = self._calls.open_read(self._path(extent))
            try:
                whole = self._calls.size(fd) == extent.size
                data = self._calls.pread(fd, stop - start, start - extent.start)
                with suppress(OSError):  # a reader without write permission still reads
                    self._calls.touch(fd)
            finally:
                self._calls.close(fd)
        except OSError:
            whole, data = False, b""
        if whole and len(data) == stop - start:
            return data
        self.forget(extent)
        return None

    def keep(self, pack: Digest, start: int, data: Buffer) -> None:
        """Cache the bytes of a pack from `start` on if they fit; evict other parts for them.

        Errors of the directory are logged, never raised.
        """
        extent = Extent(pack, start, start + len(data))
        if not extent.size or not self._size.allows(extent.size):
            return
        try:
            staged = self.stage((data,), extent.size)
            try:
                self._move(staged, extent)
            except BaseException:
                self._size.give_back(extent.size)
                with suppress(OSError):
                    self._calls.unlink(staged)
                raise
            self._add(extent)
        except OSError as error:
            self._warn(error)

    def folder(self, name: str) -> Path:
        """Return a directory of the cache; create it if it is missing."""
        path = self.root / _VERSION / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def stage(self, pieces: Iterable[Buffer], size: int, *, wait: bool = False) -> str:
        """Write a file that counts towards the size; return its path. The caller moves it away.

        With `wait`, other processes count it as a whole from the beginning. Raises OSError, and
        what `pieces` raises. Then there is no file.
        """
        self._make_room(size, wait=wait)
        staged = f"{self._tmp}/{uuid.uuid4().hex}"
        try:
            fd = self._calls.create_exclusive(staged)
            try:
                self._size.refuse_to_fill_disk(fd, size)
                if wait:
                    self._calls.resize(fd, size)
                for piece in pieces:
                    view = memoryview(piece)
                    while view:
                        view = view[self._calls.write(fd, view) :]
            finally:
                self._calls.close(fd)
        except BaseException:
            self._size.give_back(size)
            with suppress(OSError):
                self._calls.unlink(staged)
            raise
        return staged

    def forget(self, extent: Extent) -> None:
        """Remove a part that is damaged or missing."""
        with suppress(OSError):
            self._calls.unlink(self._path(extent))
        with self._lock:
            _, extents = self._listed.get(extent.pack, (-1, None))
        if extents is not None:
            extents.drop(extent)

    def _make_room(self, size: int, *, wait: bool) -> None:
        try:
            self._size.make_room(size, wait=wait)
        except FileNotFoundError:  # someone has deleted the cache
            self._make_directories()
            self._size.make_room(size, wait=wait)

    def _add(self, extent: Extent) -> None:
        with self._lock:
            _, extents = self._listed.get(extent.pack, (-1, None))
            if extents is not None:
                extents.add(extent.start, extent.stop)
                # Parts that another process has added since the listing are found later.
                stamp = self._calls.modified(self._folder(extent.pack))
                self._remember(extent.pack, stamp, extents)

    def _move(self, staged: str, extent: Extent) -> None:
        target = self._path(extent)
        try:
            self._calls.rename(staged, target)
        except FileNotFoundError:
            folder = os.path.dirname(target)
            for missing in (os.path.dirname(folder), folder):
                with suppress(FileExistsError):
                    self._calls.mkdir(missing)
            self._calls.rename(staged, target)

    def _list(self, folder: str) -> list[tuple[int, int]]:
        found = []
        for entry in self._calls.list_directory(folder):
            bounds = _BOUNDS.fullmatch(entry.name)
            if bounds and entry.is_file(follow_symlinks=False):
                found.append((int(bounds[1]), int(bounds[2])))
        return found

    def _remember(self, pack: Digest, stamp: int, extents: Extents) -> None:
        self._listed[pack] = stamp, extents
        self._listed.move_to_end(pack)
        while len(self._listed) > _LISTED_PACKS:
            self._listed.popitem(last=False)

    def _folder(self, pack: Digest) -> str:
        name = str(pack)
        return f"{self._packs}/{name[:2]}/{name}"

    def _path(self, extent: Extent) -> str:
        return f"{self._folder(extent.pack)}/{extent.start}-{extent.stop}"

    def _warn(self, error: OSError) -> None:
        if not self._has_warned:
            self._has_warned = True
            _log.warning("the cache in %s keeps no more for now: %s", self.root, error.strerror)

    def _prepare(self) -> None:
        """Create the directory and check that it can be used."""
        for attempt in range(_ATTEMPTS):
            try:
                self._refuse_other_files()
                self._make_directories()
                probe = f"{self._tmp}/{uuid.uuid4().hex}"
                self._calls.close(self._calls.create_exclusive(probe))
                self._calls.unlink(probe)
            except OSError as error:
                if error.errno in _FULL:  # a full disk must not make this or a read fail
                    return
                if error.errno == errno.ENOENT and attempt < _ATTEMPTS - 1:
                    continue
                reason = error.strerror or str(error)
                raise CacheUnavailableError(str(self.root), reason) from error
            return

    def _refuse_other_files(self) -> None:
        # Eviction deletes files here, and backup programs skip directories with the tag.
        try:
            names = {entry.name for entry in self._calls.list_directory(str(self.root))}
        except FileNotFoundError:
            return
        if foreign := {name for name in names if not _OURS.fullmatch(name)}:
            reason = f"it holds other files, such as {min(foreign)!r}"
            raise CacheUnavailableError(str(self.root), reason)

    def _make_directories(self) -> None:
        os.makedirs(os.path.dirname(self.root), exist_ok=True)
        # Other users must not read here what they can't read in the remote store.
        with suppress(FileExistsError):
            self._calls.mkdir(str(self.root), 0o700)
        with suppress(FileExistsError):
            fd = self._calls.create_exclusive(f"{self.root}/{_TAG_NAME}")
            try:
                self._calls.write(fd, _TAG)
            finally:
                self._calls.close(fd)
        for folder in (f"{self.root}/{_VERSION}", self._packs, self._tmp):
            with suppress(FileExistsError):
                self._calls.mkdir(folder)
