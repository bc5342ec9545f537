"""What chunkers store of files that change: bytes, rows of the index, and processor time.

    python benchmarks/bench_chunks.py
    python benchmarks/bench_chunks.py --scale 0.1 --only chat csv-rows

Each workload writes a directory several times. After each time "runcas" tracks it. For each chunker
the files are cut, and what was not there before is compressed and counted, as this library stores
entries of their own. Peers that keep versions are given the directory, too. pyarrow, h5py and numpy
make some of the files, and ``pip download`` two releases, if they are there.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from measure import KIB, MIB, Answer, of
from pages import command_line, publication
from peers import Peers, bytes_below, described
from pyfastcdc import FastCDC
from sqlalchemy import func, select
from workloads import NEEDS, WORKLOADS, UnavailableError

from cas.chunker import CHUNK_SIZE, Chunker
from cas.digest import Digest
from cas.packs.codec import encode_all
from cas.packs.pack import FOOTER_RECORD_SIZE
from index import ArtifactStore
from index.db import tables

if TYPE_CHECKING:
    from pathlib import Path

    from peers import Peer

PACKAGES: Final = ("runcas", "pyfastcdc", "blake3", "zstandard")
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


class Tracked:
    """A store of this library, as it is: packs, lists and their rows."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.cpu_s = 0.0
        self._store = ArtifactStore.open(root)

    def add(self, root: Path) -> None:
        """Track the present state of a directory."""
        begun = time.process_time()
        self._store.session("s").run("r").track(root)
        self.cpu_s += time.process_time() - begun

    @property
    def bytes(self) -> int:
        """The bytes of all objects."""
        return bytes_below(self._root / "packs")

    @property
    def rows(self) -> int:
        """The rows of blobs and of chunks."""
        with self._store.context.database.reading() as connection:
            return sum(
                connection.scalar(select(func.count()).select_from(table)) or 0
                for table in (tables.blobs, tables.blob_chunks)
            )


class Beside:
    """What a peer has stored."""

    def __init__(self, peer: Peer, store: Path, source: Path) -> None:
        self._peer = peer
        self._store = store
        self.cpu_s = 0.0
        store.mkdir()
        peer.create(store, source)

    def add(self, root: Path) -> None:
        """Store the present state of a directory."""
        begun = _children_s()
        self._peer.add(self._store, root)
        self.cpu_s += _children_s() - begun

    @property
    def bytes(self) -> int:
        """The bytes of the repository."""
        return bytes_below(self._store)

    @property
    def rows(self) -> int:
        """The chunks that it finds by their keys."""
        return self._peer.count(self._store)


def _children_s() -> float:
    spent = os.times()
    return spent.children_user + spent.children_system


def ask(name: str, scale: float, work: Path, peers: Peers) -> Answer:
    """Store all states of a workload with every chunker, and with the peers that are installed."""
    workload = WORKLOADS[name]
    answer = Answer(name, (workload.__doc__ or "").strip(" ."), 1)
    needed = NEEDS.get(name)
    if needed and importlib.util.find_spec(needed) is None:
        answer.skipped = f"{needed} is not installed"
        return answer
    place = work / name
    root = place / "work"
    root.mkdir(parents=True)
    contenders: dict[str, Stored | Tracked | Beside] = {"runcas": Tracked(place / "store")}
    contenders |= {chunker: Stored(cut) for chunker, cut in CHUNKERS.items()}
    for peer in peers.keeping_versions:
        contenders[peer.name] = Beside(peer, place / peer.name, root)
    total = states = 0
    try:
        for _ in workload(root, scale):
            total += bytes_below(root)
            states += 1
            for contender in contenders.values():
                contender.add(root)
        for who, contender in contenders.items():
            answer.note(of("bytes stored", who), contender.bytes, "bytes")
            answer.note(of("processor time", who), contender.cpu_s)
            answer.note(of("rows", who), contender.rows, "rows")
    except UnavailableError as reason:
        answer.skipped = str(reason)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    answer.compare("bytes stored", of("bytes stored", "runcas"), of("bytes stored", "restic"))
    answer.remarks.append(f"{states} states, {total / 1e6:,.1f} MB in all.")
    return answer


def main() -> None:
    """Ask the questions."""
    parser = command_line(__doc__, list(WORKLOADS))
    parser.set_defaults(rounds=1)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the sizes")
    parser.add_argument("--peers", nargs="+", help="those to compare with, if not all")
    options = parser.parse_args()
    with publication("chunks", "Chunkers", options, PACKAGES) as page:
        peers = Peers(page.work, options.peers)
        page.about |= {**described(peers.versions), "scale": f"{options.scale:g}"}
        page.ask({name: partial(ask, name, options.scale, page.work, peers) for name in WORKLOADS})


if __name__ == "__main__":
    main()
