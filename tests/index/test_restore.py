from __future__ import annotations

import os
import random
import stat
import threading
import time

import pytest
from places import on, packs_of
from sqlalchemy import text
from trees import read, write

from cas.errors import DigestMismatchError
from index.errors import (
    DanglingFileError,
    RestoreConflictError,
    RestoreFailedError,
    UnknownFileError,
    UnknownSnapshotError,
    UnsafePathError,
)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def leftovers(folder):
    return list(folder.rglob(".cas-*"))


def test_bytes_modes_and_times_come_back(run, work, out):
    files = {"a.txt": b"1", "d/e/big.bin": os.urandom(3 << 20), "empty": b"", "d/copy": b"1"}
    write(work, files)
    (work / "a.txt").chmod(0o640)
    (work / "d/copy").chmod(0o755)
    os.utime(work / "a.txt", ns=(1, 1_234_567_890_123_456_789))
    run.track(work)
    result = run.restore(out)
    assert read(out) == files
    assert (result.written, result.unchanged) == (4, 0)
    assert result.bytes_written == sum(len(data) for data in files.values())
    assert (out / "a.txt").stat().st_mtime_ns == 1_234_567_890_123_456_789
    assert stat.S_IMODE((out / "a.txt").stat().st_mode) == 0o640
    assert stat.S_IMODE((out / "d/copy").stat().st_mode) == 0o755
    assert leftovers(out) == []


def test_links_come_back_as_they_were(run, work, out):
    write(work, {"real": b"1"})
    (work / "inside").symlink_to("real")
    (work / "outside").symlink_to("/etc/passwd")
    run.track(work)
    run.restore(out)
    assert os.readlink(out / "inside") == "real"
    assert os.readlink(out / "outside") == "/etc/passwd"
    assert run.restore(out).unchanged == 3


def test_any_snapshot_can_be_restored_after_the_work_directory_is_gone(run, work, out):
    write(work, {"f": b"1", "gone": b"x"})
    run.track(work)
    (work / "gone").unlink()
    write(work, {"f": b"2", "new": b"y"})
    second = run.track(work)
    work.rename(work.parent / "lost")
    run.restore(out / "1", at=1)
    run.restore(out / "2", at=second)
    run.restore(out / "0", at=0)
    assert read(out / "1") == {"f": b"1", "gone": b"x"}
    assert read(out / "2") == {"f": b"2", "new": b"y"}
    assert read(out / "0") == {}
    with pytest.raises(UnknownSnapshotError, match="1 to 2"):
        run.restore(out, at=3)


def test_paths_select_files_and_directories(run, work, out):
    write(work, {"data/a": b"1", "data/sub/b": b"2", "database": b"3", "c": b"4"})
    run.track(work)
    run.restore(out, paths=["data", "c"])
    assert read(out) == {"data/a": b"1", "data/sub/b": b"2", "c": b"4"}
    with pytest.raises(UnknownFileError, match="'nothing'"):
        run.restore(out, paths=["c", "nothing"])


def test_equal_content_is_left_and_only_its_mode_and_time_are_set(run, work, out):
    write(work, {"f": b"1"})
    (work / "f").chmod(0o600)
    run.track(work)
    write(out, {"f": b"1", "other": b"mine"})
    inode = (out / "f").stat().st_ino
    result = run.restore(out)
    status = (out / "f").stat()
    assert (result.written, result.unchanged) == (0, 1)
    assert status.st_ino == inode
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert status.st_mtime_ns == (work / "f").stat().st_mtime_ns
    assert (out / "other").read_bytes() == b"mine"


def test_different_content_is_not_overwritten_and_nothing_is_written(run, work, out):
    write(work, {"a": b"1", "b": b"2", "c": b"3"})
    run.track(work)
    write(out, {"b": b"mine", "c": b"xxx"})
    with pytest.raises(RestoreConflictError, match=r"'b' and 1 more.*overwrite=True"):
        run.restore(out)
    assert read(out) == {"b": b"mine", "c": b"xxx"}
    run.restore(out, overwrite=True)
    assert read(out) == {"a": b"1", "b": b"2", "c": b"3"}


def test_a_file_that_appears_during_the_restore_is_not_overwritten(run, work, out, monkeypatch):
    write(work, {"a": b"1"})
    run.track(work)
    write(out, {"other": b"x"})
    original = os.link

    def race(*args, **kwargs):
        (out / "a").write_bytes(b"theirs")
        return original(*args, **kwargs)

    monkeypatch.setattr(os, "link", race)
    with pytest.raises(RestoreConflictError):
        run.restore(out)
    assert read(out) == {"a": b"theirs", "other": b"x"}


def test_a_filesystem_without_hard_links_will_do(run, work, out, monkeypatch):
    write(work, {"a": b"1", "b": b"2"})
    run.track(work)
    write(out, {"other": b"x"})

    def unsupported(*_args, **_kwargs):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", unsupported)
    run.restore(out)
    assert read(out) == {"a": b"1", "b": b"2", "other": b"x"}
    assert leftovers(out) == []


