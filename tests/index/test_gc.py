"""Garbage and its bytes are deleted, referenced blobs stay, and the plan lists both before."""

from __future__ import annotations

import os
from datetime import timedelta

import pytest
from garbage import (
    HOUR,
    NOW,
    Clock,
    change,
    check_only_tombstones,
    check_sound,
    collect,
    condemned,
    content_packs,
    contents,
    kinds,
    rows,
    scalar,
    swept_by,
)
from places import on, packs_of
from trees import write

from cas.digest import Digest
from index import ArtifactStore
from index.maintenance.gc.report import Fate, Kind
from index.maintenance.gc.settings import GcOptions, GcSettings

pytestmark = pytest.mark.usefixtures("equal_chunks")

MIB = 1 << 20
DAY = timedelta(days=1)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(place, clock):
    with ArtifactStore.open(**place, clock=clock) as opened:
        yield opened


def fates(plan):
    return {blob.path: blob.fate for blob in plan.iter_blobs() if blob.path}


def test_a_deleted_run_leaves_nothing_after_one_collection_without_grace(store, run, work, objects):
    write(work, {"a": b"a" * 500, "big": os.urandom(3 * MIB + 5), "empty": b""})
    run.track(work)
    before = sum(len(objects.read(name)) for name in packs_of(objects))
    run.delete()
    plan = store.plan_gc(grace=NOW)
    report = plan.execute()
    check_only_tombstones(store, objects, 1)
    assert len(packs_of(objects)) == 1
    assert plan.swept == report.swept
    assert plan.bytes_freed == report.bytes_freed == before
    assert store.plan_gc(grace=NOW).swept.blobs == 0


def test_what_is_referred_to_stays_whole(store, run, work, place):
    write(work, {"a": b"a" * 500, "big": os.urandom(3 * MIB)})
    run.track(work)
    other = store.session("s2").run("other")
    other.put("same", b"a" * 500)
    other.put("grown", (work / "big").read_bytes()[: 2 * MIB] + b"tail")
    run.delete()
    collect(store)
    assert other.read_bytes("same") == b"a" * 500
    assert other.read_bytes("grown") == (work / "big").read_bytes()[: 2 * MIB] + b"tail"
    check_sound(store, place)
    assert collect(store).swept.blobs == 0


def test_the_grace_period_is_counted_from_the_last_use_and_again_from_the_sentence(
    store, run, clock, objects
):
    run.put("f", b"1" * 300)
    run.delete()
    clock.go(DAY - HOUR)
    assert store.plan_gc().condemned.blobs == 0
    assert collect(store, grace=None).condemned.blobs == 0
    clock.go(HOUR)
    assert fates(store.plan_gc()) == {"f": Fate.CONDEMNED}
    assert kinds(store.plan_gc()) == {
        (Fate.CONDEMNED, Kind.CONTENT): 1, (Fate.CONDEMNED, Kind.RECORD): 1,
    }  # fmt: skip
    report = collect(store, grace=None)
    assert (report.condemned.blobs, report.swept.blobs) == (2, 0)
    clock.go(DAY - HOUR)
    assert fates(store.plan_gc()) == {"f": Fate.WAITING}
    assert collect(store, grace=None).swept.blobs == 0
    assert len(content_packs(objects)) == 1
    clock.go(HOUR)
    assert fates(store.plan_gc()) == {"f": Fate.SWEPT}
    report = collect(store, grace=None)
    assert (report.swept.blobs, report.packs_deleted) == (2, 1)
    check_only_tombstones(store, objects, 1)


def test_whoever_needs_a_condemned_blob_takes_it_back(store, run, clock, place):
    run.put("f", b"1" * 300)
    run.delete()
    clock.go(2 * DAY)
    collect(store, grace=None)
    assert condemned(store) == 1
    again = store.session("session-1").run("again")
    again.put("g", b"1" * 300)
    assert condemned(store) == 0
    clock.go(2 * DAY)
    assert swept_by(store, grace=None) == 0
    check_sound(store, place)
    assert scalar(store, "SELECT count(*) FROM cas_released") == 0


