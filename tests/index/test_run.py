"""Reading a run and single files, and how they are named."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess

import pytest
from places import EACH_INDEX, everywhere, places
from trees import contents, write

from cas.digest import Digest
from cas.writer import BatchWriter
from index import ArtifactStore, FileVersion, Provenance
from index.errors import (
    InvalidMetaError,
    InvalidNameError,
    UnknownFileError,
    UnknownRunError,
    UnknownSessionError,
    UnknownSnapshotError,
    UnsafePathError,
    WorkDirectoryError,
)

place = places(EACH_INDEX)


class TestPut:
    def test_a_file_is_recorded_from_bytes_a_path_or_a_stream(self, run, tmp_path):
        (tmp_path / "f").write_bytes(b"path")
        (tmp_path / "f").chmod(0o755)
        run.put("a", b"bytes")
        run.put("b", tmp_path / "f")
        run.put("c", str(tmp_path / "f"))
        run.put("d", io.BytesIO(b"stream"))
        run.put("e", memoryview(b"view"))
        assert contents(run) == {
            "a": b"bytes",
            "b": b"path",
            "c": b"path",
            "d": b"stream",
            "e": b"view",
        }
        assert run.file("b").mode == 0o100755
        assert [s.number for s in run.snapshots()] == [1, 2, 3, 4, 5]

    def test_a_stream_is_read_from_where_it_stands_and_stays_open(self, run):
        stream = io.BytesIO(b"skipped rest")
        stream.seek(8)
        run.put("a", stream)
        assert run.read_bytes("a") == b"rest"
        assert not stream.closed

    def test_a_stream_that_cannot_seek_and_reads_short_will_do(self, run):
        data = os.urandom(3 << 20)
        reader, writer = os.pipe()
        if os.fork() == 0:
            os.close(reader)
            with open(writer, "wb") as sink:
                sink.write(data)
            os._exit(0)
        os.close(writer)
        with open(reader, "rb", buffering=0) as source:
            version = run.put("big", source)
        os.wait()
        assert version.digest == Digest.of(data)
        assert run.read_bytes("big") == data

    def test_what_was_put_is_returned_with_what_was_told(self, run):
        version = run.put(
            "data/result.csv",
            b"1,2",
            phase="control",
            agent="engineer",
            node_id="n",
            step_id="s",
            event_id="e",
            code_hash="h",
            meta={"rows": 3},
            is_final_output=True,
        )
        assert version.provenance == Provenance("control", "engineer", "n", "s", "e", "h")
        assert (version.meta, version.is_final_output) == ({"rows": 3}, True)
        assert (version.file_type, version.priority) == ("data", "primary")
        assert isinstance(version, FileVersion)

    def test_scans_do_not_drop_what_was_only_put(self, run, work):
        write(work, {"other": b"1"})
        run.put("data/result.csv", b"1")
        run.put("upload.txt", b"2")
        assert run.track(work).removed == ()
        assert run.track(work, scope=("data",)).removed == ()
        assert set(contents(run)) == {"data/result.csv", "upload.txt", "other"}

    def test_once_a_scan_saw_it_on_disk_its_absence_means_removal(self, run, work):
        run.put("f", b"1")
        write(work, {"f": b"1"})
        assert run.track(work).recorded is False
        (work / "f").unlink()
        assert [v.path for v in run.track(work).removed] == ["f"]

    def test_the_same_content_makes_no_version_but_new_notes_are_kept(self, run):
        run.put("f.csv", b"1", meta={"a": 1}, agent="first")
        again = run.put("f.csv", b"1", meta={"a": 2}, is_final_output=True, agent="second")
        assert (again.version, again.meta, again.is_final_output) == (1, {"a": 2}, True)
        assert again.agent == "first"
        assert run.put("f.csv", b"1").meta == {"a": 2}
        assert len(run.snapshots()) == 1

    def test_notes_are_what_json_gives_back(self, run):
        run.put("f", b"1", meta={"shape": (2, 3), 7: None})
        assert run.file("f").meta == {"shape": [2, 3], "7": None}
        run.put("f", b"1", meta={"shape": (2, 3), 7: None})
        assert run._context.states.get("session-1", "run-1").revision == 1

    @pytest.mark.parametrize(
        "meta",
        [
            7,
            0.1,
            1.0,
            -0.0,
            True,
            2**63,
            2**128 - 1,
            10**400,
            1e300,
            [10**30],
            "7",
            "1e5",
            " 1",
            "null",
        ],
    )
    def test_notes_come_back_as_they_were_given(self, run, meta):
        assert repr(run.put("f", b"1", meta=meta).meta) == repr(meta)
        assert repr(run.file("f").meta) == repr(meta)
        assert repr(run.fork("fork").file("f").meta) == repr(meta)
        json.dumps(run.manifest(), allow_nan=False)

    def test_notes_may_be_nested_but_not_without_end(self, run):
        deep = None
        for _ in range(100):
            deep = {"in": [deep]} if len(str(deep)) % 2 else [deep]
        with pytest.raises(InvalidMetaError, match="more than 100 deep"):
            run.put("f", b"1", meta=[[deep]] * 2)
        deep = 7
        for _ in range(100):
            deep = [deep]
        assert run.put("f", b"1", meta=deep).to_dict()["meta"] == deep

    @pytest.mark.parametrize("meta", [float("nan"), {1, 2}, {"a": b"1"}, {(1,): 2}])
    def test_notes_that_json_cannot_hold_are_refused(self, run, meta):
        with pytest.raises(InvalidMetaError, match="meta can't be kept"):
            run.put("f", b"1", meta=meta)

    @pytest.mark.parametrize(("first", "second"), [("a", "a/b/c"), ("a/b/c", "a"), ("a/b", "a")])
    def test_what_cannot_be_beside_it_gives_way(self, run, tmp_path, first, second):
        run.put(first, b"1")
        run.put(second, b"2")
        assert contents(run) == {second: b"2"}
        assert [v.path for v in run.snapshots()[1].removed] == [first]
        run.restore(tmp_path / "out")
        run.restore(tmp_path / "out1", at=1)

    def test_what_lies_on_disk_replaces_what_was_put_in_its_place(self, run, work, tmp_path):
        run.put("a", b"put")
        write(work, {"a/b": b"disk"})
        run.track(work)
        assert contents(run) == {"a/b": b"disk"}
        run.restore(tmp_path / "out")

    def test_a_very_deep_path_is_put_and_restored(self, run, tmp_path):
        run.put("e/" * 1200 + "f", b"1")
        try:
            run.restore(tmp_path / "out")
            assert run.restore(tmp_path / "out").unchanged == 1
        finally:
            # shutil.rmtree, which pytest would use, cannot remove so deep a path.
            subprocess.run(["rm", "-rf", tmp_path / "out"], check=True)

    def test_a_stream_that_keeps_growing_comes_to_an_end(self, run, tmp_path, monkeypatch):
        log = tmp_path / "log"
        log.write_bytes(b"x" * (2 << 20))
        original = BatchWriter.add_pieces

        def add_pieces(batch, pieces):
            with log.open("ab") as more:
                more.write(b"y" * 5000)
            return original(batch, pieces)

        monkeypatch.setattr(BatchWriter, "add_pieces", add_pieces)
        assert run.put("log", log).size == 2 << 20

    @pytest.mark.parametrize("kind", ["x" * 33, "\x1b[31mred"])
    def test_a_type_that_cannot_be_one_is_refused(self, run, kind):
        with pytest.raises(InvalidNameError, match="file type"):
            run.put("f", b"1", file_type=kind)

    def test_a_type_that_is_told_wins_over_the_path(self, run):
        assert run.put("f.csv", b"1", file_type="report").priority == "secondary"

    @pytest.mark.parametrize("path", ["/abs", "../up", "", "a\0b"])
    def test_a_path_that_leaves_the_run_is_refused(self, run, path):
        with pytest.raises(UnsafePathError):
            run.put(path, b"1")

    def test_content_that_cannot_be_read_is_refused(self, run, store, tmp_path):
        os.mkfifo(tmp_path / "fifo")
        for source in (tmp_path / "missing", tmp_path, tmp_path / "fifo"):
            with pytest.raises(WorkDirectoryError):
                run.put("f", source)
        assert store.stats().runs == 0


class TestReading:
    @pytest.fixture
    def filled(self, run):
        run.put("planning/plan.md", b"plan", phase="planning", agent="planner", node_id="p")
        run.put("data/a.csv", b"1", phase="control", agent="engineer", step_id="1", event_id="e")
        run.put("data/b_1.csv", b"2", phase="control", agent="researcher", code_hash="h")
        run.put("plots/fit.png", b"3", phase="control", agent="engineer", is_final_output=True)
        run.put("cost.json", b"4", phase="control")
        return run

    @pytest.mark.parametrize(
        ("selection", "expected"),
        [
            ({}, ["planning/plan.md", "data/a.csv", "data/b_1.csv", "plots/fit.png", "cost.json"]),
            ({"phase": "planning"}, ["planning/plan.md"]),
            ({"agent": "engineer"}, ["data/a.csv", "plots/fit.png"]),
            ({"agent": "engineer", "file_type": "plot"}, ["plots/fit.png"]),
            ({"node_id": "p"}, ["planning/plan.md"]),
            ({"step_id": "1"}, ["data/a.csv"]),
            ({"event_id": "e"}, ["data/a.csv"]),
            ({"code_hash": "h"}, ["data/b_1.csv"]),
            ({"priority": "internal"}, ["cost.json"]),
            ({"is_final_output": True}, ["plots/fit.png"]),
            ({"prefix": "data/"}, ["data/a.csv", "data/b_1.csv"]),
            ({"prefix": "data/b_"}, ["data/b_1.csv"]),
            ({"prefix": "data/a_"}, []),
            ({"prefix": "%"}, []),
            ({"at": 2}, ["planning/plan.md", "data/a.csv"]),
            ({"agent": "' OR 1=1 --"}, []),
        ],
    )
    def test_listings_select(self, filled, selection, expected):
        assert [v.path for v in filled.files(**selection)] == expected

    def test_a_final_flag_of_false_selects_the_others(self, filled):
        assert len(filled.files(is_final_output=False)) == 4

    def test_files_by_version_and_by_snapshot(self, run):
        run.put("f", b"1")
        run.put("f", b"2")
        assert run.file("f").version == 2
        assert run.file("f", version=1).end_snapshot == 2
        assert run.file("f", at=1).version == 1
        assert run.read_bytes("f", version=1) == b"1"
        assert run.read_bytes("./f", at=run.snapshots()[0]) == b"1"
        with run.open("f") as stream:
            assert stream.read() == b"2"
        with pytest.raises(ValueError, match="not both"):
            run.file("f", version=1, at=1)

    def test_what_is_not_there_says_so(self, run):
        with pytest.raises(UnknownRunError, match="'run-1'"):
            run.files()
        run.put("f", b"1")
        with pytest.raises(UnknownFileError, match="'g'"):
            run.file("g")
        with pytest.raises(UnknownFileError, match="version 9 of 'f'"):
            run.read_bytes("f", version=9)
        with pytest.raises(UnknownFileError):
            run.history("g")
        with pytest.raises(UnknownFileError):
            run.file("f", at=0)
        for number in (-1, 2):
            with pytest.raises(UnknownSnapshotError):
                run.files(at=number)

    def test_snapshots_tell_what_each_changed(self, run, work):
        write(work, {"a": b"1", "b": b"1"})
        made = [run.track(work, phase="one", node_id="n")]
        write(work, {"a": b"2", "c": b"1"})
        (work / "b").unlink()
        made.append(run.track(work))
        for told, read in zip(made, run.snapshots(), strict=True):
            assert told.number == read.number
            assert told.provenance == read.provenance
            assert told.created_at == read.created_at
            assert (told.bytes_read, told.bytes_stored) == (read.bytes_read, read.bytes_stored)
            for kind in ("added", "changed", "removed"):
                assert [(v.path, v.version, v.id) for v in getattr(told, kind)] == [
                    (v.path, v.version, v.id) for v in getattr(read, kind)
                ]
        assert read.added[0] == run.file("c")
        assert pickle.loads(pickle.dumps(made[1])).changed == made[1].changed

    def test_a_run_in_numbers(self, filled):
        filled.put("data/a.csv", b"longer", agent="engineer")
        stats = filled.stats()
        assert (stats.snapshots, stats.files, stats.versions) == (6, 5, 6)
        assert stats.bytes == 4 + 6 + 1 + 1 + 1
        assert stats.version_bytes == stats.bytes + 1
        assert stats.files_by_agent == {"engineer": 2, None: 1, "planner": 1, "researcher": 1}
        assert stats.files_by_type == {"data": 2, "cost": 1, "plan": 1, "plot": 1}


class TestScopes:
    def test_the_same_names_in_two_sessions_are_two_runs(self, store):
        one, two = store.session("s1").run("r"), store.session("s2").run("r")
        one.put("f", b"1")
        two.put("f", b"2")
        assert (one.read_bytes("f"), two.read_bytes("f")) == (b"1", b"2")
        assert [s.run for s in store.session("s1").runs()] == ["r"]
        assert len(one.history("f")) == 1

    def test_another_sessions_run_is_unknown(self, store):
        store.session("s1").run("r").put("f", b"1")
        with pytest.raises(UnknownRunError):
            store.session("s2").run("r").read_bytes("f")
        with pytest.raises(UnknownSessionError):
            store.session("s2").runs()

    @pytest.mark.parametrize("value", ["", "x" * 300, "a/b", "..", "a\0"])
    def test_ids_that_cannot_be_ones_are_refused_before_anything_happens(self, store, value):
        with pytest.raises(InvalidNameError):
            store.session(value)
        with pytest.raises(InvalidNameError):
            store.session("s").run(value)
        assert store.stats().sessions == 0

    @everywhere
    def test_a_store_in_numbers(self, store, place):
        store.session("s1").run("r").put("f", b"1" * 1000)
        store.session("s2").run("r").put("g", b"1" * 1000)
        stats = store.stats()
        assert (stats.sessions, stats.runs, stats.versions, stats.blobs) == (2, 2, 2, 1)
        assert (stats.version_bytes, stats.distinct_bytes, stats.packs) == (2000, 1000, 2)
        assert stats.index.endswith(str(place.get("index", "store/index.db")))
        assert stats.blobs_at == str(place.get("blobs", place.get("root")))
        assert [(r.session, r.run) for r in store.runs()] == [("s1", "r"), ("s2", "r")]

    def test_file_ids_are_never_used_again(self, place):
        with ArtifactStore.open(**place) as store:
            run = store.session("s").run("r")
            first = run.put("f", b"1").id
            with store._context.database.writing() as connection:
                connection.exec_driver_sql("DELETE FROM cas_files")
                connection.exec_driver_sql("DELETE FROM cas_runs")
            assert store.session("s").run("r").put("f", b"1").id > first
