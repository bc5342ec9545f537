"""Restoring into an empty directory: files are staged and moved at the end."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import subprocess
import sys

import pytest
from places import on
from trees import read, write

from index.errors import RestoreConflictError, RestoreFailedError, UnsafePathError

pytestmark = on(index="sqlite", blobs="local", because="where the bytes come from is no matter")

FILES = {"top": b"1", "d/a": b"2", "d/e/b": b"3", "f/c": b"4"}
ABANDONED = f".cas-{'0' * 32}"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def tracked(run, work):
    """A run with the files `FILES`."""
    write(work, FILES)
    run.track(work)
    return run


def visible(root):
    """Return `{path: bytes}` of what is below `root` and not hidden."""
    return {path: data for path, data in read(root).items() if "/." not in f"/{path}"}


def when_moved(monkeypatch, act):
    """Do something once, just before the first rename."""
    original = os.rename
    waiting = [act]

    def rename(*args, **kwargs):
        while waiting:
            waiting.pop()()
        return original(*args, **kwargs)

    monkeypatch.setattr(os, "rename", rename)


def test_nothing_has_its_name_before_everything_is_written(tracked, out, monkeypatch):
    seen = []
    when_moved(monkeypatch, lambda: seen.append((visible(out), read(out))))
    tracked.restore(out)
    ((early, hidden),) = seen
    assert early in ({}, {"top": b"1"})  # a file at the top is linked, not renamed
    assert {b"2", b"3", b"4"} <= set(hidden.values())
    assert read(out) == FILES
    assert sorted(os.listdir(out)) == ["d", "f", "top"]


def test_a_file_costs_one_name(tracked, out, monkeypatch):
    """This is the purpose of staging."""
    moved = []
    original = os.rename
    monkeypatch.setattr(os, "rename", lambda *a, **k: (moved.append(a[0]), original(*a, **k)))
    tracked.restore(out)
    assert sorted(moved) == ["d", "f"]


def test_nobody_else_can_look_into_it(tracked, out, monkeypatch):
    modes = []
    when_moved(monkeypatch, lambda: modes.extend(p.stat().st_mode for p in out.glob(".cas-*")))
    tracked.restore(out)
    assert [stat.S_IMODE(mode) for mode in modes] == [0o700]


def test_what_was_whole_before_a_failure_is_kept(tracked, out, monkeypatch):
    original = os.write
    left = [len(FILES)]

    def fill_the_disk(*args):
        left[0] -= 1
        if left[0] == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(*args)

    monkeypatch.setattr(os, "write", fill_the_disk)
    with pytest.raises(RestoreFailedError, match="No space"):
        tracked.restore(out)
    kept = read(out)
    assert len(kept) == len(FILES) - 1
    assert kept.items() <= FILES.items()


KILLED = """
import os, sys
from index import ArtifactStore
import index.reading.restore
index.reading.restore._STAGED_BYTES = int(sys.argv[3])
original, left = os.write, [3]
def write(*args):
    left[0] -= 1
    if left[0] == 0:
        os._exit(9)
    return original(*args)
with ArtifactStore.open(sys.argv[1]) as store:
    run = store.session("session-1").run("run-1")
    os.write = write
    run.restore(sys.argv[2])
