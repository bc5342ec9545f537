"""Restoring to where not all that a run holds is taken, or where something is in the way."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
from collections import Counter

import pytest
from insensitive import fold_names
from places import on
from trees import read, write

from index.cli import main
from index.errors import (
    NameClashError,
    RestoreConflictError,
    RestoreFailedError,
)
from index.reading import restore as restore_module

pytestmark = on(index="sqlite", blobs="local", because="where the bytes come from is no matter")

FILES = {"a": b"1", "d/b": b"2", "d/e/c": b"3"}


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def tracked(run, work):
    """A run that holds `FILES` and a link."""
    write(work, FILES)
    (work / "link").symlink_to("a")
    run.track(work)
    return run


def refuse(monkeypatch, *calls):
    def refused(*_args, **_kwargs):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    for call in calls:
        monkeypatch.setattr(os, call, refused)


class TestWhatIsNotTaken:
    @pytest.mark.parametrize("is_empty", [True, False])
    @pytest.mark.parametrize(
        ("call", "paths", "reason"),
        [
            ("fchmod", [*FILES], "its mode could not be set"),
            ("utime", [*FILES, "link"], "its time could not be set"),
            ("symlink", ["link"], "links can't be made"),
        ],
    )
    def test_is_a_warning_and_all_bytes_come_back(
        self, tracked, out, monkeypatch, call, paths, reason, is_empty
    ):
        theirs = {} if is_empty else {"theirs": b"x"}
        write(out, theirs)
        refuse(monkeypatch, call)
        result = tracked.restore(out)
        assert read(out) == FILES | theirs
        assert result.warnings == tuple(
            (path, f"{reason}: Operation not permitted") for path in sorted(paths)
        )
        assert result.written == len(FILES) + (call != "symlink")
        assert list(out.rglob(".cas-*")) == []

    def test_is_a_warning_for_files_that_are_there_already(self, tracked, out, monkeypatch):
        tracked.restore(out)
        os.utime(out / "a", (1, 1))
        (out / "d/b").chmod(0o400)
        refuse(monkeypatch, "fchmod", "utime")
        result = tracked.restore(out)
        assert (result.written, result.unchanged) == (0, len(FILES) + 1)
        assert [warning.path for warning in result.warnings] == ["a", "d/b"]

    def test_files_that_are_right_are_not_touched(self, tracked, out, monkeypatch):
        tracked.restore(out)
        before = (out / "a").stat().st_ctime_ns
        refuse(monkeypatch, "fchmod", "utime", "symlink", "rename", "link")
        result = tracked.restore(out)
        assert (result.unchanged, result.warnings) == (len(FILES) + 1, ())
        assert (out / "a").stat().st_ctime_ns == before

    def test_the_command_prints_each_reason_once(self, tracked, place, out, monkeypatch, capfd):
        refuse(monkeypatch, "fchmod", "symlink")
        words = [
            "--store",
            str(place["root"]),
            "restore",
            "--to",
            str(out),
            "--session",
            "session-1",
        ]
        with pytest.raises(SystemExit) as done:
            main(words)
        assert done.value.code == 0
        assert capfd.readouterr().err.splitlines() == [
            "warning: a and 2 more: its mode could not be set: Operation not permitted",
            "warning: link: links can't be made: Operation not permitted",
        ]
        with pytest.raises(SystemExit):
            main([*words, "--overwrite", "--json"])
        told = json.loads(capfd.readouterr().out)
        assert told["warnings"][-1] == {
            "path": "link",
            "reason": "links can't be made: Operation not permitted",
        }

    def test_a_mode_that_is_not_set_leaves_the_file_to_its_owner(self, tracked, out, monkeypatch):
        refuse(monkeypatch, "fchmod")
        tracked.restore(out)
        assert stat.S_IMODE((out / "a").stat().st_mode) == 0o600


CLASHES = {
    "case": {"README": b"upper", "readme": b"lower"},
    "normalization": {"caf\u00e9": b"composed", "cafe\u0301": b"decomposed"},
    "a directory": {"d/x/README": b"1", "d/X/readme": b"2"},
    "a file and a directory": {"Name": b"file", "name/file": b"below"},
}


class TestNamesThatAreOne:
    @pytest.fixture(params=CLASHES)
    def clashing(self, request, run):
        for path, data in {**CLASHES[request.param], "other": b"o"}.items():
            run.put(path, data)
        return CLASHES[request.param]

    @pytest.mark.parametrize("overwrite", [True, False])
    @pytest.mark.parametrize("theirs", [{}, {"theirs": b"x"}])
    def test_are_refused_together_and_nothing_is_written(
        self, run, out, clashing, monkeypatch, theirs, overwrite
    ):
        write(out, theirs)
        fold_names(monkeypatch)
        with pytest.raises(NameClashError, match="are one name") as refused:
            run.restore(out, overwrite=overwrite)
        named = {refused.value.path, refused.value.other}
        assert named == set(clashing) or named == {"Name", "name"}
        assert read(out) == theirs

    def test_are_restored_one_by_one(self, run, out, clashing, monkeypatch):
        fold_names(monkeypatch)
        for number, (path, data) in enumerate(clashing.items()):
            run.restore(out / str(number), paths=[path, "other"])
            assert read(out / str(number)) == {path: data, "other": b"o"}

    def test_are_restored_where_they_are_two(self, run, out, clashing):
        run.restore(out)
        assert read(out) == {**clashing, "other": b"o"}

    @pytest.mark.parametrize("overwrite", [True, False])
    @pytest.mark.parametrize("theirs", [{}, {"theirs": b"x"}, {"d/x/theirs": b"x"}])
    def test_lose_nothing_where_the_filesystem_has_another_rule(
        self, run, out, clashing, monkeypatch, theirs, overwrite
    ):
        """No rule of ours knows all filesystems."""
        write(out, theirs)
        fold_names(monkeypatch)
        monkeypatch.setattr(restore_module, "possible_clashes", lambda _paths: [])
        with pytest.raises((RestoreConflictError, RestoreFailedError)):
            run.restore(out, overwrite=overwrite)
        assert theirs.items() <= read(out).items()

    def test_directories_become_one_and_keep_their_files(self, run, out, monkeypatch):
        run.put("Data/a", b"1")
        run.put("data/b", b"2")
        fold_names(monkeypatch)
        run.restore(out)
        assert sorted(read(out).values()) == [b"1", b"2"]


class TestWhatIsInTheWay:
    @pytest.fixture
    def changed(self, run, work):
        """A run whose path `x` is a file at snapshot 1 and a directory at 2."""
        write(work, {"x": b"file", "y": b"1"})
        run.track(work)
        (work / "x").unlink()
        write(work, {"x/below/z": b"below"})
        (work / "x/link").symlink_to("below")
        run.track(work)
        return run

    @pytest.mark.parametrize(("there", "wanted"), [(1, 2), (2, 1)])
    def test_is_replaced_by_the_other_kind_if_asked_for(self, changed, out, there, wanted):
        changed.restore(out, at=there)
        before = read(out)
        with pytest.raises(RestoreConflictError, match=r"^'x' would be.*overwrite=True"):
            changed.restore(out, at=wanted)
        assert read(out) == before
        changed.restore(out, at=wanted, overwrite=True)
        assert read(out) == {
            "y": b"1",
            **({"x": b"file"} if wanted == 1 else {"x/below/z": b"below"}),
        }
        assert changed.restore(out, at=wanted).written == 0
        assert list(out.rglob(".cas-*")) == []

    @pytest.mark.parametrize("name", ["x/theirs", "x/below/theirs", "x/below/z", "x/pipe"])
    def test_a_directory_with_files_that_the_run_never_had_stays(self, changed, out, name):
        changed.restore(out, at=2)
        if name == "x/pipe":
            os.mkfifo(out / name)
        else:
            (out / name).write_bytes(b"theirs")
        (out / "y").write_bytes(b"changed")
        with pytest.raises(RestoreFailedError, match=f"'x'.*'{name}', which the run never had"):
            changed.restore(out, at=1, overwrite=True)
        assert (out / "x/link").is_symlink()
        assert (out / "y").read_bytes() == b"changed"
        assert (out / name).exists()

    def test_a_damaged_file_does_not_cost_the_directory_in_its_place(
        self, changed, out, objects, monkeypatch
    ):
        changed.restore(out, at=2)
        monkeypatch.setattr(os, "write", _fail_with(errno.ENOSPC))
        with pytest.raises(RestoreFailedError):
            changed.restore(out, at=1, overwrite=True)
        assert read(out) == {"y": b"1", "x/below/z": b"below"}


def _fail_with(number):
    def fail(*_args):
        raise OSError(number, os.strerror(number))

    return fail


MIB = 1 << 20
ZEROS = bytes(MIB)


class TestHoles:
    @pytest.mark.parametrize("theirs", [{}, {"theirs": b"x"}])
    @pytest.mark.parametrize(
        ("data", "most"),
        [
            (bytes(5 * MIB), 0),
            (bytes(5 * MIB + 1000), 1000),
            (b"x" + bytes(3 * MIB) + b"y", 2 * (64 << 10)),
            (bytes(3 * MIB) + b"y" * 100_000, 200_000),
            (b"x" * 100_000 + bytes(3 * MIB), 200_000),
            (b"x" * MIB + bytes(70_000) + b"y" * MIB, 2 * MIB + 140_000),
            (bytes(100_000), 40_000),
        ],
    )
    def test_runs_of_zeros_are_not_written(self, run, out, monkeypatch, data, most, theirs):
        run.put("image", data)
        write(out, theirs)
        written = []
        original = os.write

        def count(fd, piece):
            written.append(len(piece))
            return original(fd, piece)

        monkeypatch.setattr(os, "write", count)
        run.restore(out)
        assert (out / "image").read_bytes() == data
        assert sum(written) <= most

    @pytest.mark.usefixtures("equal_chunks")
    def test_what_holds_no_zeros_is_written_whole(self, run, out, monkeypatch):
        data = os.urandom(3 * MIB + 5)
        run.put("image", data)
        written = []
        original = os.write
        monkeypatch.setattr(os, "write", lambda fd, p: (written.append(len(p)), original(fd, p))[1])
        run.restore(out)
        assert (out / "image").read_bytes() == data
        assert written == [MIB, MIB, MIB, 5]


DEPTH = 1200


def make_deep(folder, depth=DEPTH):
    """Make directories `a/a/…` that are deeper than the interpreter's stack, and a file."""
    fd = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("a", dir_fd=fd)
        deeper = os.open("a", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = deeper
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)


