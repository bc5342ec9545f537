"""Tags of runs themselves: which run of a session they name, and have named."""

from __future__ import annotations

import threading

import fsspec
import pytest
from lost import lose_index
from places import EACH_INDEX, filesystem_options, places
from sqlalchemy import create_engine
from sqlalchemy.orm import Session as Transaction
from trees import write

import index.transfer.sync
from index import ArtifactStore, FileRepository, provenance, recover
from index.errors import (
    InvalidNameError,
    TaggedRunError,
    UnknownNameError,
    UnknownRunError,
)
from index.export import export_bundle
from index.imports import read_bundle
from index.reading.completion import list_names

place = places(EACH_INDEX)


@pytest.fixture
def session(store):
    """A session of the runs a and b, each with a file."""
    made = store.session("s")
    for name in ("a", "b"):
        made.run(name).put("f", name.encode())
    return made


def named(tag):
    return tag.name, tag.run


def outcomes(report):
    return {each.run: each.outcome.value for each in report.runs}


def history(session, name="best"):
    return [tag.run for tag in session.run_tag_history(name)]


def test_a_tag_names_one_run_of_its_session_and_moves(session):
    made = session.tag_run("best", "a", agent="engineer")
    assert (made.session, named(made), made.agent) == ("s", ("best", "a"), "engineer")
    assert session.run_tags() == (made,)
    with provenance(agent="reviewer"):
        moved = session.tag_run("best", "b")
    assert session.run_tags() == (moved,)
    assert session.run_tag_history("best") == (made, moved)
    assert [(each.run, each.tags) for each in session.runs()] == [("a", ()), ("b", ("best",))]
    assert session.run("@best").summary().tags == ("best",)


def test_a_tag_is_removed_and_set_again(session):
    session.tag_run("best", "a")
    removed = session.untag_run("best", agent="me")
    assert (removed.run, removed.agent) == (None, "me")
    assert session.run_tags() == ()
    assert session.run_tag_history("best")[-1] == removed
    with pytest.raises(UnknownRunError, match="there is no run '@best' in session 's'"):
        session.untag_run("best")
    session.tag_run("best", "b")
    assert history(session) == ["a", None, "b"]


def test_a_tag_stands_for_the_run_wherever_a_run_is_named(session, store, place):
    session.run("a").tag("good")
    session.tag_run("best", "a")
    session.run("part").describe(parent="@best")
    assert session.run("part").summary().parent == "a"
    assert [each.run for each in session.runs(parent="@best")] == ["part"]
    assert session.run("@best").id == store.run("@best", session="s").id == "a"
    assert session.resolve("@best@").run.id == "a"
    assert session.resolve("@best@1").value.number == 1
    assert session.resolve("@best@good").run.id == "a"
    assert session.resolve("@best").run.id == "a"
    assert session.resolve("f", run="@best").value.run == "a"
    assert session.run("@best").fork("c").summary().forked_from == "a"
    session.run("@best").put("g", b"more")
    assert session.run("a").read_bytes("g") == b"more"
    cas = fsspec.filesystem("cas", **filesystem_options(place))
    assert cas.cat_file("cas://s/@best/f") == b"a"
    assert cas.cat_file("cas://s/@best@1/f") == cas.cat_file("cas://s/@best@good/f") == b"a"
    assert cas.cat_file("cas://s/%40best@v1/f") == b"a"
    assert cas.ls("cas://s/@best", detail=False) == ["s/@best/f", "s/@best/g"]


def test_words_that_name_no_run_by_a_tag(session):
    session.tag_run("best", "a")
    with pytest.raises(UnknownRunError, match="the closest is '@best'"):
        session.run("@bets")
    for word in ("@", "@3", "@v2", "@a b", "@best@1"):
        with pytest.raises(InvalidNameError):
            session.run(word)
    with pytest.raises(UnknownNameError):
        session.resolve("@other@")
    with pytest.raises(InvalidNameError, match="it begins with '@', as the tag of a run does"):
        session.run("a").fork("@best")


def test_a_tag_within_a_run_is_another_one(session):
    session.run("a").tag("best")
    session.tag_run("best", "b")
    assert [tag.run for tag in session.tags()] == ["a"]
    assert session.run_tags()[0].run == "b"
    assert session.run("a").untag("best").name == "best"
    assert session.run_tags()[0].run == "b"


