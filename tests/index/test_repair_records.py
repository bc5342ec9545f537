"""Damaged journal records are written again from the index, as nothing else has their bytes."""

from __future__ import annotations

import random

import pytest
from lost import lose_index
from places import packs_of
from sqlalchemy import text

from index import ArtifactStore, recover


@pytest.fixture
def run(store):
    made = store.session("s").run("r")
    made.put("a", b"1", agent="x")
    return made


def damage_new(objects, before):
    """Remove the packs that were written since `before`."""
    for name in set(packs_of(objects)) - before:
        objects.remove(name)


def test_a_run_whose_record_is_damaged_begins_its_chain_anew(place, store, run, objects):
    before = set(packs_of(objects))
    fork = run.fork("f")
    damage_new(objects, before)
    run.put("b", b"2")
    assert not store.verify().is_sound
    assert store.repair(dry_run=True).is_complete
    report = store.repair()
    assert (report.is_complete, report.chains, report.lost) == (True, 1, ())
    assert store.verify(depth="bytes").is_sound
    fork.put("c", b"3")
    before = {r: [(v.path, v.agent) for v in store.session("s").run(r).files()] for r in "rf"}
    store.close()
    lose_index(place)
    assert recover(**place).is_whole
    with ArtifactStore.open(**place) as again:
        session = again.session("s")
        assert before == {r: [(v.path, v.agent) for v in session.run(r).files()] for r in "rf"}


def test_a_copy_of_the_index_that_is_damaged_is_let_go(store, run, objects):
    before = set(packs_of(objects))
    store.back_up()
    damage_new(objects, before)
    assert not store.verify().is_sound
    report = store.repair()
    assert (report.is_complete, report.forgotten) == (True, 1)
    assert store.verify(depth="bytes").is_sound
    assert store.back_up().kept == 1


def test_parts_of_a_large_file_that_nothing_needs_any_more_are_let_go(store, run, objects):
    data = random.Random(3).randbytes(1 << 20)
    before = set(packs_of(objects))
    other = store.session("s").run("other")
    other.put("large", data)
    damage_new(objects, before)
    other.delete()
    assert not store.verify().is_sound
    report = store.repair()
    assert (report.is_complete, report.lost) == (True, ())
    assert report.unneeded == report.damaged > 5
    assert store.verify(depth="bytes").is_sound
    run.put("large", data)
    assert run.read_bytes("large") == data


def test_a_note_of_a_deletion_that_is_damaged_is_let_go(store, run, objects):
    gone = store.session("s").run("gone")
    gone.put("x", b"x")
    before = set(packs_of(objects))
    gone.delete()
    damage_new(objects, before)
    assert not store.verify().is_sound
    report = store.repair()
    assert (report.is_complete, report.forgotten) == (True, 1)
    with store.context.database.reading() as connection:
        query = text("SELECT count(*) FROM cas_records WHERE run_id IS NULL")
        assert connection.scalar(query) == 0
