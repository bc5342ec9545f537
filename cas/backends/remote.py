"""One fsspec filesystem: the calls that objects need, with one request each where possible.

This module does not retry. It raises errors of `cas.errors`, and `cas.backends.fsspec` retries
after a `TransientBackendError`. The first call creates the filesystem, for this object alone:
fsspec shares instances through a cache, so our settings would affect other users of it. Listings
are not cached, because other processes write too.

Asynchronous filesystems run in fsspec's own thread. Calls have a time limit here: that of aiohttp
starts once a request is sent, so it never expires for a service that stops reading.
"""

from __future__ import annotations

import sys
import threading
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from email.utils import parsedate_to_datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cas.backends.remote_errors import (
    is_past_end,
    is_taken,
    is_unsupported,
    part_from,
    translated,
)
from cas.errors import (
    BackendError,
    BucketNotFoundError,
    CasError,
    ObjectNotFoundError,
    StoreClosedError,
)
from cas.threads import Threads
from cas.waiting import result_of

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from datetime import datetime

    from cas.backends.traits import Traits
    from cas.redaction import Secrets

__all__ = ["MULTIPART_SIZE", "Page", "Remote", "S3Remote", "UnconditionalError"]

MULTIPART_SIZE: Final = 256 << 20
"""Larger objects are sent in parts. Packs are far smaller; S3 takes 5 GiB in one PUT."""

_PART_SIZE: Final = 64 << 20
_PARTS_AT_ONCE: Final = 2
"""Number of parts of a multipart upload in memory."""

_LOOP_THREADS: Final = 8
"""Most threads of the clients' event loop."""

_PATIENCE_S: Final = 60.0
_SLOWEST: Final = 128 << 10
"""The time limit of a request is a minute, plus a second for each 128 KiB."""

_LOCKS: Final[defaultdict[str, threading.RLock]] = defaultdict(threading.RLock)
"""A lock for each protocol with serial calls: its filesystems may share state in fsspec."""


class UnconditionalError(BackendError):
    """The service does not support conditional writes, though others of its kind do."""


class Page(NamedTuple):
    """Part of a listing."""

    objects: list[tuple[str, int]]
    """Path and size in bytes."""
    next: str | None
    """The token of the next page; None on the last page."""


class Remote:
    """Any fsspec filesystem. Paths are the filesystem's own."""

    def __init__(
        self,
        kind: type[Any],
        options: Mapping[str, object],
        traits: Traits,
        *,
        url: str,
        secrets: Secrets,
    ) -> None:
        self.traits: Final = traits
        self._kind = kind
        self._options = _merged(traits.options or {}, options)
        self._url = url
        self._secrets = secrets
        self._lock = threading.Lock()
        self._made: Any = None
        self._closed = False
        self._turn: AbstractContextManager[object] = (
            _LOCKS[url.partition(":")[0]] if traits.serial else nullcontext()
        )

    def put(self, source: str, size: int, path: str) -> None:
        """Send a local file of `size` bytes as the object at `path`."""
        with self._translated(path, writing=True):
            self._call("put_file", source, path, size=size)

    def time(self, _path: str) -> datetime | None:
        """Return the service's time; None if it tells none."""
        return None

    def create(self, path: str, data: bytes) -> bool:
        """Send `data` if there is no such object; return whether it was sent.

        This needs `Traits.create_options`.
        """
        with self._translated(path, writing=True):
            try:
                self._call("pipe_file", path, data, **(self.traits.create_options or {}))
            except Exception as error:
                if is_taken(error):
                    return False
                if is_unsupported(error):
                    raise UnconditionalError(self._shown(path), "no conditional writes") from error
                raise
            return True

    def get(self, path: str, start: int, end: int | None) -> bytes:
        """Return the bytes from `start` to before `end`, or fewer if the object ends before."""
        with self._translated(path):
            size = 0 if end is None else end - start
            try:
                data = self._call("cat_file", path, start=start, end=end, size=size)
            except Exception as error:
                if is_past_end(error):
                    return b""
                raise
            return bytes(data)

    def size(self, path: str) -> int:
        """Return the size of the object at `path`."""
        with self._translated(path):
            found = self._call("info", path)
            if found["type"] == "directory":
                raise FileNotFoundError(path)
            return int(found["size"])

    def list_page(self, path: str, after: str | None = None) -> Page:
        """Return a page of the objects below a directory; none if the directory is missing.

        This class lists all objects in one page; `S3Remote` does not.
        """
        with self._translated(path):
            found = self._call("find", path, detail=True)
            return Page([(name, int(info["size"])) for name, info in found.items()], None)

    def remove(self, path: str) -> None:
        """Remove an object. A missing object is no error."""
        with self._translated(path):
            try:
                self._call("rm_file", path)
            except FileNotFoundError as error:
                if not isinstance(translated(error, path, self._secrets), ObjectNotFoundError):
                    raise

    def make_directory(self, path: str) -> None:
        """Create a directory and its missing parents."""
        with self._translated(path, writing=True):
            self._call("makedirs", path, exist_ok=True)

    def rename(self, path: str, target: str) -> None:
        """Rename the object at `path` to `target`."""
        with self._translated(target, writing=True):
            self._call("mv", path, target)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Lock out other threads of this process if the filesystem needs serial calls."""
        with self._turn:
            yield

    def close(self) -> None:
        """Release connections; idempotent. Later calls raise."""
        with self._lock:
            self._closed = True
            self._made = None

    def _filesystem(self) -> Any:  # noqa: ANN401 - fsspec's classes have no useful types
        with self._lock:
            if self._closed:
                raise StoreClosedError(self._url)
            if self._made is None:
                made = self._kind(
                    **{"use_listings_cache": False, **self._options}, skip_instance_cache=True
                )
                if self.traits.attempts is not None:
                    made.retries = self.traits.attempts
                if made.async_impl:
                    _let_go_on(made.loop)
                self._made = made
            return self._made

    def _call(self, method: str, *args: object, size: int = 0, **options: Any) -> Any:  # noqa: ANN401
        """Call a method of the filesystem that transfers `size` bytes."""
        handled = sys.exception()
        try:
            filesystem = self._filesystem()
            coroutine = getattr(filesystem, f"_{method}", None) if filesystem.async_impl else None
            with self._turn:
                if coroutine is None:
                    return getattr(filesystem, method)(*args, **options)
                from asyncio import run_coroutine_threadsafe

                answer = run_coroutine_threadsafe(coroutine(*args, **options), filesystem.loop)
                return result_of(answer, _PATIENCE_S + size / _SLOWEST)
        except Exception as error:
            # The error that the caller was handling is unrelated to this one.
            part_from(error, handled)
            raise

    @contextmanager
    def _translated(self, path: str, *, writing: bool = False) -> Iterator[None]:
        """Translate errors to those of `cas.errors`. An original with secrets is not the cause."""
        subject = self._shown(path)
        try:
            yield
        except (CasError, CancelledError):
            raise
        except Exception as error:  # noqa: BLE001 - each client has its own
            checked = writing and self.traits.checksums
            meant = translated(error, subject, self._secrets, has_checksum=checked)
            if writing and isinstance(meant, ObjectNotFoundError) and self.traits.whole_objects:
                # The missing thing is the bucket, not the object being created.
                meant = BucketNotFoundError("/".join(subject.split("/")[:3]))
            raise meant from (None if self._secrets.are_in(error) else error)

    def _shown(self, path: str) -> str:
        return f"{self._url.partition('://')[0]}://{path}"


class _LoopThreads(Threads, ThreadPoolExecutor):
    """`Threads` of the type that an event loop demands."""


@cache
def _let_go_on(loop: AbstractEventLoop) -> None:
    """Let a loop's clients work after the main thread has ended; they resolve names on threads."""
    loop.set_default_executor(_LoopThreads(_LOOP_THREADS, "cas-loop"))