def test_what_is_condemned_and_referred_to_is_unmarked(store, run, clock, place):
    """The blobs were condemned while their references were being added."""
    run.put("f", b"1" * 300)
    run.put("big", os.urandom(2 * MIB))
    change(store, "UPDATE cas_blobs SET condemned_at = '2026-01-01 00:00:00.000000'")
    assert len(contents(store)) == 5
    plan = store.plan_gc(grace=NOW)
    assert plan.unmarked.blobs == 7  # and two journal records
    assert plan.swept.blobs == 0
    report = plan.execute()
    assert (report.unmarked, report.swept.blobs) == (7, 0)
    assert condemned(store) == 0
    check_sound(store, place)


def test_a_plan_changes_nothing(store, run, objects, clock):
    run.put("f", os.urandom(2 * MIB))
    run.delete()
    before = rows(store, "SELECT * FROM cas_blobs"), packs_of(objects)
    plan = store.plan_gc(grace=NOW)
    assert list(plan.iter_blobs())
    assert (rows(store, "SELECT * FROM cas_blobs"), packs_of(objects)) == before
    with pytest.raises(AttributeError):
        plan.swept = None


def test_a_plan_gives_paths_agents_and_bytes(store, run, work):
    write(work, {"a.txt": b"a" * 500, "big.bin": os.urandom(2 * MIB)})
    run.track(work, agent="engineer")
    store.session("session-1").run("kept").put("mine", b"a" * 500)
    run.delete()
    named = [blob for blob in store.plan_gc(grace=NOW).iter_blobs() if blob.path]
    (big,) = named
    assert (big.session, big.run, big.path, big.agent) == (
        "session-1", "run-1", "big.bin", "engineer",
    )  # fmt: skip
    assert big.digest == Digest.of((work / "big.bin").read_bytes())
    assert (big.size, big.stored_size) == (2 * MIB, 0)
    others = [blob for blob in store.plan_gc(grace=NOW).iter_blobs() if not blob.path]
    assert sorted(blob.size for blob in others if blob.kind is Kind.UNNAMED)[1:] == [MIB, MIB]
    (record,) = [blob for blob in others if blob.kind is Kind.RECORD]
    assert (record.session, record.run, record.agent) == ("session-1", "run-1", None)


def test_a_deleted_session_is_named_too_and_the_names_go_with_the_blobs(store, run, work):
    write(work, {"a": b"1", "b": b"2"})
    run.track(work, agent="x")
    store.session("session-1").run("r2").put("c", b"1")
    store.session("session-1").delete()
    named = {(b.run, b.path, b.agent) for b in store.plan_gc(grace=NOW).iter_blobs()}
    assert named == {
        ("run-1", "a", "x"), ("run-1", "b", "x"), ("run-1", None, None), ("r2", None, None),
    }  # fmt: skip
    collect(store)
    assert scalar(store, "SELECT count(*) FROM cas_released") == 0


def test_what_changed_since_the_plan_is_seen_when_it_is_executed(store, run, place):
    run.put("f", b"1" * 300)
    run.delete()
    plan = store.plan_gc(grace=NOW)
    assert fates(plan) == {"f": Fate.SWEPT}
    again = store.session("session-1").run("again")
    again.put("g", b"1" * 300)
    plan.execute()
    assert again.read_bytes("g") == b"1" * 300
    again.delete()
    plan.execute()
    assert contents(store) == set()


def test_forks_keep_what_they_share(store, run, place, objects):
    run.put("f", b"1" * 300)
    run.put("g", b"2" * 300)
    fork = run.fork("fork", at=1)
    run.delete()
    assert swept_by(store) == 1
    assert fork.read_bytes("f") == b"1" * 300
    check_sound(store, place)
    fork.delete()
    assert swept_by(store) == 1
    check_only_tombstones(store, objects, 2)


