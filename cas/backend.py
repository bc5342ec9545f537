"""Where named objects live: the contract that every backend keeps.

A backend stores immutable objects under names and knows nothing of what is in them. It promises:

* **Atomicity.** An object is visible whole under its name or not at all. Nothing staged is ever
  listed or read.
* **Durability.** When `StagedObject.publish` or `Backend.create` has returned, the object survives
  a crash of the process, of the machine and a loss of power.
* **Read after write.** An object that was published is found by the next call of any process.
* **Publish if absent.** Of several calls of `Backend.create` for one name, by whichever processes,
  exactly one returns True, and every later read sees that one's bytes.
* **Immutability.** A name's bytes never change. Publishing the same name again leaves an object
  with the bytes of one of the two.
* **Errors.** Only errors of `cas.errors` leave a backend; the original is the ``__cause__``.
  Trying again may help after `TransientBackendError` and after no other.
* **Threads.** Every method may be called from any thread at once; one `StagedObject` belongs to
  one thread at a time.

A backend trusts its storage: digests are checked once, above it, in `cas.reader`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from cas.digest import Buffer

__all__ = ["Backend", "ObjectInfo", "StagedObject", "check_name"]

_SEGMENT: Final = re.compile(r"[a-z0-9][a-z0-9._-]*", re.ASCII)


def check_name(name: str) -> str:
    """Return `name`, or raise ValueError unless it is a safe object name.

    Segments of lowercase letters, digits, ``.``, ``_`` and ``-``, parted by single slashes and
    starting with a letter or digit: such a name means the same on every filesystem and in every
    URL, and can't climb out of the root.
    """
    if len(name) > 200 or not all(_SEGMENT.fullmatch(part) for part in name.split("/")):
        raise ValueError(f"{name!r} is not an object name")
    return name


class ObjectInfo(NamedTuple):
    """A name and what listing tells of it."""

    name: str
    size: int
    """Bytes stored."""


class StagedObject(Protocol):
    """An object being written. Invisible until published, gone without trace if it is not."""

    def write(self, data: Buffer) -> None:
        """Append `data` whole.

        Raises
        ------
        StorageFullError
            When no space is left.
        BackendError
            When storage fails; the staged object can then only be discarded.
        """

    def publish(self, name: str) -> None:
        """Make everything written durable, then visible under `name`, in that order.

        On raise nothing that was not there before is visible, or the whole object is.
        """

    def discard(self) -> None:
        """Forget what was written; idempotent, and harmless after `publish`. Never raises."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Discard what was not published."""


class Backend(Protocol):
    """Named immutable objects; the module's docstring lists what holds for all of them."""

    @property
    def url(self) -> str:
        """Where this is, for people: no credentials."""

    @property
    def publishes_at_once(self) -> int:
        """How many objects of one batch should be published at the same time.

        Each lies where it was staged until then, and one more while it is written.
        """

    @property
    def writes_at_once(self) -> int:
        """How many objects of one batch should be written at the same time, if it has so many."""

    def stage(self) -> StagedObject:
        """Begin an object whose name is not known yet."""

    def create(self, name: str, data: bytes) -> bool:
        """Publish `data` as `name` if there is no such object; return whether this call did."""

    def read(self, name: str, start: int = 0, size: int | None = None) -> bytes:
        """Return at most `size` bytes from offset `start`; fewer only where the object ends.

        Raises
        ------
        ObjectNotFoundError
            When there is no object of that name.
        UnreadableObjectError
            When there is one, and the medium refuses some of these bytes.
        """

    def size(self, name: str) -> int:
        """Return the size of an object in bytes; raise `ObjectNotFoundError` if there is none."""

    def iter_objects(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield every object whose name starts with `prefix`, in no particular order.

        `prefix` is whole segments, as in ``"packs/"``. Objects published or deleted meanwhile may
        or may not be among them.
        """

    def delete(self, name: str) -> None:
        """Remove an object durably; no error if there is none."""

    def close(self) -> None:
        """Release what is held open; idempotent."""
