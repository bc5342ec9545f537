"""Collections beside writers: in any order, everything recorded can be read."""

from __future__ import annotations

import os
import sqlite3
import threading
from datetime import timedelta

import pytest
from garbage import (
    NOW,
    before_commit_of_packs,
    change,
    check_only_tombstones,
    check_sound,
    collect,
    condemned,
    content_packs,
    contents,
    during,
    rows,
    scalar,
    swept_by,
    tables_of,
)
from places import CORNERS, on, packs_of
from trees import write

from cas.catalog import Location
from cas.digest import Digest
from index import ArtifactStore
from index.db.catalog import SqlCatalog

pytestmark = pytest.mark.usefixtures("equal_chunks")

MIB = 1 << 20
KNOWN = "SELECT digest FROM cas_blobs"
"""The query of a writer for known digests."""

on_postgresql = on(
    index="postgresql",
    blobs="local",
    because="SQLite has one writer at a time, and these are about rows",
)


@pytest.fixture(params=CORNERS)
def place(request, stores, tmp_path):
    made = stores.make(request.param, tmp_path / "place")
    yield made
    stores.drop(made)


@pytest.fixture
def collector(place):
    with ArtifactStore.open(**place) as opened:
        yield opened


def garbage(store, contents):
    """Leave blobs without references."""
    run = store.session("old").run("old")
    for number, content in enumerate(contents):
        run.put(f"f{number}", content)
    run.delete()


CONTENTS = (b"1" * 300, os.urandom(2 * MIB + 7))


@pytest.mark.parametrize("content", CONTENTS, ids=["small", "large"])
def test_what_a_writer_found_known_is_swept_before_it_commits(
    store, run, collector, work, place, content
):
    garbage(store, [content])
    done = during(store, KNOWN, lambda: collect(collector))
    write(work, {"f": content, "g": b"new"})
    snapshot = run.track(work)
    assert done
    assert snapshot.bytes_stored > 0
    assert run.read_bytes("f") == content
    check_sound(store, place)


def test_what_a_put_found_known_is_swept_before_it_commits(store, run, collector, place):
    garbage(store, [b"1" * 300])
    during(store, KNOWN, lambda: collect(collector))
    run.put("f", b"1" * 300)
    assert run.read_bytes("f") == b"1" * 300


def test_what_a_writer_found_known_is_condemned_and_taken_back(store, run, collector, work, place):
    garbage(store, [CONTENTS[1]])
    during(store, KNOWN, lambda: collect(collector, grace=timedelta(microseconds=1)))
    write(work, {"f": CONTENTS[1]})
    snapshot = run.track(work)
    assert snapshot.bytes_stored == 0
    assert len(contents(store)) == 5
    assert swept_by(collector) == 0
    assert condemned(store) == 0
    check_sound(store, place)


def test_a_pack_is_declared_dead_between_pending_and_live(store, run, collector, work, place):
    reports = []
    done = before_commit_of_packs(store, lambda: reports.append(collect(collector)))
    write(work, {"f": b"1" * 300})
    run.track(work)
    assert done
    assert reports[0].packs_deleted == 1
    assert run.read_bytes("f") == b"1" * 300
    check_sound(store, place)
    assert scalar(store, "SELECT count(*) FROM cas_packs WHERE state = 'live'") == 1


def test_a_pack_is_declared_dead_before_it_is_published(store, run, collector, work, objects):
    """The object appears after its row is dead. The row stays for a while, so it is deleted."""

    done = []
    backend = store.context.blobs.backend
    stage = backend.stage

    def staging():
        staged = stage()
        publish = staged.publish

        def publishing(name):
            if not done:
                done.append(collect(collector))
            publish(name)

        staged.publish = publishing
        return staged

    backend.stage = staging
    write(work, {"f": b"1" * 300})
    run.track(work)
    assert run.read_bytes("f") == b"1" * 300
    assert len(packs_of(objects)) == 2
    assert scalar(store, "SELECT count(*) FROM cas_packs WHERE state = 'dead'") == 1
    assert collect(collector).packs_deleted == 1
    assert len(packs_of(objects)) == 1
    assert scalar(store, "SELECT count(*) FROM cas_packs") == 1


@on_postgresql
def test_a_reference_that_is_not_committed_yet_keeps_its_blob(store, run, collector, place):
    garbage(store, [b"1" * 300])
    swept = []
    # The writer clears the mark before this, so the blob could be condemned again after it.
    done = during(store, "INSERT INTO cas_files", lambda: swept.append(swept_by(collector)))
    run.put("f", b"1" * 300)
    assert done
    assert swept == [0]
    assert run.read_bytes("f") == b"1" * 300
    assert swept_by(collector) == 0


