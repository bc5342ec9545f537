"""Objects on any fsspec filesystem: S3, Google Cloud Storage, Azure, SFTP, memory and the rest.

A staged object is spooled to a file in the system's temporary directory, so that memory stays
bounded. Publishing sends that file with one request. Several packs of a batch are sent at the same
time. No lookup is needed: the index knows which digests exist, and the name of a pack is new. A
batch costs one PUT for each pack, and neither HEAD nor LIST.

If a filesystem has directories instead of whole objects, an object is sent to ``tmp/`` and renamed.
`cas.backends.traits` lists these filesystems and all other differences.

Transient failures are retried under one deadline (`cas.backends.retrying`). Every call may safely
be retried. A PUT of the same bytes may be repeated. `ObjectStoreBackend.create` compares the
existing object with its data, to find out whether its own earlier attempt took the name. (So if
several creators have the same bytes, more than one may believe that it was first.)

The service's client finds credentials, or they come in `storage_options`. They are kept out of
URLs, errors and logs (`cas.redaction`). A forked process can't use the backend of its parent,
because fsspec's thread is not copied.
"""

from __future__ import annotations

import tempfile
import uuid
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Self

from cas.backend import ObjectInfo, check_name
from cas.backends.remote import Remote, S3Remote, UnconditionalError
from cas.backends.retrying import Retrying
from cas.backends.traits import traits_of
from cas.errors import (
    BackendError,
    ObjectNotFoundError,
    StorageAccessError,
    TransientBackendError,
)
from cas.redaction import Secrets, shown_url
from cas.temporary import using_temporary_files

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from cas.digest import Buffer

__all__ = ["ObjectStoreBackend"]

_TMP: Final = "tmp"

_OPEN_FILES: Final = Path("/proc/self/fd")
"""Directory in which Linux has a path for each open file (proc_pid_fd(5))."""