def test_a_name_that_no_tag_has_and_a_run_that_is_not_there(session):
    for name in ("", "1", "v2", "a b", "@a", "x" * 65, 3):
        with pytest.raises(InvalidNameError):
            session.tag_run(name, "a")
    with pytest.raises(UnknownRunError):
        session.tag_run("best", "none")
    with pytest.raises(UnknownRunError):
        session.run_tag_history("best")
    assert [each.run for each in session.runs()] == ["a", "b"]


def test_another_session_neither_sees_a_tag_nor_moves_it(session, store):
    session.tag_run("best", "a")
    other = store.session("t")
    other.run("a").put("f", b"theirs")
    assert other.run_tags() == ()
    with pytest.raises(UnknownRunError) as raised:
        other.run("@best")
    assert raised.value.closest == ()
    other.tag_run("best", "a")
    assert session.run_tags()[0].session == "s"
    assert history(session) == ["a"]


def test_a_tag_makes_no_snapshot_and_a_fork_has_none(session):
    session.tag_run("best", "a")
    assert len(session.run("a").snapshots()) == 1
    assert session.run("a").fork("c").summary().tags == ()
    session.run("a").rewind(1)
    assert session.run("a").summary().tags == ("best",)


class TestDeletion:
    def test_a_tag_keeps_its_run(self, session):
        session.tag_run("best", "a")
        session.tag_run("first", "a")
        with pytest.raises(TaggedRunError, match="kept by the tags 'best', 'first'; move or"):
            session.run("a").delete()
        assert session.run("a").read_bytes("f") == b"a"
        session.tag_run("best", "b")
        session.untag_run("first")
        session.run("a").delete()
        assert history(session) == [None, "b"]

    def test_of_a_run_that_is_deleted_all_the_same_the_tag_names_nothing(self, session):
        session.tag_run("best", "b")
        session.tag_run("best", "a")
        session.run("a").delete(force=True)
        assert session.run_tags() == ()
        session.run("a").put("f", b"another run of this name")
        assert session.run("a").summary().tags == ()
        assert history(session) == ["b", None]

    def test_a_session_goes_with_its_tags(self, session):
        session.tag_run("best", "a")
        session.delete()
        session.run("a").put("f", b"1")
        assert session.run_tags() == ()
        with pytest.raises(UnknownRunError):
            session.run_tag_history("best")

    def test_a_repository_keeps_a_tagged_run_too(self, session, store):
        session.tag_run("best", "a")
        engine = create_engine(store.context.database.secret_url)
        with Transaction(engine) as transaction:
            repository = FileRepository(transaction, "s", store=store)
            with pytest.raises(TaggedRunError):
                repository.delete_run("a")
            repository.delete_run("a", force=True)
            transaction.commit()
        engine.dispose()
        assert session.run_tags() == ()


class TestRecovery:
    def test_a_lost_index_gets_its_tags_again(self, place):
        with ArtifactStore.open(**place) as store:
            session = store.session("s")
            for name in ("a", "b", "c"):
                session.run(name).put("f", name.encode())
            session.tag_run("best", "a", agent="me")
            session.tag_run("best", "b")
            session.tag_run("removed", "c")
            session.untag_run("removed")
            session.tag_run("kept", "c")
            before = session.run_tags()
        lose_index(place)
        recover(**place)
        with ArtifactStore.open(**place) as store:
            session = store.session("s")
            assert session.run_tags() == before
            assert history(session) == ["a", "b"]
            assert history(session, "removed") == ["c", None]
            session.tag_run("best", "a")
            assert history(session) == ["a", "b", "a"]

    @pytest.mark.parametrize("has_copy", [False, True])
    def test_a_tag_of_a_deleted_run_does_not_fall_back(self, place, has_copy):
        with ArtifactStore.open(**place) as store:
            session = store.session("s")
            for name in ("a", "b"):
                session.run(name).put("f", name.encode())
            session.tag_run("best", "a")
            session.tag_run("best", "b")
            if has_copy:
                store.back_up()
            session.run("b").delete(force=True)
        lose_index(place)
        recover(**place)
        with ArtifactStore.open(**place) as store:
            session = store.session("s")
            assert session.run_tags() == ()
            assert history(session) == ["a", None]

    def test_a_removal_by_a_deleted_run_still_counts(self, place):
        with ArtifactStore.open(**place) as store:
            session = store.session("s")
            for name in ("a", "b"):
                session.run(name).put("f", name.encode())
                session.tag_run("best", name)
            session.untag_run("best")
            session.run("b").delete()
        lose_index(place)
        recover(**place)
        with ArtifactStore.open(**place) as store:
            assert store.session("s").run_tags() == ()

    def test_a_deletion_in_an_earlier_session_of_that_name_is_forgotten(self, place):
        with ArtifactStore.open(**place) as store:
            session = store.session("s")
            session.run("a").put("f", b"1")
            for _ in range(3):
                session.tag_run("best", "a")
            session.run("a").delete(force=True)
            session.delete()
            session.run("b").put("f", b"2")
            session.tag_run("best", "b")
        lose_index(place)
        recover(**place)
        with ArtifactStore.open(**place) as store:
            assert [named(tag) for tag in store.session("s").run_tags()] == [("best", "b")]


