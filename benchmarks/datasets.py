"""Deterministic data to benchmark on: the same bytes on every machine and in every run."""

from __future__ import annotations

import functools
import itertools
import json
import os
import random
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from blake3 import blake3
from measure import IS_QUICK, MIB

if TYPE_CHECKING:
    from collections.abc import Iterator

_WORDS: Final = 6_000
_POOL_SIZE: Final = MIB // 2 if IS_QUICK else 8 * MIB
_FILES_IN_DIRECTORY: Final = 100
_SETTLE_S: Final = 2.5
"""Longer than the time stamps of a new file are distrusted by a tool that goes by them."""


@functools.cache
def text_pool(seed: int = 1) -> bytes:
    """Return MiBs of lines of words and numbers, which compress about as source code does."""
    chooser = random.Random(seed)  # noqa: S311 - test data
    letters = "eeeetttaaoooinnsshhrrddlcumwfgypbvk"
    words = ["".join(chooser.choices(letters, k=chooser.randint(2, 11))) for _ in range(_WORDS)]
    weights = list(itertools.accumulate(1 / (rank + 4) for rank in range(_WORDS)))
    lines: list[str] = []
    size = 0
    while size < _POOL_SIZE:
        line = " ".join(chooser.choices(words, cum_weights=weights, k=chooser.randint(4, 12)))
        if chooser.random() < 0.3:
            line = f"{line} = {chooser.random():.6f}"
        lines.append("    " * chooser.randint(0, 3) + line + "\n")
        size += len(lines[-1])
    return "".join(lines).encode()[:_POOL_SIZE]


def small_files(
    root: Path, count: int, *, least: int = 1 << 10, most: int = 16 << 10, seed: int = 2
) -> int:
    """Write `count` files of 1 to 16 KiB, all different, below `root`; return their bytes."""
    chooser = random.Random(seed)  # noqa: S311 - test data
    pool = text_pool()
    total = 0
    for number in range(count):
        directory = root / f"group_{number // _FILES_IN_DIRECTORY:04d}"
        if number % _FILES_IN_DIRECTORY == 0:
            directory.mkdir(parents=True)
        size = chooser.randint(least, most)
        start = chooser.randrange(len(pool) - size)
        head = f"# file {number}\n".encode()
        (directory / f"file_{number:06d}.txt").write_bytes(
            head + pool[start : start + size - len(head)]
        )
        total += size
    settle(root)
    return total


def scientific_files(root: Path, count: int) -> int:
    """Write `count` files with the sizes that installed scientific packages have; return bytes.

    Text up to 128 KiB, compiled code above; 2 % are empty, 3 % have a twin.
    """
    chooser = random.Random(3)  # noqa: S311 - test data
    pool = text_pool()
    words = [chooser.randbytes(4) for _ in range(64)]
    total = 0
    data = b""
    for number in range(count):
        package, module = number // 400, number // 12
        directory = root / f"package_{package:03d}" / f"module_{module:05d}"
        directory.mkdir(parents=True, exist_ok=True)
        size = _scientific_size(chooser.random())
        is_text = size <= 128 << 10
        if chooser.random() > 0.03:
            data = _text(chooser, pool, size) if is_text else _compiled(chooser, words, size)
        name = f"part_{number:06d}.{'py' if is_text else 'so'}"
        (directory / name).write_bytes(data)
        total += len(data)
    settle(root)
    return total


_SCIENTIFIC_SIZES: Final = (
    *((0.02, 0), (0.05, 85), (0.1, 181), (0.25, 904), (0.5, 3_867), (0.75, 14_439)),
    *((0.9, 43_925), (0.95, 90_986), (0.99, 350_000), (0.9995, 1_200_000), (1.0, 6_000_000)),
)
"""Quantiles of file sizes in numpy, pandas, h5py, pyarrow and SQLAlchemy, above 0.95 a bit less."""


def _scientific_size(at: float) -> int:
    share, size = 0.0, 0
    for next_share, next_size in _SCIENTIFIC_SIZES:
        if at <= next_share:
            part = (at - share) / (next_share - share)
            return int(size + part * (next_size - size))
        share, size = next_share, next_size
    return size


def _text(chooser: random.Random, pool: bytes, size: int) -> bytes:
    """Return text of many short pieces, so that no two files share a long one."""
    pieces = []
    for start in range(0, size, 512):
        at = chooser.randrange(len(pool) - 512)
        pieces.append(pool[at : at + min(512, size - start)])
    return b"".join(pieces)


def _compiled(chooser: random.Random, words: list[bytes], size: int) -> bytes:
    """Return bytes that compress as machine code does: to a third at 64 KiB, a quarter at 1 MiB."""
    weights = list(itertools.accumulate(1 / (rank + 2) for rank in range(len(words))))
    return b"".join(chooser.choices(words, cum_weights=weights, k=size // 4 + 1))[:size]


def large_files(root: Path, count: int, size: int) -> int:
    """Write `count` files of `size` bytes that do not compress, and a copy of the first."""
    root.mkdir(parents=True)
    for number in range(count):
        with (root / f"array_{number}.bin").open("wb") as file:
            for piece in random_pieces(f"large {number}", size):
                file.write(piece)
    shutil.copyfile(root / "array_0.bin", root / "copy.bin")
    settle(root)
    return (count + 1) * size


def random_pieces(seed: str, size: int) -> Iterator[bytes]:
    """Yield `size` bytes that look random, in pieces of at most 4 MiB."""
    source = blake3(seed.encode())
    for start in range(0, size, 4 * MIB):
        yield source.digest(length=min(4 * MIB, size - start), seek=start)


def random_bytes(seed: str, size: int) -> bytes:
    """Return `size` bytes that look random."""
    return b"".join(random_pieces(seed, size))


def copy_of_tree(tree: Path, destination: Path) -> None:
    """Copy a tree without hidden entries and ``__pycache__``, which tracking passes over.

    So that every contender works on the same files.
    """
    shutil.copytree(
        tree, destination, symlinks=True, ignore=shutil.ignore_patterns(".*", "__pycache__")
    )
    settle(destination)


def settle(root: Path) -> None:
    """Let the files become old enough to be trusted by their time stamps."""
    if not IS_QUICK:
        os.sync()
        time.sleep(_SETTLE_S)
    warm(root)


def warm(root: Path) -> tuple[int, int]:
    """Read every file below `root` once; return how many there are and their bytes."""
    count = size = 0
    for directory, _, names in os.walk(root):
        for name in names:
            path = Path(directory, name)
            if path.is_symlink():
                count += 1
                continue
            with path.open("rb") as file:
                while piece := file.read(4 * MIB):
                    size += len(piece)
            count += 1
    return count, size


class GrowingWork:
    """A work directory that grows step by step: an appended file, and a chat written anew."""

    def __init__(self, root: Path, *, start: int = 50 * MIB) -> None:
        root.mkdir(parents=True)
        self._data = root / "data.bin"
        self._chat = root / "chat.json"
        self._pool = text_pool()
        self._messages: list[dict[str, str]] = []
        self._data.write_bytes(random_bytes("steps", start))

    def step(self, number: int) -> int:
        """Append 1 MiB, add 20 KiB to the chat; return the bytes that the directory holds."""
        with self._data.open("ab") as file:
            file.write(random_bytes(f"step {number}", MIB))
        for message in range(10):
            start = (number * 10 + message) * 2_003
            content = self._pool[start : start + 2_000].decode()
            self._messages.append({"role": f"agent_{message % 3}", "content": content})
        self._chat.write_text(json.dumps(self._messages, indent=1))
        return self._data.stat().st_size + self._chat.stat().st_size
