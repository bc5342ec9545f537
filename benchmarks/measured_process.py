"""One piece of work in a process of its own, which prints its time and peak memory as JSON.

    python measured_process.py idle
    python measured_process.py WORK STORE [ARGUMENT …]

The peak is the kernel's VmHWM, which begins anew with the program. The figure of getrusage and
wait4 does not: it carries over what the parent had in memory when it started the child.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cas.packs.codec
import index

if TYPE_CHECKING:
    from collections.abc import Callable

    from index import ArtifactStore
    from index.api.run import Run

Found = dict[str, Any]


def track(run: Run, directory: str, level: str = "") -> Found:
    """Track a directory."""
    if level:
        cas.packs.codec.ZSTD_LEVEL = int(level)
    return {"bytes_stored": run.track(directory).bytes_stored}


def restore(run: Run, destination: str) -> None:
    """Restore the run."""
    run.restore(destination)


def read_whole(run: Run, path: str) -> None:
    """Read a file by one call."""
    with run.open(path) as stream:
        stream.read()


def read_blocks(run: Run, path: str) -> None:
    """Read a file in blocks of 1 MiB."""
    with run.open(path) as stream:
        while stream.read(1 << 20):
            pass


def list_all(run: Run) -> Found:
    """List all files."""
    return {"count": len(run.files())}


def list_first(run: Run) -> Found:
    """List the first hundred files of all, as they come."""
    return {"count": len(list(itertools.islice(run.iter_files(), 100)))}


def stream_all(run: Run) -> Found:
    """List all files, as they come."""
    return {"count": sum(1 for _ in run.iter_files())}


def snapshots(run: Run) -> Found:
    """List the snapshots."""
    return {"count": len(run.snapshots())}


def stats(run: Run) -> None:
    """Ask for the totals."""
    run.stats()


def put(run: Run, name: str, count: str) -> Found:
    """Put small files, each new; tell how long each took."""
    samples = []
    for number in range(int(count)):
        started = time.perf_counter()
        run.put(f"{name}/{number}", os.urandom(64))
        samples.append(time.perf_counter() - started)
    return {"samples": samples}


WORKS: dict[str, Callable[..., Found | None]] = {
    work.__name__: work
    for work in (
        *(track, restore, read_whole, read_blocks, put),
        *(list_all, list_first, stream_all, snapshots, stats),
    )
}


def peak_bytes() -> int:
    """Return the largest resident set that this process has had."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("the kernel does not say how much memory was used")


def run_of(store: ArtifactStore) -> Run:
    """Return the run that all benchmarks record into."""
    return store.session("s").run("r")


def main() -> None:
    """Do what the arguments say."""
    work, *arguments = sys.argv[1:]
    found: Found = {"seconds": 0.0}
    if work != "idle":
        store_path, *rest = arguments
        with index.ArtifactStore.open(store_path) as store:
            run = run_of(store)
            started = time.perf_counter()
            more = WORKS[work](run, *rest)
            found["seconds"] = time.perf_counter() - started
        found |= more or {}
    print(json.dumps({**found, "peak": peak_bytes()}))


if __name__ == "__main__":
    main()
