"""The directory that a restore writes to, and what its threads share of it."""

from __future__ import annotations

import os
from contextlib import closing, contextmanager, suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Self

from index.domain.names import to_native
from index.errors import RestoreFailedError
from index.reading.new_files import CREATE
from index.reading.staging import Staging, remove_abandoned
from index.reading.walker import OPEN_DIRECTORY, Walker, entries_of, failing, split

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Destination"]


class Destination:
    """A directory to write to, made if it is missing. Its walkers serve several threads.

    With `dry_run` nothing is made or removed. A missing directory then counts as an empty one.
    """

    def __init__(self, path: str, *, threads: int, dry_run: bool = False) -> None:
        self._path = path
        self._threads = threads
        self._dry_run = dry_run
        self._walkers: SimpleQueue[Walker] = SimpleQueue()
        self._root = -1
        self.is_empty = False
        """Whether the directory was empty when it was opened."""
        self.is_staged = False
        """Whether walkers write into the hidden staging directory."""
        self.replaceable: set[str] = set()
        """Paths of what is in the way and may be replaced."""

    def __enter__(self) -> Self:
        with failing(self._path):
            try:
                if not self._dry_run:
                    os.makedirs(self._path, exist_ok=True)
                self._root = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except (FileExistsError, NotADirectoryError) as error:
                reason = "a file is in its place; give a directory"
                raise RestoreFailedError(self._path, reason) from error
            except FileNotFoundError:
                if not self._dry_run:
                    raise
                self.is_empty = True
            else:
                self._look_in()
        self._add_walkers(self._root)
        return self

    def __exit__(self, *error: object) -> None:
        self._close_walkers()
        if self._root >= 0:
            os.close(self._root)

    def _look_in(self) -> None:
        try:
            if self._dry_run:
                self.is_empty = not entries_of(self._root)
            else:
                self.is_empty = remove_abandoned(self._root)
        except BaseException:
            os.close(self._root)
            raise

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

    def find_clash(self, pairs: Sequence[tuple[str, str]]) -> tuple[str, str] | None:
        """Return the first pair of paths that the filesystem takes for one.

        Both are made in a hidden directory, where nothing else is. A path that ends with a slash is
        that of a directory.
        """
        if not pairs:
            return None
        with failing(self._path):
            staging = Staging(self._root)
            try:
                for number, pair in enumerate(pairs):
                    os.mkdir(str(number), dir_fd=staging.fd)
                    fd = os.open(str(number), OPEN_DIRECTORY, dir_fd=staging.fd)
                    try:
                        if _clash(pair, fd):
                            return pair
                    finally:
                        os.close(fd)
            finally:
                staging.discard()
        return None

    def _add_walkers(self, root: int) -> None:
        for _ in range(self._threads):
            self._walkers.put(Walker(root, self.replaceable))

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


def _clash(pair: tuple[str, str], root: int) -> bool:
    """Make two files or directories; return whether that fails because they are one."""
    with closing(Walker(root)) as walker:
        for path in pair:
            directory, name = split(path)
            try:
                fd = walker.enter(to_native(directory), make=True)
                if name:
                    os.close(os.open(to_native(name), CREATE, 0o600, dir_fd=fd))
            except (FileExistsError, NotADirectoryError):
                return True
    return False