def test_links_and_directories_in_the_way_are_conflicts(run, work, out):
    write(work, {"a": b"1", "b": b"2"})
    run.track(work)
    (out / "a").mkdir(parents=True)
    (out / "b").symlink_to("/etc/passwd")
    with pytest.raises(RestoreConflictError):
        run.restore(out)
    assert os.readlink(out / "b") == "/etc/passwd"
    run.restore(out, overwrite=True)
    assert not (out / "b").is_symlink()
    assert read(out) == {"a": b"1", "b": b"2"}


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_link_planted_in_the_destination_is_not_followed(run, work, out, tmp_path, overwrite):
    write(work, {"d/e/f": b"1"})
    run.track(work)
    (tmp_path / "elsewhere").mkdir()
    (out / "d").mkdir(parents=True)
    (out / "d" / "e").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnsafePathError, match="link or a file"):
        run.restore(out, overwrite=overwrite)
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("hostile", ["../evil", "/srv/evil", "a/../../evil", "./x", "a//b", ""])
def test_a_hostile_path_in_the_index_is_refused(run, store, work, out, hostile):
    write(work, {"a": b"1"})
    run.track(work)
    with store._context.database.writing() as connection:
        connection.execute(text("UPDATE cas_files SET path = :p"), {"p": hostile})
    with pytest.raises(UnsafePathError, match="refused"):
        run.restore(out)
    assert not (out.parent / "evil").exists()
    assert read(out) == {}


def test_a_restored_link_is_not_written_through(run, store, work, out, tmp_path):
    """Forged rows have a link, and a file below that link."""
    write(work, {"x/f": b"1"})
    (work / "link").symlink_to(tmp_path)
    run.track(work)
    with store._context.database.writing() as connection:
        connection.execute(text("UPDATE cas_files SET path = 'link/f' WHERE path = 'x/f'"))
    with pytest.raises((UnsafePathError, RestoreConflictError, RestoreFailedError)):
        run.restore(out)
    assert not (tmp_path / "f").exists()


def test_set_user_id_is_not_restored(run, work, out):
    write(work, {"f": b"1"})
    (work / "f").chmod(0o4755)
    run.track(work)
    run.restore(out)
    assert stat.S_IMODE((out / "f").stat().st_mode) == 0o755


def flip(objects, offset):
    """Change one bit of the only pack."""
    (pack,) = packs_of(objects)
    data = bytearray(objects.read(pack))
    data[offset] ^= 1
    objects.write(pack, bytes(data))


def test_damaged_bytes_are_not_written(run, work, out, objects):
    write(work, {"bad": os.urandom(500)})
    run.track(work)
    flip(objects, 100)
    with pytest.raises(DigestMismatchError, match=str(run.file("bad").digest)):
        run.restore(out)
    assert read(out) == {}
    assert leftovers(out) == []


def test_a_damaged_chunk_leaves_no_part_of_its_file(run, work, out, objects):
    write(work, {"big": os.urandom(3 << 20)})
    run.track(work)
    flip(objects, (2 << 20) + 500)
    with pytest.raises(DigestMismatchError):
        run.restore(out)
    assert read(out) == {}
    assert leftovers(out) == []


def test_a_missing_pack_is_named_by_the_file_that_needs_it(run, work, out, objects):
    write(work, {"f": b"1"})
    run.track(work)
    objects.remove(*packs_of(objects))
    with pytest.raises(DanglingFileError, match="'f'"):
        run.restore(out)
    with pytest.raises(DanglingFileError, match="'f'"):
        run.read_bytes("f")
    with pytest.raises(DanglingFileError, match="'f'"):
        run.open("f")


@on(index="sqlite", blobs="local", because="the destination is the same whatever the store")
@pytest.mark.parametrize(
    ("is_empty", "call"),
    [
        # It moves directories into an empty destination, and files into others.
        *((True, call) for call in ("open", "write", "rename", "close")),
        *((False, call) for call in ("open", "write", "link", "close")),
    ],
)
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_at_any_call_leaves_whole_files_only(
    run, work, out, monkeypatch, call, error, is_empty
):
    files = {f"d/{n}": b"%d" % n * 100 for n in range(5)}
    write(work, files)
    run.track(work)
    theirs = {} if is_empty else {"theirs": b"1"}
    out.mkdir()
    write(out, theirs)
    original = getattr(os, call)
    left = [6 if call == "open" else 1 if call == "rename" else 2]

    def fail(*args, **kwargs):
        left[0] -= 1
        if left[0] == 0:
            if call == "close":
                original(*args, **kwargs)
            raise error
        return original(*args, **kwargs)

    monkeypatch.setattr(os, call, fail)
    with pytest.raises((RestoreFailedError, KeyboardInterrupt)):
        run.restore(out)
    monkeypatch.undo()
    assert left[0] <= 0
    assert read(out).items() <= (files | theirs).items()
    assert leftovers(out) == []
    run.restore(out)
    assert read(out) == files | theirs


