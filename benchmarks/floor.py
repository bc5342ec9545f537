"""The least that verified copies take: bare loops that do what must be done, and nothing else.

A blob is verified by its own digest, so its frame is decoded, and it is hashed alone. Each file has
its rows, which SQLite inserts into their table and its indexes.
"""

from __future__ import annotations

import os
import sqlite3
import struct
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Final, NamedTuple

from blake3 import blake3
from measure import MIB
from zstandard import ZstdDecompressor

from cas.packs.codec import Codec
from cas.packs.pack import read_footer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from cas.packs.pack import PackEntry

AT_ONCE: Final = 2 * MIB
"""Decoded at once: more no longer fit into the processor's cache."""

TABLES: Final = (
    *("sessions", "runs", "snapshots", "packs", "blobs", "blob_chunks", "chunk_lists"),
    *("files", "counts", "records"),
)


class BarePack(NamedTuple):
    """A pack, and its entries in groups that are decoded at once, by frame."""

    path: Path
    groups: Sequence[Sequence[Sequence[PackEntry]]]


def look_at(packs: Iterable[Path]) -> list[BarePack]:
    """Return packs as a bare loop takes them."""
    found = []
    for path in packs:
        data = path.read_bytes()
        entries = read_footer(
            path.name, len(data), lambda at, size, data=data: data[at : at + size]
        )
        groups: list[list[list[PackEntry]]] = []
        room = 0
        for _, frame in groupby(entries, lambda entry: (entry.offset, entry.stored_size)):
            members = list(frame)
            size = members[0].frame_size or members[0].size
            if size > room:
                groups.append([])
                room = AT_ONCE
            groups[-1].append(members)
            room -= size
        found.append(BarePack(path, groups))
    return found


def decode_and_hash(packs: Sequence[BarePack], *, twice: bool = False) -> None:
    """Decode and hash every blob, on a thread for each core.

    Parameters
    ----------
    twice
        Hash every byte once more, as a part of a large blob.
    """
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        list(threads.map(partial(_decode_pack, twice=twice), packs))


def _decode_pack(pack: BarePack, *, twice: bool) -> None:
    decode, whole = ZstdDecompressor().multi_decompress_to_buffer, blake3()
    with pack.path.open("rb", buffering=0) as file:
        for group in pack.groups:
            start, last = group[0][0].offset, group[-1][0]
            file.seek(start)
            held = memoryview(file.read(last.offset + last.stored_size - start))
            firsts = [members[0] for members in group]
            stored = [held[e.offset - start : e.offset - start + e.stored_size] for e in firsts]
            packed = [n for n, entry in enumerate(firsts) if entry.codec == Codec.ZSTD]
            if packed:
                sizes = [firsts[n].frame_size or firsts[n].size for n in packed]
                frames = decode(
                    [stored[n] for n in packed],
                    decompressed_sizes=struct.pack(f"={len(sizes)}Q", *sizes),
                )
                for place, number in enumerate(packed):
                    stored[number] = memoryview(frames[place])
            for members, frame in zip(group, stored, strict=True):
                for entry in members:
                    data = frame[entry.frame_start : entry.frame_start + entry.size]
                    assert blake3(data).digest() == entry.digest  # noqa: S101 - it must be right
                    if twice:
                        whole.update(data)


def copy_rows(source: Path, destination: Path) -> None:
    """Insert the rows of one index into another, empty one, by one statement a table."""
    with closing(sqlite3.connect(destination, isolation_level=None)) as index:
        index.execute("PRAGMA foreign_keys=ON")
        index.execute("PRAGMA synchronous=FULL")
        index.execute("PRAGMA cache_size=-32768")
        index.execute("ATTACH ? AS source", (str(source),))
        index.execute("BEGIN IMMEDIATE")
        for table in TABLES:
            index.execute(f"INSERT INTO main.cas_{table} SELECT * FROM source.cas_{table}")  # noqa: S608
        index.execute("COMMIT")
