"""Files that change while they are read: read again, and told of if that does not help."""

from __future__ import annotations

import logging
import os
import time
from contextlib import suppress

import pytest
from legacy_model import make
from lost import lose_index
from sqlalchemy.orm import Session
from trees import write

from index import ArtifactStore, DAGTracker, FileRepository, recover


@pytest.fixture
def rewrite(monkeypatch, work):
    """Rewrite a file half way through each of the next reads of it, with as many bytes."""

    def arrange(path, times):
        target = work / path
        inode = target.stat().st_ino
        original = os.pread
        left = list(reversed(range(times)))  # several threads read, and pop takes one at a time

        def read(fd, size, offset):
            data = original(fd, size, offset)
            if os.fstat(fd).st_ino == inode:
                with suppress(IndexError):
                    content = b"%d" % (left.pop(0) % 10) * target.stat().st_size
                    with target.open("r+b") as file:
                        file.write(content)
            return data

        monkeypatch.setattr(os, "pread", read)

    return arrange


@pytest.mark.parametrize("size", [10, 3 << 20])
def test_a_file_that_settles_is_read_again_and_recorded_whole(run, work, rewrite, size):
    write(work, {"f": b"x" * size, "other": b"1"})
    rewrite("f", 1)
    snapshot = run.track(work)
    assert snapshot.torn == ()
    assert run.read_bytes("f") == b"0" * size
    assert run.track(work).recorded is False


@pytest.mark.parametrize("size", [10, 3 << 20])
def test_a_file_that_does_not_settle_is_recorded_and_listed(run, work, rewrite, size):
    write(work, {"f": b"x" * size, "other": b"1"})
    rewrite("f", 100)
    snapshot = run.track(work)
    assert (snapshot.torn, snapshot.skipped) == (("f",), ())
    assert [version.path for version in snapshot.added] == ["f", "other"]
    assert run.file("f").size == len(run.read_bytes("f")) == size
    assert [each.torn for each in run.snapshots()] == [("f",)]


def test_a_torn_file_is_read_again_by_the_next_scan(run, work, rewrite, monkeypatch):
    write(work, {"f": b"x" * 10})
    rewrite("f", 100)
    run.track(work)
    monkeypatch.undo()
    snapshot = run.track(work)
    assert ([version.path for version in snapshot.changed], snapshot.torn) == (["f"], ())
    assert run.read_bytes("f") == (work / "f").read_bytes()


def test_a_file_that_was_written_to_in_this_tick_is_read_after_it(run, work, monkeypatch):
    """Else a write during the read could leave the times as they were, and would not show."""
    target = work / "f"
    target.write_bytes(b"x")
    os.utime(target)
    written = target.stat().st_mtime_ns
    read_at = []
    original_read = os.pread
    inode = target.stat().st_ino
    monkeypatch.setattr("index.scan.ingest._TICK_NS", 200_000_000)

    def read(fd, size, offset):
        if os.fstat(fd).st_ino == inode:
            read_at.append(time.time_ns())
        return original_read(fd, size, offset)

    monkeypatch.setattr(os, "pread", read)
    assert run.track(work).torn == ()
    assert read_at[0] - written >= 200_000_000


def test_what_is_torn_is_known_after_a_recovery(place, work, rewrite):
    write(work, {"f": b"x" * 10})
    rewrite("f", 100)
    with ArtifactStore.open(**place) as store:
        store.session("s").run("r").track(work)
    lose_index(place)
    recover(**place)
    with ArtifactStore.open(**place) as store:
        assert [each.torn for each in store.session("s").run("r").snapshots()] == [("f",)]


def test_a_registered_file_that_is_torn_is_listed_in_its_snapshot(store, work, rewrite):
    write(work, {"f": b"x" * 10})
    rewrite("f", 100)
    with Session(store._context.database.engine) as db_session, db_session.begin():
        files = FileRepository(db_session, "s", store=store, work_dir=work)
        files.register_file("r", "f", node_id="n", generating_agent="a")
    assert [each.torn for each in store.session("s").run("r").snapshots()] == [("f",)]


