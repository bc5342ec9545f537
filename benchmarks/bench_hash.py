"""How fast files are hashed: BLAKE3 by memory map or by reading, with one thread or all, and peers.

    python benchmarks/bench_hash.py
    python benchmarks/bench_hash.py --max-size 16MiB --rounds 3 --results /tmp/trial

Every file is in the page cache. A sample opens, hashes and closes the file, as often as makes it
long enough to be timed; ``b3sum`` is a process each time, its start included. The sections
"threads" and "read size" decide `cas.digest.HASH_THREADS` and the size of a read. "all
threads" is BLAKE3's shared pool, as the library uses it; a number of threads makes a pool for each
hash.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, TypeAlias

from blake3 import blake3
from datasets import random_bytes, random_pieces, small_files, warm
from measure import GIB, IS_QUICK, KIB, MIB, Answer, flush, named
from pages import command_line, publication, table
from peers import described, version_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import Any

CORES: Final = os.cpu_count() or 1
PACKAGES: Final = ("blake3", "runcas")

READING: Final = "plain reading, 1 MiB"
SMALL: Final = "small files"
CHART: Final = "![Throughput by file size](chart_hash.svg)"

FILE_SIZES: Final = (0, KIB, 16 * KIB, 128 * KIB, MIB, 16 * MIB, 128 * MIB, GIB, 4 * GIB)
BLOCK_SIZES: Final = (64 * KIB, 256 * KIB, MIB, 4 * MIB)
READ_SIZES: Final = (8 * KIB, *BLOCK_SIZES, 16 * MIB)
UPDATE_SIZES: Final = tuple(64 * KIB << power for power in range(4 if IS_QUICK else 11))

_SAMPLE_BYTES: Final = 16 * MIB
"""Small files are hashed again and again until a sample has read this much."""

_MOST_REPEATS: Final = 200

_WORTHWHILE_GAIN: Final = 1.2
"""A second core is taken from others: a smaller gain is not worth it."""

Contender: TypeAlias = "Callable[[Path], object]"


def parsed(text: str) -> int:
    """Read a size such as 4GiB."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB"), (1, "B")):
        if text.endswith(name):
            return int(float(text.removesuffix(name)) * unit)
    return int(text)


def hash_mapped(path: Path, threads: int) -> object:
    """BLAKE3 of a memory map."""
    return blake3(max_threads=threads).update_mmap(path).digest()


def hash_read(path: Path, make: Callable[[], Any], block: int) -> object:
    """Any hash of a file read in blocks into one buffer."""
    state = make()
    with path.open("rb", buffering=0) as file:
        buffer = _buffer(file.fileno(), block)
        view = memoryview(buffer)
        while size := file.readinto(buffer):
            state.update(view[:size])
    return state.digest()


def hash_8k(path: Path) -> object:
    """SHA-256 in reads of 8 KiB through a buffered file, as the specification has it."""
    state = hashlib.sha256()
    with path.open("rb") as file:
        for piece in iter(lambda: file.read(8192), b""):
            state.update(piece)
    return state.hexdigest()


def read_only(path: Path, block: int) -> None:
    """Read a file and do nothing with it."""
    with path.open("rb", buffering=0) as file:
        buffer = _buffer(file.fileno(), block)
        while file.readinto(buffer):
            pass


def _buffer(fd: int, block: int) -> bytearray:
    """Return a buffer of a block, or of the file if that is smaller: clearing it costs time."""
    return bytearray(min(block, max(1, os.fstat(fd).st_size)))


def b3sum(paths: Sequence[Path], threads: int) -> None:
    """``b3sum`` of all paths as one process."""
    subprocess.run(
        ["b3sum", f"--num-threads={threads}", *map(str, paths)],
        check=True,
        stdout=subprocess.DEVNULL,
    )


def contenders() -> dict[str, Contender]:
    """Return what is compared, by name; b3sum apart, since it takes many files at once."""
    found: dict[str, Contender] = {READING: partial(read_only, block=MIB)}
    for threads in (*range(1, CORES + 1), blake3.AUTO):
        found[f"BLAKE3, map, {_threads(threads)}"] = partial(hash_mapped, threads=threads)
    for block in BLOCK_SIZES:
        found[f"BLAKE3, reads of {named(block)}, 1 thread"] = partial(
            hash_read, make=blake3, block=block
        )
    for block in (MIB, 4 * MIB):
        found[f"BLAKE3, reads of {named(block)}, all threads"] = partial(
            hash_read, make=partial(blake3, max_threads=blake3.AUTO), block=block
        )
    found["SHA-256, reads of 8 KiB"] = hash_8k
    if find_spec("xxhash"):
        from xxhash import xxh3_128

        found["xxh3, reads of 1 MiB"] = partial(hash_read, make=xxh3_128, block=MIB)
    return found


