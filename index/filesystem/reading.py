"""Verified bytes of files, whole and in parts."""

from __future__ import annotations

import io
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fsspec.callbacks import DEFAULT_CALLBACK

from index.filesystem.addresses import Address, plain
from index.filesystem.around import MANY
from index.filesystem.errors import is_directory
from index.filesystem.files import ReadFile, SmallFile
from index.filesystem.listing import ListingFileSystem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["BUFFER", "ReadingFileSystem"]

_SMALL: Final = 1 << 20
"""Largest size in bytes of a file that `get` reads together with others."""

BUFFER: Final = 16 << 10
"""Bytes that a file reads ahead."""


class ReadingFileSystem(ListingFileSystem):
    """The part of `CasFileSystem` that reads."""

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **_: Any
    ) -> bytes:
        """Return the bytes of a file, or of a part of it, verified."""
        if start is None and end is None:
            name = self._strip_protocol(path)
            address = Address.parse(name)
            with self._reading(name, address):
                if address.digest is not None:
                    return self._holder(address).read_bytes(address.digest)
                return self.find_run(address).read_bytes(
                    address.path, version=address.version, at=address.snapshot
                )
        with self.open(path) as file:
            size = file.seek(0, io.SEEK_END)
            first, last, _step = slice(start, end).indices(size)
            file.seek(first)
            data: bytes = file.read(max(0, last - first))
        return data

    def cat(
        self, path: Any, recursive: bool = False, on_error: str = "raise", **options: Any
    ) -> Any:
        """Return the bytes of files; many of one run are read as they lie in storage.

        With `recursive`, of all files in directories.
        """
        if recursive:
            with self._at_once():
                names = self.expand_path(path, recursive=True)
                names = [name for name in names if not self.isdir(name)]
            if isinstance(path, list) or names != [self._strip_protocol(path)]:
                path = names
        else:
            names = self.expand_path(path)
        if options or len(names) < MANY:
            return super().cat(path, False, on_error, **options)
        found: dict[str, Any] = dict.fromkeys(names)
        for head, wanted in _by_run(names).items():
            # An unknown path or another error is that of the one file, below.
            with suppress(Exception):
                for inside, data in self.find_run(head).read_many(wanted, at=head.snapshot):
                    if inside in wanted:
                        found[wanted[inside]] = data
        if left := [name for name, data in found.items() if data is None]:
            found.update(super().cat(left, False, on_error))
            return {name: data for name, data in found.items() if data is not None}
        return found

    def get(self, *args: Any, **options: Any) -> None:
        """Write files to local ones, with their names as they are."""
        with self._at_once():
            later = self._block.later = {}
            super().get(*args, **options)
            for head, wanted in _by_run(later).items():
                with self._errors(str(head)):
                    for inside, data in self.find_run(head).read_many(wanted, at=head.snapshot):
                        if inside in wanted:
                            local = Path(later.pop(wanted[inside]))
                            local.parent.mkdir(parents=True, exist_ok=True)
                            local.write_bytes(data)
            for name, local in later.items():
                super().get_file(name, local)

    def get_file(
        self, rpath: str, lpath: Any, callback: Any = DEFAULT_CALLBACK, **options: Any
    ) -> None:
        """Write a file to a local one. What `get` calls has names as they are, not as in URLs."""
        known = self._known
        if known is None or not isinstance(lpath, str):
            super().get_file(rpath, lpath, callback, **options)
            return
        name = self._strip_protocol(rpath)
        local = _with_plain_names(lpath, name)
        version = known.get(name)
        if version is None or version.size > _SMALL or options:
            super().get_file(rpath, local, callback, **options)
            return
        self._block.later[name] = local  # with others, as they lie in storage
        callback.set_size(version.size)
        callback.relative_update(version.size)

    def cat_ranges(
        self,
        paths: Sequence[str],
        starts: Any,
        ends: Any,
        max_gap: int | None = None,
        on_error: str = "return",
        **_: Any,
    ) -> list[Any]:
        """Return parts of files. Each file is opened once."""
        if not isinstance(paths, list):
            raise TypeError(f"paths is a list, not {paths!r}")
        count = len(paths)
        starts = starts if isinstance(starts, list) else [starts] * count
        ends = ends if isinstance(ends, list) else [ends] * count
        if not len(starts) == len(ends) == count:
            raise ValueError("paths, starts and ends are of one length")
        found: list[Any] = [b""] * count
        by_path: dict[str, list[int]] = {}
        for number, path in enumerate(paths):
            by_path.setdefault(path, []).append(number)
        for path, numbers in by_path.items():
            try:
                with self.open(path) as file:
                    size = file.seek(0, io.SEEK_END)
                    for number in sorted(numbers, key=lambda each: starts[each] or 0):
                        first, last, _step = slice(starts[number], ends[number]).indices(size)
                        file.seek(first)
                        found[number] = file.read(max(0, last - first))
            except Exception as error:
                if on_error != "return":
                    raise
                for number in numbers:
                    found[number] = error
        return found

    @contextmanager
    def _reading(self, name: str, address: Address) -> Iterator[None]:
        """Turn errors about a file into those that fsspec's users expect."""
        try:
            with self._errors(name):
                if address.digest is None and not address.path:
                    self._list(name)  # raises if it is not there
                    raise is_directory(name)
                yield
        except FileNotFoundError:
            if address.path and self.isdir(name):
                raise is_directory(name) from None
            raise

    def open_to_read(self, name: str, address: Address, buffer_size: int = BUFFER) -> Any:
        """Return a stream of verified bytes that can seek."""
        with self._reading(name, address):
            if address.digest is not None:
                stream = self._holder(address).open(address.digest)
            else:
                stream = self.find_run(address).open(
                    address.path, version=address.version, at=address.snapshot
                )
        if isinstance(stream, io.BytesIO):
            return SmallFile(stream.getvalue(), self, name)
        assert isinstance(stream, io.BufferedReader)  # noqa: S101 - for the type checker
        return ReadFile(stream.detach(), self, name, buffer_size)


def _by_run(names: Iterable[str]) -> dict[Address, dict[str, str]]:
    """Return names of files by the addresses of their runs, and there by their paths.

    Those without a run, and of versions, are not among them.
    """
    heads: dict[tuple[str, str], Address | None] = {}
    found: dict[Address, dict[str, str]] = {}
    for name in names:
        session, _, rest = name.partition("/")
        run, _, path = rest.partition("/")
        if (session, run) not in heads:
            heads[session, run] = None
            with suppress(ValueError):
                heads[session, run] = Address.parse(f"{session}/{run}")
        head = heads[session, run]
        if head is not None and head.run and path and head.version is None:
            found.setdefault(head, {})[plain(path)] = name
    return found


def _with_plain_names(local: str, name: str) -> str:
    """Return a local path whose last parts were taken from a URL, with these as files have them."""
    parts, url_parts = name.split("/"), local.split("/")
    for at in range(1, min(len(parts) - 2, len(url_parts)) + 1):
        plain = Address.parse(f"s/r/{parts[-at]}").path
        if parts[-at] != url_parts[-at] or "/" in plain or plain in ("", ".", ".."):
            break
        url_parts[-at] = plain
    return "/".join(url_parts)
