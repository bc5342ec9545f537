"""What callers say of a run: what it is a part of, and notes."""

from __future__ import annotations

import sys
import threading

import pytest
from lost import lose_index
from places import EACH_INDEX, on, places
from sqlalchemy import text

import index.db.queries.runs
from index import ArtifactStore, recover
from index.domain.runs import with_depths
from index.errors import (
    InvalidMetaError,
    InvalidNameError,
    ParentCycleError,
    UnknownRunError,
)

place = places(EACH_INDEX)


@pytest.fixture
def session(store):
    return store.session("s")


def names(runs):
    return [each.run for each in runs]


class TestParents:
    def test_a_run_is_a_part_of_another(self, session):
        session.run("sweep").set_status("running")
        made = session.run("trial").describe(parent="sweep")
        assert (made.parent, made.forked_from, made.snapshots) == ("sweep", None, 0)
        assert session.run("trial").summary() == made
        assert names(session.run("sweep").children()) == ["trial"]
        assert session.run("trial").children() == []

    def test_the_parent_may_come_later(self, session):
        for name in ("b", "a"):
            session.run(name).describe(parent="sweep")
        assert names(session.run("sweep").children()) == ["b", "a"]
        with pytest.raises(UnknownRunError):
            session.run("sweep").summary()
        session.run("sweep").put("f", b"1")
        assert names(session.runs(parent="sweep")) == ["b", "a"]

    @on(index="postgresql", because="SQLite has one writer at a time")
    def test_a_session_that_is_deleted_meanwhile_is_made_again(self, place, session, monkeypatch):
        session.set_quota(5_000)
        inserted = index.db.queries.runs._insert_if_absent

        def insert(*arguments):
            made = inserted(*arguments)
            monkeypatch.undo()
            with ArtifactStore.open(**place) as other:
                other.session("s").delete()
            return made

        monkeypatch.setattr(index.db.queries.runs, "_insert_if_absent", insert)
        assert session.run("trial").describe(parent="sweep").parent == "sweep"
        assert session.usage().quota_bytes is None

    def test_a_run_that_does_not_exist_and_has_no_children_is_unknown(self, session):
        with pytest.raises(UnknownRunError):
            session.run("none").children()

    def test_a_parent_is_changed_and_taken_back(self, session):
        run = session.run("r")
        run.describe(parent="one")
        assert run.describe(parent="two").parent == "two"
        assert run.describe(notes={"a": 1}).parent == "two"
        assert run.describe(parent="").parent is None
        assert run.summary().parent is None
        assert session.runs(parent="two") == []

    def test_parents_form_no_circle(self, session):
        session.run("b").describe(parent="a")
        session.run("c").describe(parent="b")
        revisions = names(session.runs())
        for run, parent in (("a", "a"), ("a", "b"), ("a", "c"), ("b", "c")):
            with pytest.raises(ParentCycleError, match="can't be a part of"):
                session.run(run).describe(parent=parent)
        assert names(session.runs()) == revisions  # a refused call creates no run
        session.run("c").describe(parent="a")
        session.run("b").describe(parent="c")

    def test_two_that_would_close_a_circle_at_once_do_not(self, session):
        failed = []

        def link(run, parent):
            try:
                session.run(run).describe(parent=parent)
            except ParentCycleError as error:
                failed.append(error)

        for n in range(4):
            pair = (f"a{n}", f"b{n}")
            threads = [threading.Thread(target=link, args=each) for each in (pair, pair[::-1])]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert len(failed) == 4
        assert len([each for each in session.runs() if each.parent]) == 4

    def test_a_circle_in_another_session_is_none(self, session, store):
        store.session("t").run("a").describe(parent="b")
        assert session.run("b").describe(parent="a").parent == "a"

    def test_children_of_another_session_are_not_seen(self, session, store):
        store.session("t").run("x").describe(parent="sweep")
        session.run("sweep").put("f", b"1")
        assert session.run("sweep").children() == []
        assert names(store.runs(parent="sweep")) == ["x"]

    def test_a_deletion_of_the_parent_leaves_its_children_without_it(self, session, store):
        session.run("p").put("f", b"1")
        session.run("c").describe(parent="p")
        store.session("t").run("c").describe(parent="p")
        session.run("p").delete()
        assert session.run("c").summary().parent is None
        assert store.session("t").run("c").summary().parent == "p"
        session.run("p").put("f", b"another run of this name")
        assert session.run("p").children() == []

    def test_a_fork_has_no_parent_and_no_notes(self, session):
        session.run("c").put("f", b"1")
        session.run("c").describe(parent="p", notes={"a": 1})
        made = session.run("c").fork("d").summary()
        assert (made.parent, made.forked_from, made.notes) == (None, "c", None)

    @pytest.mark.parametrize("parent", ["a/b", "..", "x" * 256, "@", True])
    def test_an_id_that_no_run_has_is_refused(self, session, parent):
        with pytest.raises(InvalidNameError):
            session.run("r").describe(parent=parent)
        with pytest.raises(InvalidNameError):
            session.runs(parent=parent)


def test_a_tree_has_each_run_before_its_children(session):
    for run, parent in [("b", "a"), ("c", "b"), ("d", "a"), ("a", ""), ("e", "gone"), ("f", "")]:
        session.run(run).describe(parent=parent)
    found = [(run.run, depth) for run, depth in with_depths(session.runs())]
    assert found == [("a", 0), ("b", 1), ("c", 2), ("d", 1), ("e", 0), ("f", 0)]