"""


def killed_restore(place, out, *, staged_bytes=1 << 30):
    command = [sys.executable, "-c", KILLED, place["root"], out, staged_bytes]
    assert subprocess.run(list(map(str, command)), check=False).returncode == 9


def test_what_a_killed_restore_leaves_is_removed_by_the_next(tracked, place, out):
    killed_restore(place, out)
    (left,) = os.listdir(out)
    assert re.fullmatch(r"\.cas-[0-9a-f]{32}", left)
    result = tracked.restore(out)
    assert (result.written, result.unchanged) == (len(FILES), 0)
    assert read(out) == FILES


def test_a_large_restore_is_not_staged_so_that_killing_it_loses_little(tracked, place, out):
    killed_restore(place, out, staged_bytes=1)
    assert len(visible(out)) == 2
    assert visible(out).items() <= FILES.items()
    result = tracked.restore(out)
    assert (result.written, result.unchanged) == (len(FILES) - 2, 2)


def test_what_another_restore_is_writing_is_left_alone(tracked, out):
    write(out, {f"{ABANDONED}/x": b"1"})
    fd = os.open(out / ABANDONED, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    tracked.restore(out)
    assert read(out) == FILES | {f"{ABANDONED}/x": b"1"}
    os.close(fd)
    tracked.restore(out)
    assert read(out) == FILES


def test_the_staged_files_of_a_running_restore_are_locked(tracked, out, tmp_path, monkeypatch):
    """Another restore into the same directory begins while this one writes."""
    when_moved(monkeypatch, lambda: tracked.restore(out, paths=["f"]))
    with pytest.raises(RestoreConflictError, match="'f/c'"):
        tracked.restore(out)
    assert read(out) == FILES


@pytest.mark.parametrize("name", [".cas-notes", f"{ABANDONED}0", ABANDONED.upper()])
def test_a_directory_of_another_name_is_not_taken_for_ours(tracked, out, name):
    write(out, {f"{name}/x": b"1"})
    tracked.restore(out)
    assert read(out) == FILES | {f"{name}/x": b"1"}


def test_a_link_in_place_of_an_abandoned_directory_is_not_followed(tracked, out, tmp_path):
    write(tmp_path, {"elsewhere/x": b"1"})
    out.mkdir()
    (out / ABANDONED).symlink_to(tmp_path / "elsewhere")
    tracked.restore(out)
    assert read(tmp_path / "elsewhere") == {"x": b"1"}


@pytest.mark.parametrize("overwrite", [False, True])
def test_directories_that_came_meanwhile_are_merged(tracked, out, monkeypatch, overwrite):
    when_moved(monkeypatch, lambda: write(out, {"d/e/theirs": b"x", "f/theirs": b"y"}))
    tracked.restore(out, overwrite=overwrite)
    assert read(out) == FILES | {"d/e/theirs": b"x", "f/theirs": b"y"}


def test_files_that_came_meanwhile_are_not_replaced(tracked, out, monkeypatch):
    when_moved(monkeypatch, lambda: write(out, {"d/a": b"x", "f/c": b"y"}))
    with pytest.raises(RestoreConflictError, match="'d/a' and 1 more"):
        tracked.restore(out)
    assert read(out) == FILES | {"d/a": b"x", "f/c": b"y"}
    assert list(out.glob(".cas-*")) == []


def test_files_that_came_meanwhile_are_replaced_if_asked_for(tracked, out, monkeypatch):
    when_moved(monkeypatch, lambda: write(out, {"d/a": b"x", "top": b"y"}))
    tracked.restore(out, overwrite=True)
    assert read(out) == FILES


def test_a_link_that_came_meanwhile_is_not_followed(tracked, out, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    when_moved(monkeypatch, lambda: (out / "d").symlink_to(tmp_path / "elsewhere"))
    with pytest.raises(UnsafePathError, match="link or a file"):
        tracked.restore(out, overwrite=True)
    assert os.listdir(tmp_path / "elsewhere") == []
    assert list(out.glob(".cas-*")) == []


def test_a_filesystem_that_moves_no_directories_will_do(tracked, out, monkeypatch):
    original = os.rename

    def rename(old, new, *, src_dir_fd, dst_dir_fd):
        if os.path.isdir(f"/proc/self/fd/{src_dir_fd}/{old}"):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return original(old, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    monkeypatch.setattr(os, "rename", rename)
    tracked.restore(out)
    assert read(out) == FILES
    assert list(out.glob(".cas-*")) == []


def test_a_filesystem_without_locks_will_do(tracked, out, monkeypatch):
    def unsupported(*_args):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", unsupported)
    write(out, {f"{ABANDONED}/x": b"1"})
    tracked.restore(out)
    assert read(out) == FILES | {f"{ABANDONED}/x": b"1"}


def test_a_directory_taken_for_abandoned_before_it_is_locked_is_made_again(
    tracked, out, monkeypatch
):
    original = fcntl.flock
    taken = []

    def remove_first(fd, operation):
        if not taken:
            taken.extend(out.glob(".cas-*"))
            taken[0].rmdir()
        return original(fd, operation)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    tracked.restore(out)
    assert taken
    assert read(out) == FILES
