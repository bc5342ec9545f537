"""A reader of HTTP in a process of its own: several connections that are kept, a thread for each.

    python web_client.py JSON

The argument has the fields of `Work`. It prints the seconds that all took, and those of each answer
from the request to its last byte. Opening the connections, with an answer that each throws away,
comes before.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
from dataclasses import dataclass
from itertools import cycle, islice
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable

_BLOCK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Work:
    """What to ask for."""

    address: str
    headers: dict[str, str]
    paths: list[str]
    """Each connection asks for them in turns."""
    connections: int
    requests: int
    """Of each connection."""
    size: int | None
    """The bytes that each answer must have; None for any."""
    opening: str
    """What each connection asks for before the time begins."""


def _read(line: http.client.HTTPConnection, path: str, work: Work, room: memoryview) -> int:
    line.request("GET", path, headers=work.headers)
    answer = line.getresponse()
    if answer.status != 200:
        raise SystemExit(f"{path} was answered with status {answer.status}")
    size = 0
    while count := answer.readinto(room):
        size += count
    return size


def _follow(
    work: Work, paths: Iterable[str], start: threading.Barrier, samples: list[float]
) -> None:
    line = http.client.HTTPConnection(urlsplit(work.address).netloc)
    room = memoryview(bytearray(_BLOCK))
    _read(line, work.opening, work, room)
    start.wait()
    for path in paths:
        begun = time.perf_counter()
        size = _read(line, path, work, room)
        samples.append(time.perf_counter() - begun)
        if work.size not in (None, size):
            raise SystemExit(f"{path} has {size} bytes")
    line.close()


def main() -> None:
    """Ask, and print the times."""
    work = Work(**json.loads(sys.argv[1]))
    start = threading.Barrier(work.connections + 1)
    samples: list[float] = []
    threads = [
        threading.Thread(
            target=_follow,
            args=(work, islice(cycle(work.paths), n, n + work.requests), start, samples),
            daemon=True,
        )
        for n in range(work.connections)
    ]
    for thread in threads:
        thread.start()
    start.wait(timeout=60)
    begun = time.perf_counter()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - begun
    if len(samples) != work.connections * work.requests:
        raise SystemExit("a connection failed; its error is above")
    print(json.dumps({"seconds": seconds, "samples": samples}))


if __name__ == "__main__":
    main()
