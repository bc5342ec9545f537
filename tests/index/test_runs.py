"""The listing of runs: what it says of each, in which order, and what that costs."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase

import pytest
from events import statements
from places import EACH_INDEX, places
from trees import write

from index import ArtifactStore
from index.errors import InvalidNameError, UnknownSessionError

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
    assert (empty.snapshots, empty.files, empty.bytes, empty.forked_from) == (0, 0, 0, "run-1")
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


class TestPages:
    @pytest.fixture
    def filled(self, ticking):
        """Runs r0 to r9 by two agents, with r3 active last and r5 forked in between."""
        session = ticking.session("s")
        for n in range(10):
            session.run(f"r{n}").put("f", b"%d" % n, agent="even" if n % 2 == 0 else "odd")
        session.run("r5").fork("fork")
        session.run("r3").put("g", b"more", agent="late")
        ticking.session("t").run("r1").put("f", b"x", agent="even")
        return session

    def test_joined_are_the_whole_listing(self, ticking, filled):
        for lister in (filled, ticking):
            joined, last = [], None
            while page := lister.runs(limit=3, before=last):
                joined[:0] = page
                last = page[0]
            assert joined == lister.runs()
        assert [each.run for each in filled.runs()][-3:] == ["r9", "fork", "r3"]

    def test_have_an_order_for_runs_of_the_same_moment(self, place):
        moment = datetime(2026, 1, 1, tzinfo=UTC)
        with ArtifactStore.open(**place, clock=lambda: moment) as store:
            for session, name in (("s", "b"), ("s", "a"), ("t", "a"), ("t", "B")):
                store.session(session).run(name).put("f", b"1")
            whole = store.runs()
            assert len(whole) == 4
            for n, each in enumerate(whole):
                assert store.runs(before=each) == whole[:n]

    def test_begin_before_a_run_that_was_deleted_meanwhile(self, filled):
        *rest, last = filled.runs()
        filled.run(last.run).delete()
        assert filled.runs(before=last) == rest

    @pytest.mark.parametrize("matching", ["r", "k", "r?", "r[35]", "r[!0-7]", "*", "f*", "R*", "_"])
    def test_of_a_pattern_are_pages_of_the_matching_runs(self, filled, matching, monkeypatch):
        monkeypatch.setattr("index.api.finding._LEAST_READ", 2)
        wanted = [
            each
            for each in filled.runs()
            if fnmatchcase(each.run, matching if len(matching) > 1 else f"*{matching}*")
        ]
        assert filled.runs(matching=matching) == wanted
        assert filled.runs(matching=matching, limit=3) == wanted[-3:]
        if wanted:
            assert filled.runs(matching=matching, limit=2, before=wanted[-1]) == wanted[-3:-1]

    def test_of_a_text_compare_case_and_have_no_wildcards_of_sql(self, store):
        session = store.session("s")
        for name in ("a_b", "aXb", "A_B", "50%", "500", "back\\slash", "[x", "é"):
            session.run(name).put("f", b"1")
        for text in ("a_b", "50%", "k\\s", "[x", "é", "A"):
            found = {each.run for each in session.runs(matching=text)}
            assert found == {each.run for each in session.runs() if text in each.run}
            assert found

    def test_of_an_agent_hold_or_held_its_versions(self, filled):
        run = filled.run("r8")
        run.put("f", b"new", agent="odd")
        run.put("unattributed", b"1")
        run.annotate("unattributed", agent="claimed")
        by_agent = {name: {r.run for r in filled.runs(agent=name)} for name in ("even", "odd")}
        assert by_agent["even"] == {"r0", "r2", "r4", "r6", "r8"}
        assert by_agent["odd"] == {"r1", "r3", "r5", "r7", "r9", "r8", "fork"}
        assert [r.run for r in filled.runs(agent="claimed")] == ["r8"]
        assert filled.runs(agent="nobody") == []

    def test_name_the_agents_of_each_run(self, filled):
        agents = {each.run: each.agents for each in filled.runs()}
        assert (agents["r3"], agents["r2"]) == (("late", "odd"), ("even",))
        filled.run("r2").put("f", b"by nobody")
        filled.run("quiet").put("f", b"1")
        agents = {each.run: each.agents for each in filled.runs()}
        assert (agents["r2"], agents["quiet"], agents["fork"]) == (("even",), (), ("odd",))

    def test_of_a_status(self, filled):
        filled.run("r1").set_status("failed", reason="why not")
        filled.run("r7").set_status("running")
        assert [each.run for each in filled.runs(status="failed")] == ["r1"]
        assert [each.run for each in filled.runs(status="finished")] == []
        assert filled.runs(status="running", agent="even") == []

    def test_stay_inside_their_session(self, ticking, filled):
        theirs = ticking.session("t").runs()
        assert {each.session for each in filled.runs(agent="even")} == {"s"}
        assert all(each.session == "s" for each in filled.runs(before=theirs[0]))
        assert ticking.session("t").runs(matching="r", agent="odd") == []

    def test_read_only_the_runs_that_they_show(self, store, filled):
        with statements(store) as seen:
            assert len(store.session("s").runs(limit=2, agent="even")) == 2
        (asked,) = [text for text in seen if "SELECT" in text]
        assert "LIMIT" in asked
        assert "cas_files" not in asked

    def test_refuse_what_is_no_filter(self, filled):
        with pytest.raises(ValueError, match="status is one of running"):
            filled.runs(status="done")
        with pytest.raises(TypeError, match="before is a run of a listing"):
            filled.runs(before="r1")
        for wrong in ({"matching": "a\0"}, {"matching": "x" * 300}, {"agent": "\ud800"}):
            with pytest.raises(InvalidNameError):
                filled.runs(**wrong)

    def test_of_an_unknown_session_are_an_error_whatever_the_filters(self, store):
        for filters in ({}, {"matching": "*"}, {"agent": "a"}, {"status": "failed"}):
            with pytest.raises(UnknownSessionError):
                store.session("nobody's").runs(**filters)


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
