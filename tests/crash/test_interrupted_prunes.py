"""A retention dies at every statement and commit; what it had not deleted is whole."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

import pytest
from aftermath import Template
from events import failing_at, telling_points
from faults import PowerCut
from garbage import collect
from lost import lose_index
from places import EACH_INDEX

from index import ArtifactStore, RetentionPolicy, VersionRule, recover

POLICY = RetentionPolicy(keep_last=2, versions=(VersionRule(larger_than=0),))
KEPT = ["run-2", "run-3"]


@pytest.fixture(scope="module", params=EACH_INDEX)
def prepared(request, stores, tmp_path_factory):
    """A store with runs to delete and versions to drop."""
    place = stores.make(request.param, tmp_path_factory.mktemp("prepared"))
    with ArtifactStore.open(**place) as store:
        for n in range(4):
            run = store.session("s").run(f"run-{n}")
            run.put("shared", b"held by all of them" * 20)
            run.put("own", f"past of {n}".encode() * 20)
            run.put("own", f"now of {n}".encode() * 20)
    yield Template(place, stores)
    stores.drop(place)


def check(store):
    """Whole at once, and done after the next execution."""
    session = store.session("s")
    for n, run in enumerate(session.runs()):
        assert session.run(run.run).read_bytes("shared") == b"held by all of them" * 20, n
    assert {run.run for run in session.runs()} >= {*KEPT}
    collect(store)
    assert store.verify(depth="bytes").is_sound
    session.plan_retention(POLICY).execute()
    assert [run.run for run in session.runs()] == KEPT
    for n, name in ((2, "run-2"), (3, "run-3")):
        run = session.run(name)
        assert run.read_bytes("own") == f"now of {n}".encode() * 20
        assert run.file("own", version=1).dropped is not None
    collect(store)
    assert store.verify(depth="bytes").is_sound


def execute(store):
    return store.session("s").plan_retention(POLICY).execute()


def test_it_may_die_at_every_statement(prepared, tmp_path):
    place = prepared.copy(tmp_path / "counted")
    with ArtifactStore.open(**place) as store:
        with failing_at(store) as points:
            execute(store)
        check(store)
    prepared.drop(place)
    tried = telling_points(points)
    assert len(tried) > 8
    for number in tried:
        place = prepared.copy(tmp_path / f"{number}")
        with ArtifactStore.open(**place) as store:
            with suppress(PowerCut), failing_at(store, number, PowerCut()):
                execute(store)
            check(store)
        prepared.drop(place)


def test_an_index_that_is_lost_between_deletion_and_collection_comes_back(prepared, tmp_path):
    place = prepared.copy(tmp_path / "place")
    with ArtifactStore.open(**place) as store:
        report = execute(store)
        assert len(report.runs) == len(report.dropped) == 2
    lose_index(place)
    recover(**place)
    with ArtifactStore.open(**place, create=False) as store:
        assert [run.run for run in store.session("s").runs()] == KEPT
        assert store.plan_gc(grace=timedelta()).swept.blobs > 0
        check(store)
    prepared.drop(place)
