"""Tracking in a workflow engine: changes, failures, and never an exception."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from places import EACH_INDEX, on, on_one, places
from trees import contents, write

from index import DAGTracker, carried, provenance
from index.errors import InvalidNameError, WorkDirectoryError

place = places(EACH_INDEX)


@pytest.fixture
def events():
    return []


@pytest.fixture
def tracker(store, events):
    return DAGTracker(store, "s", "r", files_updated=events.append)


def test_a_scope_is_checked_and_kept_when_it_is_given(store, work):
    for name in ("scope", "ignore"):
        with pytest.raises(TypeError, match=f"{name} takes a sequence"):
            DAGTracker(store, "s", "r", **{name: "data"})
    tracker = DAGTracker(store, "s", "r", scope=(name for name in ("data",)))
    for turn in range(2):
        write(work, {"data/a": b"%d" % turn, "other": b"1"})
        assert tracker.track_files_in_work_dir(work).files_tracked == 1


@on_one(because="the tracker gives labels to the run, and reads no index")
class TestPhase:
    def test_the_given_phase_goes_before_the_default_one(self, tracker, work):
        tracker.set_phase("control")
        write(work, {"a": b"1"})
        tracker.track_files_in_work_dir(work, "n1")
        write(work, {"b": b"2"})
        tracker.track_files_in_work_dir(work, "n2", workflow_phase="planning")
        assert {v.path: v.phase for v in tracker.run.files()} == {"a": "control", "b": "planning"}

    def test_a_later_phase_does_not_take_earlier_files(self, tracker, work):
        tracker.set_phase("planning")
        write(work, {"a": b"1"})
        tracker.track_files_in_work_dir(work, "n1")
        tracker.set_phase("control")
        tracker.track_files_in_work_dir(work, "n2", generating_agent="engineer")
        assert [(v.phase, v.agent) for v in tracker.run.files()] == [("planning", None)]

    def test_a_phase_that_can_be_none_is_refused_where_it_is_set(self, tracker):
        with pytest.raises(InvalidNameError):
            tracker.set_phase("")
        tracker.set_phase(None)
        assert tracker.current_phase is None

    def test_a_phase_holds_for_the_task_that_sets_it(self, tracker, work):
        tracker.set_phase("default")

        async def node(phase, go_on):
            if phase is not None:
                tracker.set_phase(phase)
            await go_on.wait()
            write(work, {f"{phase}/out": str(phase).encode()})
            outcome = await tracker.track_files_in_work_dir_async(work, phase)
            assert tracker.current_phase == (phase or "default")
            return outcome

        async def nodes():
            turns = [asyncio.Event() for _ in range(3)]
            names = ("planning", "control", None)
            tasks = [asyncio.create_task(node(*one)) for one in zip(names, turns, strict=True)]
            await asyncio.sleep(0)  # all have set their phases
            for turn, task in zip(turns, tasks, strict=True):
                turn.set()
                await task

        asyncio.run(nodes())
        assert {v.path: v.phase for v in tracker.run.files()} == {
            "planning/out": "planning",
            "control/out": "control",
            "None/out": "default",
        }
        assert tracker.current_phase == "default"

    def test_a_phase_holds_for_the_thread_that_sets_it(self, tracker, work):
        met = threading.Barrier(3)

        def node(phase):
            if phase is not None:
                tracker.set_phase(phase)
            met.wait(30)
            return tracker.current_phase

        tracker.set_phase("default")
        with ThreadPoolExecutor(3) as pool:
            seen = list(pool.map(node, ["planning", "control", None]))
        assert seen == ["planning", "control", "default"]
        assert tracker.current_phase == "default"

    def test_a_thread_of_a_pool_keeps_its_phase_unless_it_is_given_otherwise(self, tracker, work):
        def node(name, **given):
            write(work, {name: name.encode()})
            tracker.track_files_in_work_dir(work, name, **given)

        def in_scope():
            with provenance(phase="scope"):
                node("b")

        def sets_it():
            tracker.set_phase("set")
            node("c")

        tracker.set_phase("default")
        with ThreadPoolExecutor(1) as pool:
            pool.submit(node, "a", phase="given").result()
            pool.submit(in_scope).result()
            pool.submit(sets_it).result()
            pool.submit(node, "d").result()
        assert [v.phase for v in tracker.run.files()] == ["given", "scope", "set", "set"]
        assert tracker.current_phase == "default"

    def test_a_task_passes_its_phase_to_a_thread_but_not_to_an_executor(self, tracker):
        async def go():
            tracker.set_phase("task")
            look = partial(getattr, tracker, "current_phase")
            loop = asyncio.get_running_loop()
            return await asyncio.to_thread(look), await loop.run_in_executor(None, look)

        tracker.set_phase("default")
        assert asyncio.run(go()) == ("task", "default")

    def test_a_scan_has_the_phase_of_its_call(self, tracker, work):
        write(work, {"a": b"1"})
        tracker.set_phase("planning")

        async def go():
            scan = asyncio.ensure_future(tracker.track_files_in_work_dir_async(work))
            await asyncio.sleep(0)
            tracker.set_phase("control")
            return await scan

        asyncio.run(go())
        assert tracker.run.file("a").phase == "planning"

    def test_none_set_in_a_task_is_no_phase_there(self, tracker):
        tracker.set_phase("default")

        async def go():
            tracker.set_phase(None)
            return tracker.current_phase

        assert asyncio.run(go()) is None
        assert tracker.current_phase == "default"

    def test_the_same_node_scanned_twice_fills_what_the_first_did_not_know(self, tracker, work):
        write(work, {"a": b"1"})
        tracker.track_files_in_work_dir(work, "n1")
        outcome = tracker.track_files_in_work_dir(work, "n1", "s1", "engineer", "control")
        (version,) = tracker.run.files()
        assert (version.agent, version.phase, version.step_id) == ("engineer", "control", "s1")
        assert outcome.update is None


@on_one(because="the tracker gives labels to the run, and reads no index")
class TestLabels:
    @pytest.mark.parametrize(
        ("given", "recorded"),
        [
            ({"generating_agent": ""}, {"agent": None}),
            ({"generating_agent": "planner\n"}, {"agent": "planner"}),
            ({"agent": "a\0b"}, {"agent": "a b"}),
            ({"agent": "\n"}, {"agent": None}),
            ({"agent": "\udcff"}, {"agent": None}),
            ({"event_id": ["e"]}, {"event_id": None}),
            ({"step_id": True, "phase": "p"}, {"step_id": None, "phase": "p"}),
            ({"workflow_phase": ""}, {"phase": "default"}),
        ],
    )
    def test_one_that_is_unusable_loses_no_file(self, tracker, work, caplog, given, recorded):
        write(work, {"a": b"1"})
        tracker.set_phase("default")
        outcome = tracker.track_files_in_work_dir(work, **given)
        (error,) = outcome.label_errors
        assert isinstance(error, InvalidNameError)
        assert (outcome.complete, outcome.files_tracked) == (True, 1)
        assert str(error) in caplog.text
        version = tracker.run.file("a")
        assert {name: getattr(version, name) for name in recorded} == recorded

    def test_ones_that_are_too_long_stay_apart(self, tracker, work):
        ids = ["n" * 255 + end for end in "ab"]
        for node_id in ids:
            write(work, {node_id[-1]: node_id.encode()})
            outcome = tracker.track_files_in_work_dir(work, node_id)
            assert "256 characters" in str(outcome.label_errors[0])
        recorded = {version.node_id for version in tracker.run.files()}
        assert len(recorded) == 2
        assert {(len(name), name[:200]) for name in recorded} == {(255, "n" * 200)}

    def test_integers_and_uuids_are_taken_by_their_text(self, store, work):
        name = uuid.UUID(int=7)
        write(work, {"a": b"1"})
        tracker = DAGTracker(store, 1, name)
        outcome = tracker.track_files_in_work_dir(work, name, 3)
        assert outcome.label_errors == ()
        version = store.session("1").run(str(name)).file("a")
        assert (version.node_id, version.step_id) == (str(name), "3")
        assert tracker.run.files(node_id=name, step_id=3) == (version,)

    def test_asked_to_it_raises(self, store, work):
        tracker = DAGTracker(store, "s", "r", raise_errors=True)
        with pytest.raises(InvalidNameError, match="agent"):
            tracker.track_files_in_work_dir(work, agent="")

    def test_short_and_long_names_are_one_parameter(self, tracker, work):
        write(work, {"a": b"1"})
        tracker.track_files_in_work_dir(work, agent="a", phase="p", code_hash="c")
        write(work, {"b": b"2"})
        long_names = {"workflow_phase": "p", "generating_code_hash": "c"}
        asyncio.run(
            tracker.track_files_in_work_dir_async(
                work, agent="a", generating_agent="a", **long_names
            )
        )
        found = {(v.agent, v.phase, v.code_hash) for v in tracker.run.files()}
        assert found == {("a", "p", "c")}
        with pytest.raises(TypeError, match="give agent or generating_agent, not both"):
            tracker.track_files_in_work_dir(work, agent="a", generating_agent="b")


class TestEvents:
    def test_one_for_a_scan_that_changed_something_and_none_otherwise(self, tracker, events, work):
        write(work, {"a": b"1", "b": b"2"})
        outcome = tracker.track_files_in_work_dir(work, "n1", "s1")
        assert [outcome.update] == events
        (update,) = events
        assert (update.session_id, update.run_id) == ("s", "r")
        assert (update.node_id, update.step_id, update.snapshot) == ("n1", "s1", 1)
        assert ([v.path for v in update.added], update.files_tracked) == (["a", "b"], 2)
        tracker.track_files_in_work_dir(work, "n2")
        assert len(events) == 1
        write(work, {"a": b"3"})
        (work / "b").unlink()
        outcome = tracker.track_files_in_work_dir(work, "n3")
        assert [v.path for v in events[1].changed] == ["a"]
        assert [v.path for v in events[1].removed] == ["b"]
        assert outcome.files_tracked == 1

    def test_an_empty_directory_makes_none(self, tracker, events, work):
        outcome = tracker.track_files_in_work_dir(work, "n1")
        assert outcome.complete
        assert events == []

    def test_removal_is_told_inside_the_scope_only(self, store, events, work):
        tracker = DAGTracker(store, "s", "r", scope=("data",), files_updated=events.append)
        write(work, {"data/a": b"1", "upload": b"2"})
        tracker.run.track(work)
        (work / "data" / "a").unlink()
        (work / "upload").unlink()
        tracker.track_files_in_work_dir(work, "n1")
        assert [v.path for v in events[0].removed] == ["data/a"]
        assert set(contents(tracker.run)) == {"upload"}


class TestFailures:
    def test_a_missing_directory_is_told_and_not_raised(self, tracker, tmp_path, caplog):
        outcome = tracker.track_files_in_work_dir(tmp_path / "gone", "n1")
        assert isinstance(outcome.error, WorkDirectoryError)
        assert outcome.snapshot is None
        assert not outcome.complete
        assert "n1" in caplog.text
        assert "gone" in caplog.text

    def test_asked_to_it_raises(self, store, tmp_path):
        tracker = DAGTracker(store, "s", "r", raise_errors=True)
        with pytest.raises(WorkDirectoryError):
            tracker.track_files_in_work_dir(tmp_path / "gone")

    @on(index="sqlite", because="the files of a server are not ours to break")
    def test_a_broken_database_does_not_end_the_workflow(self, store, work, caplog):
        write(work, {"a": b"1"})
        tracker = DAGTracker(store, "s", "r")
        file = Path(store.context.database.file)
        file.write_bytes(b"not a database" * 1000)
        for end in ("-wal", "-shm"):
            Path(f"{file}{end}").unlink(missing_ok=True)
        store.context.database.engine.dispose()
        outcome = tracker.track_files_in_work_dir(work)
        assert outcome.error is not None
        assert "nothing was tracked" in caplog.text

    def test_what_could_not_be_read_is_in_outcome_and_log_and_loses_nothing_else(
        self, tracker, work, caplog
    ):
        write(work, {"a": b"1", "b": b"2"})
        os.mkfifo(work / "fifo")
        write(work, {os.fsdecode(b"\xff\xfe"): b"odd"})
        with caplog.at_level(logging.WARNING):
            outcome = tracker.track_files_in_work_dir(work)
        assert [skipped.path for skipped in outcome.skipped] == ["fifo"]
        assert not outcome.complete
        assert "FIFO" in caplog.text
        assert len(tracker.run.files()) == 3

    @pytest.mark.parametrize("is_async", [False, True])
    def test_a_listener_that_fails_ends_nothing(self, store, work, caplog, is_async):
        def listener(_update):
            raise RuntimeError("page is closed")

        tracker = DAGTracker(store, "s", "r", files_updated=listener)
        write(work, {"a": b"1"})
        if is_async:
            outcome = asyncio.run(tracker.track_files_in_work_dir_async(work))
        else:
            outcome = tracker.track_files_in_work_dir(work)
        assert str(outcome.callback_error) == "page is closed"
        assert "page is closed" in caplog.text
        assert contents(tracker.run) == {"a": b"1"}

    def test_an_asynchronous_listener_given_to_the_blocking_call_is_told(self, store, work):
        async def listener(_update):
            raise AssertionError("never run")

        write(work, {"a": b"1"})
        tracker = DAGTracker(store, "s", "r", files_updated=listener)
        outcome = tracker.track_files_in_work_dir(work)
        assert "track_files_in_work_dir_async" in str(outcome.callback_error)


class TestTheEventLoop:
    def test_listeners_run_on_the_loop_and_are_awaited(self, store, work):
        seen = []

        async def listener(update):
            await asyncio.sleep(0)
            seen.append((threading.current_thread(), update.files_tracked))

        write(work, {"a": b"1"})
        tracker = DAGTracker(store, "s", "r", files_updated=listener)
        asyncio.run(tracker.track_files_in_work_dir_async(work))
        assert seen == [(threading.current_thread(), 1)]

    def test_the_loop_is_never_blocked_for_50_ms_while_200_mb_are_tracked(self, store, work):
        block = os.urandom(1 << 20)
        write(work, {f"large/{n}": block[n:] + bytes(n) for n in range(150)})
        write(work, {"one": block * 40})
        write(work, {f"small/{n // 100}/{n}": block[n : n + 5000] for n in range(2000)})
        gaps = []
        # The best of three: other work on the machine only makes a gap longer.
        for number in range(3):
            tracker = DAGTracker(store, f"s{number}", "r")
            gaps.append(asyncio.run(longest_gap_during(tracker, work)))
            if gaps[-1] < 0.05:
                return
        raise AssertionError(f"blocked for {min(gaps):.3f} s")

    def test_agents_that_fill_the_threads_of_the_loop_get_their_answers(self, store, tmp_path):
        run = store.session("s").run("r")
        run.put("seed", b"seed")
        write(tmp_path / "other", {"a": b"1"})
        tracker = DAGTracker(store, "s", "other")
        twins = {
            "put": lambda n: run.put_async(f"{n}", b"%d" % n),
            "files": lambda _n: run.files_async(prefix="s"),
            "read_bytes": lambda _n: run.read_bytes_async("seed"),
            "open": lambda _n: run.open_async("seed"),
            "restore": lambda n: run.restore_async(tmp_path / f"out-{n}", paths=["seed"]),
            "verify": lambda _n: store.verify_async(),
            "track": lambda _n: tracker.track_files_in_work_dir_async(tmp_path / "other"),
        }

        async def answers(twin):
            loop = asyncio.get_running_loop()
            loop.set_default_executor(ThreadPoolExecutor(2))

            def agent(number):
                return asyncio.run_coroutine_threadsafe(twin(number), loop).result(timeout=60)

            agents = (asyncio.to_thread(agent, number) for number in range(4))
            return await asyncio.gather(*agents)

        found = {name: asyncio.run(answers(twin)) for name, twin in twins.items()}
        assert all(len(given) == 4 for given in found.values())
        assert [version.path for version in found["files"][0]] == ["seed"]
        assert found["read_bytes"] == [b"seed"] * 4
        assert [stream.read() for stream in found["open"]] == [b"seed"] * 4

    def test_a_call_that_waits_for_a_thread_can_be_cancelled(self, store):
        run = store.session("s").run("r")
        begun, go_on = threading.Event(), threading.Event()

        class Slow(io.BytesIO):
            def read(self, size=-1):
                if self.getvalue() == b"0":
                    begun.set()
                assert go_on.wait(30)
                return super().read(size)

        async def go():
            puts = [asyncio.create_task(run.put_async(f"{n}", Slow(b"%d" % n))) for n in range(30)]
            while not begun.is_set():
                await asyncio.sleep(0.001)
            puts[-1].cancel()
            puts[0].cancel()
            await asyncio.sleep(0)
            go_on.set()
            return await asyncio.gather(*puts, return_exceptions=True)

        results = asyncio.run(go())
        assert [isinstance(one, asyncio.CancelledError) for one in results] == [
            number in (0, 29) for number in range(30)
        ]
        for thread in threading.enumerate():
            if thread.name == "cas-async":
                thread.join(30)
        paths = {version.path for version in run.files()}
        assert paths == {f"{number}" for number in range(29)}

    def test_two_threads_and_the_loop_at_once_make_one_version_a_change(self, store, work):
        write(work, {f"f{n}": b"%d" % n for n in range(200)})
        trackers = [DAGTracker(store, "s", "r") for _ in range(3)]

        async def go():
            return await asyncio.gather(
                asyncio.to_thread(trackers[0].track_files_in_work_dir, work),
                asyncio.to_thread(trackers[1].track_files_in_work_dir, work),
                trackers[2].track_files_in_work_dir_async(work),
            )

        outcomes = asyncio.run(go())
        assert all(outcome.complete for outcome in outcomes)
        assert sum(outcome.files_tracked for outcome in outcomes) == 200
        assert {v.version for v in trackers[0].run.files()} == {1}


async def longest_gap_during(tracker, work):
    gaps = []

    async def beat():
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            gaps.append(now - last)
            last = now

    heart = asyncio.create_task(beat())
    await asyncio.sleep(0.01)
    outcome = await tracker.track_files_in_work_dir_async(work)
    heart.cancel()
    assert outcome.complete
    assert outcome.files_tracked == 2151
    assert outcome.snapshot.bytes_read > 200_000_000
    return max(gaps)


@on_one(because="the tracker gives labels to the run, and reads no index")
class TestContext:
    def test_tasks_agents_and_worker_threads_are_never_mixed_up(self, store, work):
        run = store.session("s").run("r")

        async def agent(number):
            with provenance(agent=f"agent-{number}", node_id=f"n{number}"):
                await asyncio.sleep(0.001 * (number % 3))
                await run.put_async(f"{number}/put", b"put %d" % number)
                await asyncio.sleep(0)
                await asyncio.to_thread(run.put, f"{number}/thread", b"thread %d" % number)
                write(work / f"{number}", {"tracked": b"tracked %d" % number})
                await run.track_async(work, scope=(f"{number}",))

        async def go():
            await asyncio.gather(*(agent(number) for number in range(8)))

        asyncio.run(go())
        found = run.files()
        assert len(found) == 24
        for version in found:
            number = version.path.split("/")[0]
            assert (version.agent, version.node_id) == (f"agent-{number}", f"n{number}")

    def test_an_executor_and_a_thread_start_without_a_scope_unless_it_is_carried(self, store):
        run = store.session("s").run("r")
        with ThreadPoolExecutor(1) as pool, provenance(agent="outer"):
            pool.submit(run.put, "bare", b"1").result()
            pool.submit(carried(run.put), "carried", b"2").result()
            pool.submit(run.put, "after", b"3").result()
            thread = threading.Thread(target=carried(run.put), args=("thread", b"4"))
            thread.start()
            thread.join()
        assert {v.path: v.agent for v in run.files()} == {
            "bare": None,
            "carried": "outer",
            "after": None,
            "thread": "outer",
        }