@pytest.mark.parametrize("large", [False, True])
def test_ctrl_c_ends_a_restore_soon_and_leaves_whole_files_only(run, work, out, monkeypatch, large):
    """Only the waiting thread gets the signal; the writing threads must stop, too."""
    count = 1 if large else 300
    files = {f"d/{n}": os.urandom(40 << 20 if large else 10) for n in range(count)}
    write(work, files)
    run.track(work)
    original = os.write
    begun = threading.Event()

    def slowly(fd, data):
        begun.set()
        time.sleep(0.02)
        return original(fd, data)

    def interrupt(_progress):
        if begun.is_set():
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "write", slowly)
    with pytest.raises(KeyboardInterrupt):
        run.restore(out, progress=interrupt)
    written = read(out)
    assert len(written) < count
    assert written.items() <= files.items()
    assert leftovers(out) == []


def test_a_destination_that_is_a_file_is_refused(run, work, out):
    write(work, {"f": b"1"})
    run.track(work)
    out.write_bytes(b"")
    for destination in (out, out / "below"):
        with pytest.raises(RestoreFailedError, match="a file is in its place; give a directory"):
            run.restore(destination)


def test_another_name_of_a_file_outside_is_left_alone(run, work, out, tmp_path):
    write(work, {"g": b"same"})
    run.track(work)
    (tmp_path / "outside").write_bytes(b"same")
    (tmp_path / "outside").chmod(0o600)
    out.mkdir()
    os.link(tmp_path / "outside", out / "g")
    run.restore(out)
    assert stat.S_IMODE((tmp_path / "outside").stat().st_mode) == 0o600


@on(blobs="local", because="no path leads into a bucket")
@pytest.mark.parametrize("inside", ["", "packs", "new"])
def test_the_store_is_no_destination(run, objects, inside):
    run.put("cas.json", b"hostile")
    with pytest.raises(RestoreFailedError, match="the store itself"):
        run.restore(objects.root / inside, overwrite=True)
    assert b"hostile" not in objects.read("cas.json")


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE cas_blobs SET size = 0 WHERE pack_id IS NULL; DELETE FROM cas_blob_chunks",
        "DELETE FROM cas_blob_chunks WHERE position = 2",
        "UPDATE cas_blob_chunks SET chunk = (SELECT chunk FROM cas_blob_chunks WHERE position = 0)",
        "UPDATE cas_blobs SET codec = 7 WHERE pack_id IS NOT NULL",
        "UPDATE cas_blobs SET stored_size = 1 << 62 WHERE pack_id IS NOT NULL",
        "UPDATE cas_blobs SET pack_offset = 1 << 62 WHERE pack_id IS NOT NULL",
        "UPDATE cas_blobs SET size = size + 1 WHERE pack_id IS NOT NULL",
    ],
)
def test_a_damaged_index_is_an_error_and_never_data(run, store, work, out, damage):
    write(work, {"big": os.urandom(3 << 20)})
    run.track(work)
    with store._context.database.writing() as connection:
        for statement in damage.split("; "):
            connection.exec_driver_sql(statement)
    for attempt in (lambda: run.restore(out), lambda: run.read_bytes("big")):
        with pytest.raises(DigestMismatchError):
            attempt()
    with pytest.raises(DigestMismatchError), run.open("big") as stream:
        stream.read()
    assert read(out) == {}


def test_a_wrong_size_in_the_index_hides_no_file(run, store, work, out):
    write(work, {"big": b"x" * (3 << 20), "small": b"1"})
    run.track(work)
    with store._context.database.writing() as connection:
        connection.exec_driver_sql("UPDATE cas_files SET size = 10")
    assert run.restore(out).written == 2
    assert read(out) == read(work)


def test_progress_moves_inside_a_large_file_and_ends_at_its_size(run, work, out, monkeypatch):
    monkeypatch.setattr("index.reading.restore._REPORT_S", 0.001)
    write(work, {"large": random.Random(5).randbytes(24 << 20)})
    run.track(work)
    seen = []
    run.restore(out, progress=seen.append)
    assert max(each.bytes for each in seen) <= 24 << 20
    assert any(0 < each.bytes < 24 << 20 for each in seen)


def test_progress_counts_files_and_bytes(run, work, out):
    write(work, {f"f{n}": b"123" for n in range(600)})
    run.track(work)
    seen = []
    run.restore(out, progress=seen.append)
    assert (seen[-1].files, seen[-1].files_total) == (600, 600)
    assert (seen[-1].bytes, seen[-1].bytes_total) == (1800, 1800)
