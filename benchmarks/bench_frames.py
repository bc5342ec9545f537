"""What small files take when they share zstd frames, and what reading one of them costs.

    python benchmarks/bench_frames.py
    python benchmarks/bench_frames.py --tree SITE_PACKAGES

For each level of zstd, largest size of a file that shares a frame, and size of the frame: the bytes
stored and the processor time of compressing, against each file alone at level 1. Also a dictionary
of 64 KiB, trained on 2,000 of the files. Only files of up to 64 KiB count, each content once.
Larger ones end a frame.
"""

from __future__ import annotations

import random
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import zstandard
from measure import KIB, Answer
from pages import command_line, publication
from sources import Sources

from cas.packs.frames import SHARED_BELOW, SHARED_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PACKAGES: Final = ("runcas", "zstandard")
_TASK: Final = 4 << 20
"""Bytes that are compressed with one call, as the writer does."""
_COUNTED_BELOW: Final = 64 * KIB
_KEEP_BELOW: Final = 0.9
_READS: Final = 200
ALONE: Final = "each alone, level 1"
AS_STORED: Final = "as stored"


def contents(root: Path) -> list[bytes]:
    """Return the contents of files in order of path; an empty one stands for a large file."""
    found: dict[bytes, None] = {}
    order: list[bytes] = []
    for path in sorted(root.rglob("*")):
        if not path.is_file() or path.is_symlink():
            continue
        data = path.read_bytes() if path.stat().st_size <= _COUNTED_BELOW else b""
        if not data or data not in found:
            found[data] = None
            order.append(data)
    return order


def joined(task: list[bytes], most: int, size: int) -> Iterator[bytes]:
    """Yield files above `most` bytes, and frames of up to `size` bytes of the others."""
    group: list[bytes] = []
    room = size
    for data in task:
        if group and not 0 < len(data) <= min(most, room):
            yield b"".join(group)
            group, room = [], size
        if len(data) > most:
            yield data
        elif data:
            group.append(data)
            room -= len(data)
    if group:
        yield b"".join(group)


def compressed(
    files: list[bytes], compressor: zstandard.ZstdCompressor, most: int, size: int
) -> tuple[int, float]:
    """Return stored bytes and processor seconds."""
    stored = 0
    begun = time.process_time()
    for start in tasks(files):
        parts = list(joined(start, most, size))
        frames = compressor.multi_compress_to_buffer(parts)
        for number, part in enumerate(parts):
            frame = len(frames[number])
            stored += frame if frame < len(part) * _KEEP_BELOW else len(part)
    return stored, time.process_time() - begun


def tasks(files: list[bytes]) -> Iterator[list[bytes]]:
    """Yield the files in groups of some MiB."""
    task: list[bytes] = []
    size = 0
    for data in files:
        task.append(data)
        size += len(data)
        if size >= _TASK:
            yield task
            task, size = [], 0
    if task:
        yield task


def variants(files: list[bytes]) -> dict[str, Callable[[], tuple[int, float]]]:
    """Return what is tried, by name."""

    def level(number: int) -> zstandard.ZstdCompressor:
        return zstandard.ZstdCompressor(level=number, write_checksum=False)

    tried = {
        ALONE: partial(compressed, files, level(1), 0, 0),
        "each alone, level 3": partial(compressed, files, level(3), 0, 0),
        AS_STORED: partial(compressed, files, level(2), SHARED_BELOW, SHARED_SIZE),
    }
    for number in (1, 2, 3):
        for size in (64 * KIB, 96 * KIB, 128 * KIB):
            name = f"frames of {size // KIB} KiB, level {number}"
            tried[name] = partial(compressed, files, level(number), SHARED_BELOW, size)
    for most in (16 * KIB, 32 * KIB):
        name = f"frames of 64 KiB, files up to {most // KIB} KiB, level 2"
        tried[name] = partial(compressed, files, level(2), most, 64 * KIB)
    some = [data for data in files if data]
    chosen = random.Random(1).sample(some, min(len(some), 2000))  # noqa: S311 - test data
    for number in (1, 3):
        trained = zstandard.train_dictionary(64 * KIB, chosen, level=3)
        trained.precompute_compress(level=number)
        compressor = zstandard.ZstdCompressor(level=number, write_checksum=False, dict_data=trained)
        tried[f"dictionary, level {number}"] = partial(compressed, files, compressor, 0, 0)
    return tried


def ask(name: str, sources: Sources, rounds: int) -> Answer:
    """Compress the files of a data set in every way."""
    root, subject = sources.find(name)
    files = contents(root)
    size = sum(map(len, files)) / 1e6
    count = sum(map(bool, files))
    answer = Answer(name, f"{count:,} files, {size:.0f} MB, of {subject}", rounds)
    tried = variants(files)
    for number in range(rounds):
        for variant, run in tried.items():
            stored, seconds = run()
            answer.note(f"{variant}: time", seconds)
            if not number:
                answer.note(f"{variant}: bytes", stored, "bytes")
    for what in ("bytes", "time"):
        answer.compare(
            what, f"{AS_STORED}: {what}", f"{ALONE}: {what}", 0.88 if what == "bytes" else 1
        )
    _time_reads(answer, b"".join(files[:1000]))
    return answer


def _time_reads(answer: Answer, data: bytes) -> None:
    compressor = zstandard.ZstdCompressor(level=2, write_checksum=False)
    decompressor = zstandard.ZstdDecompressor()
    for size in (8 * KIB, 64 * KIB, 128 * KIB):
        frame = compressor.compress(data[:size])
        begun = time.process_time()
        for _ in range(_READS):
            decompressor.decompress(frame)
        answer.note(f"decoding {size // KIB} KiB", (time.process_time() - begun) / _READS)


def main() -> None:
    """Ask the questions."""
    names = ("small", "tree")
    parser = command_line(__doc__, names)
    parser.add_argument("--files", type=int, default=20_000, help="files of `small`")
    parser.add_argument("--tree-files", type=int, default=39_000, help="files of `tree`")
    parser.add_argument("--tree", type=Path, help="a site-packages in place of a made tree")
    options = parser.parse_args()
    with publication("frames", "Shared frames", options, PACKAGES) as page:
        sources = Sources(
            page.work, files=options.files, tree_files=options.tree_files, tree=options.tree
        )
        page.ask({name: partial(ask, name, sources, options.rounds) for name in names})


if __name__ == "__main__":
    main()
