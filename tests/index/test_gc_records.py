"""Journal records are collected like all blobs; those that a run needs stay."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

import pytest
from garbage import (
    NOW,
    before_commit_of_packs,
    check_only_tombstones,
    check_sound,
    collect,
    content_packs,
    contents,
    entries_of,
    rows,
    scalar,
    swept_by,
)
from histories import everything_of
from lost import lose_index
from places import EACH_INDEX, packs_of, places
from trees import write

from cas.packs.pack import EntryKind
from index import ArtifactStore, recover

pytestmark = pytest.mark.usefixtures("equal_chunks")

place = places(EACH_INDEX)

MIB = 1 << 20
STEPS = 50


def records(store):
    """Return the number of journal records, of runs or garbage."""
    return len(rows(store, "SELECT digest FROM cas_blobs")) - len(contents(store))


def bytes_of_packs(objects):
    return sum(len(objects.read(name)) for name in packs_of(objects))


def recovered(place):
    """Lose the index; return the report of its recovery, and the recovered histories."""
    lose_index(place)
    report = recover(**place)
    with ArtifactStore.open(**place, create=False) as store:
        return report, everything_of(store)


def play(store, work):
    """Play a workflow. Each step writes and tracks, registers an output, and fills in a step id."""
    run = store.session("s").run("r")
    for step in range(STEPS):
        write(work, {f"step_{step}/log": b"%d\n" % step * 50})
        run.track(work, agent=f"agent-{step % 4}", node_id=f"n{step}")
        run.put(f"out/{step}.json", b"%d" % (step % 5), node_id=f"n{step}")
        run.track(work, agent=f"agent-{step % 4}", node_id=f"n{step}", step_id=str(step))
    return run


@pytest.mark.slow
def test_the_packs_of_a_workflow_become_one(store, work, objects, place):
    run = play(store, work)
    packs, with_contents = len(packs_of(objects)), len(content_packs(objects))
    assert (packs, with_contents) == (3 * STEPS, STEPS + 5)
    before, known = bytes_of_packs(objects), made_by(run)
    plan = store.plan_gc(grace=NOW)
    assert len(plan.compacted) == packs
    report = plan.execute()
    assert report.packs_compacted == report.packs_deleted == packs
    assert len(packs_of(objects)) == 1
    assert plan.bytes_freed == report.bytes_freed == before - bytes_of_packs(objects) > 0
    check_sound(store, place)
    assert store.plan_gc(grace=NOW).compacted == ()
    store.close()
    lose_index(place)
    assert recover(**place).is_whole
    with ArtifactStore.open(**place, create=False) as again:
        assert made_by(again.session("s").run("r")) == known
        check_sound(again, place)


def made_by(run):
    """Return the files of a run and their provenance."""
    return {v.path: (v.version, v.digest, v.agent, v.node_id, v.step_id) for v in run.files()}


def test_footers_and_index_agree_on_what_is_a_record(store, run, objects):
    run.put("f", b"1" * 300)
    run.put("big", os.urandom(2 * MIB))
    run.fork("fork", at=1)
    run.delete()
    found = [entry for name in packs_of(objects) for entry in entries_of(objects, name)]
    kinds = {bytes(entry.digest): entry.kind for entry in found}
    large = {digest for (digest,) in rows(store, "SELECT blob FROM cas_blob_chunks")}
    assert contents(store) == {
        digest for digest, kind in kinds.items() if kind is not EntryKind.RECORD
    } | {bytes(digest) for digest in large}
    assert records(store) == list(kinds.values()).count(EntryKind.RECORD) == 4


def test_records_go_with_their_run_and_a_fork_keeps_those_that_it_needs(store, run, objects, place):
    run.put("f", b"1" * 300)
    run.put("g", b"2" * 300)
    fork = run.fork("fork", at=1)
    run.put("h", b"3" * 300)
    known = everything_of(store)[0]["session-1", "fork"][1]
    run.delete()
    assert records(store) == 5
    assert swept_by(store) == 2
    assert records(store) == 4  # two of the run, the fork's own, and the deletion record
    check_sound(store, place)
    assert everything_of(store)[0]["session-1", "fork"][1] == known
    fork.delete()
    assert swept_by(store) == 1
    check_only_tombstones(store, objects, 2)


def test_a_recovery_after_collections_gives_the_same_store(store, run, work, place):
    big = os.urandom(2 * MIB + 5)
    write(work, {"a": b"1", "big": big, "dead": os.urandom(3 * MIB)})
    run.track(work, agent="planner")
    for number in range(8):
        run.put("log", os.urandom(50 + number))
    (work / "dead").unlink()
    kept = store.session("session-1").run("kept")
    kept.track(work, agent="engineer")
    fork = run.fork("fork", at=5)
    fork.put("log", b"another")
    run.rewind(3)
    run.delete()
    other = store.session("other").run("other")
    other.put("same", big)
    store.session("other").delete()
    for number in range(12):
        kept.put("log", b"%d" % number)
        if number % 4 == 0:
            collect(store)
    report = collect(store, remove_orphans=True)
    assert report.orphans == report.damaged == ()
    known = everything_of(store)
    check_sound(store, place)
    store.close()
    recovery, after = recovered(place)
    assert after == known
    assert recovery.is_whole
    assert recovery.deleted == (("session-1", "run-1"),)  # nothing is left of the other one


@pytest.mark.parametrize("keeper", ["fork", "backup"])
def test_a_deleted_run_stays_so_when_its_last_record_is_gone(store, run, place, keeper):
    """The deletion record names that record; a fork or a backup has those before it."""
    run.put("f", b"1" * 300)
    if keeper == "fork":
        run.fork("fork")
    else:
        store.back_up()
    run.put("g", b"2" * 300)
    run.delete()
    assert swept_by(store) == (1 if keeper == "fork" else 2)
    known = everything_of(store)
    store.close()
    recovery, after = recovered(place)
    assert after == known
    assert recovery.deleted == (("session-1", "run-1"),)
    assert recovery.lost == ()


@pytest.mark.parametrize("lost", ["first commit", "rewind"])
@pytest.mark.parametrize("made_again", [False, True])
def test_a_deleted_run_stays_so_after_a_repair_began_a_new_chain(
    store, run, objects, place, lost, made_again
):
    """The deletion record names the new chain. The records before it are in storage too."""
    run.put("f", b"1" * 300)
    first = set(packs_of(objects))
    run.rewind(0)
    second = set(packs_of(objects)) - first
    store.close()
    recovered(place)  # the record of a rewind has no other reader
    with ArtifactStore.open(**place) as store:
        (name,) = first if lost == "first commit" else second
        objects.remove(name)
        store.verify(depth="bytes")
        store.repair()
        collect(store, grace=timedelta(days=1))
        run = store.session("session-1").run("run-1")
        run.delete()
        if made_again:
            run.put("g", b"2" * 300)
        known = everything_of(store)
    recovery, after = recovered(place)
    assert after == known
    assert recovery.deleted == (() if made_again else (("session-1", "run-1"),))


def test_a_run_of_the_same_name_as_a_deleted_one_comes_back(store, run, place):
    run.put("f", b"1" * 300)
    run.fork("fork")
    run.put("g", b"2" * 300)
    run.delete()
    run.put("f", b"3" * 300)
    collect(store)
    known = everything_of(store)
    store.close()
    recovery, after = recovered(place)
    assert after == known
    assert recovery.deleted == ()


def test_a_run_that_was_made_again_by_a_slow_clock_comes_back(store, run, place):
    """By that clock it is older than the deletion of the run before it."""
    now = datetime.now(UTC)
    run.put("f", b"1" * 300)
    with ArtifactStore.open(**place, clock=lambda: now + timedelta(days=2)) as fast:
        fast.session("session-1").run("run-1").delete()
    with ArtifactStore.open(**place, clock=lambda: now + timedelta(days=1)) as slow:
        slow.session("session-1").run("run-1").put("g", b"2" * 300)
    known = everything_of(store)
    store.close()
    recovery, after = recovered(place)
    assert after == known
    assert recovery.deleted == ()


def test_a_record_of_a_commit_that_lost_a_race_is_garbage(store, run, objects, place):
    """It was durable before its transaction found another commit."""
    run.put("f", b"1")
    with ArtifactStore.open(**place) as other:
        there = other.session("session-1").run("run-1")
        done = before_commit_of_packs(store, lambda: there.put("g", b"2"), step="UPDATE cas_runs")
        run.put("h", b"3")
    assert done
    assert records(store) == scalar(store, "SELECT count(*) FROM cas_records") == 3
    stale = {
        bytes(entry.digest) for name in packs_of(objects) for entry in entries_of(objects, name)
    }
    assert len(stale - contents(store)) == 4
    collect(store, remove_orphans=True)
    known = everything_of(store)
    store.close()
    recovery, after = recovered(place)
    assert after == known
    assert recovery.is_whole


def test_what_tells_of_deletions_outlives_every_collection(store, objects, place):
    for number in range(20):
        run = store.session("s").run(f"r{number}")
        run.put("f", b"1" * 300)
        run.delete()
        collect(store)
    check_only_tombstones(store, objects, 20)
    assert len(packs_of(objects)) < 16
    store.close()
    recovery, (after, *_) = recovered(place)
    assert after == {}
    assert recovery.deleted == ()  # nothing is left of them
    with ArtifactStore.open(**place) as again:
        collect(again)
        check_only_tombstones(again, objects, 20)


def test_stats_leave_out_records_and_lists(store, run):
    run.put("big", os.urandom(2 * MIB))
    run.put("f", b"1" * 300)
    expected = (4, 2 * MIB + 300)  # a large file, its two chunks, and a small one
    assert (store.stats().blobs, store.stats().distinct_bytes) == expected
    run.delete()
    assert (store.stats().blobs, store.stats().distinct_bytes) == expected
    collect(store)
    assert (store.stats().blobs, store.stats().distinct_bytes) == (0, 0)
