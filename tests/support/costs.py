"""What a piece of work costs in figures that no other load moves: calls, bytes, memory."""

from __future__ import annotations

import gc
import os
import tracemalloc
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

CALLS = (
    "chmod", "close", "dup", "fsync", "fstat", "ftruncate", "link", "listdir", "lstat", "mkdir",
    "open", "pread", "pwrite", "read", "readlink", "rename", "stat", "statvfs", "unlink", "utime",
    "write",
)  # fmt: skip
"""Functions of `os` that are a system call each."""


class _Entry:
    """An entry of a directory whose `stat` is counted. What kind it is costs no call."""

    def __init__(self, entry, called):
        self._entry = entry
        self._called = called
        self.name = entry.name
        self.path = entry.path
        self.is_dir = entry.is_dir
        self.is_file = entry.is_file
        self.is_symlink = entry.is_symlink

    def stat(self, *, follow_symlinks=True):
        self._called.append("stat")
        return self._entry.stat(follow_symlinks=follow_symlinks)


@contextmanager
def system_calls():
    """Yield a Counter that holds the calls of Python code, by name, once the block is over.

    Those of SQLite are not among them: its statements are counted instead.
    """
    called = []
    found = Counter()

    def counted(name):
        call = getattr(os, name)

        def counting(*args, **kwargs):
            called.append(name)
            return call(*args, **kwargs)

        return counting

    scandir = os.scandir

    @contextmanager
    def scanning(path="."):
        called.append("scandir")
        with scandir(path) as entries:
            yield (_Entry(entry, called) for entry in entries)

    replaced = {name: counted(name) for name in CALLS}
    with mock.patch.multiple(os, scandir=scanning, **replaced):
        yield found
    found.update(called)


def bytes_written():
    """Return the bytes that this process has handed to the kernel so far, by any library."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("wchar:")))


def peak_memory(work):
    """Return the most bytes that Python objects took while `work` went on, above what was there."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        work()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def blocks_kept(work):
    """Return how many blocks of Python's memory `work` has allocated and not let go of."""
    tracemalloc.start()
    try:
        work()
        gc.collect()
        return sum(found.count for found in tracemalloc.take_snapshot().statistics("filename"))
    finally:
        tracemalloc.stop()
