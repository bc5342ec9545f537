"""One piece of work in a process of its own, which prints its time, bytes and peak memory as JSON.

    python measured_process.py idle
    python measured_process.py track STORE DIRECTORY RUN [ZSTD_LEVEL]
    python measured_process.py restore STORE DESTINATION RUN

The peak is the kernel's VmHWM, which begins anew with the program. The figure of getrusage and
wait4 does not: it carries over what the parent had in memory when it started the child.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import cas.packs.codec
import index


def peak_bytes() -> int:
    """Return the largest resident set that this process has had."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("the kernel does not say how much memory was used")


def main() -> None:
    """Do what the arguments say."""
    work, *arguments = sys.argv[1:]
    found = {"seconds": 0.0, "bytes_stored": 0}
    if work != "idle":
        store_path, directory, run_id, *level = arguments
        if level:
            cas.packs.codec.ZSTD_LEVEL = int(level[0])
        with index.ArtifactStore.open(store_path) as store:
            run = store.session("s").run(run_id)
            started = time.perf_counter()
            if work == "track":
                found["bytes_stored"] = run.track(directory).bytes_stored
            else:
                run.restore(directory)
            found["seconds"] = time.perf_counter() - started
    print(json.dumps({**found, "peak": peak_bytes()}))


if __name__ == "__main__":
    main()
