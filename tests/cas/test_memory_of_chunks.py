"""The cost of a large file's chunks in memory, besides reading and hashing."""

from __future__ import annotations

import platform
import resource
import subprocess
import sys

PIECES = 512
PROGRAM = """
import os, resource, sys
from cas.backends.memory import MemoryBackend
from cas.chunker import CHUNK_SIZE, Chunker
from cas.writer import BatchWriter

class Nothing:
    def find_known(self, digests):
        return set(digests)

    def locate(self, digests):
        return {}

fd = os.memfd_create("file")
for _ in range(int(sys.argv[1])):
    os.write(fd, bytes(1 << 20))

with BatchWriter(MemoryBackend(), Nothing(), Chunker(CHUNK_SIZE)) as batch:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    batch.add_file(fd, int(sys.argv[1]) << 20)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_the_memory_of_a_chunk_serves_the_next():
    command = [sys.executable, "-c", PROGRAM, str(PIECES)]
    faults = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    pages = 2 * PIECES * (1 << 20) // resource.getpagesize()  # it is read twice
    # glibc keeps what is freed for what comes next. Elsewhere a page may be faulted in twice.
    assert faults < (pages / 4 if platform.libc_ver()[0] == "glibc" else 2 * pages)
