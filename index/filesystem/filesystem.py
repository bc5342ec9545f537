"""The filesystem: what fsspec asks of one, answered by runs."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from fsspec.core import get_compression

from index import carried
from index.errors import PastIsReadOnlyError, UnknownFileError, UnknownRunError
from index.filesystem.addresses import Address, quoted
from index.filesystem.around import Around
from index.filesystem.errors import is_directory, is_there
from index.filesystem.reading import BUFFER, ReadingFileSystem
from index.filesystem.transactions import RunTransaction, record
from index.filesystem.writing import Given, WrittenFile, WrittenText

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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
    they are found where the service's own tools look for them. A pickle also carries the enclosing
    `provenance` scope of the thread that pickles, for what a worker process writes. Pools
    pickle in a thread of their own: give them `provenance`.

    Parameters
    ----------
    store
        Directory of an embedded store. Without it and `index`, the store is found as `index.open`
        does.
    session
        The one session that can be seen. Others behave as if they did not exist.
    provenance
        The arguments of `index.provenance` for what is written outside of any scope, as a dict.
    index, blobs, storage_options, cache, cache_size, create
        As in `ArtifactStore.open`, but `create` is false by default.
    """

    transaction_type = RunTransaction

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
        if "r" in mode:
            return super().open(path, mode, block_size, cache_options, compression, **options)
        if "b" not in mode:
            names = ("encoding", "errors", "newline")
            text = {name: options.pop(name) for name in names if name in options}
            binary = f"{mode.replace('t', '')}b"
            return WrittenText(
                self.open(path, binary, block_size, cache_options, compression, **options), **text
            )
        if compression is not None:
            options["through"] = get_compression(path, compression)
        return super().open(path, mode, block_size, cache_options, **options)

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
                raise is_there(path)
        elif mode == "ab":
            expected = 0 if current is None else current.version
        with self.scope():
            publish = carried(self._record_one) if autocommit else None
        run = self.find_run(address)
        with self._errors(path), ExitStack() as stack:
            before = None
            if mode == "ab" and current is not None:
                if through == "zip":
                    raise ValueError("a zip archive can't be appended to; write it anew")
                stream = run.open(address.path, version=current.version)
                before = stack.enter_context(stream)
            return WrittenFile(
                address,
                run,
                publish,
                expected_version=expected,
                before=before,
                compression=through,
            )

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        """Record bytes as a file; with mode ``"create"``, only if there is none."""
        self._give(self._strip_protocol(path), bytes(value), create=_is_new(mode))

    def put_file(
        self, lpath: str, rpath: str, callback: Any = None, mode: str = "overwrite", **_: Any
    ) -> None:
        """Record a local file, with its mode and time."""
        if os.path.isdir(lpath):  # noqa: PTH112 - what fsspec passes
            return
        os.stat(lpath)  # noqa: PTH116 - raises what fsspec's users expect
        create = _is_new(mode)
        name = self._strip_protocol(rpath)
        if self._known is not None:
            name = _with_local_names(name, lpath)
        if self.is_in_transaction:  # it is recorded as it is now
            with open(lpath, "rb") as source, self.open(name, "xb" if create else "wb") as target:  # noqa: PTH123
                shutil.copyfileobj(source, target, 1 << 20)
            return
        self._give(name, lpath, create=create)

    def cp_file(self, path1: str, path2: str, **_: Any) -> None:
        """Record the bytes of a file under another path, without reading them.

        Bytes from another session are read, and each file is a snapshot of its own.
        """
        name = self._strip_protocol(path1)
        source = Address.parse(name)
        target = self._strip_protocol(path2)
        known = self._known or {}
        with self._errors(name):
            try:
                version = known[name] if name in known else self._version(source)
            except (UnknownFileError, ValueError):
                if not self.isdir(name):
                    raise
                version = None
        if version is None:
            return  # a directory, which comes into being with its first file
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
        with self._at_once():
            for name in self.expand_path(path, recursive=recursive, maxdepth=maxdepth):
                address = Address.parse(name)
                self._check_run(name, address)
                known = self._known or {}
                with self._errors(name):
                    if address.path and (known[name] if name in known else self._get(address)):
                        by_run.setdefault(self.find_run(address), []).append(address.path)
                    elif not recursive:
                        self._list(name)  # raises if it is not there
                        raise is_directory(name)
        for run, paths in by_run.items():
            with self._errors(run.id), self.scope():
                run.remove_many(paths)

    def mv(self, path1: Any, path2: Any, *args: Any, **options: Any) -> None:
        """Copy files by their digest, and end the versions at their old paths.

        Raises ValueError in a transaction, and for a directory that is to go into itself.
        """
        if self.is_in_transaction:
            raise ValueError("a move can't wait for the end of a transaction; move before or after")
        if isinstance(path1, str) and isinstance(path2, str):
            old, new = (Address.parse(self._strip_protocol(path)) for path in (path1, path2))
            if old == new:
                return
            if f"{new}/".startswith(f"{old}/"):
                raise ValueError(f"cas://{old} can't be moved into itself; give another place")
        super().mv(path1, path2, *args, **options)

    def start_transaction(self) -> Any:
        """Begin a transaction. Raises ValueError if one is open already."""
        self.transaction.start()
        return self.transaction

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
        if Address.parse(name).is_read_only:
            raise PastIsReadOnlyError(f"cas://{name}")
        if self.exists(name) and not (exist_ok and self.isdir(name)):
            raise FileExistsError(errno.EEXIST, "there is one already", f"cas://{name}")

    def rmdir(self, path: str) -> None:
        """Do nothing: a directory ends with its last file. Raises OSError if there are files."""
        if self.exists(path):
            raise OSError(errno.ENOTEMPTY, "there are files in it", str(path))

    def _record_one(self, file: WrittenFile) -> None:
        record([file])

    def _give(self, name: str, content: Content, *, create: bool = False) -> None:
        """Record a content now, or with what is recorded together with it."""
        address = Address.parse(name)
        self._check_run(name, address)
        if not address.path:
            raise is_directory(name)
        expected = 0 if create else None
        given = Given(address, self.find_run(address), content, expected_version=expected)
        pending = getattr(self._block, "pending", None)
        if pending is None:
            self._record_given([given])
        else:
            pending.append(given)

    @contextmanager
    def _in_one(self) -> Iterator[None]:
        """Record what this thread gives in the block together, unless the block raises."""
        if getattr(self._block, "pending", None) is not None:
            yield
            return
        pending = self._block.pending = []
        try:
            with self._at_once():
                yield
        finally:
            self._block.pending = None
        self._record_given(pending)

    def _record_given(self, files: Sequence[Given]) -> None:
        """Check that files can be where they are to be; record them, or leave it to the end."""
        by_run: dict[Run, list[Given]] = {}
        for each in files:
            by_run.setdefault(each.run, []).append(each)
        for run, those in by_run.items():
            around = Around(run, [each.address.path for each in those])
            for each in those:
                found = self._check_writable(str(each.address), each.address, around)
                if found is not None and each.expected_version == 0:
                    raise is_there(str(each.address))
        if self._intrans:
            self.transaction.files.extend(files)
            return
        with self.scope():
            record(files)

    def _check_run(self, name: str, address: Address) -> None:
        """Raise an error if nothing can be written to a URL, whatever is there."""
        if address.is_read_only:
            raise PastIsReadOnlyError(f"cas://{name}")
        with self._errors(name):
            self.find_run(address)  # raises if it names none

    def _check_writable(
        self, name: str, address: Address, around: Around | None = None
    ) -> FileVersion | None:
        """Return the file that is at a URL now. Raises if none can be written there."""
        self._check_run(name, address)
        if not address.path:
            raise is_directory(name)
        run = self.find_run(address)
        try:
            around = around or Around(run)
            found = around.find(address.path)
            if found is None and around.has_below(address.path):
                raise is_directory(name)
            above = address.path
            while found is None and (above := above.rpartition("/")[0]):
                if around.find(above) is not None:
                    sentence = f"{above!r} is a file; remove it before the directory is written"
                    raise NotADirectoryError(errno.ENOTDIR, sentence, f"cas://{name}")
        except UnknownRunError:
            return None  # the first file makes it
        return found


def _is_new(mode: str) -> bool:
    """Return whether a file is to be new, by the mode of a put or pipe."""
    if mode not in ("overwrite", "create"):
        raise ValueError(f"mode is 'overwrite' or 'create', not {mode!r}")
    return mode == "create"


def _with_local_names(name: str, local: str) -> str:
    """Return a URL whose last parts were taken from a local path, with these as URLs have them."""
    parts, local_parts = name.split("/"), str(local).split("/")
    for at in range(1, min(len(parts) - 2, len(local_parts)) + 1):
        if parts[-at] != local_parts[-at]:
            break
        parts[-at] = quoted(local_parts[-at])
    return "/".join(parts)
