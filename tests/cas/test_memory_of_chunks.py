"""The cost of a large file's chunks in memory, besides reading and hashing."""

from __future__ import annotations

import platform
import resource
import subprocess
import sys

PIECES = 1024
PROGRAM = """
import resource, sys
from cas.backends.memory import MemoryBackend
from cas.chunker import CHUNK_SIZE, Chunker
from cas.writer import BatchWriter

class Nothing:
    def find_known(self, digests):
        return set(digests)

    def locate(self, digests):
        return {}

def pieces():
    with open("/dev/zero", "rb", buffering=0) as file:
        for _ in range(int(sys.argv[1])):
            yield file.read(1 << 20)

with BatchWriter(MemoryBackend(), Nothing(), Chunker(CHUNK_SIZE)) as batch:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    batch.add_pieces(pieces())
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_the_memory_of_a_chunk_serves_the_next():
    command = [sys.executable, "-c", PROGRAM, str(PIECES)]
    faults = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    pages = PIECES * (1 << 20) // resource.getpagesize()
    # Only glibc has a setting to keep the memory. Elsewhere a page may be faulted in twice.
    assert faults < (pages / 20 if platform.libc_ver()[0] == "glibc" else 2 * pages)