def test_chunks_that_large_blobs_and_small_files_share(store, run, objects):
    chunk = os.urandom(MIB)
    run.put("big", chunk + b"end")
    run.put("bigger", chunk + chunk + b"end")
    small = store.session("session-1").run("small")
    small.put("same", chunk)
    run.delete()
    collect(store)
    assert small.read_bytes("same") == chunk
    assert len(contents(store)) == 1
    small.delete()
    collect(store)
    check_only_tombstones(store, objects, 2)


def released(store):
    return rows(store, "SELECT session, run, path FROM cas_released WHERE path IS NOT NULL")


def test_the_name_of_a_deleted_file_goes_when_it_stays_as_a_part(store, run):
    chunk = os.urandom(MIB)
    run.put("large", chunk + b"end")
    store.session("s").run("gone").put("chunk", chunk)
    store.session("s").run("gone").delete()
    assert [tuple(row) for row in released(store)] == [("s", "gone", "chunk")]
    collect(store)
    assert released(store) == []
    assert run.read_bytes("large") == chunk + b"end"


def test_the_name_of_a_deleted_file_goes_when_a_backup_is_the_same_bytes(store, run, work):
    store.back_up()
    copy = rows(store, "SELECT digest FROM cas_backups")[0][0]
    data = store.context.blobs.read(Digest(copy))
    store.session("s").run("gone").put("copy.db", data)
    store.session("s").run("gone").delete()
    assert len(released(store)) == 1
    collect(store)
    assert released(store) == []


def test_the_name_of_a_deleted_file_stays_while_its_large_file_is_garbage_too(store, run, clock):
    chunk = os.urandom(MIB)
    gone = store.session("s").run("gone")
    gone.put("large", chunk + b"end")
    gone.put("chunk", chunk)
    gone.delete()
    clock.go(2 * DAY)
    collect(store, grace=DAY)
    assert {row[2] for row in released(store)} == {"large", "chunk"}
    clock.go(2 * DAY)
    collect(store, grace=DAY)
    assert released(store) == []


def test_a_collection_says_when_what_it_condemned_can_go(store, run, clock):
    run.put("f", b"1")
    run.delete()
    assert collect(store, grace=DAY).next_removal is None
    clock.go(DAY)
    at = collect(store, grace=DAY).next_removal
    assert at == clock() + DAY
    clock.go(DAY - HOUR)
    assert collect(store, grace=DAY).next_removal == at
    clock.go(HOUR)
    assert collect(store, grace=DAY).next_removal is None


def test_a_large_blob_that_is_taken_back_keeps_its_chunks(store, run, clock, place):
    """The writer unmarks only the large blob; its chunks were condemned with it."""
    content = os.urandom(2 * MIB)
    run.put("big", content)
    run.delete()
    clock.go(2 * DAY)
    collect(store, grace=None)
    assert condemned(store) == 4
    clock.go(2 * DAY)
    again = store.session("session-1").run("again")
    again.put("big", content)
    assert condemned(store) == 3
    collect(store, grace=None)
    collect(store)
    assert again.read_bytes("big") == content
    check_sound(store, place)


@pytest.mark.parametrize("reference", ["records", "backups", "backup records"])
@on(index="postgresql", blobs="local", because="references are rows, whatever the blobs are in")
def test_records_and_backups_keep_blobs(store, run, reference):
    _check_reference(store, run, reference)


@pytest.mark.parametrize("reference", ["records", "backups", "backup records"])
@on(index="sqlite", blobs="local", because="references are rows, whatever the blobs are in")
def test_records_and_backups_keep_blobs_on_sqlite(store, run, reference):
    _check_reference(store, run, reference)


