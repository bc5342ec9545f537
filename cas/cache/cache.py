"""A local copy of those parts of remote packs that were read, in a directory of limited size.

    <root>/CACHEDIR.TAG          tells backup programs to pass it by
    <root>/runcas-v1/size        see `cas.cache.size`
    <root>/runcas-v1/tmp/        files being written
    <root>/runcas-v1/packs/ab/<name of pack>/<start>-<stop>
                                 those bytes of the pack, as they are stored

A pack's name vouches for its content and never comes back, so a part of it is the same wherever
and whenever it is read: nothing becomes stale, and stores may share a cache. A file is what one
request brought, mostly 8 MiB with hundreds of blobs. There is no index beside the directories, and
nothing is locked for reading: a file appears whole, by renaming, and one that is evicted while
somebody reads it stays readable for him.

**Nothing here is trusted.** What a request brought is kept once every blob that was asked for has
been verified, and `cas.reader` verifies a blob again, by its digest, each time it comes out of the
cache. So nothing is synced: a file that lost its bytes with the power, that was damaged, or that
somebody else put there is forgotten, and fetched again.

**No failure of the cache is a failure of a read.** Whatever can't be read is not there, whatever
can't be written is not kept. The directory may be deleted at any time.

Who may read which blob is decided by whoever knows its location, before the cache is asked.
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
    from cas.digest import Buffer, Digest

__all__ = ["DEFAULT_CACHE_SIZE", "PackCache"]

DEFAULT_CACHE_SIZE: Final = 10 << 30
"""Bytes: some runs of a few GB, on the disk of a laptop. About 1,300 requests fill it."""

_VERSION: Final = "runcas-v1"
_TMP: Final = "tmp"
_TAG_NAME: Final = "CACHEDIR.TAG"
_OURS: Final = re.compile(r"runcas-v\d+|CACHEDIR\.TAG|lost\+found")
"""What may be in the directory of a cache; ``lost+found`` is in that of a volume of its own."""

_TAG: Final = b"""Signature: 8a477f597d28d172789f06886806bc55
# This directory holds copies that runcas fetches again when they are gone.
# About cache directory tags, see https://bford.info/cachedir/
"""
_BOUNDS: Final = re.compile(r"(\d{1,12})-(\d{1,12})", re.ASCII)
_LISTED_PACKS: Final = 256
"""Packs whose extents are kept in memory."""

_ATTEMPTS: Final = 5
"""How often the directory is made again because somebody deletes it just now."""

_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_log: Final = logging.getLogger(__name__)


class PackCache:
    """Parts of packs in a local directory. Safe for several threads, processes and stores.

    Parameters
    ----------
    root
        A directory that is new, empty, or a cache.
    limit
        Bytes that the files may take; `cas.cache.size` says how exactly.

    Raises
    ------
    CacheUnavailableError
        When the directory can't be written to or holds other files.
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
        """Bytes that the cache takes, as far as is known without counting."""
        return self._size.used()

    def extents(self, pack: Digest) -> Extents:
        """Return which parts of a pack there are, as far as this process has noticed."""
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
                with suppress(OSError):  # whoever may not say that he used it reads it all the same
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
        """Keep what was read of a pack from `start` on, if there is room; evict other parts for it.

        Nothing is raised for whatever goes wrong with the directory.
        """
        extent = Extent(pack, start, start + len(data))
        if not extent.size or not self._size.allows(extent.size):
            return
        try:
            self._make_room(extent.size)
            try:
                self._write(extent, data)
            except BaseException:
                self._size.give_back(extent.size)
                raise
            self._add(extent)
        except OSError as error:
            self._warn(error)

    def forget(self, extent: Extent) -> None:
        """Remove a part that turned out to be damaged or gone."""
        with suppress(OSError):
            self._calls.unlink(self._path(extent))
        with self._lock:
            _, extents = self._listed.get(extent.pack, (-1, None))
        if extents is not None:
            extents.drop(extent)

    def _make_room(self, size: int) -> None:
        try:
            self._size.make_room(size)
        except FileNotFoundError:  # somebody has deleted the cache
            self._make_directories()
            self._size.make_room(size)

    def _add(self, extent: Extent) -> None:
        with self._lock:
            _, extents = self._listed.get(extent.pack, (-1, None))
            if extents is not None:
                extents.add(extent.start, extent.stop)
                # What another process has added since the listing is noticed a little later.
                stamp = self._calls.modified(self._folder(extent.pack))
                self._remember(extent.pack, stamp, extents)

    def _write(self, extent: Extent, data: Buffer) -> None:
        staged = f"{self._tmp}/{uuid.uuid4().hex}"
        fd = self._calls.create_exclusive(staged)
        try:
            try:
                self._size.refuse_to_fill_disk(fd, len(data))
                view = memoryview(data)
                while view:
                    view = view[self._calls.write(fd, view) :]
            finally:
                self._calls.close(fd)
            self._move(staged, extent)
        except BaseException:
            with suppress(OSError):
                self._calls.unlink(staged)
            raise

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
        """Make the directory and find out whether it can be used."""
        for attempt in range(_ATTEMPTS):
            try:
                self._refuse_other_files()
                self._make_directories()
                probe = f"{self._tmp}/{uuid.uuid4().hex}"
                self._calls.close(self._calls.create_exclusive(probe))
                self._calls.unlink(probe)
            except OSError as error:
                if error.errno in _FULL:  # a full disk ends neither this nor a read
                    return
                if error.errno == errno.ENOENT and attempt < _ATTEMPTS - 1:
                    continue
                reason = error.strerror or str(error)
                raise CacheUnavailableError(str(self.root), reason) from error
            return

    def _refuse_other_files(self) -> None:
        # Eviction deletes files here, and backup programs pass by what has the tag.
        try:
            names = {entry.name for entry in self._calls.list_directory(str(self.root))}
        except FileNotFoundError:
            return
        if foreign := {name for name in names if not _OURS.fullmatch(name)}:
            reason = f"it holds other files, such as {min(foreign)!r}"
            raise CacheUnavailableError(str(self.root), reason)

    def _make_directories(self) -> None:
        os.makedirs(os.path.dirname(self.root), exist_ok=True)
        # Nobody else is to read here what he may not read where it comes from.
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
