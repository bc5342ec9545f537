"""Concurrent scans of one run, in threads and processes; concurrent creators of one store."""

from __future__ import annotations

import os
import signal
import threading
from itertools import pairwise

import pytest
from forks import Forked
from places import EACH_INDEX, as_json, places
from sqlalchemy import text
from trees import contents, read, write

from index import ArtifactStore
from index.db.catalog import SqlCatalog
from index.db.queries import files as file_rows
from index.errors import IndexUnavailableError

place = places(EACH_INDEX)


def in_threads(count, work):
    """Run `work(number)` in threads that start together; raise the first error of any."""
    start = threading.Barrier(count)
    failures = []

    def body(number):
        try:
            start.wait()
            work(number)
        except BaseException as error:  # noqa: BLE001 - raised below
            failures.append(error)

    threads = [threading.Thread(target=body, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def in_processes(count, code, *arguments):
    """Run Python code in several processes at once; return the output of each."""
    processes = [Forked(code, *arguments, number) for number in range(count)]
    outcomes = [process.communicate(timeout=120) for process in processes]
    errors = [error for _, error in outcomes if error]
    assert errors == []
    assert [process.returncode for process in processes] == [0] * count
    return [out for out, _ in outcomes]


def assert_one_version_per_change(store, run, work):
    with store._context.database.reading() as connection:
        doubled = connection.execute(
            text("SELECT path, digest FROM cas_files GROUP BY path, digest HAVING count(*) > 1")
        ).all()
    assert doubled == []
    assert contents(run) == read(work)


@pytest.mark.parametrize("own_handles", [False, True])
def test_four_threads_scan_one_run_at_once(store, work, own_handles):
    shared = store.session("s").run("r")
    for turn in range(4):
        write(work, {f"{turn}/f{n}": b"%d-%d" % (turn, n) for n in range(40)})
        write(work, {"rewritten": b"%d" % turn})
        in_threads(
            4, lambda _: (store.session("s").run("r") if own_handles else shared).track(work)
        )
        assert_one_version_per_change(store, shared, work)
    assert len(shared.history("rewritten")) == 4
    assert len(shared.snapshots()) == 4


TRACK = """
import json, sys
from index import ArtifactStore
place, work, number = sys.argv[1:]
with ArtifactStore.open(**json.loads(place)) as store:
    for turn in range(5):
        store.session("s").run("r").track(work, agent=f"agent-{number}")
"""


@pytest.mark.slow
def test_four_processes_scan_one_run_at_once(store, place, work):
    write(work, {f"d{n % 5}/f{n}": b"%d" % n for n in range(500)})
    in_processes(4, TRACK, as_json(place), work)
    run = store.session("s").run("r")
    assert_one_version_per_change(store, run, work)
    assert len(run.files()) == 500
    assert len(run.snapshots()) == 1


WRITE_AND_TRACK = """
import json, os, sys
from index import ArtifactStore
place, work, number = sys.argv[1:]
with ArtifactStore.open(**json.loads(place)) as store:
    run = store.session("s").run("r")
    for turn in range(10):
        for name in range(5):
            with open(os.path.join(work, f"{number}-{name}"), "w") as file:
                file.write(f"{number} {name} {turn}")
        run.track(work, agent=f"agent-{number}")
"""


@pytest.mark.slow
def test_processes_that_write_and_scan_lose_nothing(store, place, work):
    """In whatever order they commit, the last state of every file is recorded at the end."""
    in_processes(4, WRITE_AND_TRACK, as_json(place), work)
    run = store.session("s").run("r")
    assert contents(run) == read(work)
    for path in read(work):
        versions = [v.version for v in run.history(path)]
        assert versions == list(range(1, len(versions) + 1))
        digests = [v.digest for v in run.history(path)]
        assert all(one != two for one, two in pairwise(digests))
    numbers = [s.number for s in run.snapshots()]
    assert numbers == list(range(1, len(numbers) + 1))


CREATE = """
import sys
from index import ArtifactStore
root, number = sys.argv[1:]
with ArtifactStore.open(root) as store:
    store.session("s").run(f"run-{number}").put("f", number.encode())
    print(store.stats().store_id)
"""


@pytest.mark.slow
def test_several_processes_create_one_store_at_once(tmp_path):
    root = tmp_path / "new" / "store"
    ids = in_processes(6, CREATE, root)
    assert len(set(ids)) == 1
    with ArtifactStore.open(root, create=False) as store:
        assert sorted(r.run for r in store.runs()) == [f"run-{n}" for n in range(6)]


class Interloper:
    """Commits another scan just before the first one takes the write lock."""

    def __init__(self, store, monkeypatch, act):
        original = store._context.database.writing
        acted = []

        def writing(**options):
            if not acted and threading.current_thread() is threading.main_thread():
                acted.append(True)
                act()
            return original(**options)

        monkeypatch.setattr(store._context.database, "writing", writing)
        self.acted = acted


class TestASlowScan:
    """A scan reads; another one reads and commits; then the first one commits."""

    @pytest.fixture
    def other(self, place):
        with ArtifactStore.open(**place) as opened:
            yield opened.session("session-1").run("run-1")

    def test_that_found_the_same_adds_nothing(self, store, run, other, work, monkeypatch):
        write(work, {"f": b"1"})
        interloper = Interloper(store, monkeypatch, lambda: other.track(work, agent="other"))
        snapshot = run.track(work, agent="late")
        assert interloper.acted
        assert snapshot.recorded is False
        assert [v.agent for v in run.history("f")] == ["other"]

    def test_does_not_bring_back_what_it_saw_before_a_rewrite(
        self, store, run, other, work, monkeypatch
    ):
        write(work, {"f": b"0"})
        run.track(work)
        write(work, {"f": b"old", "g": b"seen by the slow one"})

        def rewrite():
            write(work, {"f": b"newer"})
            other.track(work)

        Interloper(store, monkeypatch, rewrite)
        run.track(work)
        assert contents(run) == read(work)
        assert [run.read_bytes("f", version=v.version) for v in run.history("f")] == [
            b"0",
            b"newer",
        ]

    def test_records_what_it_saw_after_the_others_look(self, store, run, other, work, monkeypatch):
        """The other one first commits something older: the file is still as this scan saw it."""
        write(work, {"f": b"0"})
        run.track(work)
        write(work, {"f": b"1"})
        Interloper(store, monkeypatch, lambda: other.put("f", b"something else"))
        run.track(work)
        assert contents(run) == {"f": b"1"}
        assert len(run.history("f")) == 3

    def test_does_not_remove_what_came_back(self, store, run, other, work, monkeypatch):
        write(work, {"f": b"0", "g": b"0"})
        run.track(work)
        (work / "f").unlink()
        (work / "g").unlink()

        def come_back():
            write(work, {"f": b"back"})
            other.track(work)

        Interloper(store, monkeypatch, come_back)
        run.track(work)
        assert contents(run) == {"f": b"back"}

    def test_does_not_remove_what_was_put_meanwhile(self, store, run, other, work, monkeypatch):
        write(work, {"f": b"0"})
        run.track(work)
        (work / "f").unlink()
        Interloper(store, monkeypatch, lambda: other.put("f", b"put"))
        run.track(work)
        assert contents(run) == {"f": b"put"}

    def test_does_not_remove_what_another_directory_brought_meanwhile(
        self, store, run, other, work, tmp_path, monkeypatch
    ):
        write(work, {"d/f": b"0"})
        run.track(work)
        (work / "d/f").unlink()
        write(tmp_path / "scratch", {"f": b"1"})
        Interloper(store, monkeypatch, lambda: other.track(tmp_path / "scratch", prefix="d"))
        run.track(work)
        assert contents(run) == {"d/f": b"1"}

    @pytest.mark.parametrize("before", [None, b"1", b"0"])
    @pytest.mark.parametrize("last", ["whole", "part"])
    def test_and_the_other_one_have_both_seen_what_both_found(
        self, store, run, other, work, monkeypatch, last, before
    ):
        if before is not None:
            run.put("d/f", before)
        write(work, {"d/f": b"1"})
        Interloper(store, monkeypatch, lambda: other.track(work / "d", prefix="d", agent="part"))
        run.track(work, agent="whole")
        (work / "d/f").unlink()
        folder, prefix = (work, None) if last == "whole" else (work / "d", "d")
        (removed,) = other.track(folder, prefix=prefix).removed
        assert removed.path == "d/f"

    def test_gives_way_to_a_directory_that_was_put_where_it_saw_a_file(
        self, store, run, other, work, tmp_path, monkeypatch
    ):
        write(work, {"a": b"file"})
        Interloper(store, monkeypatch, lambda: other.put("a/b", b"put"))
        run.track(work)
        assert contents(run) == {"a": b"file"}
        run.restore(tmp_path / "out")

    def test_removes_once_what_both_found_gone(self, store, run, other, work, monkeypatch):
        write(work, {"f": b"0", "g": b"0"})
        run.track(work)
        (work / "f").unlink()
        Interloper(store, monkeypatch, lambda: other.track(work))
        snapshot = run.track(work)
        assert snapshot.recorded is False
        assert [(v.version, v.end_snapshot) for v in run.history("f")] == [(1, 2)]

    def test_leaves_alone_what_the_other_changed_and_it_did_not(
        self, store, run, other, work, monkeypatch
    ):
        write(work, {"f": b"0", "g": b"0"})
        run.track(work)
        write(work, {"g": b"1"})
        Interloper(store, monkeypatch, lambda: other.put("f", b"put meanwhile"))
        run.track(work)
        assert contents(run) == {"f": b"put meanwhile", "g": b"1"}

    def test_fills_only_what_is_still_current_and_missing(
        self, store, run, other, work, monkeypatch
    ):
        write(work, {"f": b"0", "g": b"0"})
        run.track(work, node_id="n")

        def meanwhile():
            other.put("f", b"new", node_id="n")
            other.track(work, node_id="n", agent="other", scope=("g",))

        Interloper(store, monkeypatch, meanwhile)
        run.track(work, node_id="n", agent="late", scope=("f", "g"))
        assert run.file("f", version=1).agent is None
        assert run.file("g").agent == "other"


def test_each_put_returns_its_own_version(store):
    run = store.session("s").run("r")
    wrong = []

    def put(number):
        for turn in range(15):
            version = run.put("f", b"%d-%d" % (number, turn), agent=f"a{number}")
            if version.agent != f"a{number}" or run.read_bytes("f", version=version.version) != (
                b"%d-%d" % (number, turn)
            ):
                wrong.append(version)

    in_threads(3, put)
    assert wrong == []
    assert len(run.history("f")) == 45


def test_a_forked_child_is_told_to_open_its_own_store(store):
    store.session("s").run("r").put("f", b"1")
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        try:
            store.session("s").run("r").files()
        except IndexUnavailableError as error:
            os._exit(0 if "forked" in str(error) else 2)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert len(store.session("s").run("r").files()) == 1


class TestWhatWasCollectedMeanwhile:
    """Garbage collection may take blobs that a scan relies on; the scan then stores them again."""

    def test_a_blob_that_was_swept_is_stored_again(self, store, run, work, monkeypatch):
        store.session("old").run("r").put("x", b"shared")
        write(work, {"f": b"shared", "g": b"own"})

        original = file_rows.insert_versions
        swept = []

        def insert(connection, *args, **kwargs):
            if not swept:
                swept.append(True)
                connection.exec_driver_sql("DELETE FROM cas_files")
                connection.exec_driver_sql(
                    "DELETE FROM cas_blobs WHERE digest NOT IN "
                    "(SELECT digest FROM cas_blobs ORDER BY created_at DESC LIMIT 1)"
                )
            return original(connection, *args, **kwargs)

        monkeypatch.setattr(file_rows, "insert_versions", insert)
        run.track(work)
        assert swept
        assert contents(run) == {"f": b"shared", "g": b"own"}

    def test_a_pack_that_was_declared_dead_is_written_again(self, store, run, work, monkeypatch):
        write(work, {"f": os.urandom(1000)})
        original = SqlCatalog.register_pack
        killed = []

        def register(catalog, pack):
            original(catalog, pack)
            if not killed:
                killed.append(pack.name)
                with store._context.database.writing() as connection:
                    connection.exec_driver_sql("UPDATE cas_packs SET state = 'dead'")

        monkeypatch.setattr(SqlCatalog, "register_pack", register)
        run.track(work)
        assert contents(run) == read(work)
        with store._context.database.reading() as connection:
            states = connection.execute(text("SELECT state FROM cas_packs ORDER BY id")).scalars()
            assert list(states) == ["dead", "live"]

    def test_a_condemned_blob_is_taken_back_by_whoever_needs_it(self, store, run, work):
        store.session("old").run("r").put("x", b"shared")
        with store._context.database.writing() as connection:
            connection.exec_driver_sql("UPDATE cas_blobs SET condemned_at = created_at")
        write(work, {"f": b"shared"})
        run.track(work)
        with store._context.database.reading() as connection:
            condemned, touched = connection.exec_driver_sql(
                "SELECT condemned_at, touched_at FROM cas_blobs WHERE size = 6"
            ).one()
        assert condemned is None
        assert touched is not None

    def test_reuse_within_the_hour_writes_no_touch(self, store, run, work):
        store.session("old").run("r").put("x", b"shared")
        write(work, {"f": b"shared"})
        run.track(work)
        with store._context.database.reading() as connection:
            query = "SELECT count(touched_at) FROM cas_blobs"
            assert connection.exec_driver_sql(query).scalar() == 0

    def test_a_run_that_was_deleted_and_made_again_is_not_taken_for_the_old_one(
        self, store, place, run, work, tmp_path
    ):
        write(work, {"a": b"1"})
        run.track(work)
        with store._context.database.writing() as connection:
            connection.exec_driver_sql("DELETE FROM cas_runs")
        write(tmp_path / "work2", {"b": b"2"})
        with ArtifactStore.open(**place) as other:
            other.session("session-1").run("run-1").track(tmp_path / "work2")
        run.track(work)
        assert contents(run) == {"a": b"1"}

    def test_a_run_that_was_deleted_in_mid_scan_is_made_again_whole(
        self, store, run, work, monkeypatch
    ):
        write(work, {"f": b"1", "g": b"2"})
        run.track(work)
        write(work, {"g": b"3"})

        def delete():
            with store._context.database.engine.begin() as connection:
                connection.exec_driver_sql("DELETE FROM cas_sessions")

        Interloper(store, monkeypatch, delete)
        run.track(work)
        assert contents(run) == {"f": b"1", "g": b"3"}
        assert [s.number for s in run.snapshots()] == [1]


def test_a_run_is_forked_while_others_write_to_it(store, place):
    """A fork has what the run held at one moment, and no writer makes it fail."""
    store.session("s").run("r").put("first", b"0")
    forks = 12

    def work(number):
        with ArtifactStore.open(**place) as opened:
            run = opened.session("s").run("r")
            for step in range(forks):
                if number:
                    run.put(f"{number}/{step}", b"%d of %d" % (step, number))
                else:
                    run.fork(f"fork-{step}")

    in_threads(3, work)
    for step in range(forks):
        fork = store.session("s").run(f"fork-{step}")
        held = [file.path for file in fork.files()]
        assert len(held) == len(fork.snapshots())
