"""Files that change: each workload writes a directory several times."""

from __future__ import annotations

import importlib.util
import json
import random
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Final, TypeAlias

from datasets import GrowingWork, random_bytes, text_pool
from measure import KIB, MIB

Workload: TypeAlias = Callable[[Path, float], Iterator[None]]
"""Takes an empty directory and the share of its sizes; yields after each state."""


class UnavailableError(Exception):
    """What a workload is made from can't be had here."""


def steps(root: Path, scale: float) -> Iterator[None]:
    """A file of 50 MiB that grows by 1 MiB a step, and a chat beside it: 50 steps."""
    work = GrowingWork(root / "steps", start=max(MIB, int(50 * MIB * scale)))
    for number in range(max(2, int(50 * scale))):
        work.step(number)
        yield


def chat(root: Path, scale: float) -> Iterator[None]:
    """A chat of up to 1 MiB that is written anew, 20 KiB longer, fifty times."""
    pool = text_pool()
    messages = []
    for number in range(max(2, int(50 * scale))):
        for message in range(10):
            start = (number * 10 + message) * 2_003
            text = pool[start : start + 2_000].decode()
            messages.append({"role": f"agent_{message % 3}", "content": text})
        (root / "chat.json").write_text(json.dumps(messages, indent=1))
        yield


def _archive(root: Path, members: list[tuple[str, bytes]]) -> None:
    with tarfile.open(root / "packages.tar", "w") as archive:
        for name, data in members:
            item = tarfile.TarInfo(name)
            item.size = len(data)
            archive.addfile(item, BytesIO(data))


def _members(scale: float) -> list[tuple[str, bytes]]:
    """The files of the installed packages, up to 108 MB."""
    members: list[tuple[str, bytes]] = []
    size, left = 0, int(108e6 * scale)
    for path in sorted(Path(json.__file__).parents[1].rglob("*.py*")):
        data = path.read_bytes() if path.is_file() else b""
        if 0 < len(data) <= left - size:
            members.append((str(path), data))
            size += len(data)
    site = Path(importlib.util.find_spec("sqlalchemy").origin or "").parents[1]  # type: ignore[union-attr]
    for path in sorted(site.rglob("*")):
        data = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        if 0 < len(data) <= left - size:
            members.append((str(path), data))
            size += len(data)
    return members


def archive_insertion(root: Path, scale: float) -> Iterator[None]:
    """An archive of packages; then a small file is added at its front."""
    members = _members(scale)
    _archive(root, members)
    yield
    _archive(root, [("notes.txt", random_bytes("note", 700)), *members])
    yield


def archive_growth(root: Path, scale: float) -> Iterator[None]:
    """An archive of packages; then one file in it grows by 1.8 KB."""
    members = _members(scale)
    _archive(root, members)
    yield
    place = len(members) // 5
    name, data = members[place]
    members[place] = name, data + random_bytes("growth", 1_800)
    _archive(root, members)
    yield


def _table(scale: float) -> list[str]:
    draw = random.Random(7)  # noqa: S311 - test data
    names = text_pool()[: 64 * KIB].decode().split()
    return [
        f"{number},{draw.choice(names)},{draw.random():.9f},{draw.gauss(0, 1):.6f}"
        f",{draw.getrandbits(40)}"
        for number in range(int(4_000_000 * scale))
    ]


def _write_lines(path: Path, lines: list[str]) -> None:
    with path.open("w") as file:
        file.writelines(f"{line}\n" for line in lines)


def csv_column(root: Path, scale: float) -> Iterator[None]:
    """A CSV of 200 MB; then a column is added."""
    rows = _table(scale)
    _write_lines(root / "table.csv", rows)
    yield
    _write_lines(root / "table.csv", [f"{row},{number % 97}" for number, row in enumerate(rows)])
    yield


def csv_rows(root: Path, scale: float) -> Iterator[None]:
    """A CSV of 200 MB; then 50 rows are inserted in its middle."""
    rows = _table(scale)
    _write_lines(root / "table.csv", rows)
    yield
    middle = len(rows) // 2
    _write_lines(root / "table.csv", [*rows[:middle], *rows[:50], *rows[middle:]])
    yield


def csv_sorted(root: Path, scale: float) -> Iterator[None]:
    """A CSV of 200 MB; then its rows are sorted by the third column."""
    rows = _table(scale)
    _write_lines(root / "table.csv", rows)
    yield
    _write_lines(root / "table.csv", sorted(rows, key=lambda row: row.split(",")[2]))
    yield


