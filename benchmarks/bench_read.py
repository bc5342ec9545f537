"""What it costs to read single files, a large one at once, a little here and there, and by URL.

    python benchmarks/bench_read.py
    python benchmarks/bench_read.py --only single --files 2000 --rounds 2 --results /tmp/trial

The limit of each is the same from the plain file, hashed where the store verifies a whole file.
"""

from __future__ import annotations

import random
import shutil
import subprocess
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from blake3 import blake3
from contenders import measured
from datasets import random_pieces, settle
from measure import GIB, MIB, Answer, named
from pages import command_line, publication
from sources import Sources

from index import ArtifactStore
from index.filesystem import CasFileSystem

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from pathlib import Path

    from index.api.run import Run

PACKAGES: Final = ("runcas", "blake3", "zstandard", "SQLAlchemy")
READ: Final = 4 << 10
"""Bytes of a random read."""

WHOLE, BLOCKS, PLAIN = "open().read()", "open(), reads of 1 MiB", "the plain file"
SMALL, BY_URL, PIPED = "read and BLAKE3 of each", "reads of 1 MiB by URL", "cat to b3sum"
FIRST, AGAIN = "in a store just opened", "in chunks read before"


@dataclass(slots=True)
class Bench:
    """What every question is asked with."""

    work: Path
    options: argparse.Namespace
    sources: Sources
    _large: tuple[Path, Path] | None = field(default=None, init=False)

    def large(self) -> tuple[Path, Path]:
        """Return a store with one large file in the run `r`, and the file."""
        if self._large is None:
            path = self.work / "one" / "large.bin"
            path.parent.mkdir()
            with path.open("wb") as file:
                file.writelines(random_pieces("large", self.options.large_mib * MIB))
            settle(path.parent)
            with ArtifactStore.open(self.work / "store-large") as store:
                store.session("s").run("r").track(path.parent)
            self._large = self.work / "store-large", path
        return self._large


