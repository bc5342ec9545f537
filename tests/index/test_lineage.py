"""Runs that are forked, rewound, deleted and compared."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from datetime import timedelta

import pytest
from events import statements
from places import EACH_INDEX, on, packs_of, places
from sqlalchemy import event
from trees import contents, read, write

from cas.digest import Digest
from index import ArtifactStore, provenance
from index.errors import (
    InvalidNameError,
    RunExistsError,
    UnknownRunError,
    UnknownSessionError,
    UnknownSnapshotError,
)

place = places(EACH_INDEX)


@pytest.fixture
def history(run, work):
    """A run of three snapshots: two files added, one changed, one removed and one added."""
    write(work, {"plan.md": b"the plan", "data/a.csv": b"1"})
    run.track(work, phase="planning", agent="planner", node_id="planning")
    write(work, {"data/a.csv": b"2"})
    run.track(work, phase="control", agent="engineer", node_id="step_1")
    write(work, {"plots/p.png": b"png"})
    (work / "plan.md").unlink()
    run.track(work, phase="control", agent="plotter", node_id="step_2")
    return run


STATES = {
    1: {"plan.md": b"the plan", "data/a.csv": b"1"},
    2: {"plan.md": b"the plan", "data/a.csv": b"2"},
    3: {"data/a.csv": b"2", "plots/p.png": b"png"},
}


def instructions(store, act):
    """Return how many thousand instructions SQLite executes for a call."""
    ticks = []
    engine = store._context.database.engine

    def count(connection, _record):
        connection.set_progress_handler(lambda: ticks.append(1) and None, 100)

    engine.dispose()
    event.listen(engine, "connect", count)
    act()
    event.remove(engine, "connect", count)
    engine.dispose()
    return len(ticks)


def test_a_diff_is_grouped_by_what_it_can_be_grouped_by(history):
    with pytest.raises(ValueError, match="phase, agent, node_id"):
        history.diff(1).by("node")


class TestFork:
    @pytest.mark.parametrize("at", [1, 2, 3, None])
    def test_a_fork_begins_with_what_the_run_held(self, history, at):
        fork = history.fork("branch", at=at)
        assert contents(fork) == STATES[at or 3]
        assert fork.id == "branch"

    def test_a_fork_has_the_history_up_to_its_snapshot(self, history):
        fork = history.fork("branch", at=2)
        assert [s.number for s in fork.snapshots()] == [1, 2]
        assert [s.provenance for s in fork.snapshots()] == [
            s.provenance for s in history.snapshots()[:2]
        ]
        assert contents(fork, at=1) == STATES[1]
        assert [fork.read_bytes("data/a.csv", version=n) for n in (1, 2)] == [b"1", b"2"]
        assert [v.agent for v in fork.history("data/a.csv")] == ["planner", "engineer"]
        assert fork.file("data/a.csv").created_at == history.file("data/a.csv").created_at
        assert [v.path for v in fork.files()] == [v.path for v in history.files(at=2)]

    def test_a_fork_at_a_snapshot_object_or_at_nothing(self, history):
        second = history.snapshots()[1]
        assert contents(history.fork("one", at=second)) == STATES[2]
        empty = history.fork("two", at=0)
        assert empty.files() == ()
        assert empty.snapshots() == ()

    def test_a_fork_and_its_parent_go_their_own_ways(self, history, tmp_path):
        fork = history.fork("branch", at=2)
        write(tmp_path / "other", {"data/a.csv": b"3"})
        fork.track(tmp_path / "other", agent="other")
        assert contents(fork) == {"data/a.csv": b"3"}
        assert [v.version for v in fork.history("data/a.csv")] == [1, 2, 3]
        assert contents(history) == STATES[3]
        assert [s.number for s in fork.snapshots()] == [1, 2, 3]

    def test_tracking_the_same_directory_after_a_fork_finds_nothing_new(self, history, work):
        snapshot = history.fork("branch").track(work)
        assert (snapshot.recorded, snapshot.unchanged) == (False, 2)

    def test_a_fork_of_a_fork_stays_whole_when_both_parents_are_deleted(self, history, store):
        child = history.fork("child", at=2)
        child.put("mine", b"child's")
        grandchild = child.fork("grandchild")
        history.delete()
        child.delete()
        assert contents(grandchild) == {**STATES[2], "mine": b"child's"}
        assert contents(grandchild, at=1) == STATES[1]
        (summary,) = store.session("session-1").runs()
        assert (summary.run, summary.forked_from) == ("grandchild", None)

    def test_the_listing_of_runs_tells_what_stems_from_what(self, history, store):
        history.fork("branch", at=2)
        one, two = store.session("session-1").runs()
        assert (one.forked_from, one.forked_snapshot) == (None, None)
        assert (two.run, two.forked_from, two.forked_snapshot) == ("branch", "run-1", 2)

    def test_a_fork_writes_nothing_but_a_small_record_of_itself(self, history, store, objects):
        packs = set(packs_of(objects))
        before = store.stats()
        history.fork("branch", at=2)
        after = store.stats()
        assert len(set(packs_of(objects)) - packs) == 1
        assert after.blobs == before.blobs
        assert 0 < after.stored_bytes - before.stored_bytes < 1024

    def test_a_fork_takes_the_same_statements_whatever_the_run_holds(self, run, store, work):
        counts = []
        for number, size in enumerate((3, 1500)):
            write(work, {f"{number}/{n}": b"%d" % n for n in range(size)})
            run.track(work)
            with statements(store) as issued:
                run.fork(f"fork-{number}")
            counts.append(len(issued))
        assert counts[0] == counts[1]

    def test_what_cannot_be_forked_says_why(self, history, store):
        history.fork("branch")
        with pytest.raises(RunExistsError, match="branch"):
            history.fork("branch")
        with pytest.raises(RunExistsError):
            history.fork("run-1")
        with pytest.raises(UnknownSnapshotError, match="7"):
            history.fork("other", at=7)
        with pytest.raises(UnknownSnapshotError):
            history.fork("other", at=-1)
        with pytest.raises(UnknownRunError):
            store.session("session-1").run("nobody").fork("other")
        with pytest.raises(InvalidNameError):
            history.fork("a/b")
        assert [s.run for s in store.session("session-1").runs()] == ["run-1", "branch"]

    def test_of_several_who_fork_to_one_id_one_does(self, history, place):
        outcomes = []

        def attempt():
            with ArtifactStore.open(**place) as other:
                try:
                    other.session("session-1").run("run-1").fork("branch")
                    outcomes.append("made")
                except RunExistsError:
                    outcomes.append("there")

        threads = [threading.Thread(target=attempt) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(outcomes) == ["made", *["there"] * 5]


class TestRewind:
    def test_a_run_holds_again_what_it_held(self, history):
        snapshot = history.rewind(1)
        assert contents(history) == STATES[1]
        assert snapshot.number == 4
        assert [v.path for v in snapshot.added] == ["plan.md"]
        assert [v.path for v in snapshot.changed] == ["data/a.csv"]
        assert [v.path for v in snapshot.removed] == ["plots/p.png"]
        for number, state in STATES.items():
            assert contents(history, at=number) == state

    def test_the_new_versions_name_those_who_made_the_bytes(self, history):
        with provenance(agent="somebody", node_id="back"):
            snapshot = history.rewind(1)
        assert history.file("data/a.csv").agent == "planner"
        assert [v.version for v in history.history("data/a.csv")] == [1, 2, 3]
        assert history.snapshots()[-1].provenance.agent == "somebody"
        assert history.snapshots()[-1] == snapshot

    def test_going_back_to_where_one_is_records_nothing(self, history):
        snapshot = history.rewind(3)
        assert (snapshot.recorded, snapshot.number, snapshot.unchanged) == (False, 3, 2)
        assert len(history.snapshots()) == 3

    def test_back_and_forth_ends_where_it_began(self, history):
        history.rewind(1)
        history.rewind(3)
        assert contents(history) == STATES[3]
        assert contents(history, at=4) == STATES[1]
        assert history.rewind(0).removed
        assert contents(history) == {}

    def test_the_directory_restored_after_a_rewind_is_as_recorded(self, history, work):
        history.rewind(1)
        shutil.rmtree(work)
        history.restore(work)
        snapshot = history.track(work)
        assert read(work) == STATES[1]
        assert (snapshot.recorded, snapshot.unchanged) == (False, 2)

    def test_a_scan_of_the_untouched_directory_brings_back_what_lies_there(self, history, work):
        history.rewind(1)
        history.track(work, agent="engineer")
        assert contents(history) == STATES[3]

    def test_there_is_no_way_back_to_what_never_was(self, history, store):
        with pytest.raises(UnknownSnapshotError):
            history.rewind(9)
        with pytest.raises(UnknownRunError):
            store.session("session-1").run("nobody").rewind(1)

    def test_rewinds_and_scans_at_once_lose_nothing(self, history, place, work):
        write(work, {"late": b"late"})
        errors = []

        def attempt(number):
            try:
                with ArtifactStore.open(**place) as other:
                    mine = other.session("session-1").run("run-1")
                    mine.rewind(1 + number % 3) if number % 2 else mine.track(work)
            except Exception as error:  # noqa: BLE001 - asserted below
                errors.append(error)

        threads = [threading.Thread(target=attempt, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        history.track(work)
        assert contents(history) == read(work)
        for path in ("data/a.csv", "plots/p.png", "plan.md"):
            versions = [v.version for v in history.history(path)]
            assert versions == list(range(1, len(versions) + 1))


class TestDiff:
    def test_between_two_snapshots(self, history):
        diff = history.diff(1, 3)
        assert [v.path for v in diff.added] == ["plots/p.png"]
        assert [v.path for v in diff.removed] == ["plan.md"]
        assert [(c.path, c.before.version, c.after.version) for c in diff.changed] == [
            ("data/a.csv", 1, 2)
        ]
        assert diff.identical == ()
        assert [v.path for v in history.diff(1, 2).identical] == ["plan.md"]

    def test_without_a_second_it_is_until_now_and_backwards_is_the_opposite(self, history):
        assert history.diff(1) == history.diff(1, 3)
        backwards = history.diff(3, 1)
        assert [v.path for v in backwards.added] == ["plan.md"]
        assert [c.after.version for c in backwards.changed] == [1]

    def test_nothing_differs_from_itself(self, history):
        diff = history.diff(2, 2)
        assert not diff
        assert len(diff.identical) == 2
        assert len(history.diff(0, 1).added) == 2

    def test_between_runs_it_goes_by_digest_and_not_by_who_made_it(self, history, store):
        other = store.session("session-1").run("other")
        other.put("data/a.csv", b"2", agent="somebody else")
        other.put("plots/p.png", b"another")
        diff = history.diff(other)
        assert [v.path for v in diff.identical] == ["data/a.csv"]
        assert [v.run for v in diff.identical] == ["other"]
        assert [c.path for c in diff.changed] == ["plots/p.png"]
        assert (diff.added, diff.removed) == ((), ())
        assert [v.path for v in history.diff(other, 1, at=2).removed] == ["plan.md"]

    def test_by_agent_or_phase(self, history):
        parts = history.diff(1, 3).by("agent")
        assert list(parts) == ["engineer", "planner", "plotter"]
        assert [c.path for c in parts["engineer"].changed] == ["data/a.csv"]
        assert [v.path for v in parts["planner"].removed] == ["plan.md"]
        assert [v.path for v in parts["plotter"].added] == ["plots/p.png"]
        assert list(history.diff(1, 3).by("phase")) == ["control", "planning"]

    def test_a_file_and_a_link_with_its_bytes_differ(self, run, work):
        write(work, {"a": b"b"})
        run.track(work)
        (work / "a").unlink()
        (work / "a").symlink_to("b")
        run.track(work)
        assert [c.path for c in run.diff(1, 2).changed] == ["a"]

    def test_snapshots_of_one_run_are_not_mixed_with_those_of_two(self, history):
        with pytest.raises(ValueError, match="two snapshots"):
            history.diff(1, 2, at=3)
        with pytest.raises(UnknownSnapshotError):
            history.diff(1, 9)


class TestProducers:
    def test_the_first_producer_and_every_later_one(self, history, store):
        session = store.session("session-1")
        session.run("later").put("elsewhere.png", b"png", agent="copyist", node_id="n")
        found = session.producers(Digest.of(b"png"))
        assert [(v.run, v.path, v.agent, v.node_id, v.first_snapshot) for v in found] == [
            ("run-1", "plots/p.png", "plotter", "step_2", 3),
            ("later", "elsewhere.png", "copyist", "n", 1),
        ]
        assert session.producers(str(Digest.of(b"png"))) == found
        assert all(v.created_at.tzinfo for v in found)

    def test_by_path_it_is_everything_ever_made_there(self, history, store):
        session = store.session("session-1")
        session.run("later").put("data/a.csv", b"9", agent="copyist")
        found = session.producers("data/a.csv")
        assert [(v.run, v.agent) for v in found] == [
            ("run-1", "planner"),
            ("run-1", "engineer"),
            ("later", "copyist"),
        ]

    def test_bytes_made_again_after_others_are_made_twice(self, run, store):
        for content, agent in ((b"A", "one"), (b"B", "two"), (b"A", "three")):
            run.put("f", content, agent=agent)
        found = store.session("session-1").producers(Digest.of(b"A"))
        assert [v.agent for v in found] == ["one", "three"]

    def test_neither_a_fork_nor_a_rewind_makes_bytes(self, history, store):
        history.fork("branch").fork("twig")
        history.rewind(1)
        found = store.session("session-1").producers(Digest.of(b"1"))
        assert [(v.run, v.version) for v in found] == [("run-1", 1)]

    def test_what_only_copies_are_left_of_has_one_producer_still(self, history, store):
        session = store.session("session-1")
        child = history.fork("child", at=1)
        history.fork("sibling", at=1)
        child.fork("grandchild")
        history.delete()
        found = session.producers(Digest.of(b"the plan"))
        assert [(v.run, v.agent) for v in found] == [("child", "planner")]
        child.delete()
        found = session.producers(Digest.of(b"the plan"))
        assert [(v.run, v.agent) for v in found] == [("sibling", "planner")]

    def test_the_stores_owner_sees_all_sessions(self, history, store):
        store.session("session-2").run("r").put("p", b"png")
        found = store.producers(Digest.of(b"png"))
        assert [v.session for v in found] == ["session-1", "session-2"]
        assert len(store.session("session-2").producers(Digest.of(b"png"))) == 1

    def test_nobody_made_what_is_not_there(self, history, store):
        assert store.session("session-1").producers(Digest.of(b"never")) == ()
        assert store.session("session-1").producers("never/was") == ()


class TestDeletion:
    def test_a_deleted_run_is_gone_and_its_id_is_free(self, history, store):
        history.delete()
        with pytest.raises(UnknownRunError):
            history.files()
        assert store.session("session-1").runs() == []
        history.put("f", b"anew")
        assert [v.version for v in history.history("f")] == [1]
        assert [s.number for s in history.snapshots()] == [1]

    def test_the_receipt_says_which_bytes_go_and_which_stay_because_of_whom(self, history, store):
        store.session("session-1").run("other").put("copy.png", b"png")
        history.fork("branch", at=1)
        receipt = history.delete()
        assert receipt.runs == ("run-1",)
        assert (receipt.files, receipt.versions) == (2, 4)
        assert [b.digest for b in receipt.released] == [Digest.of(b"2")]
        assert receipt.released_bytes == 1
        kept = {blob.digest: (blob.run, blob.path, blob.runs) for blob in receipt.kept}
        assert kept == {
            Digest.of(b"png"): ("other", "copy.png", 1),
            Digest.of(b"1"): ("branch", "data/a.csv", 1),
            Digest.of(b"the plan"): ("branch", "plan.md", 1),
        }
        assert receipt.kept_bytes == 3 + 1 + 8

    def test_a_session_goes_with_its_runs_and_branches(self, history, store):
        history.fork("branch").fork("twig")
        receipt = store.session("session-1").delete()
        assert receipt.runs == ("run-1", "branch", "twig")
        assert receipt.kept == ()
        assert len(receipt.released) == 4
        with pytest.raises(UnknownSessionError):
            store.session("session-1").runs()
        with store._context.database.reading() as connection:
            for table in ("cas_sessions", "cas_runs", "cas_snapshots", "cas_files"):
                count = connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar()  # noqa: S608
                assert count == 0, table

    def test_the_receipt_does_not_tell_of_other_sessions(self, history, store):
        store.session("session-2").run("r").put("p", b"png")
        receipt = history.delete()
        assert Digest.of(b"png") in {b.digest for b in receipt.released}
        assert receipt.kept == ()
        assert store.session("session-2").run("r").read_bytes("p") == b"png"

    def test_what_is_not_there_cannot_be_deleted(self, store):
        with pytest.raises(UnknownRunError):
            store.session("session-1").run("nobody").delete()
        with pytest.raises(UnknownSessionError):
            store.session("nobody").delete()

    @on(index="sqlite", because="PostgreSQL counts no instructions")
    def test_its_work_grows_with_the_versions_even_if_all_are_equal(self, store, work):
        """Counted in instructions of SQLite's virtual machine, which other load does not change."""
        session = store.session("session-1")
        counted = []
        for count in (100, 400):
            write(work, {f"{count}/{n}": b"same" for n in range(count)})
            run = session.run(f"of-{count}")
            run.track(work, scope=[str(count)])
            forks = [run.fork(f"{count}-{n}") for n in range(3)]
            counted.append([instructions(store, one.delete) for one in (run, forks[0])])
        for few, many in zip(*counted, strict=True):
            assert many < 6 * few
        assert instructions(store, session.delete) < 6 * counted[1][0]

    def test_bytes_stay_until_garbage_collection(self, history, store, objects):
        packs = set(packs_of(objects))
        history.delete()
        assert packs < set(packs_of(objects))  # the new pack has the deletion record

    def test_a_run_deleted_during_a_scan_is_scanned_anew(self, history, place, work):
        write(work, {"new": b"new"})
        with ArtifactStore.open(**place) as other:
            stale = other.session("session-1").run("run-1")
            stale.track(work)
            history.delete()
            snapshot = stale.track(work)
        assert snapshot.number == 1
        assert contents(history) == read(work)


