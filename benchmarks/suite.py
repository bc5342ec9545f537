"""The benchmarks, in the order of their pages."""

from __future__ import annotations

from typing import Final

QUICK: Final = {
    "hash": "--rounds 1 --files 50 --max-size 65536",
    "track": (
        "--rounds 1 --files 100 --tree-files 100 --large-gib 0.002 --sparse-gib 0.01 --steps 2"
        " --steps-start-mib 1 --peers cp tar rsync git casync mksquashfs"
    ),
    "read": "--rounds 1 --files 100 --large-mib 4 --reads 100",
    "chunks": "--scale 0.01 --only chat csv-rows sqlite --peers git casync",
    "frames": "--rounds 1 --files 100 --tree-files 100",
    "scale": (
        "--rounds 1 --most 100 --versions 1000 --listing-files 100 --listing-runs 2 --peers git"
    ),
    "runs": "--rounds 1 --files 100 --tree-files 50 --runs 2 --puts 2",
    "verify": "--rounds 1 --files 100 --large-gib 0.005 --rows 1000",
    "gc": "--rounds 1 --rows 2000 --bytes 4194304",
    "partitions": "--rounds 1 --versions 20000",
    "lineage": "--rounds 1 --runs 2",
    "web": (
        "--rounds 1 --requests 8 --page-requests 1 --large-mib 4 --index-runs 2 --index-files 500"
        " --files 500 --only pages large index"
    ),
    "remote": "--rounds 1 --files 20 --peer-files 10 --large-mib 2",
}
"""For each benchmark, in the order of the pages, the options of a quick run."""