class TestDeepDirectories:
    PATH = "/".join(["a"] * DEPTH) + "/file"

    @pytest.fixture
    def out(self, out):
        yield out
        subprocess.run(["rm", "-rf", str(out)], check=True)  # pytest's own removal is recursive

    def there(self, run, out):
        return run.restore(out).unchanged == 1

    def test_come_back_although_a_killed_restore_left_others(self, run, out):
        run.put(self.PATH, b"1")
        left = out / f".cas-{'0' * 32}"
        left.mkdir(parents=True)
        make_deep(left)
        assert run.restore(out).written == 1
        assert os.listdir(out) == ["a"]
        assert self.there(run, out)

    def test_come_back_where_directories_can_not_be_moved(self, run, out, monkeypatch):
        run.put(self.PATH, b"1")
        original = os.rename

        def rename(old, new, *, src_dir_fd, dst_dir_fd):
            if old == "a":
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
            return original(old, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

        monkeypatch.setattr(os, "rename", rename)
        assert run.restore(out).written == 1
        assert os.listdir(out) == ["a"]
        assert self.there(run, out)

    def test_make_way_for_a_file(self, run, out):
        run.put("a", b"file")
        run.put(self.PATH, b"1")
        run.restore(out, at=2)
        assert run.restore(out, at=1, overwrite=True).written == 1
        assert read(out) == {"a": b"file"}


def test_the_calls_of_an_ordinary_restore_stay_few(tracked, out, monkeypatch):
    """What odd filesystems need costs the others nothing."""
    calls = Counter()

    def counted(name):
        original = getattr(os, name)

        def call(*args, **kwargs):
            calls[name] += 1
            return original(*args, **kwargs)

        monkeypatch.setattr(os, name, call)

    for name in ("fchmod", "ftruncate", "lseek", "symlink"):
        counted(name)
    tracked.restore(out)
    assert calls == {"fchmod": len(FILES), "symlink": 1}
