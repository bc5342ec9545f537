"""Objects in memory, for tests and experiments. They are lost when the process ends."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, Self

from cas.backend import ObjectInfo, check_name
from cas.errors import ObjectNotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cas.digest import Buffer

__all__ = ["MemoryBackend"]


class MemoryBackend:
    """A `cas.backend.Backend` in the memory of the process."""

    publishes_at_once: Final = 1
    writes_at_once: Final = 1
    span_size: Final = 8 << 20
    window_size: Final = 256 << 10
    reads_at_once: Final = 1

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        """The published objects. Tests damage them here."""
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return "memory:"

    def stage(self) -> _StagedBytes:
        return _StagedBytes(self)

    def create(self, name: str, data: bytes) -> bool:
        check_name(name)
        with self._lock:
            if name in self.objects:
                return False
            self.objects[name] = bytes(data)
            return True

    def read(self, name: str, start: int = 0, size: int | None = None) -> bytes:
        data = self._get(name)
        return data[start:] if size is None else data[start : start + size]

    def size(self, name: str) -> int:
        return len(self._get(name))

    def iter_objects(self, prefix: str) -> Iterator[ObjectInfo]:
        for name, data in list(self.objects.items()):
            if name.startswith(prefix):
                yield ObjectInfo(name, len(data))

    def delete(self, name: str) -> None:
        self.objects.pop(check_name(name), None)

    def close(self) -> None:
        return

    def _get(self, name: str) -> bytes:
        try:
            return self.objects[check_name(name)]
        except KeyError:
            raise ObjectNotFoundError(name) from None


class _StagedBytes:
    def __init__(self, backend: MemoryBackend) -> None:
        self._backend = backend
        self._data = bytearray()

    def write(self, data: Buffer) -> None:
        self._data += data

    def publish(self, name: str) -> None:
        self._backend.objects[check_name(name)] = bytes(self._data)

    def discard(self) -> None:
        self._data.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.discard()