class TestSync:
    @pytest.fixture
    def other(self, tmp_path):
        with ArtifactStore.open(tmp_path / "other") as opened:
            yield opened

    def test_tags_travel_with_their_runs(self, session, store, other):
        session.tag_run("best", "a", agent="me")
        store.sync_to(other)
        there = other.session("s")
        assert there.run_tag_history("best") == session.run_tag_history("best")
        session.tag_run("best", "b")
        assert outcomes(store.sync_to(other))["b"] == "updated"
        assert there.run_tag_history("best") == session.run_tag_history("best")
        session.untag_run("best")
        store.sync_to(other)
        assert there.run_tags() == ()
        assert {*outcomes(store.sync_to(other)).values()} == {"unchanged"}

    def test_a_tag_that_has_moved_to_a_run_that_stays_behind_names_nothing(
        self, session, store, other
    ):
        session.tag_run("best", "a")
        session.tag_run("best", "b")
        store.sync_to(other, runs=["a"])
        assert other.session("s").run_tags() == ()
        assert history(other.session("s")) == ["a", None]
        store.sync_to(other)
        assert other.session("s").run_tag_history("best") == session.run_tag_history("best")

    def test_of_a_tag_moved_in_both_stores_each_keeps_its_own_until_it_moves_again(
        self, session, store, other
    ):
        store.sync_to(other)
        there = other.session("s")
        session.tag_run("best", "a")
        there.tag_run("best", "b")
        store.sync_to(other)
        other.sync_to(store)
        assert (history(session), history(there)) == (["a"], ["b"])
        session.tag_run("best", "a")
        store.sync_to(other)
        assert named(there.run_tags()[0]) == ("best", "a")

    def test_a_tag_that_names_a_run_names_it_until_the_run_arrives_that_it_moved_to(
        self, session, store, other
    ):
        session.tag_run("best", "a")
        store.sync_to(other, runs=["a"])
        session.tag_run("best", "b")
        session.run("c").put("f", b"c")
        session.tag_run("best", "c")
        there = other.session("s")
        assert outcomes(store.sync_to(other, runs=["a"])) == {"a": "unchanged"}
        assert history(there) == ["a"]
        with pytest.raises(TaggedRunError):
            there.run("a").delete()
        store.sync_to(other)
        assert there.run_tag_history("best") == session.run_tag_history("best")
        assert history(there) == ["a", "b", "c"]
        session.tag_run("best", "a")
        session.untag_run("best")
        store.sync_to(other, runs=["b"])
        assert named(there.run_tags()[0]) == ("best", "c")
        store.sync_to(other, runs=["a"])
        assert there.run_tag_history("best") == session.run_tag_history("best")
        assert there.run_tags() == ()

    def test_a_tag_of_the_same_name_is_not_lost_to_runs_that_are_elsewhere(
        self, session, store, other
    ):
        there = other.session("s")
        there.run("z").put("f", b"z")
        there.tag_run("best", "z")
        session.tag_run("best", "a")
        session.tag_run("best", "b")
        store.sync_to(other, runs=["a"])
        assert [named(tag) for tag in there.run_tags()] == [("best", "z")]
        session.tag_run("best", "a")
        session.untag_run("best")
        store.sync_to(other, runs=["b"])
        assert [named(tag) for tag in there.run_tags()] == [("best", "b")]

    def test_a_removal_takes_no_tag_from_a_run_that_it_was_not_about(self, session, store, other):
        there = other.session("s")
        there.run("z").put("f", b"z")
        there.tag_run("best", "z")
        session.tag_run("best", "a")
        session.untag_run("best")
        store.sync_to(other)
        assert [named(tag) for tag in there.run_tags()] == [("best", "z")]
        assert {*outcomes(store.sync_to(other)).values()} == {"unchanged"}

    def test_a_copied_run_takes_no_tag_of_the_session_and_brings_others(
        self, session, other, tmp_path
    ):
        there = other.session("t")
        there.run("z").put("f", b"z")
        there.tag_run("best", "z")
        for run in ("a", "b", "a"):
            session.tag_run("best", run)
        session.tag_run("first", "a")
        there.copy_run(session.run("a"))
        export_bundle(session.run("b"), tmp_path / "bundle")
        read_bundle(there, tmp_path / "bundle")
        assert [named(tag) for tag in there.run_tags()] == [("best", "z"), ("first", "a")]
        with pytest.raises(TaggedRunError):
            there.run("z").delete()
        session.untag_run("first")
        there.copy_run(session.run("a"))
        assert [named(tag) for tag in there.run_tags()] == [("best", "z")]

    def test_a_tag_that_is_moved_while_its_run_arrives_stays(
        self, session, store, other, monkeypatch
    ):
        there = other.session("s")
        there.run("z").put("f", b"z")
        session.tag_run("best", "a")
        session.tag_run("best", "b")
        recorded = index.transfer.sync.record

        def record(*arguments, **options):
            monkeypatch.undo()
            there.tag_run("best", "z")
            return recorded(*arguments, **options)

        monkeypatch.setattr(index.transfer.sync, "record", record)
        store.sync_to(other, runs=["a"])
        assert [named(tag) for tag in there.run_tags()] == [("best", "z")]

    @pytest.mark.parametrize("kept_by", ["a backup", "a fork"])
    def test_a_tag_is_recovered_after_a_sync_has_changed_its_run(
        self, session, store, other, tmp_path, kept_by
    ):
        """Storage has the old chain of records, too, for the fork or since the backup."""
        store.sync_to(other)
        theirs = other.session("s")
        theirs.tag_run("best", "a")
        if kept_by == "a fork":
            theirs.run("a").fork("fork")
        else:
            other.back_up()
        session.run("a").put("f", b"newer")
        store.sync_to(other)
        before = history(theirs)
        other.close()
        lose_index({"root": tmp_path / "other"})
        recover(tmp_path / "other")
        with ArtifactStore.open(tmp_path / "other", create=False) as again:
            assert history(again.session("s")) == before
            assert again.session("s").run("@best").read_bytes("f") == b"newer"

    def test_a_synced_tag_is_recovered(self, session, store, other, tmp_path):
        session.tag_run("best", "a")
        session.tag_run("best", "b")
        store.sync_to(other)
        before = other.session("s").run_tag_history("best")
        other.close()
        lose_index({"root": tmp_path / "other"})
        recover(tmp_path / "other")
        with ArtifactStore.open(tmp_path / "other") as again:
            assert again.session("s").run_tag_history("best") == before


def test_several_that_move_a_tag_at_once_all_do_so(session):
    threads = [
        threading.Thread(target=session.tag_run, args=["best", "ab"[n % 2]]) for n in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    moves = history(session)
    assert sorted(moves) == ["a", "a", "a", "b", "b", "b"]
    assert session.run_tags()[0].run == moves[-1]


def test_a_scan_into_the_run_of_a_tag(session, work):
    session.tag_run("best", "a")
    write(work, {"x": b"1"})
    assert session.run("@best").track(work).number == 2
    assert session.run("a").summary().snapshots == 2


def test_names_are_completed_behind_an_at(session, store):
    session.tag_run("best", "a")
    session.tag_run("bad", "b")
    session.tag_run("last", "b")
    session.run("a").tag("inner")
    database = store.context.database

    def completed(kinds, begin, run=None):
        return list_names(database, kinds, begin, session="s", run=run)

    assert completed(("run",), "@b") == ["@bad", "@best"]
    assert completed(("run",), "") == ["a", "b"]
    assert completed(("tag",), "i", run="@best") == ["inner"]
    assert completed(("tag",), "i", run="@none") == []
