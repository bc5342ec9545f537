"""A store with an entry of every kind, and ways to damage it below the API."""

from __future__ import annotations

import os
import random
import sqlite3
import struct
from contextlib import closing, suppress
from pathlib import PurePath

from forged import assert_sound
from places import objects_of, packs_of
from sqlalchemy import text
from trees import contents, write

from cas.errors import CasError
from cas.packs.pack import HEADER_SIZE, TRAILER_SIZE, EntryKind
from index import ArtifactStore
from index.errors import ArtifactIndexError

MIB = 1 << 20
RECORD = struct.Struct("<BBxx32sIII")

FIRST = {
    "raw": random.Random(1).randbytes(3000),
    "text": b"step,amplitude\n" * 300,
    "large": random.Random(2).randbytes(2 * MIB + 500),
    "empty": b"",
}
SECOND = {**FIRST, "raw": random.Random(3).randbytes(2500), "more": b"more text " * 200}


def fill(place, work):
    """Record two snapshots, leave SECOND in the work directory, and return both contents."""
    with ArtifactStore.open(**place) as store:
        run = store.session("s").run("r")
        write(work / "now", FIRST)
        run.track(work / "now", agent="planner")
        write(work / "then", FIRST)
        write(work / "now", SECOND)
        os.symlink("raw", work / "now" / "link")
        run.track(work / "now", agent="engineer")
        return held(store)


def held(store):
    """Return what the run holds at both snapshots."""
    run = store.session("s").run("r")
    return contents(run, at=1), contents(run, at=2)


def read_what_can_be(store):
    """Return the contents of all files that can be read, by snapshot and path."""
    run = store.session("s").run("r")
    served = {}
    for at in (1, 2):
        for version in run.files(at=at):
            with suppress(CasError, ArtifactIndexError):
                served[at, version.path] = run.read_bytes(version.path, at=at)
    return served


def records_of(data):
    """Return the footer's entries of a pack, read without the library: kind, digest, offset, …."""
    (count,) = struct.unpack_from("<I", data, len(data) - TRAILER_SIZE)
    start = len(data) - TRAILER_SIZE - count * RECORD.size
    return [RECORD.unpack_from(data, start + n * RECORD.size) for n in range(count)]


def largest_pack(objects):
    return max(packs_of(objects), key=lambda name: len(objects.read(name)))


def entry_of(data, kind, *, codec=None, least=1, nth=0):
    """Return offset and stored size of an entry of that kind."""
    found = [
        (offset, stored)
        for known, packed, _, offset, stored, size in records_of(data)
        if known == kind and codec in (None, packed) and size >= least
    ]
    return found[nth]


def flip(data, at):
    changed = bytearray(data)
    changed[at] ^= 0x10
    return bytes(changed)


def inside(kind, *, codec=None, least=1, nth=0):
    """Return a mutation that flips a bit in the middle of an entry."""

    def mutate(data):
        offset, stored = entry_of(data, kind, codec=codec, least=least, nth=nth)
        return flip(data, offset + stored // 2)

    return mutate


def footer_at(field):
    """Return a mutation that flips a bit of the first footer entry, at that byte of it."""

    def mutate(data):
        return flip(data, len(data) - TRAILER_SIZE - len(records_of(data)) * RECORD.size + field)

    return mutate


HARMLESS = {
    # These harm no blob: only the pack does not match its name.
    "magic": lambda data: flip(data, 3),
    "version": lambda data: flip(data, 8),
    "nonce": lambda data: flip(data, 20),
    "reserved": lambda data: flip(data, 30),
    "record-kind": footer_at(0),
    "record-codec": footer_at(1),
    "record-reserved": footer_at(2),
    "record-digest": footer_at(10),
    "record-offset": footer_at(36),
    "record-stored": footer_at(40),
    "record-size": footer_at(44),
    "trailer-count": lambda data: flip(data, len(data) - TRAILER_SIZE),
    "trailer-digest": lambda data: flip(data, len(data) - 20),
    "trailer-magic": lambda data: flip(data, len(data) - 2),
    "truncated-trailer": lambda data: data[:-1],
    "extended": lambda data: data + b"\0",
}
HARMFUL = {
    "raw": inside(EntryKind.BLOB, codec=0),
    "zstd": inside(EntryKind.BLOB, codec=1),
    "chunk": inside(EntryKind.BLOB, codec=0, least=MIB),
    "chunk-list": inside(EntryKind.CHUNK_LIST),
    "first-byte": lambda data: flip(data, HEADER_SIZE),
    "truncated-entry": lambda data: data[: HEADER_SIZE + 100],
    "halved": lambda data: data[: len(data) // 2],
    "emptied": lambda data: b"",
    "zeroed": lambda data: bytes(len(data)),
    "shifted": lambda data: data[:HEADER_SIZE] + b"\0" + data[HEADER_SIZE:],
    "dropped": lambda data: None,
}
ONLY_BYTES = {"raw", "zstd", "chunk", "chunk-list", "first-byte"}
"""Damage that size, header and footer do not show."""


def mutate(objects, mutation):
    """Damage the largest pack; return its name."""
    name = largest_pack(objects)
    changed = mutation(objects.read(name))
    if changed is None:
        objects.remove(name)
    else:
        objects.write(name, changed)
    return name


def execute(store, statement, **values):
    """Change rows below the store's API, regardless of foreign keys and constraints."""
    database = store.context.database
    if database.file is not None:
        # A separate connection: SQLite's foreign keys are off unless they are switched on.
        with closing(sqlite3.connect(database.file)) as connection:
            connection.execute("PRAGMA ignore_check_constraints=ON")
            done = connection.execute(statement, values).rowcount
            connection.commit()
        return done
    with database.engine.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        return connection.execute(text(statement), values).rowcount


def marked(store):
    """Return how many blobs are marked as damaged."""
    with store.context.database.reading() as connection:
        found = connection.execute(
            text("SELECT count(*) FROM cas_blobs WHERE damaged_at IS NOT NULL")
        )
        return found.scalar_one()


def assert_pristine(place, expected):
    """Check that every pack matches its name, and that every file reads as before."""
    objects = objects_of(place)
    with ArtifactStore.open(**place) as store:
        report = store.verify(depth="bytes")
        assert report.is_sound, report.faults
        assert (report.marked, report.packs_read) == (0, report.packs)
        assert held(store) == expected
        with store.context.database.reading() as connection:
            live = connection.execute(text("SELECT name FROM cas_packs WHERE state = 'live'"))
            names = {bytes(name).hex() for name in live.scalars()}
    for name in packs_of(objects):
        if PurePath(name).stem in names:
            assert_sound(PurePath(name).stem, objects.read(name))
