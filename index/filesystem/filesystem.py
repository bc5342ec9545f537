"""The filesystem: what fsspec asks of one, answered by runs."""

from __future__ import annotations

import errno
import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fsspec.core import get_compression

from index import carried
from index.errors import PastIsReadOnlyError, UnknownFileError, UnknownRunError
from index.filesystem.addresses import Address
from index.filesystem.errors import is_directory
from index.filesystem.reading import BUFFER, ReadingFileSystem
from index.filesystem.transactions import RunTransaction, record
from index.filesystem.writing import Given, WrittenFile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from index import Content, FileVersion, Run

__all__ = ["CasFileSystem"]


class CasFileSystem(ReadingFileSystem):
    """The runs of a store as an fsspec filesystem, for ``cas://`` URLs.

    `index.filesystem.addresses` has the rule for URLs. Every byte is verified before it is
    returned. Closing a file that is open for writing records a new version of it, with the
    provenance of the scope that it was opened in; see `WrittenFile` about blocks that raise.
    Directories are virtual: one exists as long as a file is in it.

    Instances of a process that open the same store share it until the process ends. Pickles and
    JSON of an instance say how to open the store, without credentials: where it is opened again,
    they are found where the service's own tools look for them.

    Parameters
    ----------
    store
        Directory of an embedded store. Without it and `index`, the store is found as `index.open`
        does.
    session
        The one session that can be seen. Others behave as if they did not exist.
    index, blobs, storage_options, cache, cache_size, create
        As in `ArtifactStore.open`, but `create` is false by default.
    """

    transaction_type = RunTransaction

    def __init__(
        self,
        store: str | os.PathLike[str] | None = None,
        session: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(store, session, **options)
        if not hasattr(self, "_together"):
            self._together = threading.local()

    def open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        cache_options: dict[str, Any] | None = None,
        compression: str | None = None,
        **options: Any,
    ) -> Any:
        """Open a file. See `fsspec.AbstractFileSystem.open`, and `WrittenFile` about writing."""
        if "b" in mode and "r" not in mode and compression is not None:
            options["through"] = get_compression(path, compression)
            compression = None
        return super().open(path, mode, block_size, cache_options, compression, **options)

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        cache_options: dict[str, Any] | None = None,
        through: str | None = None,
        **_: Any,
    ) -> Any:
        address = Address.parse(path)
        if mode == "rb":
            return self.open_to_read(path, address, block_size or BUFFER)
        if mode not in ("wb", "xb", "ab"):
            raise ValueError(
                f"mode is r, w, x or a, with b or t, not {mode!r}; write a new version"
            )
        current = self._check_writable(path, address)
        expected = None
        if mode == "xb":
            expected = 0
            if current is not None:
                raise FileExistsError(errno.EEXIST, "there is such a file", f"cas://{path}")
        elif mode == "ab":
            expected = 0 if current is None else current.version
        publish = carried(self._record_one) if autocommit else None
        file = WrittenFile(address, publish, expected_version=expected, compression=through)
        if mode == "ab" and current is not None:
            with self.find_run(address).open(address.path, version=current.version) as before:
                while piece := before.read(1 << 20):
                    file.write(piece)
        return file

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        """Record bytes as a file; with mode ``"create"``, only if there is none."""
        self._give(self._strip_protocol(path), value, create=mode == "create")

    def put_file(
        self, lpath: str, rpath: str, callback: Any = None, mode: str = "overwrite", **_: Any
    ) -> None:
        """Record a local file, with its mode and time."""
        if os.path.isdir(lpath):  # noqa: PTH112 - what fsspec passes
            return
        self._give(self._strip_protocol(rpath), lpath, create=mode == "create")

    def cp_file(self, path1: str, path2: str, **_: Any) -> None:
        """Record the bytes of a file under another path, without reading them."""
        name = self._strip_protocol(path1)
        source = Address.parse(name)
        target = self._strip_protocol(path2)
        with self._errors(name):
            try:
                version = self._version(source)
            except (UnknownFileError, ValueError):
                if self.isdir(name):
                    return  # it comes into being with its first file
                raise
        if version.session == Address.parse(target).session:
            self._give(target, version)
            return
        with self.open_to_read(name, source) as stream, self.open(target, "wb") as copy:
            while piece := stream.read(1 << 20):
                copy.write(piece)

    def put(self, *args: Any, **options: Any) -> None:
        """Record local files, in one snapshot of each run."""
        with self._in_one():
            super().put(*args, **options)

    def copy(self, *args: Any, **options: Any) -> None:
        """Record the bytes of files under other paths, in one snapshot of each run."""
        with self._in_one():
            super().copy(*args, **options)

    def pipe(self, *args: Any, **options: Any) -> None:
        """Record bytes as files, in one snapshot of each run."""
        with self._in_one():
            super().pipe(*args, **options)

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:
        """End the present versions of files, in one snapshot of each run. History stays."""
        by_run: dict[Run, list[str]] = {}
        for name in self.expand_path(path, recursive=recursive, maxdepth=maxdepth):
            address = Address.parse(name)
            self._check_run(name, address)
            if address.path and not self.isdir(name):
                by_run.setdefault(self.find_run(address), []).append(address.path)
            elif not recursive:
                raise is_directory(name)
        for run, paths in by_run.items():
            with self._errors(run.id):
                run.remove_many(paths)

    def rm_file(self, path: str) -> None:
        """End the present version of a file."""
        self.rm(path)

    def mkdir(self, path: str, create_parents: bool = True, **_: Any) -> None:
        """Do nothing: a directory comes into being with its first file.

        Raises FileExistsError if there is something already.
        """
        self.makedirs(path, exist_ok=False)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Do nothing, as `mkdir`; with `exist_ok`, a directory may be there."""
        name = self._strip_protocol(path)
        if self.exists(name) and not (exist_ok and self.isdir(name)):
            raise FileExistsError(errno.EEXIST, "there is one already", f"cas://{name}")

    def rmdir(self, path: str) -> None:
        """Do nothing: a directory ends with its last file. Raises OSError if there are files."""
        if self.exists(path):
            raise OSError(errno.ENOTEMPTY, "there are files in it", str(path))

    def _record_one(self, file: WrittenFile) -> None:
        record([file], self.find_run)

    def _give(self, name: str, content: Content, *, create: bool = False) -> None:
        """Record a content now, or with what is recorded together with it."""
        address = Address.parse(name)
        current = self._check_writable(name, address)
        if create and current is not None:
            raise FileExistsError(errno.EEXIST, "there is such a file", f"cas://{name}")
        given = Given(address, content, expected_version=0 if create else None)
        pending = getattr(self._together, "pending", None)
        if self._intrans:
            self.transaction.files.append(given)
        elif pending is not None:
            pending.append(given)
        else:
            record([given], self.find_run)

    @contextmanager
    def _in_one(self) -> Iterator[None]:
        """Record what this thread gives in the block together, unless the block raises."""
        if getattr(self._together, "pending", None) is not None:
            yield
            return
        pending = self._together.pending = []
        try:
            yield
        finally:
            self._together.pending = None
        record(pending, self.find_run)

    def _check_run(self, name: str, address: Address) -> None:
        """Raise an error if nothing can be written to a URL, whatever is there."""
        if address.is_read_only:
            raise PastIsReadOnlyError(f"cas://{name}")
        with self._errors(name):
            self.find_run(address)  # raises if it names none

    def _check_writable(self, name: str, address: Address) -> FileVersion | None:
        """Return the file that is at a URL now. Raises if none can be written there."""
        self._check_run(name, address)
        if not address.path:
            raise is_directory(name)
        try:
            found = self._get(address)
            if found is None and self._is_directory(address):
                raise is_directory(name)
        except UnknownRunError:
            return None  # the first file makes it
        return found