class TestById:
    def test_a_file_is_opened_by_its_id_or_digest_when_the_directory_is_gone(
        self, history, store, work
    ):
        shutil.rmtree(work)
        session = store.session("session-1")
        version = history.file("plots/p.png")
        assert session.file(version.id) == version
        with session.open(version.id) as stream:
            assert stream.read() == b"png"
        assert session.read_bytes(version.digest) == b"png"

    def test_a_past_version_too(self, history, store):
        first = history.history("data/a.csv")[0]
        assert store.session("session-1").read_bytes(first.id) == b"1"


class TestForPeople:
    def test_final_outputs_come_by_kind_in_the_order_of_interest(self, run):
        run.put("data/a.csv", b"1", is_final_output=True)
        run.put("x.py", b"1", is_final_output=True)
        run.put("plots/p.png", b"1", is_final_output=True)
        run.put("odd", b"1", file_type="zebra", is_final_output=True)
        run.put("notes.txt", b"1")
        assert {kind: [v.path for v in group] for kind, group in run.final_outputs().items()} == {
            "plot": ["plots/p.png"],
            "data": ["data/a.csv"],
            "code": ["x.py"],
            "zebra": ["odd"],
        }
        assert list(run.final_outputs()) == ["plot", "data", "code", "zebra"]

    def test_a_manifest_is_json_and_tells_all(self, history):
        import json

        manifest = json.loads(json.dumps(history.manifest(at=2)))
        assert (manifest["session"], manifest["run"], manifest["snapshot"]) == (
            "session-1",
            "run-1",
            2,
        )
        assert manifest["total_files"] == 2
        assert manifest["total_bytes"] == 9
        file = next(f for f in manifest["files"] if f["path"] == "data/a.csv")
        assert file["digest"] == str(Digest.of(b"2"))
        assert (file["agent"], file["node_id"], file["version"]) == ("engineer", "step_1", 2)
        assert history.manifest()["snapshot"] == 3

    def test_awaitable_twins_do_what_the_methods_do(self, run, work, tmp_path):
        write(work, {"a": b"1"})

        async def go():
            with provenance(agent="loop"):
                await run.track_async(work, phase="x")
                await run.put_async("b", b"2")
            return await run.restore_async(tmp_path / "out")

        result = asyncio.run(go())
        assert result.written == 2
        assert {v.agent for v in run.files()} == {"loop"}
        assert run.track_async.__doc__ != run.track.__doc__
        assert run.track_async.__name__ == "track_async"


