"""Changes of runs as server-sent events, for all readers from one thread that follows the store."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from starlette.responses import StreamingResponse

from cas.errors import CasError
from index.errors import ArtifactIndexError, StoreClosedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.responses import Response

    from index import ArtifactStore, RunChange
    from index.web.asked import Asked

__all__ = ["Feed"]

_logger = logging.getLogger("index.web")

_IDLE_S: Final = 15.0
"""Seconds without an event after which a comment is sent. Proxies close silent connections."""

_WAITING: Final = 100
"""Events that wait for a slow reader. It is then disconnected, and comes back by itself."""

_AGAIN_S: Final = 5.0
"""Seconds until the store is followed again after it failed."""


class Feed:
    """Tells any number of readers which runs change, by any process or host.

    One thread follows the store while there are readers.
    """

    def __init__(self, store: ArtifactStore, *, interval: float = 1.0) -> None:
        self._store, self._interval = store, interval
        self._lock = threading.Lock()
        self._readers: dict[asyncio.Queue[RunChange | None], asyncio.AbstractEventLoop] = {}
        self._stop: threading.Event | None = None
        self._begun = threading.Event()
        """Whether each change from now on is seen."""

    def events(self, asked: Asked) -> Response:
        """Return the stream of events of the runs that are asked for.

        Each event is ``change``, with a `RunChange` as JSON. A reader that comes back asks for
        what it shows again: there is no history of events.
        """
        if "run" in asked.path:
            asked.run.summary()  # which raises if there is none
        elif "session" in asked.path:
            asked.session.runs(limit=0)
        return StreamingResponse(
            self._stream(asked),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
        )

    def close(self) -> None:
        """End all streams, and the thread; idempotent."""
        with self._lock:
            for queue, loop in self._readers.items():
                with suppress(RuntimeError):  # its loop has ended
                    loop.call_soon_threadsafe(_put, queue, None)
            if self._stop is not None:
                self._stop.set()

    async def _stream(self, asked: Asked) -> AsyncIterator[str]:
        queue: asyncio.Queue[RunChange | None] = asyncio.Queue(_WAITING)
        self._enter(queue)
        try:
            await asyncio.to_thread(self._begun.wait, _AGAIN_S)
            yield "retry: 2000\n: connected\n\n"
            while True:
                try:
                    change = await asyncio.wait_for(queue.get(), _IDLE_S)
                except TimeoutError:
                    yield ": still here\n\n"
                    continue
                if change is None or queue.full():
                    return
                if _concerns(change, asked):
                    yield f"event: change\ndata: {json.dumps(change.to_dict())}\n\n"
        finally:
            self._leave(queue)

    def _enter(self, queue: asyncio.Queue[RunChange | None]) -> None:
        with self._lock:
            self._readers[queue] = asyncio.get_running_loop()
            if self._stop is None:
                self._stop = threading.Event()
                follow = threading.Thread(
                    target=self._follow, args=(self._stop,), name="cas-feed", daemon=True
                )
                follow.start()

    def _leave(self, queue: asyncio.Queue[RunChange | None]) -> None:
        with self._lock:
            self._readers.pop(queue, None)
            if not self._readers and self._stop is not None:
                self._stop.set()
                self._stop = None
                self._begun.clear()

    def _follow(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                changes = self._store.follow(stop=stop, interval=self._interval)
                self._begun.set()
                for change in changes:
                    self._tell(change)
            except StoreClosedError:
                return
            except (CasError, ArtifactIndexError) as error:
                _logger.warning("changes can't be followed: %s", error)
                stop.wait(_AGAIN_S)

    def _tell(self, change: RunChange) -> None:
        with self._lock:
            for queue, loop in self._readers.items():
                with suppress(RuntimeError):
                    loop.call_soon_threadsafe(_put, queue, change)


def _put(queue: asyncio.Queue[RunChange | None], change: RunChange | None) -> None:
    with suppress(asyncio.QueueFull):
        queue.put_nowait(change)


def _concerns(change: RunChange, asked: Asked) -> bool:
    if not asked.grant.covers(change.session):
        return False
    wanted = {"session": change.session, "run": change.run, **asked.path}
    return (change.session, change.run) == (wanted["session"], wanted["run"])
