"""Reads of one file: what they cost in statements and system calls, and what they still check."""

from __future__ import annotations

import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor

import pytest
from events import statements
from faults import FaultyCalls
from places import EACH_INDEX, on_one, places
from sqlalchemy import event, func, select
from trees import write

from index import ArtifactStore
from index.db import tables
from index.errors import (
    DamagedFileError,
    DanglingFileError,
    IndexUnavailableError,
    StoreClosedError,
    UnknownFileError,
    UnknownRunError,
    UnknownSnapshotError,
)

place = places(EACH_INDEX)

READS = {
    "the present file": lambda run: run.read_bytes("d/a"),
    "a version": lambda run: run.read_bytes("d/a", version=2),
    "a snapshot": lambda run: run.read_bytes("d/a", at=2),
    "a stream": lambda run: run.open("d/a").read(),
}


@pytest.fixture
def run(store, work):
    run = store.session("s").run("r")
    write(work, {"d/a": b"first ", "d/b": b"same " * 100})
    run.track(work)
    write(work, {"d/a": b"second"})
    run.track(work)
    return run


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_read_of_a_small_file_takes_one_statement(store, run, read):
    with statements(store) as seen:
        assert read(run) == b"second"
    assert len(seen) == 1


def test_so_does_the_search_for_a_file(store, run):
    version = run.file("d/a")
    for find in (
        lambda: run.file("d/a"),
        lambda: run["d/a"],
        lambda: run.file("d/a", version=1),
        lambda: run.file("d/a", at=1),
        lambda: store.session("s").file(version.id),
    ):
        with statements(store) as seen:
            assert find().path.startswith("d/")
        assert len(seen) == 1


def test_a_file_by_its_id_or_digest_takes_a_statement_more_for_its_bytes(store, run):
    version = run.file("d/a")
    for file in (version.id, version.digest, str(version.digest)):
        with statements(store) as seen:
            assert store.session("s").read_bytes(file) == b"second"
        assert len(seen) == 2


def test_the_number_of_files_does_not_matter(store, run):
    run.put_many([(f"many/{n}", b"%d" % n) for n in range(2000)])
    with statements(store) as seen:
        assert run.read_bytes("many/77") == b"77"
    assert len(seen) == 1


@on_one(because="it counts system calls of local storage")
def test_a_read_of_a_small_file_opens_its_pack_once(store, run):
    calls = store.context.blobs.backend._calls = FaultyCalls()
    assert run.read_bytes("d/b") == b"same " * 100
    assert [name for name, _ in calls.calls] == ["open_read", "size", "pread", "close"]


@pytest.fixture
def checkouts(store):
    """The connections that were taken from the pool."""
    taken = []

    def take(*_):
        taken.append(None)

    event.listen(store.context.database.engine, "checkout", take)
    yield taken
    event.remove(store.context.database.engine, "checkout", take)


@on_one(because="lookups in PostgreSQL use the pool")
class TestTheConnectionOfManyLookups:
    @pytest.fixture(autouse=True)
    def _many(self, run):
        for _ in range(30):
            run.read_bytes("d/a")

    def test_is_not_taken_from_the_pool_each_time(self, run, checkouts):
        for _ in range(30):
            assert run.read_bytes("d/a") == b"second"
        assert not checkouts

    def test_is_one_for_all_threads(self, store, run):
        with ThreadPoolExecutor(8) as threads:
            assert set(threads.map(run.read_bytes, ["d/a"] * 200)) == {b"second"}
        assert len(store.context.database._lookups._apart) == 1

    def test_sees_what_others_commit(self, place, run):
        with ArtifactStore.open(**place) as other:
            other.session("s").run("r").put("d/a", b"third")
        assert run.read_bytes("d/a") == b"third"

    def test_is_closed_with_the_store(self, store, run):
        (connection,) = store.context.database._lookups._apart
        store.close()
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            connection.execute("SELECT 1")

    def test_is_another_one_after_an_error(self, store, run):
        with sqlite3.connect(store.context.database.file) as other:
            other.execute("ALTER TABLE cas_packs RENAME TO elsewhere")
            with pytest.raises(IndexUnavailableError, match="no such table"):
                run.read_bytes("d/a")
            other.execute("ALTER TABLE elsewhere RENAME TO cas_packs")
        other.close()
        assert run.read_bytes("d/a") == b"second"


