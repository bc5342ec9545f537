"""What chunkers store of files that change: bytes, rows of the index, and processor time.

    python benchmarks/bench_chunks.py
    python benchmarks/bench_chunks.py --scale 0.1 --only chat csv

Each workload writes a directory several times. After each time its files are cut, and what was not
there before is compressed and counted as this library stores it. restic and borg, where they are
installed, back the directory up each time. pyarrow and h5py make two of the files, if they are
there.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

from contenders import Restic, bytes_below
from measure import MIB, RESULTS, Answer, answer_all, environment
from pyfastcdc import FastCDC
from workloads import KIB, NEEDS, WORKLOADS

from cas.chunker import CHUNK_SIZE, Chunker
from cas.digest import Digest
from cas.packs.codec import encode_all
from cas.packs.pack import FOOTER_RECORD_SIZE

Cut: TypeAlias = Callable[[bytes], list[memoryview]]
LIST_ENTRY: Final = 32
"""Bytes of a chunk in the list of its blob in storage."""


def fixed(size: int) -> Cut:
    """Cut at every multiple of a size."""

    def cut(data: bytes) -> list[memoryview]:
        view = memoryview(data)
        return [view[start : start + size] for start in range(0, len(data), size)] or [view]

    return cut


def content_defined(average: int, *, least: int = 4, most: int = 4, whole_below: int = 0) -> Cut:
    """Cut by content: from ``average / least`` to ``average * most``."""
    cutter = FastCDC(avg_size=average, min_size=average // least, max_size=average * most)

    def cut(data: bytes) -> list[memoryview]:
        if len(data) <= max(whole_below, average // least):
            return [memoryview(data)]
        return [chunk.data for chunk in cutter.cut_buf(data)]

    return cut


def as_stored(size: int) -> Cut:
    """Cut as a store with this chunk size does."""
    chunker = Chunker(size)

    def cut(data: bytes) -> list[memoryview]:
        return [memoryview(data)] if len(data) <= chunker.whole else chunker.cut(data, 0)

    return cut


CHUNKERS: Final[dict[str, Cut]] = {
    "as stored": as_stored(CHUNK_SIZE),
    "growing from 32 KiB": as_stored(32 * KIB),
    "growing from 128 KiB": as_stored(128 * KIB),
    "fixed 1 MiB": fixed(MIB),
    "fixed 64 KiB": fixed(64 * KIB),
    **{f"content {size} KiB": content_defined(size * KIB) for size in (16, 64, 256, 1024)},
}


class Stored:
    """What one chunker has stored of the states of a workload."""

    def __init__(self, cut: Cut) -> None:
        self._cut = cut
        self._known: set[Digest] = set()
        self.bytes = 0
        self.rows = 0
        self.cpu_s = 0.0

    def add(self, root: Path) -> None:
        """Store the present state of a directory."""
        for path in sorted(root.rglob("*")):
            data = path.read_bytes() if path.is_file() else b""
            begun = time.process_time()
            pieces = self._cut(data)
            new = {}
            if len(pieces) > 1 and (whole := Digest.of(data)) not in self._known:
                self._known.add(whole)
                self.bytes += LIST_ENTRY * len(pieces)
                self.rows += len(pieces)
            for piece in pieces:
                digest = Digest.of(piece)
                if digest not in self._known:
                    self._known.add(digest)
                    new[digest] = piece
            for _, stored in encode_all(list(new.values())):
                self.bytes += len(stored) + FOOTER_RECORD_SIZE
            self.rows += len(new)
            self.cpu_s += time.process_time() - begun


class Borg:
    """borg with zstd, as restic has."""

    def __init__(self, work: Path) -> None:
        self._environment = {
            **os.environ,
            "BORG_BASE_DIR": str(work / "borg-base"),
            "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
        }
        self._number = 0

    def create(self, repository: Path) -> None:
        """Initialise a repository."""
        self._run("init", "--encryption=none", str(repository))

    def backup(self, repository: Path, source: Path) -> None:
        """Back `source` up."""
        self._number += 1
        archive = f"{repository}::{self._number}"
        self._run("create", "--compression=zstd,3", archive, source.name, cwd=source.parent)

    def _run(self, *arguments: str, cwd: Path | None = None) -> None:
        command = ["borg", *arguments]
        subprocess.run(command, check=True, capture_output=True, env=self._environment, cwd=cwd)


def ask(name: str, scale: float, work: Path) -> Answer:
    """Store all states of a workload with every chunker, and with the peers that are installed."""
    workload = WORKLOADS[name]
    answer = Answer(name, (workload.__doc__ or "").strip(), 1)
    needed = NEEDS.get(name)
    if needed and importlib.util.find_spec(needed) is None:
        answer.skipped = f"{needed} is not installed"
        return answer
    root = work / "work"
    root.mkdir()
    chunkers = {chunker: Stored(cut) for chunker, cut in CHUNKERS.items()}
    restic, borg = Restic(work), Borg(work)
    peers = {"restic": restic} if restic else {}
    if shutil.which("borg"):
        peers["borg"] = borg
    for peer, program in peers.items():
        program.create(work / peer)
    total = states = 0
    try:
        for _ in workload(root, scale):
            total += bytes_below(root)
            states += 1
            for stored in chunkers.values():
                stored.add(root)
            for peer, program in peers.items():
                program.backup(work / peer, root)
        for chunker, stored in chunkers.items():
            answer.note(chunker, stored.bytes, "bytes")
            answer.remarks.append(
                f"{chunker}: {stored.rows:,} rows, {stored.cpu_s:.2f} s of one processor"
            )
        for peer in peers:
            answer.note(peer, bytes_below(work / peer), "bytes")
    finally:
        for path in (root, work / "restic", work / "borg"):
            shutil.rmtree(path, ignore_errors=True)
    answer.remarks.insert(0, f"{states} states, {total / 1e6:.0f} MB in all")
    return answer


def main() -> None:
    """Ask the questions."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=WORKLOADS, nargs="+")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the sizes")
    parser.add_argument("--work", type=Path, help="where temporary data goes")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where results go")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.work, prefix="bench-chunks-") as directory:
        work = Path(directory)
        about = environment(work, ("runcas", "pyfastcdc", "blake3", "zstandard"))
        about["scale"] = f"{options.scale:g}"
        asked = {
            name: partial(ask, name, options.scale, work) for name in options.only or WORKLOADS
        }
        print(answer_all("bench_chunks", "Chunkers", asked, about, options.results))


if __name__ == "__main__":
    main()
