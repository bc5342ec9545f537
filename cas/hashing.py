"""Hashing beside other work: the bytes are hashed on another thread while the caller goes on."""

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
"""Updates that may wait: with pieces of at most 1 MiB that is 8 MiB."""


class HashingThread:
    """A thread that hashers share. It starts with their first update."""

    def __init__(self, name: str) -> None:
        # One worker, so that the updates of one hasher run in the order they came.
        self.executor: Final = ThreadPoolExecutor(1, name)

    def hasher(self) -> BackgroundHasher:
        """Return a new hasher of its own bytes."""
        return BackgroundHasher(self.executor)

    def close(self) -> None:
        """Let go of the thread; what waits is not hashed any more."""
        self.executor.shutdown(wait=False, cancel_futures=True)


class BackgroundHasher:
    """Like `Hasher`, but `update` returns before the bytes are hashed; they must not change."""

    def __init__(self, executor: ThreadPoolExecutor) -> None:
        self._executor = executor
        self._hasher = Hasher()
        self._waiting: deque[Future[None]] = deque()

    def update(self, data: Buffer) -> None:
        """Append `data`; wait if too much waits already."""
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