def _threads(count: int) -> str:
    if count == blake3.AUTO:
        return "all threads"
    return f"{count} thread{'s' if count > 1 else ''}"


def sample(call: Callable[[], object], repeats: int) -> float:
    """Return the seconds that one call takes, on average over `repeats`."""
    started = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - started) / repeats


def ask_file(size: int, work: Path, rounds: int) -> Answer:
    """All contenders on one file."""
    path = made_file(work, size)
    answer = Answer(named(size), f"One file of {named(size)}", rounds)
    repeats = min(_MOST_REPEATS, max(1, _SAMPLE_BYTES // max(size, 1)))
    ways = {name: partial(hash_file, path) for name, hash_file in contenders().items()}
    answer.take_turns(ways, repeats=repeats)
    answer.take_turns(b3sums([path]), repeats=min(repeats, 5))
    if size == GIB:
        _compare_with_b3sum(answer)
        answer.compare("hashing", "BLAKE3, map, 1 thread", READING)
    path.unlink()
    return answer


def made_file(work: Path, size: int) -> Path:
    """Write a file of random bytes, and read it once."""
    path = work / f"file-{size}" / "data"
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        file.writelines(random_pieces("hash", size))
    flush(path.parent)
    warm(path.parent)
    return path


def b3sums(paths: Sequence[Path]) -> dict[str, Callable[[], object]]:
    """Return ``b3sum`` on one thread and on all, if it is installed."""
    if not version_of("b3sum"):
        return {}
    return {
        f"b3sum, {_threads(threads)}": partial(b3sum, paths, threads)
        for threads in sorted({1, CORES})
    }


def _compare_with_b3sum(answer: Answer) -> None:
    for ours, theirs in (("all threads", _threads(CORES)), ("1 thread", "1 thread")):
        answer.compare("hashing one file of 1 GiB", f"BLAKE3, map, {ours}", f"b3sum, {theirs}", 1.1)
    answer.compare(
        "hashing one file of 1 GiB", "BLAKE3, reads of 1 MiB, 1 thread", "b3sum, 1 thread", 1.1
    )


def ask_small_files(count: int, work: Path, rounds: int) -> Answer:
    """All contenders on many small files."""
    root = work / "small"
    total = small_files(root, count)
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    subject = f"{count:,} files of 1 to 16 KiB, {total / 1e6:.0f} MB; b3sum is given all at once"
    answer = Answer(SMALL, subject, rounds)
    ways = {
        name: partial(_each, hash_file, paths) for name, hash_file in contenders().items()
    } | b3sums(paths)
    answer.take_turns(ways)
    answer.remarks.append(f"Bytes in all: {total}.")
    return answer


def _each(hash_file: Contender, paths: Sequence[Path]) -> None:
    for path in paths:
        hash_file(path)


def ask_threads(_work: Path, rounds: int) -> Answer:
    """From which update size BLAKE3's own threads pay, on bytes in memory."""
    answer = Answer(
        "threads", f"One update of bytes in memory, on 1 thread and on all {CORES}", rounds
    )
    data = memoryview(random_bytes("threads", UPDATE_SIZES[-1]))
    for _ in range(rounds):
        for size in UPDATE_SIZES:
            repeats = min(_MOST_REPEATS, max(1, 2 * _SAMPLE_BYTES // size))
            for threads in (1, blake3.AUTO):
                state = blake3(max_threads=threads)
                seconds = sample(partial(state.update, data[:size]), repeats)
                answer.note(f"{named(size)}, {_threads(threads)}", seconds)
    answer.remarks += judge_threads(answer)
    return answer


def judge_threads(answer: Answer) -> list[str]:
    """Return the table of gains, and the update size from which they are worth a core."""
    rows, gains, best_gains = [], [], []
    for size in UPDATE_SIZES:
        one = answer.series[f"{named(size)}, 1 thread"]
        many = answer.series[f"{named(size)}, all threads"]
        gains.append(one.median / many.median)
        best_gains.append(min(one.values) / min(many.values))
        rows.append(
            [
                named(size),
                f"{size / one.median / GIB:.2f}",
                f"{size / many.median / GIB:.2f}",
                f"{gains[-1]:.2f}",
                f"{best_gains[-1]:.2f}",
            ]
        )
    header = ("update", "1 thread, GiB/s", "all threads, GiB/s", "gain", "gain of minima")
    return [
        table(header, rows),
        f"Updates from which on threads always gain at least a fifth: {_paying(gains)} by the "
        f"medians, {_paying(best_gains)} by the minima, which other load disturbs least.",
    ]


def _paying(gains: Sequence[float]) -> str:
    """Return the update size from which on every gain is worth it."""
    sizes = [size for at, size in enumerate(UPDATE_SIZES) if min(gains[at:]) >= _WORTHWHILE_GAIN]
    return named(sizes[0]) if sizes else "none"


def ask_read_size(size: int, work: Path, rounds: int) -> Answer:
    """Which size of read is best, for reading alone and for hashing."""
    path = made_file(work, size)
    subject = f"One file of {named(size)}; hashing on 1 thread, and on all"
    answer = Answer("read size", subject, rounds)
    ways: dict[str, Callable[[int], Contender]] = {
        "reading": lambda block: partial(read_only, block=block),
        "1 thread": lambda block: partial(hash_read, make=blake3, block=block),
        "all threads": lambda block: partial(
            hash_read, make=partial(blake3, max_threads=blake3.AUTO), block=block
        ),
    }
    answer.take_turns(
        {
            f"{named(block)}, {way}": partial(made(block), path)
            for block in READ_SIZES
            for way, made in ways.items()
        }
    )
    answer.remarks += judge_read_size(answer, size)
    path.unlink()
    return answer


def judge_read_size(answer: Answer, size: int) -> list[str]:
    """Return the table of rates, from medians and minima, and the fastest read for hashing."""
    ways = ("reading", "1 thread", "all threads")
    rows = []
    for block in READ_SIZES:
        found = [answer.series[f"{named(block)}, {way}"] for way in ways]
        rates = [size / seconds / GIB for s in found for seconds in (s.median, min(s.values))]
        rows.append([named(block), *(f"{rate:.2f}" for rate in rates)])
    header = [f"{way}, {kind}" for way in ways for kind in ("median", "best")]
    hashing = {block: answer.series[f"{named(block)}, 1 thread"] for block in READ_SIZES}
    by_median = min(READ_SIZES, key=lambda block: hashing[block].median)
    by_minimum = min(READ_SIZES, key=lambda block: min(hashing[block].values))
    return [
        table(("GiB/s", *header), rows),
        f"The fastest reads for hashing on one thread: {named(by_median)} by the medians, "
        f"{named(by_minimum)} by the minima.",
    ]


def throughput(answers: Sequence[Answer]) -> str:
    """Return GiB/s (for no bytes: time a file) of every contender and size, from medians."""
    sizes = {
        answer.question: int(answer.remarks[0].split()[-1][:-1])
        if answer.question == SMALL
        else parsed(answer.question.replace(" ", ""))
        for answer in answers
        if READING in answer.series
    }
    found = {answer.question: answer.series for answer in answers if answer.question in sizes}
    names = dict.fromkeys(name for series in found.values() for name in series)
    rows = []
    for name in names:
        cells = []
        for question, size in sizes.items():
            series = found[question].get(name)
            if series is None:
                cells.append("")
            elif size:
                cells.append(f"{size / series.median / GIB:.3g}")
            else:
                cells.append(f"{series.median * 1e6:.1f} µs")
        rows.append([name, *cells])
    words = "Medians, by file size; all files are in the page cache."
    return f"## throughput\n\n{words}\n\n{table(('GiB/s', *sizes), rows)}\n\n{CHART}"


def main() -> None:
    """Ask the questions."""
    everything: dict[str, Callable[[Path, int], Answer]] = {
        named(size): partial(ask_file, size) for size in FILE_SIZES
    }
    parser = command_line(__doc__, [*everything, SMALL, "threads", "read size"])
    parser.add_argument("--max-size", type=parsed, default=FILE_SIZES[-1], help="such as 16MiB")
    parser.add_argument("--files", type=int, default=20_000, help="small files")
    options = parser.parse_args()
    everything |= {
        SMALL: partial(ask_small_files, options.files),
        "threads": ask_threads,
        "read size": partial(ask_read_size, min(GIB, options.max_size)),
    }
    too_large = {named(size) for size in FILE_SIZES if size > options.max_size}
    with publication("hash", "Hashing throughput", options, PACKAGES) as page:
        page.about.update(described({"b3sum": version_of("b3sum"), "xxh3": _xxhash()}))
        page.ask(
            {name: partial(ask, page.work, options.rounds) for name, ask in everything.items()},
            usual=[name for name in everything if name not in too_large],
            introduce=throughput,
        )


def _xxhash() -> str:
    return version("xxhash") if find_spec("xxhash") else ""


if __name__ == "__main__":
    main()
