"""The backend contract: storage of named immutable objects.

A backend stores immutable objects under names and does not interpret their bytes. It promises:

* **Atomicity.** An object is visible completely under its name or not at all. Staged objects are
  never listed or read.
* **Durability.** When `StagedObject.publish` or `Backend.create` has returned, the object survives
  a crash of the process or the machine, and a power loss. (A local filesystem that can't sync
  directories may lose new names in a power loss.)
* **Read after write.** The next call of any process finds a published object.
* **Publish if absent.** If several processes call `Backend.create` for one name, exactly one call
  returns True. Every later read returns the bytes of that call.
* **Immutability.** The bytes of a name never change. If a name is published twice, the object has
  the bytes of one of the two. (`claim_storage` alone deletes a name and creates it anew.)
* **Errors.** A backend raises only errors of `cas.errors`; the original error is the ``__cause__``.
  A retry may help only after `TransientBackendError`.
* **Threads.** Any thread may call every method at any time. One `StagedObject` belongs to one
  thread at a time.

A backend trusts its storage. `cas.reader` verifies the digests.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cas.digest import Buffer

__all__ = ["Backend", "ObjectInfo", "StagedObject", "check_name"]

_SEGMENT: Final = re.compile(r"[a-z0-9][a-z0-9._-]*", re.ASCII)


def check_name(name: str) -> str:
    """Return `name`, or raise ValueError unless it is a safe object name.

    A name consists of segments separated by single slashes. A segment contains lowercase letters,
    digits, ``.``, ``_`` and ``-``, and starts with a letter or digit. Such a name means the same on
    every filesystem and in every URL, and can't leave the root.
    """
    if not _is_name(name):
        raise ValueError(f"{name!r} is not an object name")
    return name


@lru_cache(maxsize=256)  # a reader of small files asks for one pack again and again
def _is_name(name: str) -> bool:
    return len(name) <= 200 and all(_SEGMENT.fullmatch(part) for part in name.split("/"))


class ObjectInfo(NamedTuple):
    """The name and the size of a listed object."""

    name: str
    size: int
    """Size in bytes, as stored."""


class StagedObject(Protocol):
    """An object being written. It is invisible until published; discarding leaves nothing."""

    def write(self, data: Buffer) -> None:
        """Append all of `data`.

        Raises
        ------
        StorageFullError
            When no space is left.
        BackendError
            When storage fails. The only valid call is then `discard`.
        """

    def publish(self, name: str) -> None:
        """Make the object durable, and then visible under `name`.

        On raise the object is either invisible or completely visible.
        """

    def discard(self) -> None:
        """Discard the written bytes. Idempotent, without effect after `publish`. Never raises."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_error: object) -> None:
        """Discard the object unless it was published."""


class Backend(Protocol):
    """Storage of named immutable objects. The module docstring lists the promises."""

    @property
    def url(self) -> str:
        """Location of the storage for display, without credentials."""

    @property
    def publishes_at_once(self) -> int:
        """Number of objects of one batch to publish at the same time.

        Each stays in its staging area until it is published, beside the one being written.
        """

    @property
    def writes_at_once(self) -> int:
        """Largest number of objects of one batch to write at the same time."""

    @property
    def span_size(self) -> int:
        """Bytes up to which neighbouring entries are read at once, stored or decoded.

        More save requests, but no longer fit into the processor's cache.
        """

    @property
    def window_size(self) -> int:
        """Least bytes around a small entry to read together with it, or 0 to read it alone.

        About what storage sends while a request waits for its answer. See `cas.windows`.
        """

    @property
    def reads_at_once(self) -> int:
        """Number of requests, of `span_size` at most, that fetch what is needed next."""

    def stage(self) -> StagedObject:
        """Begin to write an object whose name is not known yet."""

    def create(self, name: str, data: bytes) -> bool:
        """Publish `data` as `name` if there is no such object; return whether this call did."""

    def read(self, name: str, start: int = 0, size: int | None = None) -> bytes:
        """Return `size` bytes from offset `start`, or fewer if the object ends before.

        Raises
        ------
        ObjectNotFoundError
            When there is no object with that name.
        UnreadableObjectError
            When the medium can't read some of these bytes of the object.
        """

    def size(self, name: str) -> int:
        """Return the size of an object in bytes; raise `ObjectNotFoundError` if it is missing."""

    def iter_objects(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield every object whose name starts with `prefix`, in no particular order.

        `prefix` consists of whole segments, as in ``"packs/"``. The result may or may not contain
        objects published or deleted meanwhile.
        """

    def delete(self, name: str) -> None:
        """Delete an object durably. A missing object is no error."""

    def close(self) -> None:
        """Release open resources; idempotent."""