@pytest.mark.parametrize("size", [10, 3 << 20])
def test_a_file_that_settles_is_put_whole(run, work, rewrite, size):
    write(work, {"f": b"x" * size})
    rewrite("f", 1)
    version = run.put("f", work / "f")
    assert (version.torn, version.size) == (False, size)
    assert "torn" not in version.to_dict()
    assert run.read_bytes("f") == b"0" * size
    assert [each.torn for each in run.snapshots()] == [()]


def test_a_file_that_is_cut_while_it_is_put_is_put_as_it_is_then(run, work, monkeypatch):
    write(work, {"f": b"x" * (3 << 20)})
    inode = (work / "f").stat().st_ino
    original = os.pread

    def read(fd, size, offset):
        data = original(fd, size, offset)
        if os.fstat(fd).st_ino == inode:
            os.truncate(work / "f", 10)
        return data

    monkeypatch.setattr(os, "pread", read)
    assert run.put("f", work / "f").size == 10


@pytest.mark.parametrize("size", [10, 3 << 20])
def test_a_put_file_that_does_not_settle_is_told_of(run, work, rewrite, size):
    write(work, {"f": b"x" * size, "other": b"1"})
    rewrite("f", 100)
    torn, other = run.put_many([("f", work / "f"), ("other", work / "other")])
    assert (torn.torn, other.torn) == (True, False)
    assert torn.to_dict()["torn"] is True
    assert torn.size == len(run.read_bytes("f")) == size
    assert [each.torn for each in run.snapshots()] == [("f",)]
    assert run.file("f") == torn  # `torn` is about the call, not about the version


def test_a_registered_file_that_is_torn_says_so(store, work, rewrite):
    write(work, {"f": b"x" * 10, "other": b"1"})
    rewrite("f", 100)
    with Session(store._context.database.engine) as db_session, db_session.begin():
        files = FileRepository(db_session, "s", store=store, work_dir=work)
        versions = files.register_files("r", ["other", "f"])
        assert [version.torn for version in versions] == [False, True]


def test_an_adopted_file_that_is_torn_is_listed(store, work, rewrite, tmp_path):
    write(work, {"f": b"x" * 10, "other": b"1"})
    url = f"sqlite:///{tmp_path / 'old.db'}"
    make(url)(*({"file_path": str(work / name), "session_id": "s"} for name in ("f", "other")))
    rewrite("f", 100)
    assert store.adopt(url).torn == (str(work / "f"),)
    assert [each.torn for each in store.session("s").run("r").snapshots()] == [("f",)]


def test_the_tracker_says_so_in_outcome_and_log(store, work, rewrite, caplog):
    write(work, {"f": b"x" * 10})
    rewrite("f", 100)
    with caplog.at_level(logging.WARNING):
        outcome = DAGTracker(store, "s", "r").track_files_in_work_dir(work, "node")
    assert (outcome.torn, outcome.complete, outcome.files_tracked) == (("f",), False, 1)
    assert "'f' may be a mixture" in caplog.text


def test_the_command_says_so(cas, tmp_path, work, rewrite):
    write(work, {"f": b"x" * 10})
    rewrite("f", 100)
    code, out, err = cas("track", str(work))
    assert (code, err) == (0, "torn f: it changed each time it was read\n")
    assert "1 added" in out


def test_putting_it_from_the_command_line_says_so(cas, tmp_path, work, rewrite):
    write(work, {"f": b"x" * 10})
    rewrite("f", 100)
    code, _, err = cas("put", str(work / "f"), "--run", "r")
    assert (code, err) == (0, "torn f: it changed each time it was read\n")


def test_a_file_that_was_replaced_while_it_was_read_is_whole(run, work, monkeypatch):
    """A rename gives another file: what was read is the old one, which nobody changes."""
    write(work, {"f": b"old", "new": b"new"})
    inode = (work / "f").stat().st_ino
    original = os.pread

    def read(fd, size, offset):
        data = original(fd, size, offset)
        if os.fstat(fd).st_ino == inode and (work / "new").exists():
            (work / "new").rename(work / "f")
        return data

    monkeypatch.setattr(os, "pread", read)
    assert run.track(work, scope=["f"]).torn == ()
    assert run.read_bytes("f") == b"old"
