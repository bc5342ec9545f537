"""Files that a caller names: put, put_many, remove and annotate."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import threading

import pytest
from events import on_statement, statements
from lost import lose_index
from places import EACH_INDEX, packs_of, places
from sqlalchemy.orm import Session
from trees import contents, write

from index import (
    DEFAULT_CLASSIFIER,
    ArtifactStore,
    FileRepository,
    NewFile,
    Provenance,
    provenance,
    recover,
)
from index.errors import (
    UnknownFileError,
    UnknownRunError,
    UnsafePathError,
    VersionConflictError,
    WorkDirectoryError,
)

place = places(EACH_INDEX)

BEFORE_WRITING = ("BEGIN IMMEDIATE", "UPDATE cas_runs")
"""SQLite has one writer at a time: what comes in between must come before the lock."""


def failing(error):
    """Return a function that only raises the error."""

    def fail(*_args, **_kwargs):
        raise error

    return fail


def said(version):
    return (version.file_type, version.is_final_output, version.meta)


class TestClaims:
    def test_a_put_fills_what_a_scan_by_nobody_left_open(self, run, work):
        write(work, {"model.py": b"x"})
        run.track(work)
        version = run.put(
            "model.py", work / "model.py", agent="engineer", node_id="n", step_id="s", phase="p"
        )
        assert (version.version, version.refused) == (1, None)
        assert version.provenance == Provenance("p", "engineer", "n", "s")
        assert run.file("model.py").provenance == version.provenance
        assert len(run.snapshots()) == 1

    def test_a_scan_of_a_node_that_did_not_know_the_agent_is_told_it(self, run, work):
        write(work, {"f": b"x"})
        run.track(work, node_id="n1", phase="control")
        version = run.put("f", b"x", agent="b", node_id="n2", step_id="s2", code_hash="c")
        assert version.provenance == Provenance("control", "b", "n1", code_hash="c")
        assert version.refused == Provenance(node_id="n2", step_id="s2")

    def test_a_claim_fills_and_changes_nothing(self, run, work):
        write(work, {"f": b"x"})
        run.track(work, phase="control", node_id="n", code_hash="c")
        version = run.put("f", b"x", phase="planning", agent="b", node_id="n", code_hash="d")
        assert version.provenance == Provenance("control", "b", "n", code_hash="c")
        assert version.refused == Provenance("planning", code_hash="d")

    @pytest.mark.parametrize(
        "claim",
        [
            {"agent": "engineer", "node_id": "n2", "step_id": "s", "code_hash": "c"},
            {"agent": "engineer", "code_hash": "c"},
            {"agent": "planner", "node_id": "n2", "code_hash": "c"},
            {"node_id": "n2", "code_hash": "c"},
        ],
    )
    def test_a_claim_is_refused_as_a_whole_if_another_maker_is_known(self, run, work, claim):
        write(work, {"f": b"x"})
        run.track(work, agent="planner", node_id="n1")
        version = run.put("f", b"x", **claim)
        assert version.provenance == Provenance(agent="planner", node_id="n1")
        differing = {name: value for name, value in claim.items() if value != "planner"}
        assert version.refused == Provenance(**differing)

    def test_nothing_is_refused_where_the_content_is_new(self, run, work):
        write(work, {"f": b"x"})
        run.track(work, agent="planner")
        assert run.put("f", b"y", agent="engineer").refused is None

    def test_a_listing_refuses_nothing(self, run):
        run.put("f", b"x", agent="a")
        assert run.put("f", b"x", agent="b").refused == Provenance(agent="b")
        assert run.file("f").refused is None

    def test_an_annotation_claims_only_what_it_is_passed(self, run):
        run.put("f", b"x")
        with provenance(agent="reviewer"):
            assert run.annotate("f", is_final_output=True).agent is None
            assert run.annotate("f", agent="maker").agent == "maker"
        assert run.annotate("f", agent="other").refused == Provenance(agent="other")

    def test_a_claim_is_seen_by_the_next_scan_of_the_same_process(self, run, work):
        write(work, {"f": b"x"})
        run.track(work)
        run.put("f", b"x", node_id="n")
        assert run.track(work, node_id="n", agent="a").filled == 1
        assert run.file("f").agent == "a"

    def test_a_claim_comes_back_when_the_index_is_lost(self, place, work):
        write(work, {"f": b"x"})
        with ArtifactStore.open(**place) as store:
            run = store.session("s").run("r")
            run.track(work, node_id="n1")
            before = run.put("f", b"x", agent="b", node_id="n2", is_final_output=True)
        lose_index(place)
        recover(**place)
        with ArtifactStore.open(**place) as store:
            after = store.session("s").run("r").file("f")
        assert (after.provenance, said(after)) == (before.provenance, said(before))


class TestModes:
    """Mode and time of a path with the same content."""

    @pytest.fixture
    def script(self, run, tmp_path):
        file = tmp_path / "script"
        file.write_bytes(b"#!/bin/sh")
        file.chmod(0o644)
        os.utime(file, ns=(5, 5))
        run.put("x.sh", file)
        file.chmod(0o755)
        os.utime(file, ns=(7, 7))
        return file

    @pytest.mark.parametrize("put", ["put", "put_many"])
    def test_of_a_path_that_is_put_again_they_are_recorded(self, run, script, tmp_path, put):
        version = run.put("x.sh", script) if put == "put" else run.put_many([("x.sh", script)])[0]
        assert (version.version, version.mode & 0o777, version.mtime_ns) == (1, 0o755, 7)
        assert run["x.sh"] == version
        run.restore(tmp_path / "out")
        assert (tmp_path / "out/x.sh").stat().st_mode & 0o777 == 0o755

    def test_bytes_and_streams_have_none_and_leave_them(self, run, script):
        known = run.put("x.sh", script)
        run.put("x.sh", b"#!/bin/sh")
        run.put("x.sh", io.BytesIO(b"#!/bin/sh"))
        assert run["x.sh"] == known

    def test_they_come_back_when_the_index_is_lost(self, place, store, run, script):
        known = run.put("x.sh", script)
        store.close()
        lose_index(place)
        recover(**place)
        with ArtifactStore.open(**place) as store:
            again = store.session(run.key.session).run(run.id)["x.sh"]
        assert (again.mode, again.mtime_ns) == (known.mode, known.mtime_ns)

    def test_a_file_put_again_is_not_seen_on_disk_by_that(self, place, run, work, script):
        work.mkdir(exist_ok=True)
        run.put("x.sh", script)
        with ArtifactStore.open(**place) as other:  # without what this process remembers
            for each in (run, other.session(run.key.session).run(run.id)):
                each.track(work)
                assert "x.sh" in each

    def test_a_scan_looks_again_at_what_was_put_from_elsewhere(self, run, work, script):
        write(work, {"x.sh": b"#!/bin/sh"})
        (work / "x.sh").chmod(0o600)
        run.track(work)
        assert run.put("x.sh", script).mode & 0o777 == 0o755
        run.track(work)
        assert run["x.sh"].mode & 0o777 == 0o600

    def test_a_file_that_is_registered_again_has_the_present_ones(self, store, work):
        write(work, {"x.sh": b"#!/bin/sh"})
        with Session(store.context.database.engine) as db_session, db_session.begin():
            files = FileRepository(db_session, "s", store=store, work_dir=work)
            files.register_file("r", "x.sh")
            (work / "x.sh").chmod(0o755)
            version = files.register_file("r", "x.sh")
        assert (version.version, version.mode & 0o777) == (1, 0o755)


class TestWhatWasSaid:
    def test_it_holds_for_the_next_version_whoever_finds_it(self, run, work):
        write(work, {"report.md": b"1"})
        run.track(work)
        run.annotate("report.md", is_final_output=True, file_type="deliverable", meta={"pages": 1})
        write(work, {"report.md": b"2"})
        (changed,) = run.track(work, agent="formatter").changed
        assert said(changed) == said(run.file("report.md"))
        assert said(changed) == ("deliverable", True, {"pages": 1})
        assert changed.priority == "primary"
        assert said(run.put("report.md", b"3")) == ("deliverable", True, {"pages": 1})

    def test_it_holds_for_a_path_that_returns(self, run):
        run.put("f", b"1", is_final_output=True, meta=[1])
        run.remove("f")
        assert said(run.put("f", b"2"))[1:] == (True, [1])

    def test_it_is_taken_back_by_other_values(self, run):
        run.put("plots/f.csv", b"1", is_final_output=True, meta=[1], file_type="odd")
        version = run.put("plots/f.csv", b"2", is_final_output=False, meta={}, file_type="")
        assert said(version) == (DEFAULT_CLASSIFIER.classify("plots/f.csv"), False, {})
        run.annotate("plots/f.csv", file_type="odd")
        assert run.annotate("plots/f.csv", file_type="").file_type == version.file_type
        assert said(run.put("plots/f.csv", b"3")) == said(version)

    def test_notes_that_python_takes_for_equal_are_told_apart(self, run):
        run.put("f", b"1", meta={"n": 1})
        assert run.annotate("f", meta={"n": True}).meta["n"] is True

    def test_forks_rewinds_and_recovery_agree(self, place, work):
        with ArtifactStore.open(**place) as store:
            run = store.session("s").run("r")
            write(work, {"a": b"1", "b": b"1"})
            run.track(work)
            run.annotate("a", is_final_output=True, meta={"n": 1}, file_type="odd")
            write(work, {"a": b"2", "b": b"2"})
            run.track(work)
            fork = run.fork("fork")
            fork.put("a", b"3")
            run.annotate("a", is_final_output=False)
            run.put("a", b"4")
            run.rewind(2)
            run.put("a", b"5")
            run.remove("b", agent="cleaner")
            told = {
                each.id: [
                    (v.path, v.version, *said(v)) for p in ("a", "b") for v in each.history(p)
                ]
                for each in (run, fork)
            }
        assert [row[3] for row in told["r"] if row[0] == "a"] == [True, False, False, False, False]
        assert [row[3] for row in told["fork"] if row[0] == "a"] == [True, True, True]
        lose_index(place)
        recover(**place)
        with ArtifactStore.open(**place) as store:
            for name, rows in told.items():
                again = store.session("s").run(name)
                assert rows == [
                    (v.path, v.version, *said(v)) for p in ("a", "b") for v in again.history(p)
                ]
            assert store.session("s").run("r").snapshots()[-1].provenance.agent == "cleaner"

    def test_a_synced_run_goes_on_with_it(self, store, run, stores, tmp_path):
        run.put("a", b"1", is_final_output=True, meta=[1], file_type="odd")
        other = stores.make("sqlite-local", tmp_path / "other")
        with ArtifactStore.open(**other) as there:
            store.sync_to(there)
            again = there.session("session-1").run("run-1")
            assert said(again.put("a", b"2")) == ("odd", True, [1])
            assert said(again.history("a")[0]) == ("odd", True, [1])

    def test_a_classifier_may_say_what_is_final(self, place):
        class Reports:
            classify = staticmethod(DEFAULT_CLASSIFIER.classify)
            prioritise = staticmethod(DEFAULT_CLASSIFIER.prioritise)

            @staticmethod
            def is_final(path):
                return path.startswith("out/")

        with ArtifactStore.open(**place, classifier=Reports()) as store:
            run = store.session("s").run("r")
            assert run.put("out/log", b"1").is_final_output
            assert run.put("out/log", b"1").priority == "primary"
            assert not run.put("in/log", b"1").is_final_output
            assert not run.put("out/other", b"1", is_final_output=False).is_final_output
            assert not run.put("out/other", b"2").is_final_output  # what a caller said holds

    def test_a_scan_says_what_is_final_by_paths_and_patterns(self, run, work):
        write(work, {"a.pdf": b"1", "b.pdf": b"2", "d/e.txt": b"3", "w[1].md": b"4", "f": b"5"})
        run.track(work, scope=("d",))
        run.track(work, final=("*.pdf", "!b.pdf", "d/", "w[1].md"))
        assert {v.path for v in run.files(is_final_output=True)} == {"a.pdf", "d/e.txt", "w[1].md"}
        assert {v.priority for v in run.files(is_final_output=True)} == {"primary"}
        assert run.track(work).recorded is False
        assert len(run.files(is_final_output=True)) == 3

    def test_one_string_is_not_a_sequence_of_patterns(self, run, work):
        with pytest.raises(TypeError, match="final takes a sequence"):
            run.track(work, final="*.pdf")


class TestPutMany:
    def test_many_files_are_one_snapshot_and_one_pack(self, run, objects, tmp_path):
        (tmp_path / "f").write_bytes(b"path")
        made = run.put_many(
            [
                ("b", b"bytes"),
                NewFile("a", tmp_path / "f", meta={"n": 1}, file_type="odd"),
                ("c", io.BytesIO(b"stream")),
                NewFile("d/e", b"", is_final_output=True),
            ],
            agent="maker",
        )
        assert [v.path for v in made] == ["b", "a", "c", "d/e"]
        assert contents(run) == {"b": b"bytes", "a": b"path", "c": b"stream", "d/e": b""}
        assert {v.agent for v in made} == {"maker"}
        assert said(made[1]) == ("odd", False, {"n": 1})
        assert made[3].is_final_output
        assert [s.number for s in run.snapshots()] == [1]
        assert len(packs_of(objects)) == 1

    def test_nothing_is_a_file_too_few_to_make_a_run(self, run, store):
        assert run.put_many([]) == ()
        assert store.runs() == []

    def test_unchanged_files_are_claimed_beside_new_ones(self, run):
        run.put("a", b"1")
        old, new = run.put_many([("a", b"1"), ("b", b"2")], agent="x")
        assert (old.version, old.agent, new.agent) == (1, "x", "x")
        assert len(run.snapshots()) == 2

    @pytest.mark.parametrize(
        ("files", "error", "says"),
        [
            ([("a", b"1"), ("./a", b"2")], ValueError, "'a' is named twice"),
            ([("a/b", b"1"), ("a", b"2")], UnsafePathError, "'a' is to be a file as well"),
            ([("a", b"1"), ("/b", b"2")], UnsafePathError, "absolute"),
            ([("a", b"1"), ("b", "/no/such/file")], WorkDirectoryError, "No such file"),
            ([("a", b"1"), ("b", 7)], TypeError, "binary mode, not 7"),
            ([("a", b"1"), ("b", io.StringIO("x"))], TypeError, "binary mode"),
            ([("a", b"1"), "b"], TypeError, "a pair of path and content, not 'b'"),
            ({"ab": b"1"}, TypeError, "a pair of path and content, not 'ab'"),
        ],
    )
    def test_either_all_are_recorded_or_none(self, run, store, files, error, says):
        with pytest.raises(error, match=says):
            run.put_many(files)
        assert store.runs() == []

    def test_what_cannot_be_beside_them_gives_way(self, run, place):
        run.put_many([("a", b"1"), ("d/x", b"1"), ("d/y/z", b"1"), ("d0", b"1"), ("d!", b"1")])
        with ArtifactStore.open(**place) as other:  # it has not loaded the run
            again = other.session("session-1").run("run-1")
            again.put_many([("a/b", b"2"), ("d", b"2"), ("new", b"2")])
        assert set(contents(run)) == {"a/b", "d", "d0", "d!", "new"}

    def test_names_that_are_not_utf8_give_way_too(self, run, place):
        odd = os.fsdecode(b"caf\xe9\\")
        run.put_many([(f"{odd}/x", b"1"), ("o", b"1")])
        with ArtifactStore.open(**place) as other:
            other.session("session-1").run("run-1").put_many([(odd, b"2"), ("o/p", b"2")])
        assert set(contents(run)) == {odd, "o/p"}

    def test_after_a_conflict_nothing_is_read_again(self, store, run, place):
        run.put("first", b"1")
        stream = io.BytesIO(b"once")
        with ArtifactStore.open(**place) as other:
            elsewhere = other.session("session-1").run("run-1")
            acted = on_statement(store, BEFORE_WRITING, lambda: _apart(elsewhere.put, "o", b"2"))
            run.put_many([("s", stream), ("t", b"t")])
        assert acted
        assert contents(run) == {"first": b"1", "o": b"2", "s": b"once", "t": b"t"}


class TestFailures:
    def test_a_file_that_the_medium_refuses_is_named(self, run, store, tmp_path, monkeypatch):
        file = tmp_path / "f"
        for size in (10, 3 << 20):
            file.write_bytes(b"1" * size)
            monkeypatch.setattr(os, "pread", failing(OSError(errno.EIO, os.strerror(errno.EIO))))
            with pytest.raises(WorkDirectoryError, match=f"'{file}': Input/output error"):
                run.put("f", file)
            monkeypatch.undo()
        assert store.stats().runs == 0

    @pytest.mark.parametrize("code", [errno.EMFILE, errno.ENOMEM])
    def test_what_the_process_has_run_out_of_is_named(self, run, tmp_path, monkeypatch, code):
        file = tmp_path / "f"
        file.write_bytes(b"1")
        original = os.open

        def fail(path, *args, **kwargs):
            if path == str(file):
                raise OSError(code, os.strerror(code))
            return original(path, *args, **kwargs)

        monkeypatch.setattr(os, "open", fail)
        with pytest.raises(WorkDirectoryError, match=r"no .* left"):
            run.put("f", file)

    def test_without_memory_it_says_so(self, run, store, work, monkeypatch):
        write(work, {"f": b"1"})
        text = rf"no memory is left to record '{run.id}'; free some and repeat the call"
        monkeypatch.setattr(os, "pread", failing(MemoryError()))
        for use in (lambda: run.put("f", work / "f"), lambda: run.track(work)):
            with pytest.raises(MemoryError, match=text):
                use()
        with Session(store.context.database.engine) as db_session, db_session.begin():
            files = FileRepository(db_session, "s", store=store, work_dir=work)
            with pytest.raises(MemoryError, match="no memory is left to record 'r'"):
                files.register_file("r", "f")
        assert store.stats().runs == 0

    def test_a_memory_error_of_the_callers_own_stays_what_it_is(self, run):
        class Full(io.BytesIO):
            def read(self, _size=-1):
                raise MemoryError("the tape is full")

        with pytest.raises(MemoryError, match="the tape is full"):
            run.put("f", Full())


class TestExpectedVersions:
    def test_an_edit_of_another_version_is_not_recorded(self, run):
        run.put("f", b"1", expected_version=0)
        run.put("f", b"2", expected_version=1)
        with pytest.raises(VersionConflictError, match="version 2 of it is current") as lost:
            run.put("f", b"3", expected_version=1)
        assert (lost.value.expected, lost.value.current) == (1, 2)
        with pytest.raises(VersionConflictError, match="where no file was expected"):
            run.put("f", b"3", expected_version=0)
        with pytest.raises(VersionConflictError, match="it has no file"):
            run.put("g", b"3", expected_version=1)
        assert contents(run) == {"f": b"2"}
        run.remove("f")
        assert run.put("f", b"4", expected_version=0).version == 3

    def test_one_conflict_records_none_of_many_files(self, run):
        with pytest.raises(VersionConflictError):
            run.put_many([("a", b"1"), NewFile("b", b"1", expected_version=2)])
        with pytest.raises(UnknownRunError):
            run.files()

    def test_of_two_edits_at_once_one_is_told(self, store, run, place):
        run.put("f", b"1")
        with ArtifactStore.open(**place) as other:
            elsewhere = other.session("session-1").run("run-1")
            acted = on_statement(
                store,
                BEFORE_WRITING,
                lambda: _apart(elsewhere.put, "f", b"theirs", expected_version=1),
            )
            with pytest.raises(VersionConflictError) as lost:
                run.put("f", b"mine", expected_version=1)
        assert acted
        assert lost.value.current == 2
        assert run.read_bytes("f") == b"theirs"

    @pytest.mark.parametrize("expected", ["1", 1.0, True])
    def test_what_is_no_version_is_refused(self, run, expected):
        with pytest.raises(TypeError, match="expected_version is the number of a version"):
            run.put("f", b"1", expected_version=expected)


class TestRemove:
    def test_a_removed_path_keeps_its_history(self, run):
        run.put_many([("a", b"1"), ("b", b"2")])
        gone = run.remove("a", agent="cleaner", node_id="n")
        assert (gone.path, gone.version, gone.end_snapshot) == ("a", 1, 2)
        assert contents(run) == {"b": b"2"}
        newest = run.snapshots()[-1]
        assert newest.provenance == Provenance(agent="cleaner", node_id="n")
        assert [v.path for v in newest.removed] == ["a"]
        assert run.read_bytes("a", version=1) == b"1"
        run.rewind(1)
        assert contents(run) == {"a": b"1", "b": b"2"}

    def test_many_paths_are_removed_in_one_snapshot(self, run):
        run.put_many([(name, b"1") for name in "abc"])
        with provenance(agent="cleaner"):
            assert [v.path for v in run.remove_many(["c", "a"])] == ["c", "a"]
        assert [s.number for s in run.snapshots()] == [1, 2]
        assert run.snapshots()[-1].provenance.agent == "cleaner"
        assert run.remove_many([]) == ()

    def test_a_file_that_is_still_on_disk_returns_with_the_next_scan(self, run, work):
        write(work, {"a": b"1"})
        run.track(work)
        run.remove("a")
        (back,) = run.track(work).added
        assert back.version == 2

    def test_an_unknown_path_names_the_closest_ones_and_removes_nothing(self, run):
        run.put_many([("data/table.csv", b"1"), ("out/summary.md", b"2"), ("top", b"3")])
        with pytest.raises(UnknownFileError, match=r"the closest is 'data/table.csv'$"):
            run.remove_many(["top", "data/tabel.csv"])
        with pytest.raises(UnknownFileError, match=r"'out/summary\.md'"):
            run.remove("summary.md")
        with pytest.raises(UnknownFileError, match=r"'data/table\.csv'"):
            run.remove("data")
        with pytest.raises(UnknownFileError, match="'top'"):
            run.annotate("tpo", is_final_output=True)
        assert len(run.files()) == 3

    def test_an_unknown_run_says_so(self, run):
        for call in (lambda: run.remove("a"), lambda: run.annotate("a", meta=1)):
            with pytest.raises(UnknownRunError):
                call()

    def test_one_string_is_not_a_sequence_of_paths(self, run):
        with pytest.raises(TypeError, match="paths takes a sequence"):
            run.remove_many("abc")

    def test_it_removes_what_another_commit_has_just_recorded(self, store, run, place):
        run.put("f", b"1")
        with ArtifactStore.open(**place) as other:
            elsewhere = other.session("session-1").run("run-1")
            acted = on_statement(
                store, BEFORE_WRITING, lambda: _apart(elsewhere.put, "f", b"2", agent="other")
            )
            assert run.remove("f").version == 2
        assert acted
        assert run.files() == ()

    def test_of_two_removals_at_once_one_finds_nothing(self, store, run, place):
        run.put("f", b"1")
        with ArtifactStore.open(**place) as other:
            elsewhere = other.session("session-1").run("run-1")
            acted = on_statement(store, BEFORE_WRITING, lambda: _apart(elsewhere.remove, "f"))
            with pytest.raises(UnknownFileError):
                run.remove("f")
        assert acted


class TestCost:
    @pytest.mark.parametrize("files", [10, 2500])
    def test_a_put_after_others_loads_what_concerns_its_path(self, store, run, place, work, files):
        """The statements are the same in a small and in a large run, and none lists the run."""
        write(work, {f"d{n % 7}/f{n}": b"%d" % n for n in range(files)})
        run.track(work)
        with ArtifactStore.open(**place) as other:
            other.session("session-1").run("run-1").put("theirs", b"1")
        counts = []
        for call in (
            lambda: run.put("log", b"new"),
            lambda: run.put("log", b"newer"),
            lambda: run.annotate("log", meta=1),
            lambda: run.remove("log"),
        ):
            with statements(store) as seen:
                call()
            counts.append(sum(not s.startswith(("BEGIN", "PRAGMA")) for s in seen))
            loads = [s for s in seen if "appeared_in" in s and s.startswith("SELECT")]
            assert all(" IN (" in s for s in loads)
        assert max(counts) < 20

    def test_many_files_take_statements_by_the_thousand(self, store, run):
        run.put("there", b"1")
        counts = []
        for number in (10, 900):
            with statements(store) as seen:
                run.put_many([(f"{number}/{n}", b"%d" % n) for n in range(number)])
            counts.append(len(seen))
        assert counts[1] - counts[0] < 6

    def test_a_claim_of_many_files_takes_one_statement(self, store, run):
        files = [(f"f{n}", b"%d" % n) for n in range(500)]
        run.put_many(files)
        with statements(store) as seen:
            run.put_many(files, agent="a")
        assert sum(s.startswith("UPDATE cas_files") for s in seen) == 1
        assert {v.agent for v in run.files()} == {"a"}

    def test_a_scan_after_a_put_that_loaded_a_part_knows_the_whole_run(self, run, place, work):
        write(work, {f"f{n}": b"%d" % n for n in range(5)})
        run.track(work)
        with ArtifactStore.open(**place) as other:
            other.session("session-1").run("run-1").put("theirs", b"1")
        run.put("mine", b"1")
        (work / "f1").unlink()
        assert [v.path for v in run.track(work).removed] == ["f1"]
        assert len(run.files()) == 6


def test_the_awaitable_twins_run_off_the_loop(run):
    async def work():
        await run.put_many_async([("a", b"1"), ("b", b"2")])
        await run.annotate_async("a", is_final_output=True)
        await run.remove_async("b")
        await run.remove_many_async(["a"])

    with provenance(agent="tasks"):
        asyncio.run(work())
    assert run.files() == ()
    assert {s.provenance.agent for s in run.snapshots()} == {"tasks"}


def _apart(call, *args, **kwargs):
    """Call in a thread, as another process would."""
    thread = threading.Thread(target=call, args=args, kwargs=kwargs)
    thread.start()
    thread.join()
