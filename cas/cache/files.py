"""Blobs as local, read-only files with names, in the directory of a cache.

    <root>/runcas-v1/files/ab/<digest>   the bytes of a blob
    <root>/runcas-v1/lent/<id>/lock      locked by the process that was lent files
    <root>/runcas-v1/lent/<id>/<n>/…     links to them, with the names that were asked for

`cas.cache.cache` describes the directory; the files count towards its size. A file that is linked
from ``lent`` is in use and is not evicted. A process that was killed leaves its links behind; the
next one that is lent files removes them. Files are verified by their digest each time they are
lent.
"""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import threading
import uuid
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cas.backends.posix import PosixCalls
from cas.digest import Digest, Hasher
from cas.errors import CacheUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from cas.cache.cache import PackCache
    from cas.digest import Buffer

__all__ = ["LocalFiles"]

_DEFAULT_ROOT: Final = "~/.cache/runcas"
_READ_ONLY: Final = 0o444
_READ_SIZE: Final = 1 << 20


class LocalFiles:
    """Blobs that are lent as files until `close`. Safe for use by several threads.

    Creating it does nothing yet.

    Parameters
    ----------
    root
        Directory of a cache; None for ``~/.cache/runcas``.
    limit
        Largest size of the cache in bytes; None for `cas.cache.cache.DEFAULT_CACHE_SIZE`.
    """

    def __init__(
        self, root: str | os.PathLike[str] | None = None, limit: int | None = None
    ) -> None:
        self._root = root
        self._limit = limit
        self._lock = threading.Lock()
        self._calls = PosixCalls()
        self._numbers = itertools.count(1)
        self._lent: tuple[int, PackCache, Path, int] | None = None
        """The process, the cache, the directory of its links, and the lock of that."""

    def lend(
        self, named: Mapping[str, tuple[Digest, int]], read: Callable[[Digest], Iterable[Buffer]]
    ) -> Path:
        """Return a directory with read-only files that hold blobs. They stay until `close`.

        Parameters
        ----------
        named
            Paths in the directory, with ``/``, and the blob of each with its size. The caller has
            checked them.
        read
            Yields the verified bytes of a blob.

        Raises
        ------
        CacheUnavailableError
            When the directory can't be used, or is full.
        """
        try:
            return self._lend(named, read)
        except OSError as error:
            lent = self._lent
            if lent is None or lent[2].exists():
                raise self._unavailable(error) from error
            self.close()  # somebody has deleted the cache
        try:
            return self._lend(named, read)
        except OSError as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: OSError) -> CacheUnavailableError:
        root = _DEFAULT_ROOT if self._root is None else str(self._root)
        reason = error.strerror or str(error)
        if error.errno == errno.EDQUOT:
            reason = "its limit is reached by files in use, which closing the store gives back"
        return CacheUnavailableError(root, reason)

    def _lend(
        self, named: Mapping[str, tuple[Digest, int]], read: Callable[[Digest], Iterable[Buffer]]
    ) -> Path:
        cache, folder = self._prepared()
        target = folder / str(next(self._numbers))
        target.mkdir()
        for path, (digest, size) in named.items():
            place = target / path
            place.parent.mkdir(parents=True, exist_ok=True)
            if not self._link_kept(cache, digest, place):
                staged = Path(cache.stage(read(digest), size, wait=True))
                staged.chmod(_READ_ONLY)
                self._link(staged, place)
                staged.replace(self._kept(cache, digest))
        return target

    def close(self) -> None:
        """Take back all files that were lent; idempotent."""
        with self._lock:
            lent, self._lent = self._lent, None
        if lent is not None and lent[0] == os.getpid():  # not those of a process that forked
            shutil.rmtree(lent[2], ignore_errors=True)
            self._calls.close(lent[3])

    def _prepared(self) -> tuple[PackCache, Path]:
        with self._lock:
            if self._lent is None or self._lent[0] != os.getpid():
                from cas.cache.cache import DEFAULT_CACHE_SIZE, PackCache

                root = Path(_DEFAULT_ROOT).expanduser() if self._root is None else self._root
                cache = PackCache(root, limit=self._limit or DEFAULT_CACHE_SIZE)
                lent = cache.folder("lent")
                self._take_back(lent)
                name = uuid.uuid4().hex
                made = lent / f".{name}"  # which nobody takes back before it is locked
                made.mkdir()
                lock = self._calls.create_exclusive(str(made / "lock"))
                with suppress(OSError):  # without locks, nobody takes anything back
                    self._calls.lock_exclusive(lock, wait=False)
                folder = made.rename(lent / name)
                self._lent = os.getpid(), cache, folder, lock
            return self._lent[1], self._lent[2]

    def _take_back(self, lent: Path) -> None:
        """Remove the links of processes that have ended."""
        for folder in lent.glob("[!.]*"):
            with suppress(OSError):  # it is in use, or was removed meanwhile
                lock = self._calls.open_read(str(folder / "lock"))
                try:
                    self._calls.lock_exclusive(lock, wait=False)
                    shutil.rmtree(folder, ignore_errors=True)
                finally:
                    self._calls.close(lock)

    def _link_kept(self, cache: PackCache, digest: Digest, place: Path) -> bool:
        """Link a blob that is there already, and whole. Return whether it is."""
        kept = self._kept(cache, digest)
        try:
            self._link(kept, place)  # from now on it is not evicted
        except FileNotFoundError:
            return False
        if _digest_of(place) == digest:
            with suppress(OSError):  # the time of its last use
                os.utime(kept)
            return True
        kept.unlink(missing_ok=True)
        place.unlink()
        return False

    def _kept(self, cache: PackCache, digest: Digest) -> Path:
        folder = cache.folder("files") / str(digest)[:2]
        folder.mkdir(exist_ok=True)
        return folder / str(digest)

    def _link(self, source: Path, place: Path) -> None:
        try:
            os.link(source, place)
        except FileNotFoundError:
            raise
        except OSError:  # the filesystem has no links, or no more of them
            shutil.copyfile(source, place)
            place.chmod(_READ_ONLY)


def _digest_of(path: Path) -> Digest:
    whole = Hasher()
    with path.open("rb") as file:
        while piece := file.read(_READ_SIZE):
            whole.update(piece)
    return whole.digest()