def _merged(defaults: Mapping[str, object], given: Mapping[str, object]) -> dict[str, object]:
    """Return options over their defaults, those in dicts one by one."""
    merged = {**defaults, **given}
    for name, default in defaults.items():
        value = given.get(name)
        if isinstance(default, Mapping) and isinstance(value, Mapping):
            merged[name] = _merged(default, value)
    return merged


class S3Remote(Remote):
    """S3 through s3fs. Sends objects from disk piece by piece, and lists them page by page.

    The `put_file` of s3fs reads a file of up to 100 MB into memory, and its `find` lists everything
    before it returns. `call_s3`, on which both are built, does neither.
    """

    multipart_size = MULTIPART_SIZE
    page_size = 1_000
    """Objects in a page of a listing: the largest number that the service allows."""

    def put(self, source: str, size: int, path: str) -> None:
        with self._translated(path, writing=True):
            if size > self.multipart_size:
                # At least two parts, or s3fs would send it in one request.
                part = min(_PART_SIZE, size // 2)
                options: dict[str, Any] = {"chunksize": part, "max_concurrency": _PARTS_AT_ONCE}
                self._call("put_file", source, path, size=size, **options)
                return
            with open(source, "rb") as body:  # noqa: PTH123 - one of a temporary file, as text
                self._s3("put_object", path, size=size, Body=body)

    def list_page(self, path: str, after: str | None = None) -> Page:
        with self._translated(path):
            options: dict[str, Any] = {} if after is None else {"ContinuationToken": after}
            found = self._s3("list_objects_v2", f"{path}/", MaxKeys=self.page_size, **options)
            bucket, _ = self._split(path)
            objects = [
                (f"{bucket}/{item['Key']}", int(item["Size"])) for item in found.get("Contents", ())
            ]
            return Page(objects, found.get("NextContinuationToken"))

    def time(self, path: str) -> datetime | None:
        with self._translated(path):
            answer = self._s3("list_objects_v2", f"{path}/", MaxKeys=1)
            date = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
            return None if date is None else parsedate_to_datetime(date)

    def _s3(self, operation: str, path: str, *, size: int = 0, **options: Any) -> Any:  # noqa: ANN401
        bucket, key = self._split(path)
        place = {"Bucket": bucket, ("Prefix" if operation.startswith("list") else "Key"): key}
        return self._call("call_s3", operation, size=size, **place, **options)

    def _split(self, path: str) -> tuple[str, str]:
        bucket, key, _version = self._filesystem().split_path(path)
        return bucket, key
