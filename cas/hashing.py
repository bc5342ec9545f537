"""Background hashing: another thread hashes the bytes while the caller goes on."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from cas.digest import Digest, Hasher

if TYPE_CHECKING:
    from concurrent.futures import Future

    from cas.digest import Buffer

__all__ = ["BackgroundHasher", "HashingThread"]

_AHEAD: Final = 8
"""Largest number of queued updates: 8 MiB with pieces of at most 1 MiB."""


class HashingThread:
    """A thread that several hashers share. It starts with the first update."""

    def __init__(self, name: str) -> None:
        # One worker runs the updates of a hasher in their order.
        self.executor: Final = ThreadPoolExecutor(1, name)

    def hasher(self) -> BackgroundHasher:
        """Return a new hasher that uses this thread."""
        return BackgroundHasher(self.executor)

    def close(self) -> None:
        """Stop the thread. Queued updates are not hashed."""
        self.executor.shutdown(wait=False, cancel_futures=True)


class BackgroundHasher:
    """A `Hasher` whose `update` returns before the bytes are hashed. They must not change."""

    def __init__(self, executor: ThreadPoolExecutor) -> None:
        self._executor = executor
        self._hasher = Hasher()
        self._waiting: deque[Future[None]] = deque()

    def update(self, data: Buffer) -> None:
        """Append `data`; wait while the queue is full."""
        if len(self._waiting) == _AHEAD:
            self._waiting.popleft().result()
        self._waiting.append(self._executor.submit(self._hasher.update, data))

    def digest(self) -> Digest:
        """Return the digest of everything appended so far."""
        self._settle()
        return self._hasher.digest()

    @property
    def size(self) -> int:
        """Bytes appended so far."""
        self._settle()
        return self._hasher.size

    def _settle(self) -> None:
        while self._waiting:
            self._waiting.popleft().result()