class ObjectStoreBackend:
    """A `cas.backend.Backend` on an fsspec filesystem. Creating one sends no request.

    Parameters
    ----------
    url
        Protocol, bucket and prefix, or the filesystem's form of a directory.
    storage_options
        Options for the filesystem: endpoint, region, credentials outside the usual places.

    Raises
    ------
    ValueError
        When the protocol is unknown, its package is missing, or the URL names no directory.
    """

    def __init__(
        self,
        url: str,
        storage_options: Mapping[str, object] | None = None,
        *,
        retrying: Retrying | None = None,
    ) -> None:
        protocol = url.partition("://")[0].lower()
        traits = traits_of(protocol)
        self._url: Final = shown_url(url).rstrip("/")
        if self._url != url.rstrip("/"):
            raise ValueError(
                f"{self._url} was given with a password or a query; give these as storage_options, "
                "or credentials where the service's own tools look for them"
            )
        kind = _filesystem_class(protocol, traits.package)
        options = {**kind._get_kwargs_from_urls(url), **(storage_options or {})}  # noqa: SLF001
        self._root: Final[str] = kind._strip_protocol(url).rstrip("/")  # noqa: SLF001
        if not self._root.strip("/"):
            raise ValueError(f"{self._url}// names no bucket or directory for blobs")
        made = S3Remote if protocol in ("s3", "s3a") else Remote
        secrets = Secrets(options)
        self._remote: Final = made(kind, options, traits, url=self._url, secrets=secrets)
        self._retrying: Final = retrying or Retrying()
        self._directories: Final[set[str]] = set()

    @property
    def url(self) -> str:
        return self._url

    writes_at_once: Final = 1  # to a local spool file, which is never the bottleneck
    span_size: Final = 8 << 20
    window_size: Final = 256 << 10  # of a service with 20 ms a request and 12 MB/s
    reads_at_once: Final = 4  # with 8 MiB each, 20 ms a request cost little up to 1 GB/s

    @property
    def publishes_at_once(self) -> int:
        return self._remote.traits.uploads_at_once

    def stage(self) -> _SpooledObject:
        return _SpooledObject(self)

    def create(self, name: str, data: bytes) -> bool:
        path = self.path(name)
        if self._remote.traits.create_options is None:
            return self._create_checked(name, path, data)

        def attempt() -> bool:
            # A refusal may be due to an earlier attempt whose answer was lost: ours, or a retry of
            # the client after its connection broke.
            return self._remote.create(path, data) or self._remote.get(path, 0, None) == data

        with suppress(UnconditionalError):
            return self._retrying.call(attempt)
        return self._create_checked(name, path, data)

    def read(self, name: str, start: int = 0, size: int | None = None) -> bytes:
        path = self.path(name)
        return self._retrying.call(lambda: self._read_once(path, start, size))

    def size(self, name: str) -> int:
        path = self.path(name)
        return self._retrying.call(lambda: self._remote.size(path))

    def iter_objects(self, prefix: str) -> Iterator[ObjectInfo]:
        below = f"{self._root}/{prefix}".rstrip("/")
        start = len(self._root) + 1
        token: str | None = None
        while True:
            page = self._retrying.call(partial(self._remote.list_page, below, token))
            for path, size in page.objects:
                name = path[start:]
                if not name.startswith(f"{_TMP}/"):
                    yield ObjectInfo(name, size)
            token = page.next
            if token is None:
                return

    def delete(self, name: str) -> None:
        path = self.path(name)
        self._retrying.call(lambda: self._remote.remove(path))

    def is_writable(self, name: str) -> bool | None:
        """Whether the service would take an object; None if it tells only by taking it.

        An object of that name exists: the service is asked to create it, which it refuses for the
        one or the other reason. See `cas.probe.is_writable`.
        """
        path, data = self.path(name), self.read(name)
        if self._remote.traits.create_options is None:
            return None
        with suppress(UnconditionalError):
            try:
                self._retrying.call(lambda: self._remote.create(path, data))
            except StorageAccessError:
                return False
            return True
        return None

    def time(self) -> datetime | None:
        """Return the service's time; None if it tells none. See `cas.probe.storage_time`."""
        return self._retrying.call(lambda: self._remote.time(self._root))

    def close(self) -> None:
        self._remote.close()

    def path(self, name: str) -> str:
        """Return the path of the object `name` in the filesystem's own form."""
        return f"{self._root}/{check_name(name)}"

    def send(self, source: str, size: int, name: str) -> None:
        """Publish a local file of `size` bytes under `name`."""
        path = self.path(name)
        if self._remote.traits.whole_objects:
            self._retrying.call(lambda: self._remote.put(source, size, path))
        else:
            self._retrying.call(lambda: self._put_and_rename(source, size, path))

    def _put_and_rename(self, source: str, size: int, path: str) -> None:
        staged = f"{self._root}/{_TMP}/{uuid.uuid4().hex}"
        for directory in (f"{self._root}/{_TMP}", path.rpartition("/")[0]):
            if directory not in self._directories:
                self._remote.make_directory(directory)
                self._directories.add(directory)
        try:
            self._remote.put(source, size, staged)
            self._remote.rename(staged, path)
        except BaseException:
            with suppress(BackendError):
                self._remote.remove(staged)
            raise

    def _create_checked(self, name: str, path: str, data: bytes) -> bool:
        """Create without conditional writes: see `cas.backends.traits.Traits.create_options`."""
        with self._remote.alone():
            try:
                self._retrying.call(lambda: self._remote.size(path))
            except ObjectNotFoundError:
                with self.stage() as staged:
                    staged.write(data)
                    staged.publish(name)
                return self.read(name) == data
            return False

    def _read_once(self, path: str, start: int, size: int | None) -> bytes:
        if size is None:
            return self._remote.get(path, start, None)
        # A range can't be empty: for size 0, one byte shows whether the object exists.
        wanted = max(size, 1)
        data = self._remote.get(path, start, start + wanted)
        if len(data) > wanted:
            raise BackendError(self._url, "it returns more than the range that was asked for")
        if len(data) < wanted:
            there = min(max(self._remote.size(path) - start, 0), wanted)
            if len(data) != there:
                reason = f"{len(data)} bytes came where {there} are"
                raise TransientBackendError(self._url, reason)
        return data[:size]


class _SpooledObject:
    """A temporary file whose content becomes an object."""

    def __init__(self, backend: ObjectStoreBackend) -> None:
        self._backend = backend
        with using_temporary_files():
            self._file, self._path = _temporary_file()
        self._size = 0

    def write(self, data: Buffer) -> None:
        with using_temporary_files():
            self._size += self._file.write(data)

    def publish(self, name: str) -> None:
        check_name(name)
        with using_temporary_files():
            self._file.flush()
        self._backend.send(self._path, self._size, name)
        self.discard()

    def discard(self) -> None:
        with suppress(OSError):  # the system removes a remaining file
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.discard()


def _temporary_file() -> tuple[IO[bytes], str]:
    """Return a file, and the path under which fsspec can open it repeatedly.

    On Linux the file has no name in any directory, so it disappears when the process ends.
    """
    if _OPEN_FILES.is_dir():
        file = tempfile.TemporaryFile(prefix="runcas-")  # noqa: SIM115
        return file, str(_OPEN_FILES / str(file.fileno()))
    named = tempfile.NamedTemporaryFile(prefix="runcas-")  # noqa: SIM115
    return named, named.name


def _filesystem_class(protocol: str, package: str | None) -> type[Any]:
    import fsspec

    try:
        found: type[Any] = fsspec.get_filesystem_class(protocol)
    except ImportError as error:
        wanted = f"run `pip install '{package}'`" if package else str(error)
        raise ValueError(
            f"{protocol}:// URLs need a package that is not installed: {wanted}"
        ) from error
    except ValueError:
        raise ValueError(
            f"no storage is known for {protocol!r} URLs; give a local directory, "
            "s3://bucket/prefix or the URL of another fsspec filesystem"
        ) from None
    return found