@on_postgresql
def test_a_writer_that_comes_while_a_sweep_is_not_committed_stores_the_bytes_again(
    store, run, collector, work, place
):
    content = CONTENTS[1]
    garbage(store, [content])
    write(work, {"f": content})
    started = during(collector, "DELETE FROM cas_blobs", lambda: run.track(work), threaded=False)
    collect(collector)
    started[-1].join()
    assert run.read_bytes("f") == content
    check_sound(store, place)


def test_two_collectors_at_once_do_it_once(store, run, collector, place, objects):
    for number in range(20):
        run.put(f"f{number}", os.urandom(5000))
    run.put("big", os.urandom(3 * MIB))
    store.session("session-1").run("kept").put("k", run.read_bytes("f7"))
    run.delete()
    reports = []
    threads = [
        threading.Thread(target=lambda s=s: reports.append(collect(s))) for s in (store, collector)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Content and journal records: each is deleted by one of them.
    assert sum(report.swept.blobs for report in reports) == 24 + 21
    check_sound(store, place)
    collect(store)
    found = tables_of(store)
    assert found["contents"] == found["packs"] == len(content_packs(objects)) == 1


@pytest.mark.parametrize("step", ["LEFT OUTER JOIN cas_released", "cas_packs.size > "])
def test_a_collection_inside_another_one(store, run, collector, place, objects, step):
    """After the outer one looked for garbage, and after it looked for dead packs."""
    run.put("f", os.urandom(5000))
    run.delete()
    plan = store.plan_gc(grace=NOW)
    assert not during(store, step, lambda: collect(collector))
    plan.execute()
    assert content_packs(objects) == []
    assert tables_of(store)["contents"] == 0
    collect(store)
    assert tables_of(store)["packs"] <= 1  # the row stays, as there was no object


def test_a_run_is_deleted_while_its_blobs_are_looked_at(store, run, collector, place):
    run.put("f", b"1" * 300)
    run.put("g", b"2" * 300)
    during(collector, "FROM cas_blobs LEFT OUTER JOIN cas_released", run.delete)
    collect(collector)
    assert swept_by(collector) in (0, 2)
    assert tables_of(store)["contents"] == 0


def test_a_fork_is_made_while_its_run_is_collected(store, run, collector, place):
    run.put("f", b"1" * 300)
    made = []
    during(
        collector,
        "FROM cas_blobs LEFT OUTER JOIN cas_released",
        lambda: made.append(run.fork("fork")),
    )
    run.put("g", b"2" * 300)
    collect(collector)
    run.delete()
    collect(collector)
    assert made[0].read_bytes("f") == b"1" * 300
    check_sound(store, place)


def located(store, content):
    digest = Digest.of(content)
    return SqlCatalog(store.context.database, store.context.clock).locate([digest])[digest]


MOVING = "cas_blobs.digest, cas_blobs.pack_offset"
"""The query of compaction for the blobs of a pack."""


@pytest.fixture
def half_dead(store, work):
    """A run with a file in a pack that is otherwise mostly dead."""
    live = os.urandom(9000)
    write(work, {"live": live, "dead": os.urandom(60_000)})
    deleted = store.session("s").run("deleted")
    deleted.track(work)
    kept = store.session("s").run("kept")
    kept.put("live", live)
    deleted.delete()
    return kept


def test_compaction_against_a_sweep_of_what_it_moves(store, half_dead, collector, place, objects):
    def sweep():
        half_dead.delete()
        collect(collector, compact=False)

    assert during(store, MOVING, sweep) is not None
    report = collect(store)
    assert report.packs_compacted == 1
    collect(store)
    check_only_tombstones(store, objects, 2)


def test_compaction_against_a_writer_of_the_same_bytes(store, half_dead, collector, place):
    content = half_dead.read_bytes("live")
    again = collector.session("s").run("again")
    during(store, MOVING, lambda: again.put("same", content))
    assert collect(store).packs_compacted == 1
    half_dead.delete()
    collect(store)
    assert again.read_bytes("same") == content
    check_sound(store, place)


def test_two_compactions_of_one_pack(store, half_dead, collector, place, objects):
    content = half_dead.read_bytes("live")
    during(store, MOVING, lambda: collect(collector))
    collect(store)
    assert half_dead.read_bytes("live") == content
    check_sound(store, place)
    assert len(content_packs(objects)) == 1


def test_a_pack_that_compaction_wrote_is_declared_dead_before_it_is_live(
    store, half_dead, collector, place, objects
):
    before = located(store, half_dead.read_bytes("live"))
    done = before_commit_of_packs(store, lambda: collect(collector, compact=False))
    report = collect(store)
    assert done
    assert report.bytes_written == 0
    assert located(store, half_dead.read_bytes("live")) == before
    check_sound(store, place)
    assert collect(store).packs_compacted == 1
    assert len(content_packs(objects)) == 1


def test_a_blob_that_is_repaired_while_it_is_moved_stays_where_it_is_repaired(
    store, half_dead, collector, place
):
    content = half_dead.read_bytes("live")

    def mend():
        change(collector, "UPDATE cas_blobs SET damaged_at = '2026-01-01 00:00:00'")
        collector.session("s").run("again").put("same", content)
        repaired.append(located(collector, content))

    repaired = []
    during(store, MOVING, mend)
    collect(store)
    assert located(store, content) == repaired[0]
    assert isinstance(repaired[0], Location)
    check_sound(store, place)


@on_postgresql
def test_a_row_that_a_writer_has_locked_is_not_waited_for(store, half_dead, collector, place):
    """Its blob is not moved, and its pack stays; the next collection moves it."""
    content = half_dead.read_bytes("live")
    before = located(store, content)
    with collector.context.database.writing() as connection:
        connection.exec_driver_sql("UPDATE cas_blobs SET touched_at = now()")
        collect(store)
    assert located(store, content) == before
    collect(store)
    assert located(store, content) != before
    check_sound(store, place)


@on_postgresql
def test_references_that_keep_coming_leave_it_to_the_next_collection(store, run, place):
    """A foreign key of another application is no error of a collection."""
    run.put("f", b"1" * 300)
    change(store, "CREATE TABLE theirs (digest bytea REFERENCES cas_blobs (digest))")
    change(store, "INSERT INTO theirs SELECT digest FROM cas_blobs")
    run.delete()
    assert swept_by(store) == 0
    change(store, "DROP TABLE theirs")
    assert swept_by(store) == 1


def test_what_a_sync_brought_is_swept_before_it_is_referred_to(store, collector, place, tmp_path):
    """Blobs are recorded in batches before the rows that need them."""
    with ArtifactStore.open(tmp_path / "source") as source:
        run = source.session("s").run("r")
        for number, content in enumerate(CONTENTS):
            run.put(f"f{number}", content)
        done = before_commit_of_packs(
            store,
            lambda: collect(collector),
            noted_by="INSERT INTO cas_blobs",
            step="INSERT INTO cas_sessions",
        )
        assert not source.sync_to(store).unsynced
    assert done
    copy = store.session("s").run("r")
    assert tuple(copy.read_bytes(f"f{n}") for n in range(len(CONTENTS))) == CONTENTS
    check_sound(store, place)


def test_what_an_adoption_found_known_is_swept_before_it_commits(
    store, collector, work, tmp_path, place
):
    garbage(store, [b"1" * 300])
    write(work, {"f": b"1" * 300})
    with sqlite3.connect(tmp_path / "old.db") as old:
        old.execute(
            "CREATE TABLE files (id INTEGER, run_id TEXT, session_id TEXT, file_path TEXT,"
            " content_hash TEXT, size_bytes INTEGER)"
        )
        old.execute("INSERT INTO files VALUES (1, 'r', 's', ?, NULL, 300)", [str(work / "f")])
    done = during(store, KNOWN, lambda: collect(collector))
    report = store.adopt(f"sqlite:///{tmp_path / 'old.db'}", root=work)
    assert done
    assert report.adopted == 1
    assert store.session("s").run("r").read_bytes("f") == b"1" * 300
    check_sound(store, place)


class Crowd:
    """Threads whose errors fail the test."""

    def __init__(self):
        self.errors = []
        self._threads = []

    def start(self, work, *arguments):
        thread = threading.Thread(target=self._guarded, args=(work, *arguments))
        thread.start()
        self._threads.append(thread)
        return thread

    def join(self):
        for thread in self._threads:
            thread.join()
        assert self.errors == []

    def _guarded(self, work, *arguments):
        try:
            work(*arguments)
        except BaseException as error:  # noqa: BLE001 - raised by `join`
            self.errors.append(error)


SHARED = [os.urandom(2000) for _ in range(6)] + [os.urandom(MIB + 1) for _ in range(2)]


def write_runs(place, number):
    """Record and delete runs with contents that others also record; read each at once."""
    with ArtifactStore.open(**place) as store:
        for turn in range(6):
            run = store.session("s").run(f"{number}-{turn}")
            wanted = {f"f{at}": SHARED[(number + turn + at) % len(SHARED)] for at in range(4)}
            for path, content in wanted.items():
                run.put(path, content)
            assert {path: run.read_bytes(path) for path in wanted} == wanted
            if turn % 2:
                run.delete()


def collect_until(stop, place):
    with ArtifactStore.open(**place) as store:
        while not stop.is_set():
            # A short grace period: without one, a scan could lose its pack again and again.
            collect(store, grace=timedelta(milliseconds=300))


def test_writers_and_collectors_at_once(place):
    stop = threading.Event()
    crowd = Crowd()
    writers = [crowd.start(write_runs, place, number) for number in range(3)]
    for _ in range(2):
        crowd.start(collect_until, stop, place)
    for thread in writers:
        thread.join()
    stop.set()
    crowd.join()
    with ArtifactStore.open(**place) as store:
        check_sound(store, place)
        collect(store)
        check_sound(store, place)
        assert rows(store, "SELECT state FROM cas_packs WHERE state = 'pending'") == []
