"""A worker process, as the previewer sees it."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from index.web.previews.protocol import (
    ANSWER,
    BYTES,
    JOB,
    READ,
    SPENT,
    WorkerLostError,
    receive,
    send,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

__all__ = ["READ_BOUND", "TimedOutError", "WorkerProcess"]

READ_BOUND: Final = 32 << 20
"""Bytes of a file that a preview reads at most."""

_PIECE: Final = 4 << 20
"""Bytes that a worker asks for at most at once."""

_RANGE: Final = struct.Struct(">QQ")

_START: Final = """\
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from index.web.previews.worker import main
main(*json.loads(sys.argv[2]))
"""
"""Starts a worker with the modules of this process: -I alone would not find all of them."""

_ENVIRONMENT: Final = {
    "LC_ALL": "C.UTF-8",
    "ARROW_DEFAULT_MEMORY_POOL": "system",  # the others reserve address space, which is limited
    "HDF5_PLUGIN_PATH": "::",  # loads no plugin
    "HDF5_USE_FILE_LOCKING": "FALSE",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
"""All variables of a worker. Those of this process may hold secrets."""


class TimedOutError(Exception):
    """A worker was killed because it took too long."""


class WorkerProcess:
    """A process that makes one preview at a time. It ends when its standard input closes."""

    def __init__(self, *, timeout: float, memory: int) -> None:
        paths = [str(Path(each).resolve()) for each in sys.path]
        command = [sys.executable, "-I", "-B", "-c", _START, json.dumps(paths)]
        self._timeout = timeout
        self._process = subprocess.Popen(  # noqa: S603 - our interpreter and our arguments
            [*command, json.dumps([memory, timeout])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_ENVIRONMENT,
            cwd="/",
            close_fds=True,
            start_new_session=True,  # Ctrl-C ends the server, which then ends its workers
        )

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def ask(
        self, job: dict[str, Any], read: Callable[[int, int], bytes], *, timeout: float
    ) -> dict[str, Any]:
        """Return the answer to a job.

        Parameters
        ----------
        read
            Returns bytes of the file by offset and count. What it raises goes to the caller; the
            worker is then of no more use, and must be closed.
        timeout
            Seconds after which the process is killed.

        Raises
        ------
        TimedOutError
            When the process was killed because of its time.
        WorkerLostError
            When the process ended otherwise.
        """
        deadline = time.monotonic() + timeout
        timer = threading.Timer(timeout, self._process.kill)
        timer.daemon = True
        timer.start()
        try:
            return self._converse(job, read)
        except WorkerLostError as error:
            if time.monotonic() >= deadline:
                raise TimedOutError from error
            raise
        finally:
            timer.cancel()

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for stream in self._streams:
            try:
                stream.close()
            except OSError:  # a write that was buffered when the process ended
                continue

    @property
    def _streams(self) -> tuple[BinaryIO, BinaryIO]:
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise WorkerLostError
        return stdin, stdout  # type: ignore[return-value]

    def _converse(self, job: dict[str, Any], read: Callable[[int, int], bytes]) -> dict[str, Any]:
        stdin, stdout = self._streams
        send(stdin, JOB, json.dumps(job).encode())
        left = READ_BOUND
        while True:
            letter, payload = receive(stdout)
            if letter == ANSWER:
                return _parsed(payload)
            if letter != READ or len(payload) != _RANGE.size:
                raise WorkerLostError
            offset, count = _RANGE.unpack(payload)
            if not 0 < count <= min(left, _PIECE):
                send(stdin, SPENT, b"")
                continue
            left -= count
            send(stdin, BYTES, read(offset, count))


def _parsed(payload: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise WorkerLostError from error
    if not isinstance(answer, dict):
        raise WorkerLostError
    return answer
