"""Tracking a work directory: what is found, its provenance, and what counts as removed."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import socket
import stat
import time
import weakref
from contextlib import contextmanager
from pathlib import Path

import pytest
from lost import lose_index
from places import EACH_INDEX, on, packs_of, places
from trees import contents, read, write

from cas.digest import Digest
from cas.store import BlobStore
from index import ArtifactStore, Provenance, provenance, recover
from index.commit import committer
from index.errors import (
    InvalidNameError,
    UnknownRunError,
    UnsafePathError,
    WorkDirectoryError,
)

place = places(EACH_INDEX)


def paths(versions):
    return [version.path for version in versions]


class TestChanges:
    def test_the_first_scan_adds_everything(self, run, work):
        write(work, {"a.txt": b"1", "d/b.txt": b"2"})
        snapshot = run.track(work)
        assert paths(snapshot.added) == ["a.txt", "d/b.txt"]
        assert (snapshot.number, snapshot.recorded, snapshot.unchanged) == (1, True, 0)
        assert (snapshot.changed, snapshot.removed, snapshot.skipped) == ((), (), ())
        assert snapshot.bytes_read == 2
        assert contents(run) == read(work)

    def test_changes_are_counted_without_being_made(self, run, work):
        """Creating 20,000 versions takes longer than printing their counts."""
        write(work, {"same": b"1", "changed": b"1", "gone": b"1", "gone too": b"1"})
        run.track(work)
        write(work, {"changed": b"2", "new": b"1", "newer": b"1", "newest": b"1"})
        (work / "gone").unlink()
        (work / "gone too").unlink()
        snapshot = run.track(work)
        lazy = (snapshot.lazy_added, snapshot.lazy_changed, snapshot.lazy_removed)
        assert [len(versions) for versions in lazy] == [3, 1, 2]
        assert snapshot.lazy_added._versions is None
        assert [len(versions.get()) for versions in lazy] == [3, 1, 2]

    def test_a_scan_that_finds_nothing_new_records_nothing(self, run, work, objects):
        write(work, {"a.txt": b"1"})
        first = run.track(work)
        packs = packs_of(objects)
        again = run.track(work)
        assert (again.number, again.recorded, again.unchanged) == (first.number, False, 1)
        assert (again.added, again.bytes_stored) == ((), 0)
        assert len(run.snapshots()) == 1
        assert packs_of(objects) == packs

    def test_the_batch_is_gone_when_its_rows_are_made(self, run, work, monkeypatch):
        """It holds digests and records that nobody needs any more, at the peak of memory."""
        batches, left = [], []
        begin, record = BlobStore.batch, committer.record

        def begin_batch(self):
            batch = begin(self)
            batches.append(weakref.ref(batch))
            return batch

        def record_rows(*told):
            left.extend(ref() for ref in batches)
            return record(*told)

        monkeypatch.setattr(BlobStore, "batch", begin_batch)
        monkeypatch.setattr(committer, "record", record_rows)
        write(work, {"a.txt": b"1"})
        run.track(work)
        assert left == [None]

    def test_an_empty_directory_is_a_recorded_state(self, run, work):
        assert run.track(work).number == 1
        assert run.files() == ()
        assert run.track(work).recorded is False

    def test_rewritten_removed_and_returning_files(self, run, work):
        write(work, {"a": b"1", "b": b"1"})
        run.track(work)
        write(work, {"a": b"22", "c": b"3"})
        (work / "b").unlink()
        second = run.track(work)
        assert (paths(second.added), paths(second.changed), paths(second.removed)) == (
            ["c"],
            ["a"],
            ["b"],
        )
        assert second.removed[0].end_snapshot == 2
        write(work, {"b": b"1"})
        third = run.track(work)
        assert [(v.path, v.version, v.first_snapshot) for v in third.added] == [("b", 2, 3)]
        assert contents(run, at=1) == {"a": b"1", "b": b"1"}
        assert contents(run, at=2) == {"a": b"22", "c": b"3"}
        assert contents(run, at=3) == {"a": b"22", "b": b"1", "c": b"3"}

    def test_a_then_b_then_a_again_is_three_versions(self, run, work):
        for data in (b"A", b"B", b"A"):
            write(work, {"f": data})
            run.track(work)
        history = run.history("f")
        assert [(v.version, v.first_snapshot, v.end_snapshot) for v in history] == [
            (1, 1, 2),
            (2, 2, 3),
            (3, 3, None),
        ]
        assert history[0].digest == history[2].digest == Digest.of(b"A")

    def test_listing_is_in_order_of_first_appearance(self, run, work):
        write(work, {"z": b"1"})
        run.track(work)
        write(work, {"a": b"1", "m": b"2"})
        run.track(work)
        write(work, {"z": b"rewritten"})
        run.track(work)
        assert paths(run.files()) == ["z", "a", "m"]

    def test_a_file_whose_size_and_mtime_were_put_back_is_found_changed(self, run, work):
        write(work, {"f": b"one"}, age_s=100)
        run.track(work)
        status = (work / "f").stat()
        (work / "f").write_bytes(b"two")
        os.utime(work / "f", ns=(status.st_mtime_ns, status.st_mtime_ns))
        assert paths(run.track(work).changed) == ["f"]

    def test_what_is_inserted_anywhere_is_stored_and_little_else(self, run, work):
        before = random.Random(9).randbytes(6 << 20)
        write(work, {"archive": before, "chat": before[: 300 << 10]})
        run.track(work)
        for number, place in enumerate((0, 3 << 20, len(before))):
            after = before[:place] + b"inserted" * 100 + before[place:]
            write(work, {"archive": after, "chat": before[: 300 << 10] + b"more" * number})
            assert run.track(work).bytes_stored < 800 << 10
            assert run.read_bytes("archive") == after

    def test_a_large_file_is_tracked_in_chunks_that_versions_share(self, run, work):
        data = os.urandom(3 << 20) + b"tail"
        write(work, {"big": data})
        first = run.track(work)
        write(work, {"big": data + b"more"})
        second = run.track(work)
        assert first.bytes_stored > 3 << 20
        assert second.bytes_stored < 1 << 20
        assert run.read_bytes("big", version=1) == data
        assert run.read_bytes("big") == data + b"more"

    def test_equal_content_is_stored_once_across_runs_and_sessions(self, store, work):
        write(work, {"a": os.urandom(5000)})
        assert store.session("s1").run("r").track(work).bytes_stored > 5000
        other = store.session("s2").run("r").track(work)
        assert other.bytes_stored == 0
        assert len(other.added) == 1

    def test_a_file_replaced_by_a_directory_and_back(self, run, work):
        write(work, {"x": b"file"})
        run.track(work)
        (work / "x").unlink()
        write(work, {"x/y": b"inside"})
        second = run.track(work)
        assert (paths(second.added), paths(second.removed)) == (["x/y"], ["x"])
        (work / "x" / "y").unlink()
        (work / "x").rmdir()
        write(work, {"x": b"file"})
        third = run.track(work)
        assert (paths(third.added), paths(third.removed)) == (["x"], ["x/y"])

    def test_chmod_and_touch_make_no_version_but_are_restored(self, run, work, tmp_path):
        write(work, {"f": b"1"})
        run.track(work)
        (work / "f").chmod(0o751)
        os.utime(work / "f", ns=(5_000_000_000, 7_000_000_000))
        snapshot = run.track(work)
        assert snapshot.recorded is False
        assert [v.version for v in run.history("f")] == [1]
        run.restore(tmp_path / "out")
        status = (tmp_path / "out" / "f").stat()
        assert (stat.S_IMODE(status.st_mode), status.st_mtime_ns) == (0o751, 7_000_000_000)

    def test_a_new_process_sees_what_an_earlier_one_recorded(self, run, work, place):
        write(work, {"a": b"1"})
        run.track(work)
        with ArtifactStore.open(**place) as again:
            other = again.session("session-1").run("run-1")
            assert other.track(work).recorded is False
            write(work, {"a": b"2"})
            assert paths(other.track(work).changed) == ["a"]
        assert run.track(work).recorded is False
        assert run.read_bytes("a") == b"2"


class TestAttribution:
    def test_provenance_is_that_of_the_scan_which_first_saw_the_content(self, run, work):
        write(work, {"f": b"1"})
        run.track(work, phase="planning", agent="planner", node_id="planning")
        run.track(work, phase="control", agent="engineer", node_id="step_1")
        assert run.file("f").provenance == Provenance("planning", "planner", "planning")

    def test_new_content_takes_the_new_scan_whole(self, run, work):
        write(work, {"f": b"1"})
        run.track(work, phase="planning", agent="planner", node_id="n1", step_id="s1")
        write(work, {"f": b"2"})
        run.track(work, phase="control", node_id="n2")
        assert run.file("f").provenance == Provenance(phase="control", node_id="n2")
        assert run.file("f", version=1).agent == "planner"

    def test_an_unusable_label_is_refused_before_anything_is_recorded(self, run, work):
        write(work, {"f": b"1"})
        for label in ("", "planner\n", "x" * 256, 1.5):
            with pytest.raises(InvalidNameError, match="can't be the agent"):
                run.track(work, agent=label)
        with pytest.raises(UnknownRunError):
            run.files()

    def test_missing_provenance_is_filled_by_the_same_node(self, run, work):
        write(work, {"f": b"1"})
        run.track(work, node_id="step_1")
        filled = run.track(work, node_id="step_1", phase="control", agent="engineer")
        assert (filled.filled, filled.recorded, filled.number) == (1, False, 1)
        assert run.file("f").provenance == Provenance("control", "engineer", "step_1")
        again = run.track(work, node_id="step_1", phase="other", agent="other", step_id="s")
        assert again.filled == 1
        assert run.file("f").provenance == Provenance("control", "engineer", "step_1", "s")

    @pytest.mark.parametrize("node", ["step_2", None])
    def test_another_node_fills_nothing(self, run, work, node):
        write(work, {"f": b"1"})
        run.track(work, node_id="step_1")
        assert run.track(work, node_id=node, agent="engineer").filled == 0
        assert run.file("f").provenance == Provenance(node_id="step_1")

    def test_a_file_without_a_node_is_filled_by_none(self, run, work):
        write(work, {"f": b"1"})
        run.track(work)
        run.track(work, node_id="step_1", agent="engineer")
        run.track(work, agent="engineer")
        assert run.file("f").provenance == Provenance()

    def test_a_file_that_is_gone_is_not_filled(self, run, work):
        write(work, {"f": b"1", "g": b"2"})
        run.track(work, node_id="n")
        (work / "f").unlink()
        run.track(work, node_id="n", agent="a")
        assert [v.agent for v in run.history("f")] == [None]
        assert run.file("g").agent == "a"

    def test_a_fill_is_seen_by_the_next_scan_of_another_process(self, run, work, place):
        write(work, {"f": b"1"})
        run.track(work, node_id="n")
        with ArtifactStore.open(**place) as other:
            other.session("session-1").run("run-1").track(work, node_id="n", agent="first")
        run.track(work, node_id="n", agent="second")
        assert run.file("f").agent == "first"

    def test_the_scope_applies_unless_told_otherwise(self, run, work):
        write(work, {"f": b"1"})
        with provenance(phase="control", agent="engineer", step_id="s"):
            run.track(work, agent="told", node_id="n")
        assert run.file("f").provenance == Provenance("control", "told", "n", "s")

    def test_the_awaitable_twin_inherits_the_scope_and_leaves_the_loop_free(self, run, work):
        write(work, {f"f{n}": os.urandom(200_000) for n in range(50)})

        async def main():
            ticks = 0

            async def tick():
                nonlocal ticks
                while True:
                    await asyncio.sleep(0)
                    ticks += 1

            ticker = asyncio.create_task(tick())
            with provenance(agent="async"):
                snapshot = await run.track_async(work, phase="control")
            ticker.cancel()
            return snapshot, ticks

        snapshot, ticks = asyncio.run(main())
        assert len(snapshot.added) == 50
        assert ticks > 10
        assert {(v.agent, v.phase) for v in run.files()} == {("async", "control")}

    def test_code_hash_and_event_are_kept(self, run, work):
        write(work, {"f": b"1"})
        run.track(work, code_hash="abc", event_id="e-1")
        assert (run.file("f").code_hash, run.file("f").event_id) == ("abc", "e-1")


class TestCoverage:
    def test_absence_means_removal_only_inside_the_scope(self, run, work):
        write(work, {"data/a": b"1", "code/b": b"2", "top": b"3"})
        run.track(work)
        for path in ("data/a", "code/b", "top"):
            (work / path).unlink()
        assert paths(run.track(work, scope=("data",)).removed) == ["data/a"]
        assert paths(run.files()) == ["code/b", "top"]

    def test_a_scope_whose_directory_is_gone_has_lost_its_files(self, run, work):
        write(work, {"data/deep/a": b"1", "b": b"2"})
        run.track(work)
        (work / "data/deep/a").unlink()
        (work / "data/deep").rmdir()
        (work / "data").rmdir()
        assert paths(run.track(work, scope=("data",)).removed) == ["data/deep/a"]

    def test_only_the_scope_is_looked_at(self, run, work):
        write(work, {"data/a": b"1", "code/b": b"2", "database/c": b"3"})
        assert paths(run.track(work, scope=("data", "data/inner", "missing")).added) == ["data/a"]

    def test_a_scope_may_be_nested_a_file_or_hidden(self, run, work):
        write(work, {"a/b/c": b"1", "a/x": b"2", "single": b"3", ".h/f": b"4"})
        snapshot = run.track(work, scope=("a/b", "single", ".h"))
        assert paths(snapshot.added) == [".h/f", "a/b/c", "single"]
        assert run.track(work, scope=("a/b", "single", ".h")).unchanged == 3
        assert len(run.files()) == 3
        for path in ("a/b/c", "single", ".h/f"):
            (work / path).unlink()
        assert len(run.track(work, scope=("a/b", "single", ".h")).removed) == 3

    def test_scopes_that_do_not_exist_are_told_and_with_none_left_nothing_is_complete(
        self, run, work
    ):
        write(work, {"data/a": b"1", "file": b"1"})
        some = run.track(work, scope=("data", "dta", "file/below"))
        assert (some.absent, some.skipped) == (("dta", "file/below"), ())
        none = run.track(work, scope=("dta",))
        assert none.absent == ("dta",)
        assert none.skipped == (("dta", "there is no such file or directory"),)

    def test_a_scope_with_files_of_the_run_is_not_taken_for_a_mistake(self, run, work):
        write(work, {"data/a": b"1"})
        run.track(work)
        run.put("put/deep/a", b"1")
        (work / "data/a").unlink()
        (work / "data").rmdir()
        snapshot = run.track(work, scope=("data", "put", "put/deep"))
        assert paths(snapshot.removed) == ["data/a"]
        assert (snapshot.absent, snapshot.skipped) == ((), ())

    @pytest.mark.parametrize(
        ("scope", "told"), [("link", "link"), ("link/sub", "link"), ("inside", "inside")]
    )
    def test_a_scope_that_is_a_link_is_not_followed_and_told(
        self, run, work, tmp_path, scope, told
    ):
        write(tmp_path / "scratch", {"sub/a": b"1"})
        write(work, {"real/a": b"1"})
        (work / "link").symlink_to("../scratch")
        (work / "inside").symlink_to("real")
        for _ in range(2):
            snapshot = run.track(work, scope=(scope,))
            ((path, reason),) = snapshot.skipped
            assert path == told
            assert "not followed" in reason
        assert all(version.is_link for version in run.files())

    @pytest.mark.parametrize("scope", ["..", "/etc", "a/../..", ""])
    def test_a_scope_that_leaves_the_directory_is_refused(self, run, work, scope):
        with pytest.raises(UnsafePathError):
            run.track(work, scope=(scope,))

    def test_a_dot_is_the_whole_directory(self, run, work):
        write(work, {"a": b"1", "d/b": b"2"})
        assert len(run.track(work, scope=("./", "d")).added) == 2

    def test_one_string_is_not_a_sequence_of_scopes(self, run, work):
        with pytest.raises(TypeError, match="sequence"):
            run.track(work, scope="data")

    def test_hidden_entries_and_caches_are_passed_over(self, run, work):
        write(work, {".env": b"1", ".git/x": b"2", "p/__pycache__/m.pyc": b"3", "p/m.py": b"4"})
        assert paths(run.track(work).added) == ["p/m.py"]

    def test_ignored_files_are_passed_over_and_not_taken_for_removed(self, run, work):
        write(work, {"a.log": b"1", "keep.txt": b"2", "build/x": b"3", "sub/b.log": b"4"})
        run.track(work)
        for path in ("a.log", "build/x", "sub/b.log"):
            (work / path).unlink()
        snapshot = run.track(work, ignore=("*.log", "build/"))
        assert snapshot.removed == ()
        assert len(run.files()) == 4
        assert len(run.track(work).removed) == 3

    def test_ignore_patterns_are_gitignores(self, run, work):
        write(work, {"a.log": b"1", "keep.log": b"2", "d/x.log": b"3", "d/y": b"4"})
        snapshot = run.track(work, ignore=("*.log", "!keep.log", "/d/y"))
        assert paths(snapshot.added) == ["keep.log"]

    def test_the_store_inside_the_work_directory_is_not_tracked(self, tmp_path):
        work = tmp_path / "work"
        write(work, {"a": b"1"})
        with ArtifactStore.open(work / "artifacts") as store:
            run = store.session("s").run("r")
            assert paths(run.track(work).added) == ["a"]
            assert run.track(work).recorded is False

    def test_an_index_inside_the_work_directory_is_not_tracked(self, tmp_path):
        work = tmp_path / "work"
        write(work, {"a": b"1"})
        index = f"sqlite:///{work}/runs.db"
        with ArtifactStore.open(index=index, blobs=tmp_path / "blobs") as store:
            assert paths(store.session("s").run("r").track(work).added) == ["a"]

    @on(blobs="local", because="no path leads into a bucket")
    @pytest.mark.parametrize("inside", ["", "packs"])
    def test_the_store_itself_is_no_work_directory(self, run, objects, inside):
        (objects.root / "packs").mkdir(exist_ok=True)
        with pytest.raises(WorkDirectoryError, match="the store itself"):
            run.track(objects.root / inside)

    def test_the_store_is_not_tracked_after_a_change_of_directory(self, tmp_path, monkeypatch):
        write(tmp_path, {"project/a": b"1", "elsewhere/b": b"1"})
        monkeypatch.chdir(tmp_path / "project")
        with ArtifactStore.open(index="sqlite:///index.db", blobs="blobs") as store:
            run = store.session("s").run("r")
            monkeypatch.chdir(tmp_path / "elsewhere")
            assert paths(run.track(tmp_path / "project").added) == ["a"]
            assert paths(run.track(tmp_path / "elsewhere").added) == ["b"]

    def test_an_index_that_a_link_leads_to_is_not_tracked(self, tmp_path):
        write(tmp_path, {"work/a": b"1"})
        (tmp_path / "link.db").symlink_to("work/real.db")
        index = f"sqlite:///{tmp_path}/link.db"
        with ArtifactStore.open(index=index, blobs=tmp_path / "blobs") as store:
            run = store.session("s").run("r")
            assert paths(run.track(tmp_path / "work").added) == ["a"]
            assert paths(run.track(tmp_path, prefix="all").added) == ["all/work/a"]

    @on(blobs="local", because="no path leads into a bucket")
    def test_the_store_is_not_tracked_under_another_name(self, run, objects, work, monkeypatch):
        """A bind mount has the device and inode of what is mounted."""
        write(work, {"a": b"1", "mount/cas.json": b"{}", "mount/packs/x": b"1"})
        mount, store_root = (work / "mount").stat(), objects.root.stat()
        original = os.fstat

        class Mounted:
            def __init__(self, status):
                self._status = status
                self.st_ino, self.st_dev = store_root.st_ino, store_root.st_dev

            def __getattr__(self, name):
                return getattr(self._status, name)

        def fstat(fd):
            status = original(fd)
            return Mounted(status) if status.st_ino == mount.st_ino else status

        monkeypatch.setattr(os, "fstat", fstat)
        assert paths(run.track(work).added) == ["a"]

    @on(index="sqlite", because="a server has no file")
    def test_the_index_is_not_tracked_under_another_name(self, run, work):
        write(work, {"a": b"1"})
        os.link(run._context.database.file, work / "copy")
        assert paths(run.track(work).added) == ["a"]

    def test_a_work_directory_reached_through_a_link_and_moved_is_the_same(self, run, tmp_path):
        write(tmp_path / "work", {"a": b"1", "d/b": b"2"})
        run.track(tmp_path / "work")
        (tmp_path / "link").symlink_to("work")
        assert run.track(tmp_path / "link").recorded is False
        (tmp_path / "work").rename(tmp_path / "moved")
        assert run.track(tmp_path / "moved").recorded is False


class TestPrefix:
    def test_a_directory_is_recorded_under_a_path_of_the_run(self, run, work, tmp_path):
        write(work, {"a": b"1", "d/b": b"2", ".h/x": b"3"})
        run.put("data/put", b"kept")
        run.put("d/b", b"kept")
        run.put("database", b"kept")
        snapshot = run.track(work, prefix="data/in/")
        assert paths(snapshot.added) == ["data/in/a", "data/in/d/b"]
        assert snapshot.hidden == 1
        again = run.track(work, prefix="data/in")
        assert (again.recorded, again.unchanged) == (False, 2)
        (work / "a").unlink()
        write(work, {"d/b": b"new"})
        last = run.track(work, prefix="data/in")
        assert (paths(last.changed), paths(last.removed)) == (["data/in/d/b"], ["data/in/a"])
        run.restore(tmp_path / "out")
        assert read(tmp_path / "out") == {
            "data/put": b"kept",
            "d/b": b"kept",
            "database": b"kept",
            "data/in/d/b": b"new",
        }

    def test_scope_and_patterns_are_relative_to_the_directory(self, run, work):
        write(
            work, {"a/x": b"1", "a/y.log": b"2", "b/x": b"3", "a/.casignore": b"/z\n", "a/z": b""}
        )
        snapshot = run.track(work, prefix="p", scope=("a", "no"), ignore=("/a/*.log",))
        assert paths(snapshot.added) == ["p/a/x"]
        assert snapshot.absent == ("p/no",)
        for path in ("a/x", "b/x"):
            (work / path).unlink()
        assert paths(run.track(work, prefix="p", scope=("a",)).removed) == ["p/a/x"]

    def test_several_directories_make_up_one_run(self, run, tmp_path):
        for name in ("one", "two"):
            write(tmp_path / name, {"f": name.encode()})
            assert run.track(tmp_path / name, prefix=name).removed == ()
        (tmp_path / "one/f").unlink()
        assert paths(run.track(tmp_path / "one", prefix="one").removed) == ["one/f"]
        assert contents(run) == {"two/f": b"two"}

    def test_scans_of_the_work_directory_leave_it_alone(self, run, work, tmp_path):
        scratch = tmp_path / "scratch"
        write(work, {"a": b"1", "data/mine": b"2"})
        write(scratch, {"out": b"3", "d/e": b"4"})
        run.track(work)
        assert paths(run.track(scratch, prefix="data").added) == ["data/d/e", "data/out"]
        assert run.track(work).recorded is False
        assert run.track(work, scope=("data",)).recorded is False
        (work / "data/mine").unlink()
        (scratch / "out").unlink()
        assert paths(run.track(work).removed) == ["data/mine"]
        assert paths(run.track(scratch, prefix="data").removed) == ["data/out"]
        assert contents(run) == {"a": b"1", "data/d/e": b"4"}

    def test_of_nested_ones_each_removes_what_it_has_seen(self, run, tmp_path):
        outer, inner = tmp_path / "outer", tmp_path / "inner"
        write(outer, {"x": b"1", "b/y": b"2"})
        write(inner, {"z": b"3"})
        run.track(outer, prefix="a")
        run.track(inner, prefix="a/b")
        for folder, prefix in ((outer, "a"), (inner, "a/b"), (outer, "a"), (inner, "a/b")):
            assert run.track(folder, prefix=prefix).recorded is False
        (outer / "b/y").unlink()
        (inner / "z").unlink()
        assert run.track(tmp_path / "outer/b", prefix="a/b/c").recorded is False
        assert paths(run.track(inner, prefix="a/b").removed) == ["a/b/z"]
        assert paths(run.track(outer, prefix="a").removed) == ["a/b/y"]

    @pytest.mark.parametrize("first", ["whole", "part"])
    @pytest.mark.parametrize("last", ["whole", "part"])
    @pytest.mark.parametrize("scope", [None, ("d/f", "d/g")])
    @pytest.mark.parametrize("is_old", [False, True])
    def test_what_two_scans_have_seen_is_removed_by_whichever_misses_it(
        self, run, work, monkeypatch, first, last, is_old, scope
    ):
        """Also where the second one finds the file as the first one has left it."""
        if is_old:
            clock = time.time_ns
            monkeypatch.setattr("index.commit.track.time.time_ns", lambda: clock() + 10**10)
        write(work, {"d/f": b"1", "d/g": b"2"})

        def scan(which):
            return (
                run.track(work, scope=scope)
                if which == "whole"
                else run.track(work / "d", prefix="d")
            )

        scan(first)
        second = scan("part" if first == "whole" else "whole")
        assert (second.recorded, second.unchanged) == (False, 2)
        assert scan(first).recorded is False
        (work / "d/f").unlink()
        assert paths(scan(last).removed) == ["d/f"]
        assert contents(run) == {"d/g": b"2"}

    def test_new_content_was_seen_by_the_scan_alone_that_found_it(self, run, work, tmp_path):
        write(work, {"d/f": b"1"})
        run.track(work)
        write(tmp_path / "other", {"f": b"2"})
        assert paths(run.track(tmp_path / "other", prefix="d").changed) == ["d/f"]
        (work / "d/f").unlink()
        assert run.track(work).recorded is False
        assert contents(run) == {"d/f": b"2"}

    def test_a_file_that_vanishes_while_the_other_directory_is_read_stays(
        self, run, work, tmp_path, monkeypatch
    ):
        write(tmp_path / "scratch", {"f": b"1"})
        run.track(tmp_path / "scratch", prefix="d")
        write(work, {"d/f": b"2"})
        original = os.open

        def vanish(path, flags, *args, **kwargs):
            if path == "f" and not flags & os.O_DIRECTORY:
                (work / "d/f").unlink()
            return original(path, flags, *args, **kwargs)

        monkeypatch.setattr(os, "open", vanish)
        assert run.track(work).removed == ()

    def test_a_scan_of_a_run_that_was_synced_or_lost_still_leaves_it_alone(
        self, place, work, tmp_path
    ):
        write(work, {"a": b"1", "d/both": b"2"})
        with ArtifactStore.open(**place) as store:
            run = store.session("s").run("r")
            run.track(work)
            run.track(work / "d", prefix="d")
            write(tmp_path / "scratch", {"f": b"3"})
            run.track(tmp_path / "scratch", prefix="d", scope=("f",))
            with ArtifactStore.open(tmp_path / "copy") as copy:
                store.sync_to(copy)
                synced = copy.session("s").run("r")
                assert synced.track(work).recorded is False
        lose_index(place)
        recover(**place)
        (work / "d/both").unlink()
        with ArtifactStore.open(**place) as store:
            run = store.session("s").run("r")
            assert paths(run.track(work).removed) == ["d/both"]
            assert contents(run) == {"a": b"1", "d/f": b"3"}

    def test_as_many_names_as_the_index_can_tell_apart(self, run, work):
        write(work, {"f": b"1"})
        deepest = "/".join("d" * 62)
        run.track(work, prefix=deepest)
        (work / "f").unlink()
        assert run.track(work, prefix=deepest[2:]).removed == ()
        assert paths(run.track(work, prefix=deepest).removed) == [f"{deepest}/f"]
        with pytest.raises(UnsafePathError, match="at most 62 names"):
            run.track(work, prefix=f"{deepest}/d")

    @pytest.mark.parametrize("prefix", ["..", "/abs", "", "a/../b"])
    def test_a_prefix_that_is_no_path_of_a_run_is_refused(self, run, work, prefix):
        with pytest.raises(UnsafePathError):
            run.track(work, prefix=prefix)


class TestOddFiles:
    def test_links_are_recorded_as_links_and_never_followed(self, run, work, tmp_path):
        (tmp_path / "secret").write_bytes(b"secret")
        write(work, {"real": b"1", "dir/f": b"2"})
        (work / "to_file").symlink_to("real")
        (work / "to_dir").symlink_to("dir")
        (work / "outside").symlink_to("../secret")
        (work / "broken").symlink_to("nowhere")
        (work / "loop").symlink_to("loop")
        run.track(work)
        found = {v.path: (v.is_link, run.read_bytes(v.path)) for v in run.files()}
        assert found == {
            "real": (False, b"1"),
            "dir/f": (False, b"2"),
            "to_file": (True, b"real"),
            "to_dir": (True, b"dir"),
            "outside": (True, b"../secret"),
            "broken": (True, b"nowhere"),
            "loop": (True, b"loop"),
        }
        assert run.track(work).unchanged == 7

    def test_a_link_to_a_directory_elsewhere_is_told_at_each_scan(self, run, work, tmp_path):
        write(tmp_path / "scratch", {"a": b"1"})
        write(work, {"dir/f": b"2", "sub/x": b"3"})
        (work / "inside").symlink_to(work / "dir")
        (work / "root").symlink_to(".")
        (work / "sub/data").symlink_to("../../scratch")
        for _ in range(2):
            snapshot = run.track(work)
            ((path, reason),) = snapshot.skipped
            assert (path, "not followed" in reason) == ("sub/data", True)
        assert run.file("sub/data").is_link

    @pytest.mark.parametrize("size", [5, 3 << 20])
    def test_a_file_of_size_0_with_content_is_read_to_its_end(self, run, work, monkeypatch, size):
        """So it is in procfs, and in some filesystems of FUSE."""
        data = os.urandom(size)
        write(work, {"f": data, "g": b""})
        inode = (work / "f").stat().st_ino
        original = os.fstat

        class Empty:
            st_size = 0

            def __init__(self, status):
                self._status = status

            def __getattr__(self, name):
                return getattr(self._status, name)

        def fstat(fd):
            status = original(fd)
            return Empty(status) if status.st_ino == inode else status

        monkeypatch.setattr(os, "fstat", fstat)
        run.put("put", work / "f")
        run.track(work)
        assert contents(run) == {"f": data, "g": b"", "put": data}
        assert run.track(work).changed == ()

    def test_a_link_and_a_file_with_the_same_bytes_differ(self, run, work):
        (work / "x").symlink_to("target")
        run.track(work)
        (work / "x").unlink()
        write(work, {"x": b"target"})
        assert paths(run.track(work).changed) == ["x"]

    def test_special_files_are_reported_and_never_opened(self, run, work, monkeypatch):
        write(work, {"a": b"1"})
        os.mkfifo(work / "fifo")
        monkeypatch.chdir(work)  # the path of a socket has at most about 100 characters
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("socket")
            snapshot = run.track(work)
        assert paths(snapshot.added) == ["a"]
        assert {s.path: s.reason for s in snapshot.skipped} == {
            "fifo": "it is a FIFO",
            "socket": "it is a socket",
        }

    def test_names_that_are_not_utf8_round_trip_exactly(self, run, work, tmp_path):
        names = [b"\xff\xfe.bin", b"caf\xe9.txt", "café.txt".encode(), b"back\\slash", b"new\nline"]
        for name in names:
            Path(os.fsdecode(bytes(work) + b"/" + name)).write_bytes(name)
        run.track(work)
        assert sorted(os.fsencode(v.path) for v in run.files()) == sorted(names)
        assert run.read_bytes(os.fsdecode(b"\xff\xfe.bin")) == b"\xff\xfe.bin"
        assert run.track(work).recorded is False
        run.restore(tmp_path / "out")
        assert sorted(os.listdir(bytes(tmp_path / "out"))) == sorted(names)

    def test_empty_files_have_a_digest_too(self, run, work):
        write(work, {"empty": b""})
        run.track(work)
        assert run.file("empty").digest == Digest.of(b"")
        assert run.read_bytes("empty") == b""

    def test_a_very_deep_tree_is_tracked(self, run, work, tmp_path):
        deep = "/".join(["d"] * 200) + "/f"
        write(work, {deep: b"1"})
        run.track(work)
        run.restore(tmp_path / "out")
        assert read(tmp_path / "out") == {deep: b"1"}

    def test_a_deep_tree_takes_few_descriptors(self, run, work, monkeypatch):
        files = {f"{'d/' * depth}{name}": b"1" for depth in range(150) for name in ("f", "e/f")}
        write(work, files)
        descriptors = set()
        original = os.open

        def note(path, flags, *args, dir_fd=None, **kwargs):
            fd = original(path, flags, *args, dir_fd=dir_fd, **kwargs)
            if dir_fd is not None and flags & os.O_DIRECTORY:
                descriptors.add(fd)
            return fd

        monkeypatch.setattr(os, "open", note)
        assert set(paths(run.track(work).added)) == set(files)
        assert run.track(work).unchanged == len(files)
        assert len(descriptors) < 60


class Unreadable:
    """Let the opening of certain names fail, since the tests may run as root."""

    def __init__(self, monkeypatch, *names):
        original = os.open

        def deny(path, flags, *args, **kwargs):
            if path in names:
                raise PermissionError(13, "Permission denied", path)
            return original(path, flags, *args, **kwargs)

        monkeypatch.setattr(os, "open", deny)


class Entries:
    """Entries whose type the listing does not have, and whose `stat` fails for one name."""

    def __init__(self, monkeypatch, name, code):
        original = os.scandir

        class Entry:
            def __init__(self, entry):
                self._entry, self.name = entry, entry.name

            def _ask(self, question):
                if self.name == name:
                    raise OSError(code, os.strerror(code))
                return getattr(self._entry, question)(follow_symlinks=False)

            def is_dir(self, *, follow_symlinks):
                return self._ask("is_dir")

            def is_file(self, *, follow_symlinks):
                return self._ask("is_file")

            def stat(self, *, follow_symlinks):
                return self._ask("stat")

        @contextmanager
        def scandir(fd):
            with original(fd) as entries:
                yield map(Entry, entries)

        monkeypatch.setattr(os, "scandir", scandir)


class TestFailures:
    @pytest.mark.parametrize("is_known", [False, True])
    def test_an_entry_that_cannot_be_examined_is_reported_and_loses_no_other(
        self, run, work, monkeypatch, is_known
    ):
        write(work, {"a": b"1", "d/stale": b"1", "d/b": b"1"})
        if is_known:
            run.track(work)
        Entries(monkeypatch, "stale", errno.ESTALE)
        snapshot = run.track(work)
        assert snapshot.skipped == (("d/stale", os.strerror(errno.ESTALE)),)
        assert (len(snapshot.added) + snapshot.unchanged, snapshot.removed) == (2, ())

    @pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
    @pytest.mark.parametrize("name", ["a", "d", ".casignore"])
    def test_a_scan_that_runs_out_of_something_records_nothing(
        self, store, work, monkeypatch, code, name
    ):
        write(work, {"a": b"1", "d/b": b"2", ".casignore": b""})
        original = os.open

        def fail(path, flags, *args, **kwargs):
            if path == name:
                raise OSError(code, os.strerror(code))
            return original(path, flags, *args, **kwargs)

        monkeypatch.setattr(os, "open", fail)
        with pytest.raises(WorkDirectoryError, match=r"no .* left"):
            store.session("s").run("r").track(work)
        assert store.stats().runs == 0

    def test_an_unreadable_file_is_reported_and_loses_no_other(self, run, work, monkeypatch):
        write(work, {"a": b"1", "bad": b"2", "c": b"3"})
        Unreadable(monkeypatch, "bad")
        snapshot = run.track(work)
        assert paths(snapshot.added) == ["a", "c"]
        assert snapshot.skipped == (("bad", "Permission denied"),)
        assert run.snapshots()[0].skipped == snapshot.skipped

    def test_what_can_no_longer_be_read_is_not_taken_for_removed(self, run, work, monkeypatch):
        write(work, {"a": b"1", "dir/b": b"2", "dir/sub/c": b"3"})
        run.track(work)
        write(work, {"a": b"changed"})
        Unreadable(monkeypatch, "a", "dir")
        snapshot = run.track(work)
        assert [s.path for s in snapshot.skipped] == ["a", "dir"]
        assert snapshot.removed == ()
        assert contents(run) == {"a": b"1", "dir/b": b"2", "dir/sub/c": b"3"}

    def test_a_directory_that_fails_while_it_is_listed_keeps_its_files(
        self, run, work, monkeypatch
    ):
        write(work, {"a": b"1", "dir/b": b"2"})
        run.track(work)
        original = os.scandir
        inode = (work / "dir").stat().st_ino

        def fail(fd):
            if isinstance(fd, int) and os.fstat(fd).st_ino == inode:
                raise OSError(5, "Input/output error")
            return original(fd)

        monkeypatch.setattr(os, "scandir", fail)
        snapshot = run.track(work)
        assert snapshot.skipped == (("dir", "Input/output error"),)
        assert snapshot.removed == ()

    def test_a_file_that_fails_while_it_is_read_keeps_its_last_version(
        self, run, work, monkeypatch
    ):
        write(work, {"a": b"1", "big": os.urandom(9 << 20)})
        run.track(work)
        before = run.read_bytes("big")
        write(work, {"big": os.urandom(9 << 20)})
        original = os.pread
        inode = (work / "big").stat().st_ino

        def fail(fd, size, offset):
            if offset > 0 and os.fstat(fd).st_ino == inode:
                raise OSError(5, "Input/output error")
            return original(fd, size, offset)

        monkeypatch.setattr(os, "pread", fail)
        assert run.track(work).skipped == (("big", "Input/output error"),)
        assert run.read_bytes("big") == before

    def test_a_file_that_vanishes_between_listing_and_reading_is_gone(self, run, work, monkeypatch):
        write(work, {"a": b"1", "b": b"2"})
        run.track(work)
        write(work, {"a": b"changed", "b": b"changed"})
        original = os.open

        def vanish(path, flags, *args, **kwargs):
            if path == "b":
                (work / "b").unlink(missing_ok=True)
            return original(path, flags, *args, **kwargs)

        monkeypatch.setattr(os, "open", vanish)
        snapshot = run.track(work)
        assert (paths(snapshot.changed), paths(snapshot.removed)) == (["a"], ["b"])
        assert snapshot.skipped == ()

    def test_a_file_swapped_for_a_link_in_mid_scan_is_not_followed(
        self, run, work, tmp_path, monkeypatch
    ):
        (tmp_path / "secret").write_bytes(b"secret")
        write(work, {"f": b"1"})
        original = os.open

        def swap(path, flags, *args, **kwargs):
            if path == "f":
                (work / "f").unlink()
                (work / "f").symlink_to(tmp_path / "secret")
            return original(path, flags, *args, **kwargs)

        monkeypatch.setattr(os, "open", swap)
        snapshot = run.track(work)
        assert [s.path for s in snapshot.skipped] == ["f"]
        assert run.files() == ()

    def test_a_file_swapped_for_a_fifo_in_mid_scan_is_not_read(self, run, work, monkeypatch):
        write(work, {"f": b"1"})
        original = os.open

        def swap(path, flags, *args, **kwargs):
            if path == "f":
                (work / "f").unlink()
                os.mkfifo(work / "f")
            return original(path, flags, *args, **kwargs)

        monkeypatch.setattr(os, "open", swap)
        assert [s.path for s in run.track(work).skipped] == ["f"]
        assert run.files() == ()

    @pytest.mark.parametrize("is_known", [False, True])
    def test_a_file_replaced_in_mid_scan_is_recorded_as_it_was_read(
        self, run, work, monkeypatch, is_known
    ):
        if is_known:
            write(work, {"f": b"older"})
            run.track(work)
        write(work, {"f": b"old"})
        original = os.open

        def replace(path, flags, *args, **kwargs):
            if path == "f":
                write(work, {"new": b"replaced"})
                (work / "new").chmod(0o600)
                (work / "new").rename(work / "f")
            return original(path, flags, *args, **kwargs)

        monkeypatch.setattr(os, "open", replace)
        run.track(work)
        monkeypatch.undo()
        version = run.file("f")
        status = (work / "f").stat()
        assert run.read_bytes("f") == b"replaced"
        assert (version.mode, version.mtime_ns) == (status.st_mode, status.st_mtime_ns)
        assert run.track(work).unchanged == 1

    def test_a_directory_swapped_for_a_link_in_mid_scan_is_not_followed(
        self, run, work, tmp_path, monkeypatch
    ):
        write(tmp_path / "outside", {"secret": b"secret"})
        write(work, {"d/f": b"1"})
        original = os.open

        def swap(path, flags, *args, **kwargs):
            if path == "d" and not (work / "d").is_symlink():
                (work / "d").rename(work / "moved")
                (work / "d").symlink_to(tmp_path / "outside")
            return original(path, flags, *args, **kwargs)

        monkeypatch.setattr(os, "open", swap)
        run.track(work)
        assert all(data != b"secret" for data in contents(run).values())

    def test_a_large_file_that_shrinks_and_grows_while_it_is_read_loses_no_scan(
        self, run, work, monkeypatch
    ):
        write(work, {"big": b"x" * (5 << 20), "other": b"1"})
        original = os.pread
        inode = (work / "big").stat().st_ino
        reads = []

        def jitter(fd, size, offset):
            if os.fstat(fd).st_ino == inode:
                reads.append(size)
                os.truncate(work / "big", (2 << 20) + 500)
                data = original(fd, size, offset)
                os.truncate(work / "big", 5 << 20)
                return data
            return original(fd, size, offset)

        monkeypatch.setattr(os, "pread", jitter)
        run.track(work)
        monkeypatch.undo()
        assert reads
        assert run.read_bytes("other") == b"1"
        assert run.file("big").size == len(run.read_bytes("big"))
        assert paths(run.track(work).changed) == ["big"]

    def test_times_that_64_bits_cannot_hold_lose_no_scan(self, run, work, tmp_path):
        write(work, {"odd": b"1", "other": b"2"})
        os.utime(work / "odd", ns=(10**19, 10**19))
        if (work / "odd").stat().st_mtime_ns != 10**19:
            return  # this filesystem cannot hold them either
        run.track(work)
        run.put("put", work / "odd")
        assert contents(run) == {"odd": b"1", "other": b"2", "put": b"1"}
        run.restore(tmp_path / "out")

    def test_a_path_too_long_to_restore_is_reported(self, run, work):
        write(work, {"short": b"1"})
        fd = os.open(work, os.O_RDONLY)
        for _ in range(20):
            os.mkdir("d" * 250, dir_fd=fd)
            deeper = os.open("d" * 250, os.O_RDONLY, dir_fd=fd)
            os.close(fd)
            fd = deeper
        os.close(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        os.close(fd)
        snapshot = run.track(work)
        assert paths(snapshot.added) == ["short"]
        assert [s.reason for s in snapshot.skipped] == ["its path has more than 4096 bytes"]

    @pytest.mark.parametrize("late", [False, True])
    def test_a_file_that_grows_at_each_read_is_stored_as_last_read(
        self, run, work, monkeypatch, late
    ):
        write(work, {"log": b"x" * 100})
        original = os.pread

        def grow(fd, size, offset):
            data = original(fd, size, offset)
            with (work / "log").open("ab") as log:
                log.write(b"y" * 50)
            return data

        monkeypatch.setattr(os, "pread", grow)
        assert run.track(work).torn == ("log",)
        monkeypatch.undo()
        recorded = run.read_bytes("log")
        assert recorded == (work / "log").read_bytes()[:-50]
        assert run.file("log").size == len(recorded)
        if late:
            os.utime(work / "log", (1_000_000_000, 1_000_000_000))
        again = run.track(work)
        assert (paths(again.changed), again.torn) == (["log"], ())
        assert run.read_bytes("log") == recorded + b"y" * 50

    @pytest.mark.parametrize(
        ("make", "reason"),
        [
            (lambda path: None, "no such directory"),
            (lambda path: path.write_bytes(b""), "a file, not a directory"),
        ],
    )
    def test_what_is_no_directory_is_refused_and_nothing_recorded(
        self, store, tmp_path, make, reason
    ):
        make(tmp_path / "x")
        with pytest.raises(WorkDirectoryError, match=reason):
            store.session("s").run("r").track(tmp_path / "x")
        assert store.stats().sessions == 0

    def test_an_unreadable_work_directory_is_refused(self, store, work, monkeypatch):
        Unreadable(monkeypatch, str(work))
        with pytest.raises(WorkDirectoryError, match="Permission denied"):
            store.session("s").run("r").track(work)

    def test_a_lost_work_directory_does_not_empty_the_run(self, run, tmp_path):
        write(tmp_path / "work", {"a": b"1"})
        run.track(tmp_path / "work")
        (tmp_path / "work").rename(tmp_path / "elsewhere")
        with pytest.raises(WorkDirectoryError):
            run.track(tmp_path / "work")
        assert contents(run) == {"a": b"1"}

    def test_progress_reaches_the_totals(self, run, work):
        write(work, {f"f{n}": b"123" for n in range(600)})
        seen = []
        run.track(work, progress=seen.append)
        assert (seen[-1].files, seen[-1].bytes) == (600, 1800)
        assert len(seen) > 1

    def test_progress_moves_inside_a_large_file(self, run, work):
        write(work, {"large": random.Random(3).randbytes(24 << 20)})
        seen = []
        run.track(work, progress=seen.append)
        inside = [progress.bytes for progress in seen if progress.files == 0]
        assert len(inside) > 3
        assert inside == sorted(set(inside))
        assert (seen[-1].files, seen[-1].bytes) == (1, 24 << 20)

    def test_a_put_tells_how_far_it_is_in_a_large_file(self, run, tmp_path):
        (tmp_path / "large").write_bytes(random.Random(4).randbytes(24 << 20))
        seen = []
        run.put("large", tmp_path / "large", progress=seen.append)
        assert len(seen) > 3
        assert seen[-1].bytes == 24 << 20

    def test_an_error_of_the_progress_callback_records_nothing(self, store, work):
        write(work, {"a": b"1"})

        def fail(_progress):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            store.session("s").run("r").track(work, progress=fail)
        assert store.stats().runs == 0