def test_runs_in_a_circle_are_listed_once(session, store):
    for run, parent in [("a", "x"), ("b", "a"), ("c", "b")]:
        session.run(run).describe(parent=parent)
    with store.context.database.writing() as connection:
        connection.execute(text("UPDATE cas_runs SET parent = 'c' WHERE name = 'a'"))
    assert sorted(run.run for run, _ in with_depths(session.runs())) == ["a", "b", "c"]
    with pytest.raises(ParentCycleError):
        session.run("b").describe(parent="c")
    session.run("a").describe(parent="")


class TestNotes:
    def test_notes_are_merged_by_name(self, session):
        run = session.run("r")
        assert run.describe(notes={"rate": 0.1, "by": ["me"]}).notes == {"rate": 0.1, "by": ["me"]}
        assert run.describe(notes={"rate": 0.2, "by": None}).notes == {"rate": 0.2}
        assert run.describe(parent="p").notes == {"rate": 0.2}
        assert run.describe(notes={"rate": None}).notes == {}
        assert [each.notes for each in session.runs()] == [{}]

    def test_a_run_without_any_has_none(self, session):
        session.run("r").put("f", b"1")
        assert session.run("r").summary().notes is None

    @pytest.mark.parametrize("notes", [{"a": float("nan")}, {"a": object()}, {"a": {1, 2}}])
    def test_what_json_cannot_hold_is_refused(self, session, notes):
        with pytest.raises(InvalidMetaError):
            session.run("r").describe(notes=notes)

    @pytest.mark.parametrize("notes", [[1], "text", {1: 2}])
    def test_notes_have_names(self, session, notes):
        with pytest.raises(TypeError):
            session.run("r").describe(notes=notes)

    def test_several_that_note_at_once_lose_nothing(self, session):
        run = session.run("r")
        run.put("f", b"1")
        threads = [
            threading.Thread(target=run.describe, kwargs={"notes": {f"n{n}": n}}) for n in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert run.summary().notes == {f"n{n}": n for n in range(6)}

    def test_a_recorded_command_is_noted_of_the_run_from_its_beginning(self, session, work):
        run = session.run("r")
        run.describe(notes={"mine": 1})
        script = "import sys; sys.exit(3)"
        run.record([sys.executable, "-c", script], work, environment={"LEVEL": "7"})
        noted = run.summary().notes
        assert noted["command"] == [sys.executable, "-c", script]
        assert (noted["mine"], noted["environment"]) == (1, {"LEVEL": "7"})
        assert not {"status", "exit_status", "started_at"} & noted.keys()
        run.record([sys.executable, "-c", ""], work)
        noted = run.summary().notes
        assert noted["command"] == [sys.executable, "-c", ""]
        assert "environment" not in noted
        assert run.summary().status == "finished"


def described(store):
    return [(each.session, each.run, each.parent, each.notes, each.status) for each in store.runs()]


@pytest.mark.parametrize("has_copy", [False, True])
def test_a_lost_index_gets_parents_and_notes_again(place, has_copy):
    with ArtifactStore.open(**place) as store:
        session = store.session("s")
        session.run("p").set_status("running")
        session.run("kept").describe(parent="p", notes={"a": 1, "b": "é\x00"})
        session.run("gone").put("f", b"1")
        session.run("lost").describe(parent="gone")
        session.run("back").describe(parent="p")
        if has_copy:
            store.back_up()
        session.run("back").describe(parent="")
        session.run("kept").describe(notes={"a": None, "c": 2})
        session.run("gone").delete()
        session.run("gone").put("f", b"another run of this name")
        session.run("later").describe(parent="gone")
        session.run("early").describe(parent="never")
        before = described(store)
    lose_index(place)
    recover(**place)
    with ArtifactStore.open(**place) as store:
        assert described(store) == before


def test_parents_and_notes_travel(session, store, tmp_path):
    session.run("c").describe(parent="p", notes={"a": 1})
    session.run("p").set_status("running")
    with ArtifactStore.open(tmp_path / "other") as other:
        store.sync_to(other)
        assert other.session("s").runs() == session.runs()
        session.run("c").describe(notes={"b": 2})
        assert [each.outcome.value for each in store.sync_to(other).runs] == [
            "unchanged",
            "updated",
        ]
        session.run("c").describe(parent="")
        session.run("p").describe(parent="c")  # what was above is below now
        report = store.sync_to(other)
        assert {each.outcome.value for each in report.runs} == {"updated"}
        assert other.session("s").runs() == session.runs()
        other.session("s").run("c").describe(notes={"theirs": 1})
        other.session("s").run("c").describe(notes={"theirs": 2})
        assert {each.outcome.value for each in store.sync_to(other).runs} == {"unchanged"}
        other.sync_to(store)
        assert session.run("c").summary().notes == {"a": 1, "b": 2, "theirs": 2}
    other.close()
    lose_index({"root": tmp_path / "other"})
    recover(tmp_path / "other")
    with ArtifactStore.open(tmp_path / "other") as again:
        assert described(again) == described(store)


def test_a_sync_does_not_close_a_circle(session, store, tmp_path):
    session.run("a").put("f", b"1")
    session.run("b").put("f", b"1")
    with ArtifactStore.open(tmp_path / "other") as other:
        store.sync_to(other)
        other.session("s").run("a").describe(parent="b")
        session.run("b").describe(parent="a")
        report = {each.run: each for each in store.sync_to(other).runs}
        assert report["b"].outcome.value == "conflict"
        assert "its parent 'a' is a part of it there" in report["b"].reason
        assert other.session("s").run("b").summary().parent is None