@on_one(because="only a log of SQLite's would grow without end")
@pytest.mark.parametrize("count", [1, 40])
def test_no_transaction_stays_open_after_a_read(store, run, count):
    for _ in range(count):
        run.read_bytes("d/a")
    run.file("d/b")
    with sqlite3.connect(store.context.database.file) as other:
        run.put("new", b"new")
        assert other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    other.close()


class TestFindsWhatFilesFinds:
    def test_of_the_present_state_of_versions_and_of_snapshots(self, store, run):
        run.remove("d/b")
        assert run.file("d/a") == run.files(prefix="d/a")[0]
        assert run.file("d/b", at=2) == run.files(prefix="d/b", at=2)[0]
        assert run.file("d/a", version=1) == run.files(prefix="d/a", at=1)[0]
        assert [run.read_bytes("d/a", at=n) for n in (1, 2, 3)] == [b"first ", b"second", b"second"]
        assert [run.read_bytes("d/a", version=n) for n in (1, 2)] == [b"first ", b"second"]
        assert store.session("s").file(run.file("d/a").id) == run.file("d/a")

    def test_with_notes_and_names_of_any_kind(self, store, work):
        run = store.session("s").run("r\u00e9")
        name = os.fsdecode(b"\xff\\n\xc3\xa4")
        run.put(name, b"x", meta={"n": [1, 2.5]}, agent="a", is_final_output=True)
        assert run.file(name) == run.files()[0]
        assert run.file(name).meta == {"n": [1, 2.5]}
        assert run.file(name).is_final_output is True
        assert run.read_bytes(name) == b"x"

    def test_neither_another_runs_nor_another_sessions(self, store, run):
        store.session("other").run("r").put("mine", b"mine")
        store.session("s").run("other").put("mine", b"mine")
        for read in (run.file, run.read_bytes, run.open):
            with pytest.raises(UnknownFileError):
                read("mine")


@pytest.mark.parametrize("name", ["file", "read_bytes", "open"])
class TestWhatIsNotThere:
    def test_a_path_names_its_neighbours(self, run, name):
        with pytest.raises(UnknownFileError, match="d/a"):
            getattr(run, name)("d/aa")

    def test_a_version_or_a_snapshot(self, run, name):
        with pytest.raises(UnknownFileError, match="version 3"):
            getattr(run, name)("d/a", version=3)
        with pytest.raises(UnknownFileError, match="version"):
            getattr(run, name)("d/a", version=1 << 40)
        for number in (3, 1 << 40, -1):
            with pytest.raises(UnknownSnapshotError):
                getattr(run, name)("d/a", at=number)
        with pytest.raises(UnknownFileError):
            getattr(run, name)("d/a", at=0)

    def test_a_removed_file(self, run, name):
        run.remove("d/a")
        with pytest.raises(UnknownFileError):
            getattr(run, name)("d/a")

    def test_a_run(self, store, name):
        with pytest.raises(UnknownRunError):
            getattr(store.session("s").run("none"), name)("d/a")

    def test_a_store_that_was_closed(self, store, run, name):
        store.close()
        with pytest.raises(StoreClosedError):
            getattr(run, name)("d/a")

    def test_a_store_of_before_a_fork(self, run, name, monkeypatch):
        monkeypatch.setattr("index.db.database.os.getpid", lambda: 1)
        with pytest.raises(IndexUnavailableError, match="fork"):
            getattr(run, name)("d/a")


@on_one(because="a broken file of SQLite's")
def test_an_index_that_can_not_be_read_says_why(store, run):
    with sqlite3.connect(store.context.database.file) as other:
        other.execute("ALTER TABLE cas_packs RENAME TO elsewhere")
    other.close()
    with pytest.raises(IndexUnavailableError, match="no such table"):
        run.read_bytes("d/a")


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_flipped_byte_is_noticed_and_noted(store, run, objects, read):
    pack = run._read_one("d/a", None, None).location.pack
    name = f"packs/{str(pack)[:2]}/{pack}.pack"
    data = bytearray(objects.read(name))
    data[run._read_one("d/a", None, None).location.offset] ^= 1
    objects.write(name, bytes(data))
    with pytest.raises(DamagedFileError, match="d/a"):
        read(run)
    with store.context.database.reading() as connection:
        noted = connection.scalar(select(func.count(tables.blobs.c.damaged_at)))
    assert noted == 1


def test_a_missing_pack_is_noticed(run, objects):
    for name in list(objects.names()):
        if name.startswith("packs/"):
            objects.remove(name)
    with pytest.raises(DanglingFileError, match="d/a"):
        run.read_bytes("d/a")
