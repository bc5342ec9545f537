"""Inputs: what runs have read, and what becomes of that."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from lost import lose_index
from places import EACH_INDEX, places
from trees import write

from cas.digest import Digest
from cas.errors import DigestMismatchError
from index import ArtifactStore, DAGTracker, Reference, carried, provenance, recover
from index.db import tables
from index.errors import (
    InvalidNameError,
    ReferenceUnreachableError,
    UnknownDigestError,
    UnknownFileError,
    UnknownRunError,
)

place = places(EACH_INDEX)


@pytest.fixture
def session(store):
    return store.session("session-1")


@pytest.fixture
def made(session):
    """A run with two versions of one file."""
    run = session.run("run-1")
    run.put("data/raw.csv", b"1,2\n")
    run.put("data/raw.csv", b"1,2,3\n")
    return run


def noted(run, **who):
    return [(i.source_run, i.path, i.version, i.uri, i.node_id) for i in run.inputs(**who)]


class TestUse:
    def test_a_path_is_noted_as_its_present_version(self, made):
        (found,) = made.use("data/raw.csv", node_id="clean", agent="engineer")
        assert noted(made) == [(None, "data/raw.csv", 2, None, "clean")]
        assert found == made.inputs()[0]
        assert (found.digest, found.size) == (made["data/raw.csv"].digest, 6)
        assert (found.position, found.snapshot, found.agent) == (1, 2, "engineer")

    def test_it_makes_no_snapshot_and_changes_no_file(self, made):
        before = made.snapshots(), made.files()
        made.use("data/raw.csv")
        assert (made.snapshots(), made.files()) == before

    def test_versions_of_other_runs_and_digests_are_noted_too(self, session, made):
        run = session.run("run-2")
        old = made.file("data/raw.csv", version=1)
        run.use(old, made["data/raw.csv"].digest, str(old.digest), node_id="plot")
        assert noted(run) == [
            ("run-1", "data/raw.csv", 1, None, "plot"),
            (None, None, None, None, "plot"),
            (None, None, None, None, "plot"),
        ]
        assert [i.digest for i in run.inputs()][1:] == [made["data/raw.csv"].digest, old.digest]

    def test_the_scope_says_who_read(self, made):
        with provenance(phase="control", agent="engineer", node_id="n", step_id="s", event_id="e"):
            made.use("data/raw.csv", agent="reviewer")
        (found,) = made.inputs()
        who = (found.phase, found.agent, found.node_id, found.step_id, found.event_id)
        assert who == ("control", "reviewer", "n", "s", "e")

    def test_the_same_input_of_the_same_reader_is_noted_once(self, made):
        first = made.use("data/raw.csv", node_id="clean")
        assert made.use("data/raw.csv", "data/raw.csv", node_id="clean") == first * 2
        revision = [change.position for change in made.inputs()]
        made.use("data/raw.csv", node_id="plot")
        made.use(made.file("data/raw.csv", version=1), node_id="clean")
        assert revision == [1]
        assert [i.position for i in made.inputs()] == [1, 2, 3]

    def test_many_are_one_commit_and_are_listed_in_pages(self, session):
        run = session.run("run-1")
        run.put_many([(f"f{n:04}", b"%d" % n) for n in range(2_500)])
        used = run.use(*(f"f{n:04}" for n in range(2_500)), node_id="n")
        assert [i.path for i in used] == [f"f{n:04}" for n in range(2_500)]
        page = run.inputs(limit=1_000, after=used[999])
        assert run.inputs(limit=1_000, after=1_000) == page
        assert page == used[1_000:2_000]

    def test_those_of_one_reader_can_be_listed(self, made):
        made.use("data/raw.csv", node_id="clean", agent="engineer")
        made.use("data/raw.csv", node_id="plot", agent="plotter")
        assert noted(made, agent="plotter") == [(None, "data/raw.csv", 2, None, "plot")]
        assert noted(made, node_id="none") == []

    def test_the_versions_that_they_were_read_from_are_found(self, store, session, made):
        other, gone = session.run("run-2"), session.run("gone")
        secret = store.session("theirs").run("run-1").put("secret.csv", b"theirs")
        first, newest = made.history("data/raw.csv")
        outside = Reference("s3://bucket/secret.csv", digest=secret.digest)
        sources = (first, newest.digest, gone.put("gone.csv", b"gone"), outside)
        noted = other.use(*sources)
        gone.delete()
        assert other.find_sources(noted) == (first, newest, None, None)
        assert made.find_sources(made.use("data/raw.csv")) == (newest,)
        assert other.find_sources([]) == ()

    def test_what_is_not_there_is_refused_and_nothing_is_noted(self, session, made):
        with pytest.raises(UnknownFileError):
            made.use("data/raw.csv", "data/none.csv")
        with pytest.raises(UnknownDigestError):
            made.use(Digest.of(b"never stored"))
        with pytest.raises(UnknownRunError):
            session.run("none").use("data/raw.csv")
        assert made.inputs() == ()

    def test_no_version_or_digest_of_another_session_is_taken(self, store, made):
        elsewhere = store.session("session-2").run("run-1")
        elsewhere.put("secret", b"secret")
        for source in (elsewhere["secret"], elsewhere["secret"].digest):
            with pytest.raises(UnknownDigestError):
                made.use(source)
        with pytest.raises(UnknownDigestError):
            elsewhere.use(made["data/raw.csv"])
        assert made.inputs() == ()

    def test_several_threads_note_all_that_they_read(self, made):
        made.put_many([(f"f{n}", b"%d" % n) for n in range(8)])
        threads = [
            threading.Thread(target=made.use, args=[f"f{n}"], kwargs={"node_id": "n"})
            for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(i.path for i in made.inputs()) == [f"f{n}" for n in range(8)]
        assert [i.position for i in made.inputs()] == list(range(1, 9))

    def test_pages_begin_after_any_number(self, made):
        made.use("data/raw.csv")
        assert len(made.inputs(after=-(10**30), limit=10**30)) == 1
        assert made.inputs(after=10**30) == ()

    def test_it_can_be_awaited(self, made):
        (found,) = asyncio.run(made.use_async("data/raw.csv"))
        assert found.path == "data/raw.csv"

    def test_a_name_that_is_no_text_comes_back(self, made):
        made.put("a\udcff\\b", b"x")
        made.use("a\udcff\\b")
        assert made.inputs()[0].path == "a\udcff\\b"


class TestReferences:
    def test_what_is_outside_is_read_and_not_kept(self, store, made, tmp_path):
        (tmp_path / "big.csv").write_bytes(b"outside")
        before = store.stats()
        (found,) = made.use(tmp_path / "big.csv", node_id="n")
        assert found.uri == (tmp_path / "big.csv").as_uri()
        assert (found.digest, found.size) == (Digest.of(b"outside"), 7)
        after = store.stats()
        assert (after.blobs, after.distinct_bytes) == (before.blobs, before.distinct_bytes)

    def test_one_with_a_digest_is_noted_unread(self, made):
        digest = Digest.of(b"far away")
        (found,) = made.use(Reference("s3://bucket/raw.csv", digest=str(digest), size=8))
        assert (found.uri, found.digest, found.size) == ("s3://bucket/raw.csv", digest, 8)

    def test_passwords_are_not_recorded(self, made):
        reference = Reference("https://me:secret@host/raw.csv?token=abc", digest=Digest.of(b"x"))
        (found,) = made.use(reference)
        assert found.uri == "https://host/raw.csv"

    @pytest.mark.parametrize("size", [-1, 1.5, True, "1"])
    def test_a_size_is_a_number_of_bytes(self, size):
        with pytest.raises(ValueError, match="size is a number of bytes"):
            Reference("s3://bucket/raw.csv", size=size)

    @pytest.mark.parametrize("uri", ["raw.csv", "s3://" + "x" * 5_000, "s3://a\nb", ""])
    def test_what_is_no_uri_is_refused(self, uri):
        with pytest.raises(InvalidNameError):
            Reference(uri)

    def test_what_cannot_be_read_is_an_error_that_says_what_to_do(self, made, tmp_path):
        with pytest.raises(ReferenceUnreachableError, match="give its digest"):
            made.use(tmp_path / "none")
        with pytest.raises(ReferenceUnreachableError):
            made.use("nosuchprotocol://x/y")
        assert made.inputs() == ()

    @pytest.mark.parametrize(
        "name",
        [
            b"my data.csv", "däta.csv".encode(), b"[1] *.csv", b"100%.csv", b"a%20b", b"what?.csv",
            b"#1.csv", b"a\nb", b"ra\xe9.csv", b"a::b", b"a:",
        ],
    )  # fmt: skip
    def test_a_file_of_any_name_is_read_and_verified_by_its_path(self, store, made, tmp_path, name):
        directory = tmp_path / "s3:"  # so that the path has "://" in it
        directory.mkdir()
        file = os.fsencode(directory) + b"//" + name
        with open(file, "wb") as stream:
            stream.write(b"outside")
        (found,) = made.use(os.fsdecode(file))
        assert found.digest == Digest.of(b"outside")
        assert made.use(found.uri, keep_as="copy")[0].uri == found.uri
        report = store.verify(references=True)
        assert (report.references, report.unreachable, report.faults) == (1, (), ())

    def test_a_file_is_read_by_a_uri_that_is_not_percent_encoded_too(self, made, tmp_path):
        (tmp_path / "my 100%25.csv").write_bytes(b"as it is")
        uri = f"file://{tmp_path}/my 100%25.csv"
        assert made.use(uri)[0].digest == Digest.of(b"as it is")
        (tmp_path / "my 100%.csv").write_bytes(b"decoded")
        assert made.use(uri, node_id="n")[0].digest == Digest.of(b"decoded")

    def test_a_uri_means_the_same_file_in_every_directory(self, made, tmp_path, monkeypatch):
        (tmp_path / "raw.csv").write_bytes(b"here")
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ReferenceUnreachableError, match="name the file by its whole path"):
            made.use("file://raw.csv")

    def test_what_is_no_regular_file_is_refused_and_not_waited_for(self, made, tmp_path):
        os.mkfifo(tmp_path / "fifo")
        for place, what in [
            (tmp_path / "fifo", "no regular file"),
            ("/dev/full", "no regular file"),
            (tmp_path, "a directory"),
        ]:
            with pytest.raises(ReferenceUnreachableError, match=f": it is {what}; name a file"):
                made.use(place)

    @pytest.mark.parametrize(
        "failure",
        [
            FileNotFoundError("{}"),
            FileNotFoundError("not found. Use\nexpand=True", "{}"),
            ValueError('Invalid bucket name "me:hunter2@host"'),
            RuntimeError("no hunter%32 here", "{}"),
            ConnectionRefusedError(errno.ECONNREFUSED, "{}"),
        ],
    )
    def test_an_error_of_a_client_shows_no_secret_of_the_uri(self, made, monkeypatch, failure):
        uri = "memory://me:hunter2@host/raw.csv?sig=hunter3"
        failure.args = tuple(str(each).format(uri) for each in failure.args)

        def fail(*_args, **_options):
            raise failure

        monkeypatch.setattr(MemoryFileSystem, "_open", fail)
        with pytest.raises(ReferenceUnreachableError) as found:
            made.use(uri)
        message = str(found.value)
        assert message.startswith("cannot read 'memory://host/raw.csv': ")
        assert not [each for each in ("\n", "me:", "hunter", "expand") if each in message]
        assert (found.value.__cause__, found.value.__suppress_context__) == (None, True)

    def test_an_error_of_a_client_is_told_in_short_where_no_secret_is(self, made, monkeypatch):
        def fail(*_args, **_options):
            raise ValueError("many rules:\n" + "no such name; " * 100)

        monkeypatch.setattr(MemoryFileSystem, "_open", fail)
        with pytest.raises(ReferenceUnreachableError, match="many rules: no such name; ") as found:
            made.use("memory://host/raw.csv")
        assert len(str(found.value)) < 500

    def test_a_server_that_does_not_answer_is_named_as_the_reason(self, made):
        with pytest.raises(ReferenceUnreachableError, match="Connection refused"):
            made.use("http://127.0.0.1:9/a?sig=x")

    def test_a_uri_that_is_too_long_is_refused_without_its_password(self):
        with pytest.raises(InvalidNameError) as found:
            Reference("https://me:hunter2@host/" + "x" * 5_000)
        assert "hunter2" not in f"{found.value} {found.value!r}"


class TestKeepAs:
    def test_a_copy_is_kept_in_the_same_commit(self, session, made):
        run = session.run("run-2")
        run.use(made["data/raw.csv"], keep_as="inputs/raw.csv", node_id="n")
        made.delete()
        assert run.read_bytes("inputs/raw.csv") == b"1,2,3\n"
        assert noted(run) == [("run-1", "data/raw.csv", 2, None, "n")]
        assert run.snapshots()[0].provenance.node_id == "n"

    def test_one_from_outside_is_kept_too(self, session, tmp_path):
        (tmp_path / "raw.csv").write_bytes(b"outside")
        run = session.run("run-2")
        run.use(tmp_path / "raw.csv", keep_as="raw.csv")
        assert run.read_bytes("raw.csv") == b"outside"

    def test_bytes_that_are_not_those_of_the_digest_are_not_kept(self, session, tmp_path):
        (tmp_path / "raw.csv").write_bytes(b"changed")
        run = session.run("run-2")
        reference = Reference((tmp_path / "raw.csv").as_uri(), digest=Digest.of(b"before"))
        with pytest.raises(DigestMismatchError):
            run.use(reference, keep_as="raw.csv")
        with pytest.raises(UnknownRunError):
            run.files()

    def test_it_goes_with_one_source(self, made):
        with pytest.raises(ValueError, match="one source"):
            made.use("data/raw.csv", "data/raw.csv", keep_as="x")


class TestInputsOfAScan:
    def test_a_path_means_the_version_before_the_scan(self, session, work):
        run = session.run("run-1")
        write(work, {"raw.csv": b"1", "old": b"x"})
        run.track(work)
        write(work, {"raw.csv": b"2", "clean.csv": b"3"})
        run.track(work, node_id="clean", inputs=["raw.csv"])
        assert noted(run) == [(None, "raw.csv", 1, None, "clean")]
        assert run.inputs()[0].snapshot == 1

    def test_a_path_that_is_new_means_what_the_scan_records(self, session, work):
        run = session.run("run-1")
        write(work, {"raw.csv": b"1", "clean.csv": b"3"})
        run.track(work, node_id="clean", inputs=["raw.csv"])
        assert noted(run) == [(None, "raw.csv", 1, None, "clean")]

    def test_a_path_that_comes_back_means_its_next_version(self, session, work):
        run = session.run("run-1")
        run.put("raw.csv", b"0")
        run.remove("raw.csv")
        write(work, {"raw.csv": b"1"})
        run.track(work, inputs=["raw.csv"])
        assert noted(run) == [(None, "raw.csv", 2, None, None)]

    def test_an_unchanged_directory_notes_them_all_the_same(self, session, work):
        run = session.run("run-1")
        write(work, {"raw.csv": b"1"})
        run.track(work)
        assert not run.track(work, node_id="n", inputs=["raw.csv"]).recorded
        assert noted(run) == [(None, "raw.csv", 1, None, "n")]

    def test_one_that_is_nowhere_refuses_the_scan_as_a_whole(self, session, work):
        run = session.run("run-1")
        write(work, {"raw.csv": b"1"})
        with pytest.raises(UnknownFileError):
            run.track(work, inputs=["none.csv"])
        with pytest.raises(UnknownRunError):
            run.files()

    def test_a_command_reads_the_version_before_it(self, session, work):
        run = session.run("run-1")
        write(work, {"raw.csv": b"1"})
        done = run.record(
            ["sh", "-c", f"echo 2 > {work}/raw.csv"], work, node_id="n", inputs=["raw.csv"]
        )
        assert done.status == "finished"
        assert noted(run) == [(None, "raw.csv", 1, None, "n")]

    def test_a_command_whose_input_is_not_there_does_not_run(self, session, work):
        run = session.run("run-1")
        write(work, {"raw.csv": b"1"})
        with pytest.raises(UnknownFileError, match="has no 'rwa"):
            run.record(["touch", work / "made.csv"], work, inputs=["rwa.csv"])
        assert not (work / "made.csv").exists()
        assert run.summary().status == "failed"
        assert "rwa.csv" in run.summary().status_reason


class TestTracker:
    def test_a_node_notes_what_it_read(self, store, work):
        tracker = DAGTracker(store, "session-1", "run-1")
        write(work, {"raw.csv": b"1"})
        outcome = tracker.track_files_in_work_dir(work, "step_1", inputs=["raw.csv"])
        assert (outcome.error, outcome.input_errors) == (None, ())
        assert noted(tracker.run) == [(None, "raw.csv", 1, None, "step_1")]

    def test_an_input_that_is_nowhere_does_not_lose_the_files(self, store, work):
        tracker = DAGTracker(store, "session-1", "run-1")
        write(work, {"raw.csv": b"1", ".hidden": b"1"})
        wanted = ["none.csv", "raw.csv", "nosuch://x/y", "../up"]
        outcome = tracker.track_files_in_work_dir(work, "step_1", inputs=wanted)
        assert outcome.files_tracked == 1
        assert len(outcome.input_errors) == 3
        assert noted(tracker.run) == [(None, "raw.csv", 1, None, "step_1")]
        assert outcome.to_dict()["input_errors"] == [str(e) for e in outcome.input_errors]

    def test_an_input_that_the_scan_passes_over_does_not_lose_the_files(self, store, work):
        tracker = DAGTracker(store, "session-1", "run-1")
        write(work, {"raw.csv": b"1", ".hidden": b"1"})
        outcome = tracker.track_files_in_work_dir(work, "step_1", inputs=[".hidden"])
        assert (outcome.files_tracked, len(outcome.input_errors)) == (1, 1)

    def test_an_input_that_the_scan_passes_over_does_not_lose_the_others(self, store, work):
        tracker = DAGTracker(store, "session-1", "run-1")
        write(work, {"raw.csv": b"1", ".hidden": b"1", ".other": b"1"})
        outside = Reference("s3://b/raw", digest=Digest.of(b"r"))
        wanted = [Path("./.hidden"), "raw.csv", ".other", outside]
        outcome = tracker.track_files_in_work_dir(work, "step_1", inputs=wanted)
        assert (outcome.files_tracked, len(outcome.input_errors)) == (1, 2)
        assert [i.path or i.uri for i in tracker.run.inputs()] == ["raw.csv", "s3://b/raw"]

    @pytest.mark.parametrize("inputs", ["raw.csv", None, 5])
    def test_what_is_no_sequence_of_inputs_does_not_lose_the_files(self, store, work, inputs):
        tracker = DAGTracker(store, "session-1", "run-1")
        write(work, {"raw.csv": b"1", "r": b"1"})
        with pytest.raises(TypeError, match="inputs takes a sequence, not"):
            tracker.run.track(work, inputs=inputs)
        outcome = tracker.track_files_in_work_dir(work, "step_1", inputs=inputs)
        assert (outcome.files_tracked, len(outcome.input_errors)) == (2, 1)
        assert tracker.run.inputs() == ()

    def test_the_awaitable_twin_notes_them_too(self, store, work):
        tracker = DAGTracker(store, "session-1", "run-1")
        write(work, {"raw.csv": b"1"})
        scan = tracker.track_files_in_work_dir_async(work, "step_1", inputs=["raw.csv"])
        assert asyncio.run(scan).input_errors == ()
        assert noted(tracker.run) == [(None, "raw.csv", 1, None, "step_1")]


class TestRecordedReads:
    def test_what_is_read_is_an_input_of_what_is_written_next(self, session, made):
        run = session.run("run-2")
        with provenance(node_id="plot", record_reads=True):
            made.read_bytes("data/raw.csv", version=1)
            run.put("figure.png", b"png")
        assert noted(run) == [("run-1", "data/raw.csv", 1, None, "plot")]
        assert run.inputs()[0].snapshot == 0
        assert made.inputs() == ()

    def test_without_asking_for_it_nothing_is_noted(self, made):
        with provenance(node_id="plot"):
            made.read_bytes("data/raw.csv")
            made.put("figure.png", b"png")
        assert made.inputs() == ()

    @pytest.mark.parametrize(
        "read",
        [
            lambda run: run.open("a").read(),
            lambda run: run.read_text("a"),
            lambda run: list(run.read_many(["a"])),
            lambda run: run.local_path("a").read_bytes(),
            lambda run: run.read_bytes("a", at=1),
        ],
    )
    def test_each_way_to_read_counts(self, session, read):
        run = session.run("run-1")
        run.put("a", b"1")
        with provenance(node_id="n", record_reads=True):
            read(run)
        assert noted(run) == [(None, "a", 1, None, "n")]

    def test_a_restore_reads_what_it_writes(self, made, tmp_path):
        with provenance(node_id="n", record_reads=True):
            made.restore(tmp_path / "out", dry_run=True)
            made.restore(tmp_path / "out", at=1)
        assert noted(made) == [(None, "data/raw.csv", 1, None, "n")]

    def test_a_read_by_digest_or_id_counts(self, session, made):
        version = made["data/raw.csv"]
        with provenance(node_id="n", record_reads=True):
            session.read_bytes(version.id)
            session.open(version.digest).close()
            made.put("b", b"b")
        assert noted(made) == [
            (None, "data/raw.csv", 2, None, "n"),
            (None, None, None, None, "n"),
        ]

    def test_what_is_left_goes_to_the_run_that_was_written_last(self, session, made):
        run = session.run("run-2")
        with provenance(node_id="plot", record_reads=True):
            run.put("log", b"begun")
            made.read_bytes("data/raw.csv")
        assert noted(run) == [("run-1", "data/raw.csv", 2, None, "plot")]

    def test_what_is_left_without_a_write_goes_to_the_run_that_was_read(self, made):
        with provenance(node_id="plot", record_reads=True):
            made.read_bytes("data/raw.csv")
            assert made.inputs() == ()
        assert noted(made) == [(None, "data/raw.csv", 2, None, "plot")]

    def test_an_inner_scope_says_who_reads(self, made):
        with provenance(agent="engineer", record_reads=True):
            with provenance(node_id="a"):
                made.read_bytes("data/raw.csv")
            with provenance(node_id="b"):
                made.put("of b", b"b")
        assert noted(made, agent="engineer") == [(None, "data/raw.csv", 2, None, "a")]

    def test_nothing_crosses_a_session(self, store, session, made):
        elsewhere = store.session("session-2").run("run-1")
        with provenance(node_id="n", record_reads=True):
            made.read_bytes("data/raw.csv")
            elsewhere.put("a", b"a")
        assert elsewhere.inputs() == ()
        assert noted(made) == [(None, "data/raw.csv", 2, None, "n")]

    def test_a_write_that_fails_keeps_them_for_the_next(self, session, made, tmp_path):
        run = session.run("run-2")
        with provenance(node_id="n", record_reads=True):
            made.read_bytes("data/raw.csv")
            with pytest.raises(Exception, match="none"):
                run.put("a", tmp_path / "none")
            run.put("a", b"a")
        assert noted(run) == [("run-1", "data/raw.csv", 2, None, "n")]

    def test_an_error_in_the_block_still_notes_what_was_read(self, made):
        with pytest.raises(KeyError), provenance(node_id="n", record_reads=True):
            made.read_bytes("data/raw.csv")
            raise KeyError
        assert noted(made) == [(None, "data/raw.csv", 2, None, "n")]

    def test_a_run_that_is_deleted_in_the_block_stays_deleted(self, session, made):
        with provenance(node_id="n", record_reads=True):
            made.read_bytes("data/raw.csv")
            made.delete()
        assert list(session.runs()) == []

    def test_where_the_run_that_was_written_is_deleted_the_one_that_was_read_takes_them(
        self, session, made
    ):
        run = session.run("run-2")
        with provenance(node_id="n", record_reads=True):
            run.put("log", b"begun")
            made.read_bytes("data/raw.csv")
            run.delete()
        assert [each.run for each in session.runs()] == ["run-1"]
        assert noted(made) == [(None, "data/raw.csv", 2, None, "n")]

    def test_a_write_that_fails_creates_no_run_for_what_was_read(self, session, made, tmp_path):
        with provenance(node_id="n", record_reads=True):
            made.read_bytes("data/raw.csv")
            with pytest.raises(Exception, match="none"):
                session.run("run-2").put("a", tmp_path / "none")
        assert [each.run for each in session.runs()] == ["run-1"]
        assert noted(made) == [(None, "data/raw.csv", 2, None, "n")]

    def test_inputs_that_cannot_be_noted_are_named_in_the_error(self, place):
        store = ArtifactStore.open(**place)
        run = store.session("session-1").run("run-1")
        run.put("a", b"a")
        with pytest.raises(Exception, match="closed") as raised:  # noqa: SIM117
            with provenance(node_id="n", record_reads=True):
                run.read_bytes("a")
                store.close()
        assert "not noted as inputs" in raised.value.__notes__[0]
        with pytest.raises(KeyError) as raised:  # noqa: SIM117
            with provenance(node_id="n", record_reads=True):
                with ArtifactStore.open(**place) as again:
                    again.session("session-1").run("run-1").read_bytes("a")
                raise KeyError
        assert "not noted as inputs" in raised.value.__notes__[0]

    def test_a_decorated_function_a_coroutine_and_a_generator_have_the_scope(self, session, made):
        scope = provenance(node_id="n", record_reads=True)

        @scope
        def plain(path):
            return made.read_bytes(path)

        @scope
        async def coroutine(path):
            return await made.read_bytes_async(path)

        @scope
        def generator(path):
            yield made.read_bytes(path)

        @scope
        async def asynchronous(path):
            yield await made.read_bytes_async(path)

        async def take(items):
            return [item async for item in items]

        made.put_many([(name, name.encode()) for name in "abcd"])
        assert plain("a") == b"a"
        assert asyncio.run(coroutine("b")) == b"b"
        assert list(generator("c")) == [b"c"]
        assert asyncio.run(take(asynchronous("d"))) == [b"d"]
        assert [i.path for i in made.inputs(node_id="n")] == ["a", "b", "c", "d"]

    def test_a_decorated_function_that_fails_has_noted_what_it_read(self, made):
        @provenance(node_id="n", record_reads=True)
        def failing():
            made.read_bytes("data/raw.csv")
            raise KeyError

        with pytest.raises(KeyError):
            failing()
        assert noted(made) == [(None, "data/raw.csv", 2, None, "n")]

    def test_a_thread_that_carries_the_scope_reads_in_it(self, made):
        with provenance(node_id="n", record_reads=True):
            thread = threading.Thread(target=carried(made.read_bytes), args=["data/raw.csv"])
            thread.start()
            thread.join()
        assert noted(made) == [(None, "data/raw.csv", 2, None, "n")]


class TestWhereTheyGo:
    def test_they_go_with_their_run_and_stay_when_the_source_is_deleted(self, session, made):
        run = session.run("run-2")
        run.use(made["data/raw.csv"], node_id="n")
        made.use("data/raw.csv")
        made.delete()
        assert noted(run) == [("run-1", "data/raw.csv", 2, None, "n")]
        session.run("run-1").put("a", b"a")
        assert session.run("run-1").inputs() == ()

    def test_they_keep_no_bytes(self, place):
        with ArtifactStore.open(**place) as store:
            session = store.session("session-1")
            session.run("run-1").put("a", b"gone soon")
            session.run("run-2").use(session.run("run-1")["a"])
            session.run("run-1").delete()
            store.plan_gc(grace=timedelta(0)).execute()
            store.plan_gc(grace=timedelta(0)).execute()
            with pytest.raises(UnknownDigestError):
                session.read_bytes(Digest.of(b"gone soon"))
            assert store.verify().is_sound
            assert len(session.run("run-2").inputs()) == 1

    def test_a_fork_has_those_that_its_files_were_made_from(self, made):
        made.use("data/raw.csv", node_id="a")
        made.put("b", b"b")
        made.use("b", node_id="later")
        assert noted(made.fork("now")) == noted(made)
        assert noted(made.fork("then", at=3)) == noted(made)
        made.put("c", b"c")
        assert [i.node_id for i in made.fork("third", at=3).inputs()] == ["a"]
        assert made.fork("first", at=1).inputs() == ()

    def test_a_recovery_brings_them_back(self, place, tmp_path):
        (tmp_path / "out").write_bytes(b"outside")
        with ArtifactStore.open(**place) as store:
            session = store.session("session-1")
            run = session.run("run-1")
            run.put("a", b"1")
            run.use("a", tmp_path / "out", node_id="n", agent="engineer")
            run.put("b\udcff", b"2", node_id="n")
            session.run("run-2").use(run["a"], run["b\udcff"].digest)
            run.fork("run-3").use("a", node_id="in fork")
            before = {run.run: session.run(run.run).inputs() for run in session.runs()}
        lose_index(place)
        recover(**place)
        with ArtifactStore.open(**place) as store:
            session = store.session("session-1")
            assert {run.run: session.run(run.run).inputs() for run in session.runs()} == before

    def test_a_recovery_from_a_whole_history_brings_them_back(self, place, tmp_path, store_root):
        with ArtifactStore.open(**place) as store, ArtifactStore.open(store_root) as source:
            run = source.session("session-1").run("run-1")
            run.put_many([(f"f{n}", b"%d" % n) for n in range(3)])
            run.use("f0", "f1", "f2", node_id="n")
            source.sync_to(store)
            there = store.session("session-1").run("run-1")
            there.put("more", b"more")  # which begins a new chain
            before = there.inputs()
            assert len(before) == 3
        lose_index(place)
        recover(**place)
        with ArtifactStore.open(**place) as store:
            assert store.session("session-1").run("run-1").inputs() == before


class TestSync:
    @pytest.fixture
    def there(self, tmp_path, stores):
        with ArtifactStore.open(**stores.make("sqlite-local", tmp_path / "there")) as store:
            yield store

    def test_they_travel_and_only_new_ones_follow(self, store, there, made):
        made.use("data/raw.csv", node_id="a")
        store.sync_to(there)
        copy = there.session("session-1").run("run-1")
        assert copy.inputs() == made.inputs()
        made.use(Reference("s3://b/c", digest=Digest.of(b"c")), node_id="b")
        report = store.sync_to(there)
        assert copy.inputs() == made.inputs()
        assert [run.outcome for run in report.runs] == ["updated"]
        assert [run.outcome for run in store.sync_to(there).runs] == ["unchanged"]

    def test_an_input_alone_makes_a_run_that_syncs(self, store, there, session, made):
        session.run("run-2").use(made["data/raw.csv"])
        store.sync_to(there)
        assert noted(there.session("session-1").run("run-2")) == [
            ("run-1", "data/raw.csv", 2, None, None)
        ]

    def test_of_two_stores_that_both_noted_some_the_newer_run_has_its_own(self, store, there, made):
        store.sync_to(there)
        copy = there.session("session-1").run("run-1")
        copy.use("data/raw.csv", node_id="there")
        made.use("data/raw.csv", node_id="a")
        made.use("data/raw.csv", node_id="b")
        store.sync_to(there)
        assert [i.node_id for i in copy.inputs()] == ["a", "b"]

    def test_they_arrive_also_if_the_run_there_has_changed_more_often(self, store, there, made):
        store.sync_to(there)
        copy = there.session("session-1").run("run-1")
        for name in ("a", "b", "c"):
            copy.tag(name)
        made.use("data/raw.csv", node_id="n")
        assert [run.outcome for run in store.sync_to(there).runs] == ["updated"]
        assert copy.inputs() == made.inputs()
        assert len(copy.tags()) == 3
        assert [run.outcome for run in store.sync_to(there).runs] == ["unchanged"]

    def test_they_arrive_also_if_the_run_there_has_later_snapshots(self, store, there, made):
        store.sync_to(there)
        copy = there.session("session-1").run("run-1")
        copy.put("later", b"later")
        copy.tag("late")
        for number in range(4):
            made.use("data/raw.csv", node_id=f"{number}")
        made.set_status("finished")
        assert [run.outcome for run in store.sync_to(there).runs] == ["updated"]
        assert copy.inputs() == made.inputs()
        assert copy.read_bytes("later") == b"later"
        assert (copy.summary().status, len(copy.tags())) == (None, 1)
        assert [run.outcome for run in store.sync_to(there).runs] == ["ahead"]

    def test_a_newer_run_that_noted_fewer_takes_none_away(self, store, there, made):
        store.sync_to(there)
        copy = there.session("session-1").run("run-1")
        copy.use("data/raw.csv", node_id="there")
        for name in ("a", "b", "c"):
            made.tag(name)
        store.sync_to(there)
        assert [i.node_id for i in copy.inputs()] == ["there"]


class TestVerification:
    @pytest.fixture
    def referring(self, made, tmp_path):
        (tmp_path / "raw.csv").write_bytes(b"outside")
        made.use(tmp_path / "raw.csv", Reference("file:///nowhere/x", digest=Digest.of(b"x")))
        return tmp_path / "raw.csv"

    def test_references_are_read_again_only_if_asked_for(self, store, referring):
        referring.write_bytes(b"changed")
        assert store.verify().is_sound
        assert store.verify(references=True).references == 1

    def test_one_with_other_bytes_is_a_fault_and_one_out_of_reach_is_none(self, store, referring):
        report = store.verify(references=True)
        assert report.is_sound
        assert [each.split(":")[0] for each in report.unreachable] == ["file"]
        referring.write_bytes(b"changed")
        (fault,) = store.verify(references=True).faults
        assert (fault.kind, fault.subject) == ("changed-reference", referring.as_uri())
        assert str(Digest.of(b"changed")) in fault.detail

    def test_inputs_that_are_missing_from_the_middle_are_found(self, store, made):
        made.use("data/raw.csv", node_id="a")
        made.use("data/raw.csv", node_id="b")
        made.use("data/raw.csv", node_id="c")
        with store.context.database.writing() as connection:
            connection.execute(tables.inputs.delete().where(tables.inputs.c.position == 2))
        (fault,) = store.verify().faults
        assert fault.kind == "broken-inputs"
        assert fault.subject == "run session-1/run-1"
