"""Processes that begin at once: what they are forked from has imported everything.

A new interpreter takes a second to import SQLAlchemy and the clients of PostgreSQL and S3.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from concurrent.futures import ThreadPoolExecutor

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["cas.backends.fsspec", "index.cli", "index.maintenance.gc.collect", "psycopg", "s3fs"]
)


class Forked:
    """A process that executes code with arguments, as ``python -c`` does, with pipes to it."""

    def __init__(self, code, *arguments):
        self.returncode = None
        (theirs_in, ours_in), (ours_out, theirs_out), (ours_err, theirs_err) = (
            FORKS.Pipe(duplex=False) for _ in range(3)
        )
        theirs = (theirs_in, theirs_out, theirs_err)
        self._process = FORKS.Process(target=_run, args=(code, [*map(str, arguments)], theirs))
        self._process.start()
        for end in theirs:
            end.close()
        self.stdin = _opened(ours_in, "w")
        self.stdout = _opened(ours_out, "r")
        self.stderr = _opened(ours_err, "r")

    def communicate(self, timeout=None):
        """Wait for its end; return the rest of its output and of its errors."""
        self.stdin.close()
        with ThreadPoolExecutor(2) as pool:
            reading = [pool.submit(stream.read) for stream in (self.stdout, self.stderr)]
            try:
                said = [each.result(timeout) for each in reading]
            except TimeoutError:
                self.kill()  # which ends its output, and so the reading
                raise
        self._process.join(timeout)
        self.returncode = self._process.exitcode
        self.stdout.close()
        self.stderr.close()
        return tuple(said)

    def kill(self):
        self._process.kill()

    def wait(self):
        self._process.join()
        self.returncode = self._process.exitcode


def _opened(end, mode):
    stream = os.fdopen(os.dup(end.fileno()), mode)
    end.close()
    return stream


def _run(code, arguments, ends):
    for number, end in enumerate(ends):
        os.dup2(end.fileno(), number)
        end.close()
    sys.stdin, sys.stdout, sys.stderr = (
        os.fdopen(number, mode, closefd=False) for number, mode in enumerate("rww")
    )
    sys.argv = ["-c", *arguments]
    exec(code, {"__name__": "__main__"})  # noqa: S102 - the test's own
