"""What a track would record, shown without recording it."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path

import pytest
from costs import peak_memory, system_calls
from events import statements
from places import on, on_one
from trees import contents, write

from index import ArtifactStore, provenance
from index.errors import OtherDirectoryError, WorkDirectoryError

OLD = {
    "same": b"1",
    "longer": b"22",
    "other": b"333",
    "touched": b"4444",
    "moded": b"5",
    "gone": b"6",
    "d/inner": b"7",
    "file": b"8",
    "soon-link": b"9",
    "node_modules/held": b"10",
}
"""The files of a directory before it changes."""


@pytest.fixture(autouse=True)
def aged(monkeypatch):
    """Let scans happen long after the files were written, so that signatures are trusted."""
    present = time.time_ns
    monkeypatch.setattr("index.commit.track.time.time_ns", lambda: present() + 3600 * 10**9)


def change(work):
    """Change a directory that holds `OLD` in every way that there is."""
    write(work, {"longer": b"22222", "other": b"444", "new": b"new", "d/new": b"", "x.tmp": b"x"})
    write(work, {".hidden": b"h", "logs/a.log": b"a", "node_modules/more": b"m"})
    os.utime(work / "touched", (1_000_000_000, 1_000_000_000))
    (work / "moded").chmod(0o755)
    for name in ("gone", "file", "soon-link"):
        (work / name).unlink()
    write(work, {"file/in-its-place": b"8", "displaced/by-this": b"9"})
    (work / "soon-link").symlink_to("same")
    os.mkfifo(work / "fifo")


def told(found):
    """Return what a status and a snapshot both tell."""
    return {
        "added": [each.path for each in found.added],
        "changed": [each.path for each in found.changed],
        "removed": [each.path for each in found.removed],
        **{
            name: getattr(found, name)
            for name in ("unchanged", "filled", "hidden", "ignored", "skipped", "absent")
        },
    }


class TestWhatATrackRecords:
    """A status says what the track after it returns."""

    @pytest.mark.parametrize(
        "how",
        [
            {},
            {"hidden": True, "default_ignores": False},
            {"ignore": ["*.log", "other", "!.hidden"]},
            {"scope": ["d", "node_modules", "missing", "fifo"]},
            {"prefix": "below"},
        ],
        ids=["plain", "hidden", "patterns", "scope", "prefix"],
    )
    def test_is_what_the_status_says(self, run, work, how):
        prefix = {"prefix": how["prefix"]} if "prefix" in how else {}
        write(work, OLD)
        run.track(work, default_ignores=False, **prefix)
        run.put_many([("d/put", b"not on disk"), ("displaced", b"nor this")])
        change(work)
        said = run.status(work, **how)
        assert said
        assert told(said) == told(run.track(work, **how))
        again = run.status(work, **how)
        assert (bool(again), again.touched) == (False, 0)
        assert told(again) == told(run.track(work, **how))

    def test_before_the_first_one_is_everything(self, run, work):
        write(work, OLD)
        said = run.status(work)
        assert (said.snapshot, said.unchanged, said.bytes_read) == (0, 0, 0)
        assert said.new_bytes == sum(map(len, OLD.values())) - len(OLD["node_modules/held"])
        assert {entry.version for entry in said.added} == {0}
        assert told(said) == told(run.track(work))

    def test_may_be_provenance_that_is_missing(self, run, work):
        write(work, {"a": b"1"})
        run.track(work, node_id="n")
        with provenance(node_id="n", agent="engineer"):
            said = run.status(work)
            assert (said.filled, bool(said)) == (1, False)
            assert run.track(work).filled == 1
        assert run.status(work).filled == 0


class TestEntries:
    def test_have_the_version_that_the_run_holds_and_the_size_on_disk(self, run, work):
        write(work, {"a": b"1", "b": b"2"})
        run.track(work)
        write(work, {"a": b"22"})
        run.track(work)
        write(work, {"a": b"333", "c": b"4444"})
        (work / "b").unlink()
        said = run.status(work)
        assert said.added == (("c", 0, 4),)
        assert said.changed == (("a", 2, 3),)
        assert said.removed == (("b", 1, None),)
        assert (said.snapshot, said.new_bytes, said.work_dir) == (2, 7, str(work))

    def test_are_sorted_by_path(self, run, work):
        write(work, dict.fromkeys(("b", "a/z", "c", "a.txt"), b"1"))
        run.track(work)
        write(work, dict.fromkeys(("b", "a/z", "c", "a.txt"), b"22"))
        paths = [entry.path for entry in run.status(work).changed]
        assert paths == sorted(paths)

    def test_leave_out_what_was_only_touched(self, run, work):
        write(work, {"a": b"same", "b": b"same"})
        run.track(work)
        os.utime(work / "a", (1_000_000_000, 1_000_000_000))
        (work / "b").chmod(0o755)
        said = run.status(work)
        assert (bool(said), said.unchanged, said.touched) == (False, 2, 2)

    def test_tell_new_content_of_the_same_size_and_time(self, run, work):
        write(work, {"a": b"same"})
        run.track(work)
        before = (work / "a").stat()
        write(work, {"a": b"SAME"})
        os.utime(work / "a", ns=(before.st_atime_ns, before.st_mtime_ns))
        assert [entry.path for entry in run.status(work).changed] == ["a"]

    def test_tell_content_of_a_file_whose_signature_was_not_trusted(self, run, work, monkeypatch):
        monkeypatch.undo()  # the files were written in this second
        (work / "a").write_bytes(b"1")
        run.track(work)
        assert not run.status(work)
        (work / "a").write_bytes(b"2")
        assert [entry.path for entry in run.status(work).changed] == ["a"]


class TestNothingIsWritten:
    def test_to_the_index_or_to_storage(self, store, run, work, objects):
        write(work, OLD)
        run.track(work)
        change(work)
        before, held = store.stats(), objects.names()
        with statements(store) as seen:
            run.status(work)
            store.session("new").run("new").status(work)
        assert all(each.split()[0] in ("SELECT", "WITH", "PRAGMA", "BEGIN") for each in seen), seen
        assert (store.stats(), objects.names()) == (before, held)
        assert [each.run for each in store.runs()] == [run.id]

    @on(blobs="s3", because="it counts requests")
    def test_and_storage_gets_no_request(self, place, proxy, work):
        write(work, OLD)
        options = {**place["storage_options"], "endpoint_url": proxy.url}
        with ArtifactStore.open(**{**place, "storage_options": options}) as store:
            run = store.session("s").run("r")
            run.track(work)
            change(work)
            with proxy.counting() as requests:
                assert run.status(work)
        assert requests == {}

    @on_one(because="it is about files of a local store")
    def test_below_the_store_or_the_directory(self, place, run, work):
        def everything():
            files = [*Path(place["root"]).rglob("*"), *work.rglob("*")]
            return {
                file: file.lstat().st_mtime_ns
                for file in files
                if not file.name.endswith(("-shm", "-wal"))
            }

        write(work, OLD)
        run.track(work)
        change(work)
        before = everything()
        run.status(work)
        assert everything() == before


class TestItCosts:
    @on_one(because="system calls are those of the directory")
    def test_a_stat_for_an_unchanged_file_and_as_many_statements_as_a_rescan(
        self, store, run, work
    ):
        write(work, {f"d{n % 5}/f{n}": b"%d" % n for n in range(500)})
        run.track(work)
        costs = []
        for call in (run.track, run.status):
            store.context.states._states.clear()
            with system_calls() as calls, statements(store) as seen:
                call(work)
            costs.append((calls.total(), len(seen)))
        rescan, status = costs
        assert status[0] <= rescan[0]
        assert status[1] <= rescan[1]

    @on_one(because="system calls are those of the directory")
    def test_no_read_of_a_new_file_or_of_one_with_another_size(self, run, work):
        write(work, {f"{n}": b"%d" % n for n in range(100)})
        run.track(work)
        write(work, {f"{n}": b"longer" for n in range(100)})
        write(work, {f"new-{n}": b"1" for n in range(100)})
        with system_calls() as calls:
            said = run.status(work)
        assert (len(said.added), len(said.changed)) == (100, 100)
        assert (calls["pread"], said.bytes_read) == (0, 0)

    @on_one(because="memory is that of the directory")
    def test_the_memory_of_a_piece_for_a_file_of_any_size(self, run, work):
        (work / "large").write_bytes(random.Random(1).randbytes(24 << 20))
        run.track(work)
        os.utime(work / "large", (1_000_000_000, 1_000_000_000))
        moved = []
        peak = peak_memory(lambda: moved.append(run.status(work, progress=moved.append)))
        assert peak < 4 << 20
        assert (moved[-1].touched, moved[-1].bytes_read) == (1, 24 << 20)
        assert len(moved) > 20  # the progress inside the file


class TestBesideOthers:
    def test_it_sees_what_another_process_has_recorded(self, place, run, work):
        write(work, {"a": b"1"})
        run.track(work)
        write(work, {"a": b"22"})
        assert run.status(work)
        with ArtifactStore.open(**place) as other:
            other.session("session-1").run("run-1").track(work)
        assert not run.status(work)

    def test_the_state_that_it_loads_serves_the_track_after_it(self, store, run, work):
        write(work, {"a": b"1"})
        run.track(work)
        store.context.states._states.clear()
        run.status(work)
        with statements(store) as seen:
            run.track(work)
        with statements(store) as again:
            run.track(work)
        assert len(seen) == len(again)

    async def _twin(self, run, work):
        return await run.status_async(work)

    def test_it_has_an_async_twin(self, run, work):
        import asyncio

        write(work, {"a": b"1"})
        assert asyncio.run(self._twin(run, work)) == run.status(work)


class TestErrors:
    def test_are_those_of_a_track(self, run, work, tmp_path, store):
        write(work, {"a": b"1"})
        run.track(work)
        (tmp_path / "other").mkdir()
        with pytest.raises(OtherDirectoryError):
            run.status(tmp_path / "other", same_directory=True)
        with pytest.raises(WorkDirectoryError, match="no such directory"):
            run.status(tmp_path / "missing")
        with pytest.raises(ValueError, match="is refused"):
            run.status(work, scope=["../other"])

    @on_one(because="the store is a local directory there alone")
    def test_the_store_itself_is_no_work_directory(self, place, run):
        with pytest.raises(WorkDirectoryError, match="the store itself"):
            run.status(place["root"])


class TestTheCommand:
    @pytest.fixture
    def tracked(self, cas, tmp_path):
        write(tmp_path / "work", {"plan.md": b"a plan", "data/r.csv": b"1,2\n"})
        assert cas("track", "work")[0] == 0
        return cas

    def test_says_without_a_store_that_everything_is_new(self, cas, tmp_path, monkeypatch):
        write(tmp_path / "work", {"plan.md": b"a plan", "data/r.csv": b"1,2\n"})
        for arguments in (("status", "work"), ("track", "work", "--dry-run", "--agent", "a")):
            code, out, _ = cas(*arguments)
            assert (code, out.splitlines()) == (
                0,
                [
                    "+ data/r.csv  4 B",
                    "+ plan.md  6 B",
                    "work: there is no store yet, 2 added, 0 changed, 0 removed, 0 unchanged, "
                    "0 skipped; 10 B to record",
                ],
            )
        monkeypatch.chdir(tmp_path / "work")
        assert cas("status")[1].startswith("+ data/r.csv")
        assert cas("status", "--exit-code")[0] == 1
        assert not (tmp_path / ".cas").exists()
        assert not (tmp_path / "work" / ".cas").exists()

    def test_lists_changes_as_a_diff_does(self, tracked, tmp_path):
        write(tmp_path / "work", {"plan.md": b"another plan", "new": b""})
        (tmp_path / "work" / "data" / "r.csv").unlink()
        (tmp_path / "work" / ".hidden").touch()
        for arguments in (("status",), ("status", "work"), ("track", "work", "--dry-run")):
            code, out, _ = tracked(*arguments)
            assert (code, out.splitlines()) == (
                0,
                [
                    "+ new  0 B",
                    "- data/r.csv",
                    "~ plan.md  12 B",
                    "work: since snapshot 1, 1 added, 1 changed, 1 removed, 0 unchanged, "
                    "0 skipped, 1 hidden; 12 B to record",
                ],
            )
        assert len(tracked("snapshots")[1].splitlines()) == 1

    def test_exits_with_1_on_request_if_something_changed(self, tracked, tmp_path):
        code, out, _ = tracked("status", "--exit-code")
        assert (code, out.startswith("work: nothing new, 0 added")) == (0, True)
        write(tmp_path / "work", {"new": b"1"})
        assert tracked("status", "--exit-code")[0] == 1
        assert tracked("status")[0] == 0
        assert tracked("status", "typo", "--exit-code")[0] == 1

    def test_prints_the_whole_result_as_json(self, tracked, tmp_path):
        write(tmp_path / "work", {"new": b"1"})
        found = json.loads(tracked("status", "--json")[1])
        with ArtifactStore.open(tmp_path / ".cas") as store:
            expected = store.run("work").status(tmp_path / "work").to_dict()
        assert found == {"session": "default", "run": "work", **expected}
        assert found["added"] == [{"path": "new", "version": 0, "size": 1}]
        assert found["new_bytes"] == 1
        assert json.loads(tracked("track", "work", "--dry-run", "--json")[1]) == found

    def test_takes_the_options_of_a_track(self, tracked, tmp_path):
        write(tmp_path / "work", {".h": b"1", "a.log": b"1", "x.tmp": b"1", "data/new": b"1"})

        def added(*options):
            return {
                each["path"] for each in json.loads(tracked("status", "work", *options)[1])["added"]
            }

        assert added("--json") == {"a.log", "data/new"}
        assert added("--json", "--hidden", "--no-default-ignores", "--ignore", "*.log") == {
            ".h", "x.tmp", "data/new",
        }  # fmt: skip
        assert added("--json", "--scope", "data") == {"data/new"}
        assert "p/a.log" in added("--json", "--prefix", "p")
        (tmp_path / "cas.toml").write_text('[track]\nignore = ["*.log"]\n')
        assert added("--json") == {"data/new"}

    def test_counts_provenance_that_a_track_would_supply(self, cas, tmp_path):
        write(tmp_path / "work", {"a": b"1"})
        assert cas("track", "work", "--node", "n")[0] == 0
        labels = ("--node", "n", "--agent", "engineer")
        assert json.loads(cas("track", "work", "--dry-run", "--json", *labels)[1])["filled"] == 1
        assert "engineer" not in cas("ls", "-R", "--json")[1]

    def test_refuses_another_directory_as_a_track_does(self, tracked, tmp_path):
        write(tmp_path / "elsewhere" / "work", {"a": b"1"})
        code, _, err = tracked("status", "elsewhere/work")
        assert (code, "--moved" in err) == (1, True)
        assert tracked("status", "elsewhere/work", "--moved")[0] == 0


class TestTheDirectory:
    """Without DIR it is the one that the run remembers."""

    def runs(self, cas, tmp_path, *names):
        for name in names:
            write(tmp_path / name, {"a": b"1"})
            assert cas("track", name, "--run", name.replace("/", "-"))[0] == 0

    def test_is_that_of_the_only_run_wherever_one_is(self, cas, tmp_path, monkeypatch):
        self.runs(cas, tmp_path, "work")
        (tmp_path / "deep" / "er").mkdir(parents=True)
        for place in ("", "work", "deep/er"):
            monkeypatch.chdir(tmp_path / place)
            assert cas("status")[1].startswith("work: nothing new")

    def test_is_the_innermost_around_the_current_one(self, cas, tmp_path, monkeypatch):
        self.runs(cas, tmp_path, "outer", "outer/inner", "other")
        (tmp_path / "outer" / "inner" / "deep").mkdir()
        monkeypatch.chdir(tmp_path / "outer" / "inner" / "deep")
        assert cas("status")[1].startswith("outer-inner: nothing new")
        monkeypatch.chdir(tmp_path / "outer")
        assert "\nouter: since snapshot" in cas("status")[1]
        monkeypatch.chdir(tmp_path)
        code, _, err = cas("status")
        assert (code, "name the run with --run" in err) == (2, True)
        assert cas("status", "--run", "other")[1].startswith("other: nothing new")

    def test_is_asked_for_if_several_runs_have_it(self, cas, tmp_path, monkeypatch):
        self.runs(cas, tmp_path, "work")
        assert cas("track", "work", "--run", "second")[0] == 0
        monkeypatch.chdir(tmp_path / "work")
        code, _, err = cas("status")
        assert (code, "second" in err) == (2, True)
        monkeypatch.setenv("CAS_RUN", "second")
        assert cas("status")[1].startswith("second: nothing new")

    def test_of_a_run_that_was_never_scanned_is_to_be_given(self, cas, tmp_path):
        self.runs(cas, tmp_path, "work")
        assert cas("fork", "branch")[0] == 0
        code, _, err = cas("status", "--run", "branch")
        assert (code, "give DIR" in err) == (2, True)
        assert cas("status", "--run", "unknown")[0] == 4
        assert cas("status", "--session", "unknown")[0] == 4

    def test_is_the_current_one_in_a_store_without_runs(self, cas, tmp_path, monkeypatch):
        assert cas("init")[0] == 0
        write(tmp_path / "work", {"a": b"1"})
        monkeypatch.chdir(tmp_path / "work")
        code, out, _ = cas("status")
        assert (code, "work: nothing is recorded yet, 1 added" in out) == (0, True)

    def test_that_is_gone_is_named(self, cas, tmp_path):
        self.runs(cas, tmp_path, "work")
        (tmp_path / "work").rename(tmp_path / "moved")
        code, _, err = cas("status")
        assert (code, str(tmp_path / "work") in err) == (1, True)
        assert cas("status", "moved", "--run", "work")[1].startswith("work: nothing new")


def test_what_is_shown_can_be_recorded_then(run, work):
    write(work, {"a": b"1"})
    assert run.status(work)
    run.track(work)
    assert contents(run) == {"a": b"1"}