def _check_reference(store, run, reference):
    run.put("f", b"1" * 300)
    run.put("g", b"2" * 300)
    run.put("h", b"3" * 300)
    keep, beside = Digest.of(b"1" * 300).hex(), Digest.of(b"2" * 300).hex()
    one, two = f"x'{keep}'", f"x'{beside}'"
    if store.context.database.is_server:
        one, two = f"'\\x{keep}'::bytea", f"'\\x{beside}'::bytea"
    if reference == "records":
        change(store, f"INSERT INTO cas_records (position, digest) VALUES (8, {one})")  # noqa: S608
        change(store, f"INSERT INTO cas_records (position, digest) VALUES (9, {two})")  # noqa: S608
    else:
        pair = f"{one}, {two}" if reference == "backups" else f"{two}, {one}"
        change(
            store,
            "INSERT INTO cas_backups (digest, record, created_at)"  # noqa: S608
            f" VALUES ({pair}, '2026-01-01 00:00:00')",
        )
    run.delete()
    collect(store)
    assert digests(store) == {*kept(store), Digest.of(b"1" * 300), Digest.of(b"2" * 300)}
    change(store, "DELETE FROM cas_records WHERE position IN (8, 9)")
    change(store, "DELETE FROM cas_backups")
    collect(store)
    assert digests(store) == kept(store) != set()


def digests(store):
    return {bytes(digest) for (digest,) in rows(store, "SELECT digest FROM cas_blobs")}


def kept(store):
    """Return the records of deletions."""
    told = rows(store, "SELECT digest FROM cas_records WHERE position NOT IN (8, 9)")
    return {bytes(digest) for (digest,) in told}


def test_batches_of_one_collect_the_same(store, run, work, place, objects):
    """Whichever batch separates a large blob from its chunks."""
    write(work, {name: os.urandom(2 * MIB) for name in "ab"} | {"c": b"c", "d": b"d"})
    run.track(work)
    store.session("session-1").run("kept").put("a", (work / "a").read_bytes())
    run.delete()
    settings = GcSettings(grace=NOW, batch=1, range=1, rest=0)
    from index.maintenance.gc.plan import plan_gc

    plan = plan_gc(store.context, GcOptions(settings))
    assert kinds(plan) == {
        (Fate.SWEPT, Kind.CONTENT): 3, (Fate.SWEPT, Kind.UNNAMED): 3, (Fate.SWEPT, Kind.RECORD): 1,
    }  # fmt: skip
    report = plan.execute()
    assert report.swept == plan.swept
    assert report.swept.blobs == 7
    check_sound(store, place)
    assert collect(store).swept.blobs == 0


def test_progress_is_told_and_the_awaitable_twin_collects(store, run):
    import asyncio

    run.put("f", b"1" * 300)
    run.delete()
    reports = []
    asyncio.run(store.plan_gc(grace=NOW).execute_async(progress=reports.append))
    assert reports[-1].files == reports[-1].files_total == 2  # with the journal record
    assert reports[-1].bytes == reports[-1].bytes_total > 0


def test_stats_tell_what_waits_for_collection(store, run, clock):
    run.put("f", os.urandom(3000))
    run.put("g", os.urandom(4000))
    before = store.stats()
    assert (before.condemned, before.dead_bytes) == (0, 0)
    assert (before.blobs, before.distinct_bytes) == (2, 7000)
    of_records = scalar(store, "SELECT sum(stored_size) FROM cas_blobs") - 7000
    run.delete()
    clock.go(2 * DAY)
    collect(store, grace=None)
    found = store.stats()
    assert (found.blobs, found.distinct_bytes) == (2, 7000)
    assert (found.condemned, found.condemned_bytes) == (4, 7000 + of_records)
    tombstone = found.stored_bytes - before.stored_bytes
    collect(store)
    left = store.stats()
    assert (left.blobs, left.distinct_bytes, left.stored_bytes) == (0, 0, tombstone)


@pytest.mark.parametrize("options", [{"grace": timedelta(seconds=-1)}, {"max_bytes": -1}])
@on(index="sqlite", blobs="local", because="nothing is asked of them")
def test_what_can_not_be_meant_is_refused(store, options):
    with pytest.raises(ValueError, match=r"grace|copied"):
        store.plan_gc(**options)
