"""The listing of runs: what it says of each, in which order, and what that costs."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from events import statements
from places import EACH_INDEX, places
from trees import write

from index import ArtifactStore

place = places(EACH_INDEX)


class Clock:
    """Goes on by an hour with each look at it."""

    def __init__(self):
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self):
        self.now += timedelta(hours=1)
        return self.now


@pytest.fixture
def ticking(place):
    with ArtifactStore.open(**place, clock=Clock()) as opened:
        yield opened


def test_a_run_is_listed_with_its_files_their_size_and_its_last_activity(store, run, work):
    write(work, {"a": b"12345", "b": b"123"})
    run.track(work, agent="one")
    write(work, {"a": b"1234567"})
    run.track(work, agent="two")
    run.put("c", b"1")
    run.remove("b")
    (found,) = store.runs()
    assert (found.snapshots, found.files, found.bytes) == (4, 2, 8)
    assert found.active_at == run.snapshots()[-1].created_at
    assert found.to_dict()["active_at"] == found.active_at.isoformat()


def test_a_run_without_snapshots_and_one_without_files_are_listed(store, run):
    run.put("a", b"1")
    run.remove("a")
    run.fork("empty", at=0)
    by_name = {each.run: each for each in store.runs()}
    assert (by_name["run-1"].snapshots, by_name["run-1"].files, by_name["run-1"].bytes) == (2, 0, 0)
    empty = by_name["empty"]
    assert (empty.snapshots, empty.files, empty.bytes, empty.parent) == (0, 0, 0, "run-1")
    assert empty.active_at == empty.created_at


def test_runs_are_ordered_by_last_activity_and_a_limit_keeps_the_newest(ticking):
    session = ticking.session("s")
    for name in ("a", "b", "c"):
        session.run(name).put("f", name.encode())
    session.run("a").put("g", b"more")
    ticking.session("other").run("x").put("f", b"x")
    assert [each.run for each in session.runs()] == ["b", "c", "a"]
    assert [each.run for each in session.runs(limit=2)] == ["c", "a"]
    assert [each.run for each in ticking.runs(limit=2)] == ["a", "x"]
    assert session.runs(limit=0) == []


def test_a_new_fork_is_as_recent_as_its_making(ticking):
    run = ticking.session("s").run("old")
    run.put("f", b"1")
    ticking.session("s").run("between").put("f", b"2")
    run.fork("fork")
    assert [each.run for each in ticking.runs()] == ["old", "between", "fork"]
    fork = ticking.runs()[-1]
    assert fork.active_at == fork.created_at > run.snapshots()[-1].created_at
    assert (fork.snapshots, fork.files, fork.bytes) == (1, 1, 1)


def test_all_runs_take_one_statement_that_reads_no_versions(store):
    for number in range(20):
        store.session("s").run(f"r{number}").put_many([(f"f{n}", b"%d" % n) for n in range(5)])
    with statements(store) as seen:
        assert [each.files for each in store.runs()] == [5] * 20
    asked = [text for text in seen if "SELECT" in text]
    assert len(asked) == 1
    assert "cas_files" not in asked[0]


@pytest.mark.parametrize(("wrong", "kind"), [("1", TypeError), (True, TypeError), (-1, ValueError)])
def test_a_limit_that_is_no_number_of_runs_is_refused(store, wrong, kind):
    with pytest.raises(kind, match="limit is a number of runs"):
        store.runs(limit=wrong)


def test_the_command_lists_them_with_a_limit_and_of_a_session(cas, store_root):
    with ArtifactStore.open(store_root) as store:
        store.session("s").run("one").put("f", b"1")
        store.session("t").run("two").put("f", b"123")
    _, out, _ = cas("--store", store_root, "runs")
    first, second = (line.split("\t") for line in out.splitlines())
    assert first[:6] == ["s", "one", "", "1", "1", "1"]
    assert second[:6] == ["t", "two", "", "1", "1", "3"]
    _, out, _ = cas("--store", store_root, "runs", "--limit", "1", "--json")
    assert [(each["run"], each["files"], each["bytes"]) for each in json.loads(out)] == [
        ("two", 1, 3)
    ]
    _, out, _ = cas("--store", store_root, "runs", "--session", "s")
    assert out.count("\n") == 1
