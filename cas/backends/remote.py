"""One fsspec filesystem: the few calls that objects need, one request each where that is possible.

Nothing is retried here: errors leave as those of `cas.errors`, and `cas.backends.fsspec` retries
after a `TransientBackendError`. The filesystem is made by the first call, and for this object
alone: fsspec shares its instances through a cache, and settings of ours would reach other users of
it. Listings are not cached either, since other processes write too.

Asynchronous filesystems run in fsspec's own thread. They are called with a time limit: aiohttp's
begins when a request is sent, so that a service that stops reading would never meet it.
"""

from __future__ import annotations

import sys
import threading
from collections import defaultdict
from contextlib import contextmanager, nullcontext
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
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

    from cas.backends.traits import Traits
    from cas.redaction import Secrets

__all__ = ["MULTIPART_SIZE", "Page", "Remote", "S3Remote", "UnconditionalError"]

MULTIPART_SIZE: Final = 256 << 20
"""Bytes above which an object is sent in parts. Packs stay far below; S3 takes 5 GiB in one PUT."""

_PART_SIZE: Final = 64 << 20
_PARTS_AT_ONCE: Final = 2
"""Parts of a multipart upload that are held in memory."""

_PATIENCE_S: Final = 60.0
_SLOWEST: Final = 128 << 10
"""A request may take a minute and a second for each 128 KiB; then its connection is given up."""

_LOCKS: Final[defaultdict[str, threading.RLock]] = defaultdict(threading.RLock)
"""One for each protocol that is called by one thread at a time: all share fsspec's one memory."""


class UnconditionalError(BackendError):
    """The service knows no conditional writes, though others of its kind do."""


class Page(NamedTuple):
    """Part of a listing."""

    objects: list[tuple[str, int]]
    """Path and size in bytes."""
    next: str | None
    """What the next page is asked for with; None where there is none."""


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
        self._options = {**(traits.options or {}), **options}
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

    def create(self, path: str, data: bytes) -> bool:
        """Send `data` unless there is such an object; return whether it was sent.

        Only where `Traits.create_options` says how.
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
        """Return the bytes from `start` to before `end`, or as many as there are."""
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
        """Return objects below a directory, from where another page ended; none if it is missing.

        This lists all of them at once; `S3Remote` does not.
        """
        with self._translated(path):
            found = self._call("find", path, detail=True)
            return Page([(name, int(info["size"])) for name, info in found.items()], None)

    def remove(self, path: str) -> None:
        """Remove an object; no error if there is none."""
        with self._translated(path):
            try:
                self._call("rm_file", path)
            except FileNotFoundError as error:
                if not isinstance(translated(error, path, self._secrets), ObjectNotFoundError):
                    raise

    def make_directory(self, path: str) -> None:
        """Make a directory and its parents, where they are not there."""
        with self._translated(path, writing=True):
            self._call("makedirs", path, exist_ok=True)

    def rename(self, path: str, target: str) -> None:
        """Give the object at `path` another name."""
        with self._translated(target, writing=True):
            self._call("mv", path, target)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other threads of this process from a filesystem that is called serially."""
        with self._turn:
            yield

    def close(self) -> None:
        """Let go of connections; idempotent. Later calls raise."""
        with self._lock:
            self._closed = True
            self._made = None

    def _filesystem(self) -> Any:  # noqa: ANN401 - fsspec's classes have no useful types
        with self._lock:
            if self._closed:
                raise BackendError(self._url, "it was closed")
            if self._made is None:
                made = self._kind(
                    **{"use_listings_cache": False, **self._options}, skip_instance_cache=True
                )
                if self.traits.attempts is not None:
                    made.retries = self.traits.attempts
                self._made = made
            return self._made

    def _call(self, method: str, *args: object, size: int = 0, **options: Any) -> Any:  # noqa: ANN401
        """Call a method of the filesystem, for `size` bytes to be moved."""
        handled = sys.exception()
        try:
            filesystem = self._filesystem()
            coroutine = getattr(filesystem, f"_{method}", None) if filesystem.async_impl else None
            with self._turn:
                if coroutine is None:
                    return getattr(filesystem, method)(*args, **options)
                from fsspec.asyn import sync

                patience = _PATIENCE_S + size / _SLOWEST
                return sync(filesystem.loop, coroutine, *args, timeout=patience, **options)
        except Exception as error:
            # What our caller was dealing with says nothing of what happened here.
            part_from(error, handled)
            raise

    @contextmanager
    def _translated(self, path: str, *, writing: bool = False) -> Iterator[None]:
        """Raise the errors of `cas.errors`, with the original as cause unless it shows a secret."""
        subject = self._shown(path)
        try:
            yield
        except CasError:
            raise
        except Exception as error:  # noqa: BLE001 - each client has its own
            meant = translated(error, subject, self._secrets)
            if writing and isinstance(meant, ObjectNotFoundError) and self.traits.whole_objects:
                # What is missing isn't the object that was about to be made.
                meant = BucketNotFoundError("/".join(subject.split("/")[:3]))
            raise meant from (None if self._secrets.are_in(error) else error)

    def _shown(self, path: str) -> str:
        return f"{self._url.partition('://')[0]}://{path}"


class S3Remote(Remote):
    """S3 through s3fs: objects are sent from disk piece by piece, and listed page by page.

    s3fs's own `put_file` reads a file whole, up to 100 MB, and its `find` lists everything before
    it returns; `call_s3`, which both are made of, does neither.
    """

    multipart_size = MULTIPART_SIZE
    page_size = 1_000
    """Objects in a page of a listing; the service allows no more."""

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

    def _s3(self, operation: str, path: str, *, size: int = 0, **options: Any) -> Any:  # noqa: ANN401
        bucket, key = self._split(path)
        place = {"Bucket": bucket, ("Prefix" if operation.startswith("list") else "Key"): key}
        return self._call("call_s3", operation, size=size, **place, **options)

    def _split(self, path: str) -> tuple[str, str]:
        bucket, key, _version = self._filesystem().split_path(path)
        return bucket, key