def test_a_moved_or_linked_directory_makes_no_new_rows(run, work, tmp_path):
    write(work, {"a": b"1", "d/b": b"2"})
    run.track(work)
    moved = tmp_path / "moved"
    work.rename(moved)
    assert run.track(moved).recorded is False
    (tmp_path / "link").symlink_to(moved)
    assert run.track(tmp_path / "link").recorded is False
    copied = tmp_path / "copied"
    shutil.copytree(moved, copied)
    assert run.track(copied).recorded is False
    assert len(run.snapshots()) == 1
    assert os.path.islink(tmp_path / "link")


@on(index="postgresql", because="SQLite hands out ids in ascending order")
def test_ids_may_be_handed_out_in_any_order(store, run, work):
    """Databases that are spread over hosts hand out ids in blocks."""
    with store.context.database.writing() as connection:
        connection.exec_driver_sql(
            "ALTER SEQUENCE cas_files_id_seq INCREMENT BY -1 MINVALUE 1 MAXVALUE 900 RESTART 900"
        )
    for number in range(3):
        write(work, {"a": b"%d" % number, "b": b"same", f"new-{number}": b"x"})
        run.track(work, agent=f"agent-{number}")
    expected = {number: contents(run, at=number) for number in range(4)}
    fork = run.fork("fork")
    run.rewind(1)
    assert contents(run) == expected[1]
    assert {number: contents(fork, at=number) for number in range(4)} == expected
    assert [version.path for version in fork.files()] == ["a", "b", "new-0", "new-1", "new-2"]
    assert [version.agent for version in fork.history("a")] == ["agent-0", "agent-1", "agent-2"]
    run.delete()
    assert {number: contents(fork, at=number) for number in range(4)} == expected
    assert store.verify().is_sound