def ask_single(bench: Bench) -> Answer:
    """Small files by `read_bytes`, one after the other."""
    source, subject = bench.sources.find("small")
    draw = random.Random(11)  # noqa: S311 - test data
    paths = sorted(path for path in source.rglob("*") if path.is_file())
    chosen = draw.sample(paths, min(bench.options.reads // 10, len(paths)))
    names = [str(path.relative_to(source)) for path in chosen]
    answer = Answer(
        "single", f"{len(names):,} of {subject}, in no order; a sample is all", bench.options.rounds
    )
    with ArtifactStore.open(bench.work / "store-small") as store:
        run = store.session("s").run("r")
        run.track(source)
        answer.take_turns(
            {
                "run.read_bytes": lambda: [run.read_bytes(name) for name in names],
                "run.open and read": lambda: [_opened(run, name) for name in names],
                "read and BLAKE3": lambda: [blake3(path.read_bytes()) for path in chosen],
            }
        )
    each = answer.series["run.read_bytes"].median / len(names)
    answer.remarks.append(f"{each * 1e6:.0f} µs for each `read_bytes`.")
    answer.compare("reading a small file", "run.read_bytes", "read and BLAKE3", 4.0)
    answer.compare("reading a small file", "run.open and read", "read and BLAKE3")
    return answer


def _opened(run: Run, name: str) -> bytes:
    with run.open(name) as stream:
        return stream.read()


def ask_whole(bench: Bench) -> Answer:
    """A large file by one call and in blocks: time, and peak memory above an import."""
    store_path, path = bench.large()
    size = path.stat().st_size
    answer = Answer("whole", f"One file of {named(size)} that does not compress", 0)
    answer.rounds = bench.options.rounds
    with ArtifactStore.open(store_path) as store:
        run = store.session("s").run("r")
        answer.take_turns(
            {
                WHOLE: lambda: _opened(run, path.name),
                BLOCKS: lambda: _in_blocks(run, path.name),
                f"{PLAIN}, read and BLAKE3": lambda: blake3(path.read_bytes()),
                f"{PLAIN}, read": path.read_bytes,
            }
        )
    idle = measured("idle")["peak"]
    for name, work in ((WHOLE, "read_whole"), (BLOCKS, "read_blocks")):
        peak = measured(work, str(store_path), path.name)["peak"]
        answer.note(f"{name}, memory", (peak - idle) / MIB, "MiB")
    answer.compare("time", WHOLE, BLOCKS, 1.1)
    answer.compare("time", BLOCKS, f"{PLAIN}, read and BLAKE3")
    answer.limit("peak memory, above import", f"{WHOLE}, memory", 1.1 * size / MIB, "MiB")
    return answer


def _in_blocks(run: Run, name: str) -> None:
    with run.open(name) as stream:
        while stream.read(MIB):
            pass


def ask_random(bench: Bench) -> Answer:
    """Reads of 4 KiB at random places of a large file, verified: the first time, and again."""
    store_path, path = bench.large()
    size, count = path.stat().st_size, bench.options.reads
    draw = random.Random(12)  # noqa: S311 - test data
    places = [draw.randrange(max(1, size - READ)) for _ in range(count)]
    subject = f"{count:,} reads of 4 KiB at random places of a file of {named(size)}"
    answer = Answer("random", subject, bench.options.rounds)
    with ArtifactStore.open(store_path) as store:
        run = store.session("s").run("r")
        _at_random(run, path.name, places)
        answer.take_turns(
            {
                FIRST: lambda: _at_random_first(store_path, path.name, places),
                AGAIN: lambda: _at_random(run, path.name, places),
                PLAIN: lambda: _plain_at_random(path, places),
            }
        )
    for name in (FIRST, AGAIN):
        answer.limit("random reads", name, 50e-6 * count, "s")
        answer.compare("random reads", name, PLAIN)
    return answer


def _at_random_first(store: Path, name: str, places: Sequence[int]) -> None:
    with ArtifactStore.open(store) as opened:
        _at_random(opened.session("s").run("r"), name, places)


def _at_random(run: Run, name: str, places: Sequence[int]) -> None:
    with run.open(name) as stream:
        for place in places:
            stream.seek(place)
            stream.read(READ)


def _plain_at_random(path: Path, places: Sequence[int]) -> None:
    with path.open("rb", buffering=0) as file:
        for place in places:
            file.seek(place)
            file.read(READ)


def ask_url(bench: Bench) -> Answer:
    """Reads by `cas://`: small files at once and one by one, and a large one from end to end."""
    source, subject = bench.sources.find("small")
    large_store, large = bench.large()
    paths = sorted(path for path in source.rglob("*") if path.is_file())
    with ArtifactStore.open(bench.work / "store-url") as store:
        store.session("s").run("r").track(source)
    fs = CasFileSystem(store=bench.work / "store-url")
    names = [f"s/r/{path.relative_to(source)}" for path in paths]
    of_large = CasFileSystem(store=large_store)
    answer = Answer("url", f"{subject}; one file of {named(large.stat().st_size)}", 0)
    answer.rounds = bench.options.rounds
    command = ["sh", "-c", 'cat "$0" | b3sum', str(large)]
    ways = {
        "cat of all": lambda: fs.cat(names),
        "open and read each": lambda: [_opened_by_url(fs, name) for name in names],
        SMALL: lambda: [blake3(path.read_bytes()) for path in paths],
        BY_URL: lambda: _in_url_blocks(of_large, f"s/r/{large.name}"),
        PIPED: lambda: subprocess.run(command, check=True, capture_output=True),
    }
    if shutil.which("b3sum") is None:
        del ways[PIPED]
    answer.take_turns(ways)
    answer.compare("many small files", "cat of all", SMALL, 1.5)
    answer.compare("many small files", "open and read each", SMALL, 5.0)
    if PIPED in ways:
        answer.compare("a large file", BY_URL, PIPED, 1.25)
    return answer


def _opened_by_url(fs: CasFileSystem, name: str) -> bytes:
    with fs.open(name) as stream:
        data: bytes = stream.read()
    return data


def _in_url_blocks(fs: CasFileSystem, name: str) -> None:
    with fs.open(name) as stream:
        while stream.read(MIB):
            pass


def ask_parquet(bench: Bench) -> Answer:
    """A column of a Parquet file by `cas://`, against the plain file."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    draw = np.random.default_rng(13)
    rows = bench.options.large_mib << 12
    table = pa.table({name: draw.random(rows) for name in "abcdefgh"})
    path = bench.work / "table" / "table.parquet"
    path.parent.mkdir()
    pq.write_table(table, path)
    settle(path.parent)
    with ArtifactStore.open(bench.work / "store-table") as store:
        store.session("s").run("r").track(path.parent)
    fs = CasFileSystem(store=bench.work / "store-table")
    size = path.stat().st_size
    answer = Answer("parquet", f"One of 8 columns of {rows:,} numbers, {named(size)}", 0)
    answer.rounds = bench.options.rounds

    def by_url() -> object:
        return pq.read_table("s/r/table.parquet", filesystem=fs, columns=["d"])

    answer.take_turns(
        {
            "a column by URL": by_url,
            "a column of the plain file": lambda: pq.read_table(path, columns=["d"]),
        }
    )
    answer.compare("Parquet", "a column by URL", "a column of the plain file", 1 / 0.7)
    return answer


QUESTIONS: Final = {
    "single": ask_single,
    "whole": ask_whole,
    "random": ask_random,
    "url": ask_url,
    "parquet": ask_parquet,
}


def main() -> None:
    """Ask the questions."""
    parser = command_line(__doc__, list(QUESTIONS))
    parser.add_argument("--files", type=int, default=20_000, help="small files")
    parser.add_argument("--large-mib", type=int, default=GIB // MIB, help="the large file")
    parser.add_argument("--reads", type=int, default=10_000, help="random; a tenth of small files")
    options = parser.parse_args()
    with publication("read", "Reading", options, PACKAGES) as page:
        bench = Bench(page.work, options, Sources(page.work, files=options.files))
        page.ask({name: partial(ask, bench) for name, ask in QUESTIONS.items()})


if __name__ == "__main__":
    main()