def parquet(root: Path, scale: float) -> Iterator[None]:
    """A Parquet file of ten row groups; one is appended; then one of four columns is changed."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    draw = np.random.default_rng(3)
    rows = int(200_000 * scale)

    def group(number: int) -> dict[str, object]:
        return {
            "id": np.arange(number * rows, (number + 1) * rows),
            "value": draw.normal(size=rows),
            "kind": draw.integers(0, 9, size=rows),
            "weight": draw.random(rows),
        }

    def write(groups: list[dict[str, object]]) -> None:
        tables = [pa.table(each) for each in groups]
        with pq.ParquetWriter(root / "table.parquet", tables[0].schema) as writer:
            for each in tables:
                writer.write_table(each)

    groups = [group(number) for number in range(10)]
    write(groups)
    yield
    write([*groups, group(10)])
    yield
    write([{**each, "weight": draw.random(rows)} for each in groups])
    yield


def sqlite_updates(root: Path, scale: float) -> Iterator[None]:
    """An SQLite file of 100 MB; then 200 of its rows are changed, five times."""
    draw = random.Random(5)  # noqa: S311 - test data
    count = int(200_000 * scale)
    with sqlite3.connect(root / "data.db") as database:
        database.execute("CREATE TABLE item (id INTEGER PRIMARY KEY, text BLOB)")
        rows = ((number, draw.randbytes(250) + bytes(200)) for number in range(count))
        database.executemany("INSERT INTO item VALUES (?, ?)", rows)
    yield
    for _ in range(5):
        with sqlite3.connect(root / "data.db") as database:
            changed = [(draw.randbytes(450), draw.randrange(count)) for _ in range(200)]
            database.executemany("UPDATE item SET text = ? WHERE id = ?", changed)
        yield


def hdf5(root: Path, scale: float) -> Iterator[None]:
    """An HDF5 file of 80 MB; then a hundredth of its rows is changed in place, five times."""
    import h5py
    import numpy as np

    draw = np.random.default_rng(4)
    rows = int(100_000 * scale)
    with h5py.File(root / "data.h5", "w") as file:
        file.create_dataset("signal", data=draw.normal(size=(rows, 100)))
    yield
    for _ in range(5):
        with h5py.File(root / "data.h5", "r+") as file:
            start = int(draw.integers(0, rows - rows // 100))
            file["signal"][start : start + rows // 100] += 1
        yield


def log_rotated(root: Path, scale: float) -> Iterator[None]:
    """A log of 50 MB in twelve states: each adds 3 MB, and drops the oldest 5 MB beyond 50."""
    pool = text_pool()
    draw = random.Random(6)  # noqa: S311 - test data
    log = b""
    for number in range(max(2, int(12 * scale))):
        while len(log) < (30 + 3 * number) * MIB * scale:
            start = draw.randrange(len(pool) - 300)
            log += (
                b"%.6f " % draw.random()
                + pool[start : start + 20 * KIB].replace(b"\n", b" ")
                + b"\n"
            )
        if len(log) > 50 * MIB * scale:
            log = log[5_000_000:]
        (root / "run.log").write_bytes(log)
        yield


def checkpoint(root: Path, scale: float) -> Iterator[None]:
    """A model of 100 MB after each of three steps of training; half of its layers are frozen."""
    import numpy as np

    draw = np.random.default_rng(8)
    layers = [draw.normal(size=int(1_310_720 * scale)).astype("<f4") for _ in range(20)]
    for _ in range(3):
        with (root / "model.bin").open("wb") as file:
            for layer in layers:
                layer.tofile(file)
        yield
        for layer in layers[10:]:
            layer += draw.normal(scale=1e-3, size=len(layer)).astype("<f4")


def releases(root: Path, _scale: float) -> Iterator[None]:
    """Two releases of a package, scipy 1.13.0 and 1.13.1, unpacked one in place of the other."""
    for version in ("1.13.0", "1.13.1"):
        wheels = root.parent / f"wheel-{version}"
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--dest", str(wheels), "--only-binary", ":all:", "--python-version", "3.11"]
        command += ["--platform", "manylinux2014_x86_64", f"scipy=={version}"]
        if subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode:
            raise UnavailableError("pip could not download scipy")
        (wheel,) = wheels.glob("*.whl")
        for old in root.iterdir():
            shutil.rmtree(old)
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(root)  # noqa: S202 - zipfile keeps within
        shutil.rmtree(wheels)
        yield


WORKLOADS: Final[dict[str, Workload]] = {
    "steps": steps,
    "chat": chat,
    "archive-insertion": archive_insertion,
    "archive-growth": archive_growth,
    "csv-column": csv_column,
    "csv-rows": csv_rows,
    "csv-sorted": csv_sorted,
    "parquet": parquet,
    "sqlite": sqlite_updates,
    "hdf5": hdf5,
    "log": log_rotated,
    "checkpoint": checkpoint,
    "releases": releases,
}
NEEDS: Final = {"parquet": "pyarrow", "hdf5": "h5py", "checkpoint": "numpy"}