NAMES = ("z", "m", "q", "a", "r", "b", "y")


def test_runs_are_listed_and_deleted_in_the_order_of_their_times(store):
    session = store.session("session-1")
    for name in NAMES:
        session.run(name).put("a", name.encode())
    assert tuple(summary.run for summary in session.runs()) == NAMES
    assert tuple(version.run for version in session.producers("a")) == NAMES
    assert session.delete().runs == NAMES


def test_of_several_copies_that_in_the_oldest_run_takes_the_place_of_the_original(store, run):
    digest = run.put("a", b"1").digest
    for name in NAMES:
        run.fork(name)
    session = store.session("session-1")
    for owner in ("run-1", *NAMES):
        assert [version.run for version in session.producers(digest)] == [owner]
        session.run(owner).delete()


def test_the_last_owner_of_bytes_is_the_run_that_made_them(store):
    session = store.session("session-1")
    made = session.run("made-here")
    made.put("a", b"1", agent="maker")
    for name in NAMES:
        made.fork(name).put("b", b"2" + name.encode())
    session.delete()
    plan = store.plan_gc(grace=timedelta(0))
    owners = {blob.path: blob.run for blob in plan.iter_blobs() if blob.path}
    assert owners["a"] == "made-here"


@on(index="postgresql", because="SQLite hands out ids in ascending order")
def test_the_tests_meet_ids_in_no_order(store, run, work):
    """Those that a commit takes at once, and those that the database fills in."""
    write(work, {f"file-{number:02}": b"1" for number in range(20)})
    run.track(work)
    for number in range(20):
        run.put("a", b"%d" % number)
    with store.context.database.reading() as connection:
        for statement in (
            "SELECT id FROM cas_files ORDER BY first_snapshot, path",
            "SELECT id FROM cas_snapshots ORDER BY number",
        ):
            ids = connection.exec_driver_sql(statement).all()
            assert ids != sorted(ids)
