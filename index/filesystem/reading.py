"""The reading half of the filesystem: listings, metadata and verified bytes."""

from __future__ import annotations

import errno
import io
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fsspec import AbstractFileSystem
from fsspec.spec import make_instance

from cas.redaction import without_secrets
from index.api.location import StoreConfig, nearest
from index.errors import UnknownFileError, UnknownSessionError
from index.filesystem.addresses import Address
from index.filesystem.entries import directory, entry
from index.filesystem.errors import as_os_errors, is_directory
from index.filesystem.files import ReadFile, SmallFile
from index.filesystem.instances import InstanceKind
from index.filesystem.stores import options_of, shared_store

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from index import ArtifactStore, FileVersion, Run, Session

__all__ = ["BUFFER", "ReadingFileSystem"]

_MANY: Final = 16
"""Files from which on `cat` reads them together."""

BUFFER: Final = 16 << 10
"""Bytes that a file reads ahead."""


class ReadingFileSystem(AbstractFileSystem, metaclass=InstanceKind):  # type: ignore[misc]  # as above
    """The half of `CasFileSystem` that reads."""

    protocol = "cas"

    def __init__(
        self,
        store: str | os.PathLike[str] | None = None,
        session: str | None = None,
        **options: Any,
    ) -> None:
        if self._cached:
            return
        given = {name: options.pop(name, None) for name in ("index", "blobs", "storage_options")}
        cache, cache_size = options.pop("cache", None), options.pop("cache_size", None)
        self._create = bool(options.pop("create", False))
        super().__init__(**options)
        self._session = session
        self._place: Path | StoreConfig | None = None
        if store is not None:
            self._place = Path(store)
        elif given["index"] is not None:
            self._place = StoreConfig(
                given["index"],
                given["blobs"],
                None if cache is None else Path(cache),
                cache_size,
                {}
                if given["storage_options"] is None
                else {"storage_options": given["storage_options"]},
            )

    @property
    def storage_options(self) -> dict[str, object]:
        """The arguments of the instance, without credentials."""
        return self._shown_options

    @storage_options.setter
    def storage_options(self, options: dict[str, object]) -> None:
        self._shown_options = without_secrets(options)

    @property
    def store(self) -> ArtifactStore:
        """The open store. Raises FileNotFoundError if there is none."""
        with as_os_errors(""):
            return shared_store(self._place or nearest(), create=self._create)

    def __reduce__(self) -> tuple[Any, ...]:
        options = self.storage_options
        if self._place is None:
            options = {**options, **options_of(nearest())}
        return make_instance, (type(self), self.storage_args, options)

    @property
    def is_in_transaction(self) -> bool:
        """Whether what is written waits for the end of a transaction."""
        return bool(self._intrans)

    def end_of_transaction(self) -> None:
        """Be as without a transaction, for the next caller who gets this cached instance."""
        self._intrans = False
        self._transaction = None

    @property
    def fsid(self) -> str:
        """The id of the store, and the session if there is one."""
        return "-".join(filter(None, ("cas", self.store.stats().store_id, self._session)))

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """Return what is directly in a directory. A file is a listing of itself."""
        entries = self._list(self._strip_protocol(path))
        return entries if detail else [each["name"] for each in entries]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Return what is known of a file: size, digest, version, provenance and times."""
        name = self._strip_protocol(path)
        address = Address.parse(name)
        with self._errors(name):
            if address.digest is None and not address.path:
                self._list(name)
                return directory(address)
            found = self._get(address)
            if found is None and self._is_directory(address):
                return directory(address)
            return entry(address, found or self._version(address))

    def exists(self, path: str, **_: Any) -> bool:
        """Whether there is a file or a directory."""
        name = self._strip_protocol(path)
        address = Address.parse(name)
        try:
            with self._errors(name):
                if address.path:
                    return self._get(address) is not None or self._is_directory(address)
                self._list(name)
        except FileNotFoundError:
            return False
        return True

    def isdir(self, path: str) -> bool:
        """Whether there is a directory."""
        name = self._strip_protocol(path)
        address = Address.parse(name)
        if not address.path:
            return address.digest is None and self.exists(name)
        try:
            with self._errors(name):
                return self._is_directory(address)
        except FileNotFoundError:
            return False

    def isfile(self, path: str) -> bool:
        """Whether there is a file."""
        return self.exists(path) and not self.isdir(path)

    def find(
        self,
        path: str,
        maxdepth: int | None = None,
        withdirs: bool = False,
        detail: bool = False,
        **options: Any,
    ) -> Any:
        """Return all files below a directory; one pass over it, whatever its depth."""
        name = self._strip_protocol(path)
        address = Address.parse(name)
        if not address.run or address.version is not None or maxdepth is not None:
            return super().find(name, maxdepth, withdirs=withdirs, detail=detail, **options)
        found: dict[str, dict[str, Any]] = {}
        with suppress(FileNotFoundError), self._errors(name):  # of nothing, fsspec finds nothing
            prefix = f"{address.path}/" if address.path else None
            for version in self.find_run(address).iter_files(prefix=prefix, at=address.snapshot):
                one = entry(address.with_path(version.path), version)
                found[one["name"]] = one
        if not found:
            return super().find(name, maxdepth, withdirs=withdirs, detail=detail, **options)
        if withdirs:
            for file in list(found):
                parent = self._parent(file)
                while parent.startswith(name) and parent not in found:
                    found[parent] = directory(Address.parse(parent))
                    parent = self._parent(parent)
            if options.get("_root", True) and not address.path:
                found.pop(name, None)
        ordered = {key: found[key] for key in sorted(found)}
        return ordered if detail else list(ordered)

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
        """Return the bytes of files; many of one run are read as they lie in storage."""
        names = self.expand_path(path, recursive=recursive)
        groups: dict[tuple[str, str, int | None], dict[str, str]] = {}
        for name in names if not options and len(names) >= _MANY else ():
            address = Address.parse(name)
            if address.path and address.version is None:
                group = address.session, address.run, address.snapshot
                groups.setdefault(group, {})[address.path] = name
        read: dict[str, bytes] = {}
        for (session, run_id, snapshot), wanted in groups.items():
            # An unknown path or another error is that of the one file, below.
            with suppress(Exception):
                run = self.find_run(Address(session, run_id))
                for path, data in run.read_many(wanted, at=snapshot):
                    if path in wanted:
                        read[wanted[path]] = data
        if not read:
            return super().cat(path, recursive, on_error, **options)
        left = [name for name in names if name not in read]
        rest = super().cat(left, recursive=False, on_error=on_error) if left else {}
        both = {**read, **rest}
        return {name: both[name] for name in names if name in both}

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

    def created(self, path: str) -> datetime:
        """Return when the version was recorded."""
        found: datetime = self._file_info(path)["created"]
        return found

    def modified(self, path: str) -> datetime:
        """Return the modification time of the file when it was recorded."""
        found: datetime = self._file_info(path)["mtime"]
        return found

    def checksum(self, path: str) -> str:
        """Return the digest of the bytes, as text."""
        return str(self._file_info(path)["digest"])

    ukey = checksum

    def _session_of(self, address: Address) -> Session:
        if self._session is not None and address.session != self._session:
            raise UnknownSessionError(address.session)
        return self.store.session(address.session)

    def find_run(self, address: Address) -> Run:
        """Return the run of an address. Raises ValueError if it names none."""
        if not address.run:
            raise ValueError(f"cas://{address} names no run; write cas://SESSION/RUN/PATH")
        return self._session_of(address).run(address.run)

    def _holder(self, address: Address) -> Session:
        """Return a session that refers to a digest, among those that can be seen."""
        if self._session is not None:
            return self.store.session(self._session)
        assert address.digest is not None  # noqa: S101 - for the type checker
        for version in self.store.producers(address.digest):
            return self.store.session(version.session)
        raise FileNotFoundError(errno.ENOENT, "no file has these bytes", f"cas://{address}")

    def _version(self, address: Address) -> FileVersion:
        if address.digest is not None:
            session = self._holder(address)
            for version in session.producers(address.digest):
                return version
            raise FileNotFoundError(errno.ENOENT, "no file has these bytes", f"cas://{address}")
        return self.find_run(address).file(
            address.path, version=address.version, at=address.snapshot
        )

    def _get(self, address: Address) -> FileVersion | None:
        """Return a file; None if the run has none at the path. Raises if there is no such run."""
        if address.digest is not None or not address.path:
            return self._version(address)
        return self.find_run(address).get(
            address.path, version=address.version, at=address.snapshot
        )

    def _is_directory(self, address: Address) -> bool:
        """Return whether files lie below the path. Raises if there is no such run."""
        if address.version is not None or address.digest is not None:
            return False
        below = f"{address.path.rstrip('/')}/"
        return bool(
            self.find_run(address).files(
                prefix=below, order_by="path", limit=1, at=address.snapshot
            )
        )

    def _list(self, name: str) -> list[dict[str, Any]]:
        address = Address.parse(name)
        with self._errors(name):
            if address.digest is not None:
                return [entry(address, self._version(address))]
            if not address.session:
                ids = sorted({run.session for run in self.store.runs()})
                return [directory(Address(each)) for each in ids if self._session in (None, each)]
            if not address.run:
                runs = self._session_of(address).runs()
                return [directory(Address(address.session, each.run)) for each in runs]
            if address.version is not None:
                return [entry(address, self._version(address))]
            run = self.find_run(address)
            try:
                found = run.list_dir(address.path, at=address.snapshot)
            except UnknownFileError:
                return [entry(address, self._version(address))]
        return [
            directory(address.with_path(each.path), each.bytes)
            if each.version is None
            else entry(address.with_path(each.path), each.version)
            for each in found
        ]

    def _file_info(self, path: str) -> dict[str, Any]:
        found = self.info(path)
        if found["type"] == "directory":
            raise is_directory(found["name"])
        return found

    @contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        with as_os_errors(name, runs=self._run_ids):
            yield

    def _run_ids(self, session: str) -> list[str]:
        return [each.run for each in self.store.session(session).runs()]

    @contextmanager
    def _reading(self, name: str, address: Address) -> Iterator[None]:
        """Turn errors about a file into those that fsspec's users expect."""
        try:
            with self._errors(name):
                if address.digest is None and not address.path:
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
