"""Each fault that was observed in the older trackers, by name."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
import time

import pytest
from events import statements
from trees import contents, write

from cas.digest import Digest
from index import ArtifactStore, DAGTracker
from index.errors import UnknownFileIdError, UnknownRunError, UnsafePathError


@pytest.fixture
def tracker(store):
    return DAGTracker(store, "session-1", "run-1", raise_errors=True)


def test_rewritten_files_keep_their_old_hash_and_size(tracker, work):
    write(work, {"a": b"old"})
    tracker.track_files_in_work_dir(work)
    write(work, {"a": b"rewritten"})
    tracker.track_files_in_work_dir(work)
    version = tracker.run.file("a")
    assert (version.digest, version.size) == (Digest.of(b"rewritten"), 9)


@pytest.mark.parametrize("size", [0, 50 << 20, (50 << 20) + 1])
def test_files_of_50_mb_and_more_and_empty_ones_are_never_hashed(tracker, work, size):
    data = bytes(size)
    write(work, {"a": data})
    tracker.track_files_in_work_dir(work)
    assert tracker.run.file("a").digest == Digest.of(data)


def test_deleted_files_stay_listed(tracker, work):
    write(work, {"a": b"1"})
    tracker.track_files_in_work_dir(work)
    (work / "a").unlink()
    tracker.track_files_in_work_dir(work)
    assert tracker.run.files() == ()
    assert tracker.run.read_bytes("a", version=1) == b"1"


def test_a_rescan_in_a_later_phase_re_attributes_all_earlier_files(tracker, work):
    write(work, {"a": b"1"})
    tracker.track_files_in_work_dir(work, "planning", None, "planner", "planning")
    tracker.track_files_in_work_dir(work, "step_1", None, "engineer", "control")
    (version,) = tracker.run.files()
    assert (version.phase, version.agent, version.node_id) == ("planning", "planner", "planning")


def test_the_same_file_registered_twice_gives_two_rows(tracker, work):
    write(work, {"a": b"1"})
    for _ in range(2):
        tracker.run.put("a", work / "a")
        tracker.track_files_in_work_dir(work)
    assert len(tracker.run.history("a")) == 1


def test_four_concurrent_scans_of_40_files_gave_160(place, work):
    write(work, {f"f{n}": b"%d" % n for n in range(40)})

    def scan():
        with ArtifactStore.open(**place) as store:
            DAGTracker(store, "s", "r", raise_errors=True).track_files_in_work_dir(work)

    threads = [threading.Thread(target=scan) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with ArtifactStore.open(**place) as store:
        assert store.session("s").run("r").stats().versions == 40


def test_one_session_finds_and_edits_anothers_rows(store):
    mine, other = store.session("one"), store.session("two")
    version = mine.run("r").put("a", b"1", agent="me")
    with pytest.raises(UnknownRunError):
        other.run("r").files()
    with pytest.raises(UnknownFileIdError):
        other.read_bytes(version.id)
    other.run("r").put("a", b"1", agent="intruder", meta={"x": 1})
    assert mine.run("r").file("a") == version


def test_one_select_per_file(tracker, store, work):
    write(work, {f"f{n}": b"%d" % n for n in range(500)})
    tracker.track_files_in_work_dir(work)
    with statements(store) as issued:
        tracker.track_files_in_work_dir(work)
    assert len(issued) <= 2


def test_one_non_utf8_name_or_one_unknown_node_id_loses_a_whole_scan(tracker, work):
    odd = os.fsdecode(b"caf\xe9.txt")
    write(work, {"a": b"1", odd: b"2"})
    outcome = tracker.track_files_in_work_dir(work, "a node that no table knows")
    assert outcome.complete
    assert contents(tracker.run) == {"a": b"1", odd: b"2"}


def test_a_symlink_to_a_file_outside_the_run_is_hashed_as_its_content(tracker, work, tmp_path):
    (tmp_path / "secret").write_bytes(b"secret")
    (work / "link").symlink_to(tmp_path / "secret")
    tracker.track_files_in_work_dir(work)
    version = tracker.run.file("link")
    assert version.is_link
    assert version.digest != Digest.of(b"secret")


def test_one_file_through_a_symlink_and_after_a_move_is_three_rows(tracker, work, tmp_path):
    write(work, {"a": b"1"})
    tracker.track_files_in_work_dir(work)
    (tmp_path / "way").symlink_to(work)
    tracker.track_files_in_work_dir(tmp_path / "way")
    work.rename(tmp_path / "moved")
    tracker.track_files_in_work_dir(tmp_path / "moved")
    assert len(tracker.run.history("a")) == 1


def test_deleting_a_session_with_a_branch_fails(tracker, store):
    tracker.run.put("a", b"1")
    tracker.run.fork("branch").put("b", b"2")
    assert store.session("session-1").delete().runs == ("run-1", "branch")
    assert store.runs() == []


def test_the_migrations_do_not_run_on_sqlite(tmp_path):
    with ArtifactStore.open(tmp_path / "new") as store:
        assert store._context.database.engine.dialect.name == "sqlite"
        store.session("s").run("r").put("a", b"1")


def test_scanning_blocks_the_event_loop_for_as_long_as_hashing_takes(tracker, work):
    write(work, {f"f{n}": os.urandom(1 << 20) for n in range(60)})

    async def go():
        beats = 0
        scan = asyncio.create_task(tracker.track_files_in_work_dir_async(work))
        began = time.perf_counter()
        while not scan.done():
            await asyncio.sleep(0.002)
            beats += 1
        return beats, time.perf_counter() - began

    beats, took = asyncio.run(go())
    # A blocked loop beats once. A tenth of the beats that fit leaves room for a loaded machine.
    assert beats > 0.1 * took / 0.002


def test_lists_downloads_and_deletes_go_by_absolute_path(tracker, store, work):
    write(work, {"a": b"1"})
    tracker.track_files_in_work_dir(work)
    for path in ("/etc/passwd", str(work / "a"), "../../etc/passwd"):
        for call in (tracker.run.read_bytes, tracker.run.open, tracker.run.file):
            with pytest.raises(UnsafePathError):
                call(path)
    version = tracker.run.file("a")
    shutil.rmtree(work)
    assert store.session("session-1").read_bytes(version.id) == b"1"
