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
from measure import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator

_WORDS: Final = 6_000
_POOL_SIZE: Final = 8 * MIB
_FILES_IN_DIRECTORY: Final = 100
_SETTLE_S: Final = 2.5
"""Longer than the time stamps of a new file are distrusted by a tool that goes by them."""


@functools.cache
def text_pool(seed: int = 1) -> bytes:
    """Return 8 MiB of lines of words and numbers, which compress about as source code does."""
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


def small_files(root: Path, count: int) -> int:
    """Write `count` files of 1 to 16 KiB, all different, below `root`; return their bytes."""
    chooser = random.Random(2)  # noqa: S311 - test data
    pool = text_pool()
    total = 0
    for number in range(count):
        directory = root / f"group_{number // _FILES_IN_DIRECTORY:04d}"
        if number % _FILES_IN_DIRECTORY == 0:
            directory.mkdir(parents=True)
        size = chooser.randint(1 << 10, 16 << 10)
        start = chooser.randrange(len(pool) - size)
        head = f"# file {number}\n".encode()
        (directory / f"file_{number:06d}.txt").write_bytes(
            head + pool[start : start + size - len(head)]
        )
        total += size
    settle(root)
    return total


def large_files(root: Path, count: int, size: int) -> int:
    """Write `count` files of `size` bytes that do not compress; return their bytes."""
    root.mkdir(parents=True)
    for number in range(count):
        with (root / f"array_{number}.bin").open("wb") as file:
            for piece in random_pieces(f"large {number}", size):
                file.write(piece)
    settle(root)
    return count * size


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
