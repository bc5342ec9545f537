"""Work directories for tests, written and read without the library."""

from __future__ import annotations

import os
import time
from pathlib import Path

LONG_AGO = 1_000_000_000


def write(root, files, *, age_s=10):
    """Write `{path: bytes}` below `root`."""
    for path, data in files.items():
        target = Path(root) / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        os.utime(target, (time.time() - age_s, time.time() - age_s))


def read(root):
    """Return `{path: bytes}` of the regular files below `root`."""
    return {
        os.path.relpath(os.path.join(folder, name), root): Path(folder, name).read_bytes()
        for folder, _, names in os.walk(root)
        for name in names
        if not os.path.islink(os.path.join(folder, name))
    }


def contents(run, at=None):
    """Return `{path: bytes}` of the files of a run."""
    return {v.path: run.read_bytes(v.path, at=at) for v in run.files(at=at)}


def packs_in(store_root):
    """Return the pack files of a local store."""
    return sorted(Path(store_root, "packs").glob("*/*.pack"))
