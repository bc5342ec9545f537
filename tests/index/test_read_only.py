"""A store that can be read but not written: its disk is full or read-only, or it is another's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from trees import contents, read, write

from index import ArtifactStore
from index.db import sqlite
from index.errors import IndexUnavailableError

FILES = {"a": b"1", "d/b": os.urandom(2 << 20)}


@pytest.fixture
def recorded(store_root, work):
    """The directory of a store that holds `FILES`, and that nobody has open."""
    write(work, FILES)
    with ArtifactStore.open(store_root) as store:
        store.session("s").run("r").track(work)
    return store_root


@pytest.fixture
def unloggable(recorded):
    """The same; SQLite can't make the files of its log, not even for root."""
    (recorded / "index.db-shm").symlink_to(recorded / "missing" / "file")
    return recorded


def run_of(store):
    return store.session("s").run("r")


def test_what_can_not_be_written_is_listed_read_and_restored(unloggable, tmp_path):
    with ArtifactStore.open(unloggable) as store:
        assert [version.path for version in run_of(store).files()] == ["a", "d/b"]
        assert contents(run_of(store)) == FILES
        run_of(store).restore(tmp_path / "out")
        with ArtifactStore.open(tmp_path / "copy") as copy:
            assert store.sync_to(copy).versions == len(FILES)
    assert read(tmp_path / "out") == FILES


def test_a_change_is_refused_with_the_reason(unloggable, work):
    write(work, {"new": b"2"})
    with (
        ArtifactStore.open(unloggable) as store,
        pytest.raises(IndexUnavailableError, match="it can only be read: unable to open"),
    ):
        run_of(store).track(work)


def test_what_a_scan_would_record_is_shown(unloggable, recorded, work):
    write(work, {"new": b"2"})
    with ArtifactStore.open(unloggable) as store:
        assert [entry.path for entry in run_of(store).status(work).added] == ["new"]


def test_a_full_disk_does_not_keep_it_from_being_shown(recorded, work):
    done = limited(recorded, "status", "--session", "s", "--run", "r", "--exit-code")
    assert (done.returncode, done.stderr) == (0, "")
    write(work, {"new": b"2"})
    done = limited(recorded, "status", "--session", "s", "--run", "r", "--exit-code")
    assert (done.returncode, done.stdout.splitlines()[0]) == (1, "+ new  1 B")


def test_an_open_store_writes_again_once_it_can(unloggable, work):
    with ArtifactStore.open(unloggable) as store:
        assert len(run_of(store).files()) == 2
        (unloggable / "index.db-shm").unlink()
        write(work, {"new": b"2"})
        assert len(run_of(store).track(work).added) == 1
        assert contents(run_of(store)) == FILES | {"new": b"2"}


def test_a_log_that_can_not_be_read_is_not_passed_over(unloggable):
    (unloggable / "index.db-wal").write_bytes(b"changes")
    with pytest.raises(IndexUnavailableError, match=r"index\.db-wal holds changes.*copy"):
        ArtifactStore.open(unloggable)


def test_what_changes_while_it_is_read_without_locks_is_an_error(unloggable):
    with ArtifactStore.open(unloggable) as store:
        database = store.context.database
        for change in (
            lambda: os.utime(unloggable / "index.db"),
            lambda: (unloggable / "index.db-wal").write_bytes(b"changes"),
        ):
            with (
                pytest.raises(IndexUnavailableError, match="another process changed it"),
                database.reading() as connection,
            ):
                connection.exec_driver_sql("SELECT 1")
                change()


def test_a_reader_beside_a_writer_takes_its_locks_and_sees_its_commits(recorded, monkeypatch):
    """As another user, who may not write."""
    with ArtifactStore.open(recorded) as writer:
        run_of(writer).put("new", b"2")  # it is in the log only
        opened = []
        original = sqlite._opened

        def refuse_writers(path, pragmas, options):
            if pragmas is sqlite._WRITER_PRAGMAS:
                error = sqlite.sqlite3.OperationalError("unable to open database file")
                error.sqlite_errorcode = sqlite.sqlite3.SQLITE_CANTOPEN
                raise error
            opened.append(path)
            return original(path, pragmas, options)

        monkeypatch.setattr(sqlite, "_opened", refuse_writers)
        with ArtifactStore.open(recorded) as reader:
            assert run_of(reader).read_bytes("new") == b"2"
    assert opened
    assert not any("immutable" in path for path in opened)


@pytest.mark.parametrize("command", [["ls"], ["cat", "a"], ["stats"]])
def test_a_full_disk_does_not_keep_commands_from_reading(recorded, command):
    done = limited(recorded, *command, "--session", "s", "--run", "r")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_change_on_a_full_disk_ends_with_code_5(recorded):
    done = limited(recorded, "rm", "--run", "r", "--session", "s", "--yes")
    assert done.returncode == 5
    assert done.stderr.count("\n") == 1


def test_the_reason_is_the_full_disk_if_it_is_full(recorded, monkeypatch):
    full = os.statvfs(recorded)
    blocks = (*full[:3], 0, 0, *full[5:])
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(blocks))
    (recorded / "index.db-shm").symlink_to(recorded / "missing" / "file")
    with (
        ArtifactStore.open(recorded) as store,
        pytest.raises(IndexUnavailableError, match="its disk is full"),
    ):
        run_of(store).delete()


def test_an_index_in_a_place_that_can_not_be_entered_is_not_taken_for_lost(recorded, tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(IndexUnavailableError, match="symbolic links"):
        ArtifactStore.open(
            index=f"sqlite:///{tmp_path}/loop/index.db", blobs=recorded, create=False
        )


def limited(root, *arguments):
    """Run the command in a process that can't make any file longer, as on a full disk."""
    import resource

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    code = "from index.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, "--store", root, *arguments],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limit,
    )
