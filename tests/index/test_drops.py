"""Dropped versions: the bytes go, and the version stays on record, everywhere."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from garbage import collect
from histories import everything_of
from lost import lose_index
from places import EACH_INDEX, places
from sqlalchemy import select, update

from index import ArtifactStore, provenance, recover
from index.db import tables
from index.errors import (
    BytesNotKeptError,
    UnknownFileError,
    UnknownRunError,
    VersionKeptError,
)
from index.journal.encoding import decode_record

place = places(EACH_INDEX)


@pytest.fixture
def history(run):
    """Three versions of a file, and one of another."""
    for content in (b"one" * 50, b"two" * 50, b"three" * 50):
        run.put("a", content, agent="maker", phase="planning")
    run.put("b", b"other")
    return run


def test_a_dropped_version_says_what_became_of_it(history):
    before = history.file("a", version=1)
    with provenance(agent="cleaner"):
        dropped = history.drop("a", version=1, reason="larger than the disk")
    assert (dropped.id, dropped.digest, dropped.size) == (before.id, None, before.size)
    assert (dropped.agent, dropped.created_at) == ("maker", before.created_at)
    assert dropped.dropped["digest"] == str(before.digest)
    assert dropped.dropped["reason"] == "larger than the disk"
    assert dropped.dropped["agent"] == "cleaner"
    assert dropped.to_dict()["dropped"] == dropped.dropped
    assert "dropped" not in history.file("a").to_dict()
    day = dropped.dropped["at"][:10]
    message = (
        f"the bytes of version 1 of 'a' were dropped on {day}: larger than the disk; put it again"
        " if you have a copy"
    )
    with pytest.raises(BytesNotKeptError) as error:
        history.use(dropped)
    assert str(error.value) == message
    for read in (history.read_bytes, history.open, history.local_path):
        with pytest.raises(BytesNotKeptError) as error:
            read("a", version=1)
        assert str(error.value) == message
    assert [each.version for each in history.history("a")] == [1, 2, 3]
    assert len(history.snapshots()) == 4


def test_what_is_current_tagged_or_gone_is_not_dropped(history):
    history.tag("best", path="a", version=1)
    history.tag("then", at=2)
    for version, reason in (
        (1, r"version 1 of 'a' can't be dropped: the tag 'best' names it; remove the tag"),
        (2, r"the tag 'then' names what it is part of; remove the tag first"),
        (3, r"it is current; replace or remove it first"),
    ):
        with pytest.raises(VersionKeptError, match=reason):
            history.drop("a", version=version, reason="x")
    history.untag("best")
    history.drop("a", version=1, reason="x")
    with pytest.raises(VersionKeptError, match="it has no bytes"):
        history.drop("a", version=1, reason="x")
    with pytest.raises(UnknownFileError, match="no version 9 of 'a'"):
        history.drop("a", version=9, reason="x")
    with pytest.raises(ValueError, match="give a reason"):
        history.drop("a", version=2, reason=" ")


def test_a_drop_in_no_run_and_of_no_session_is_refused(store, history):
    with pytest.raises(UnknownRunError, match="run-1"):
        store.session("session-1").run("run-9").drop("a", version=1, reason="x")
    with pytest.raises(UnknownRunError):
        store.session("session-2").run("run-1").drop("a", version=1, reason="x")
    assert history.read_bytes("a", version=1) == b"one" * 50


@pytest.mark.parametrize("number", [0, -1, 4, 2**31, 10**30, -(10**30)])
def test_a_number_that_no_version_has_is_not_found(history, number):
    with pytest.raises(UnknownFileError, match="has no version"):
        history.drop("a", version=number, reason="x")


def test_counts_and_bytes_follow_a_drop(store, history):
    history.put("copy", b"two" * 50)
    before = history.stats()
    history.drop("a", version=1, reason="x")
    history.drop("a", version=2, reason="x")
    after = history.stats()
    assert (after.versions, after.files) == (before.versions, before.files)
    assert after.distinct_bytes == before.distinct_bytes - 150  # "two" is held by another path
    (blob,) = [each for each in store.plan_gc(grace=timedelta()).iter_blobs() if each.path]
    assert (blob.session, blob.run, blob.path, blob.agent) == ("session-1", "run-1", "a", "maker")
    collect(store)
    assert store.verify(depth="bytes").is_sound
    assert history.read_bytes("copy") == b"two" * 50


def test_another_run_keeps_the_bytes_that_this_one_drops(store, history):
    fork = history.fork("fork", at=2)
    history.drop("a", version=1, reason="x")
    collect(store)
    assert fork.read_bytes("a", version=1) == b"one" * 50
    (producer,) = store.session("session-1").producers(fork.file("a", version=1).digest)
    assert (producer.run, producer.version, producer.agent) == ("run-1", 1, "maker")


def test_a_fork_goes_without_a_dropped_version_and_a_rewind_leaves_its_path_as_it_is(history):
    history.drop("a", version=1, reason="x")
    fork = history.fork("fork", at=1)
    assert fork.files() == ()
    later = history.fork("later")
    assert later.file("a", version=1).dropped["reason"] == "x"
    present = history.file("a")
    snapshot = history.rewind(1)
    assert [tuple(each) for each in snapshot.skipped] == [("a", "its bytes were dropped")]
    assert history.files() == (present,)


def test_a_recovered_index_has_dropped_them_too(place, history, store):
    history.drop("a", version=1, reason="x")
    history.drop("a", version=2, reason="y")
    history.put("a", b"four")
    history.fork("fork")
    collect(store)
    before = everything_of(store)
    dropped = [each.dropped for each in history.history("a")]
    store.close()
    lose_index(place)
    report = recover(**place)
    assert report.lost == ()
    assert report.damaged_records == ()
    with ArtifactStore.open(**place, create=False) as again:
        assert everything_of(again) == before
        run = again.session("session-1").run("run-1")
        assert [each.dropped for each in run.history("a")] == dropped
        assert run.stats().distinct_bytes == history_bytes(run)
        assert again.verify(depth="bytes").is_sound


def history_bytes(run):
    return sum(
        {v.digest: v.size for path in ("a", "b") for v in run.history(path) if v.digest}.values()
    )


def test_the_journal_keeps_that_there_was_one(history, store):
    history.drop("a", version=1, reason="x", agent="cleaner")
    with store.context.database.reading() as connection:
        newest = connection.scalar(select(tables.runs.c.newest_record))
    entry = decode_record(store.context.blobs.read(newest))
    assert (entry.drops, entry.snapshot) == ([["a", 1, "x"]], None)
    assert entry.provenance["agent"] == "cleaner"


@pytest.fixture
def other(stores, tmp_path):
    """Another store."""
    with ArtifactStore.open(**stores.make("sqlite-local", tmp_path / "other")) as opened:
        yield opened


def test_a_sync_does_not_bring_back_what_the_destination_dropped(store, history, other):
    store.sync_to(other)
    theirs = other.session("session-1").run("run-1")
    theirs.drop("a", version=1, reason="x")
    collect(other)
    for _ in range(2):
        report = store.sync_to(other)
        assert {each.outcome for each in report.runs} <= {"unchanged", "ahead"}
        assert report.blobs == 0
    history.put("a", b"newer")
    (run,) = store.sync_to(other).runs
    assert (run.outcome, run.versions) == ("updated", 1)
    assert theirs.file("a", version=1).dropped["reason"] == "x"
    assert theirs.read_bytes("a") == b"newer"


def test_a_sync_takes_no_bytes_from_a_store_that_still_has_them(store, history, other):
    store.sync_to(other)
    history.drop("a", version=1, reason="x")
    collect(store)
    for _ in range(2):
        (run,) = store.sync_to(other).runs
        assert run.outcome in ("unchanged", "updated")
    theirs = other.session("session-1").run("run-1")
    assert theirs.read_bytes("a", version=1) == b"one" * 50
    assert store.session("session-1").run("run-1").read_bytes("a") == b"three" * 50


def test_a_first_sync_brings_the_record_of_a_drop(store, history, other):
    history.drop("a", version=1, reason="x")
    collect(store)
    fork = history.fork("fork")
    store.sync_to(other)
    theirs = other.session("session-1").run("run-1")
    assert theirs.file("a", version=1).dropped == history.file("a", version=1).dropped
    assert other.session("session-1").run("fork").read_bytes("a") == fork.read_bytes("a")
    assert other.verify(depth="bytes").is_sound


def test_copies_stay_of_one_family_when_the_original_is_dropped(store, history, other):
    session = store.session("session-1")
    store.sync_to(other)
    history.drop("a", version=2, reason="x")
    fork = history.fork("fork")
    fork.rewind(1)
    store.sync_to(other)
    theirs = other.session("session-1")
    path = [(v.run, v.version) for v in session.producers("a")]
    assert [(v.run, v.version) for v in theirs.producers("a")] == path


@pytest.mark.parametrize("wrong", ["1", '{"digest": "x", "at": "y", "reason": "z"}', "{}"])
def test_a_damaged_record_of_a_drop_is_not_synced(store, history, other, wrong):
    history.drop("a", version=1, reason="x")
    rows = tables.files
    with store.context.database.writing() as connection:
        connection.execute(
            update(rows).where(rows.c.dropped.is_not(None)).values(dropped=json.loads(wrong))
        )
    (run,) = store.sync_to(other).runs
    assert run.outcome == "damaged"
    assert "version 1 of 'a' can't be dropped so" in run.reason
