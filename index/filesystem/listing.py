"""What the filesystem tells of its store: listings and metadata."""

from __future__ import annotations

import errno
import threading
from collections.abc import Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fsspec import AbstractFileSystem
from fsspec.spec import make_instance

from cas.redaction import without_secrets
from index import Provenance, provenance
from index.api.location import StoreConfig, nearest
from index.errors import UnknownFileError, UnknownSessionError
from index.filesystem.addresses import Address, quoted
from index.filesystem.entries import directory, entry
from index.filesystem.errors import NOT_FOUND, as_os_errors, is_directory
from index.filesystem.instances import InstanceKind
from index.filesystem.stores import options_of, shared_store

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from datetime import datetime

    from index import ArtifactStore, FileVersion, Run, Session

__all__ = ["ListingFileSystem"]


class ListingFileSystem(AbstractFileSystem, metaclass=InstanceKind):  # type: ignore[misc]  # as above
    """The part of `CasFileSystem` that opens no file."""

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
        self._said = _read_provenance(options.pop("provenance", {}))
        super().__init__(**options)
        self._session = session
        self._block = threading.local()
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
        with self.scope() as said:
            known = {name: value for name, value in said.to_dict().items() if value is not None}
        if known:
            options = {**options, "provenance": known}
        return make_instance, (type(self), self.storage_args, options)

    def scope(self) -> AbstractContextManager[Provenance]:
        """Return the provenance of what is written now: of the scope, then of the instance."""
        with provenance() as outer:
            return provenance(**outer.over(self._said).to_dict())

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
        name = self._strip_protocol(path)
        with self._errors(name):
            entries = self._list(name)
        return entries if detail else [each["name"] for each in entries]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Return what is known of a file: size, digest, version, provenance and times."""
        name = self._strip_protocol(path)
        address = Address.parse(name)
        with self._errors(name):
            if address.digest is None and not address.path:
                self._list(name)
                return directory(str(address))
            found = self._get(address)
            if found is None and self._is_directory(address):
                return directory(str(address))
            return entry(str(address), found or self._version(address))

    def exists(self, path: str, **_: Any) -> bool:
        """Whether there is a file or a directory."""
        name = self._strip_protocol(path)
        address = Address.parse(name)
        with self._errors(name), suppress(*NOT_FOUND):
            if address.path:
                return self._get(address) is not None or self._is_directory(address)
            self._list(name)
            return True
        return False

    def isdir(self, path: str) -> bool:
        """Whether there is a directory."""
        name = self._strip_protocol(path)
        if (known := self._known) is not None and name in known:
            return known[name] is None
        address = Address.parse(name)
        if not address.path:
            return address.digest is None and self.exists(name)
        with self._errors(name), suppress(*NOT_FOUND):
            return self._is_directory(address)
        return False

    def isfile(self, path: str) -> bool:
        """Whether there is a file."""
        name = self._strip_protocol(path)
        address = Address.parse(name)
        with self._errors(name), suppress(*NOT_FOUND):
            is_named = address.path or address.digest is not None
            return bool(is_named) and self._get(address) is not None
        return False

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
        known = {} if self._known is None else self._known
        with self._errors(name), suppress(*NOT_FOUND):  # of nothing, fsspec finds nothing
            head = address.head
            prefix = f"{address.path}/" if address.path else None
            for version in self.find_run(address).iter_files(prefix=prefix, at=address.snapshot):
                file = f"{head}/{quoted(version.path)}"
                found[file] = entry(file, version)
                known[file] = version
        if not found:
            return super().find(name, maxdepth, withdirs=withdirs, detail=detail, **options)
        if withdirs:
            for file in list(found):
                parent = self._parent(file)
                while parent.startswith(name) and parent not in found:
                    found[parent] = directory(parent)
                    known[parent] = None
                    parent = self._parent(parent)
            if options.get("_root", True) and not address.path:
                found.pop(name, None)
        ordered = {key: found[key] for key in sorted(found)}
        return ordered if detail else list(ordered)

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

    @property
    def _known(self) -> dict[str, FileVersion | None] | None:
        """What listings have found in the `_at_once` block that runs; None for directories."""
        return getattr(self._block, "known", None)

    @contextmanager
    def _at_once(self) -> Iterator[None]:
        """Let listings in the block, and on this thread, answer for the files that they found."""
        if self._known is not None:
            yield
            return
        self._block.known = {}
        try:
            yield
        finally:
            self._block.known = None

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
        if address.digest is not None:
            return [entry(str(address), self._version(address))]
        if not address.session:
            return [directory(str(Address(each))) for each in self._ids()]
        if not address.run:
            runs = self._session_of(address).runs()
            return [directory(str(Address(address.session, each.run))) for each in runs]
        if address.version is not None:
            return [entry(str(address), self._version(address))]
        run = self.find_run(address)
        try:
            found = run.list_dir(address.path, at=address.snapshot)
        except UnknownFileError:
            return [entry(str(address), self._version(address))]
        head = address.head
        return [
            directory(f"{head}/{quoted(each.path)}", each.bytes)
            if each.version is None
            else entry(f"{head}/{quoted(each.path)}", each.version)
            for each in found
        ]

    def _file_info(self, path: str) -> dict[str, Any]:
        found = self.info(path)
        if found["type"] == "directory":
            raise is_directory(found["name"])
        return found

    @contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        with as_os_errors(name, listed=self._ids):
            yield

    def _ids(self, session: str | None = None) -> list[str]:
        """Return the ids of the sessions that can be seen, or of the runs of one."""
        if session is not None:
            return [each.run for each in self._session_of(Address(session)).runs()]
        ids = sorted({run.session for run in self.store.runs()})
        return [each for each in ids if self._session in (None, each)]


def _read_provenance(given: object) -> Provenance:
    if not isinstance(given, Mapping) or not set(given) <= set(Provenance.__slots__):
        raise ValueError(
            f"provenance is a dict of {', '.join(Provenance.__slots__)}, not {given!r}"
        )
    return Provenance(**given)
