"""Restores into the run's own directory, dry runs, and deletion of what a snapshot lacks."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress

import pytest
from insensitive import fold_names
from places import on_one
from trees import read, write

from index.errors import (
    DanglingFileError,
    NoDestinationError,
    RestoreConflictError,
    RestoreFailedError,
    UnknownFileError,
    UnsafePathError,
)
from index.reading import new_files

FIRST = {"kept": b"1", "edited": b"before", "removed/deep/x": b"gone", "data/a": b"a"}
SECOND = {"kept": b"1", "edited": b"after it", "data/a": b"a", "data/b": b"new", "new/f": b"n"}


@pytest.fixture
def history(run, work):
    """A run with two snapshots, whose work directory holds the second."""
    write(work, FIRST)
    run.track(work)
    shutil.rmtree(work / "removed")
    write(work, SECOND)
    run.track(work)
    return run


def told(result):
    return [tuple(change) for change in result.changes]


class TestInPlace:
    def test_what_is_missing_comes_back_where_it_was(self, history, work):
        (work / "edited").unlink()
        result = history.restore()
        assert (result.written, result.destination) == (1, str(work))
        assert read(work) == SECOND

    def test_the_directory_itself_comes_back(self, history, work):
        shutil.rmtree(work)
        history.restore()
        assert read(work) == SECOND

    def test_a_dry_run_names_what_would_go_and_was_never_recorded(self, history, work):
        new = {"data/a": b"before", "kept": b"after it", "own": b"mine"}
        write(work, {**new, "edited": FIRST["edited"]})
        planned = history.restore(overwrite=True, delete="all", dry_run=True)
        assert planned.unrecorded == ("data/a", "kept", "own")
        assert not history.restore(overwrite=True, delete="all").unrecorded

    def test_other_content_is_not_overwritten_unless_said(self, history, work):
        write(work, {"edited": b"by hand"})
        with pytest.raises(RestoreConflictError, match=r"overwrite=True"):
            history.restore()
        assert (work / "edited").read_bytes() == b"by hand"
        history.restore(paths=["edited"], overwrite=True, at=1)
        assert read(work) == {**SECOND, "edited": b"before"}

    def test_a_run_without_a_directory_asks_for_one(self, history, store, tmp_path):
        put = store.session("session-1").run("put")
        put.put("a", b"1")
        fork = history.fork("fork")
        for homeless in (put, fork):
            with pytest.raises(NoDestinationError, match=r"no work directory.*run\.restore"):
                homeless.restore()

    def test_a_directory_of_another_machine_is_not_made(self, history, work, tmp_path):
        away = tmp_path / "away"
        write(away / "there", {"a": b"1"})
        history.track(away / "there")
        shutil.rmtree(away)
        with pytest.raises(NoDestinationError, match=r"there'.*not on this machine"):
            history.restore()
        assert not away.exists()

    @on_one(because="the destination holds a local store")
    def test_a_run_that_holds_files_of_the_store_does_not_overwrite_it(self, run, place, tmp_path):
        inside = place["root"].relative_to(tmp_path)
        before = (place["root"] / "cas.json").read_bytes()
        for path in (f"{inside}/cas.json", f"{inside}/new".upper()):
            run.put(path, b"hostile")
            with pytest.raises(UnsafePathError, match="the store itself"):
                run.restore(tmp_path, paths=[path], overwrite=True)
        assert (place["root"] / "cas.json").read_bytes() == before


class TestDryRun:
    def test_says_what_a_restore_would_do_and_then_does(self, history, work):
        before = {path: os.lstat(work / path) for path in read(work)}
        planned = history.restore(at=1, overwrite=True, delete=True, dry_run=True)
        assert {path: os.lstat(work / path) for path in read(work)} == before
        assert told(planned) == [
            ("deleted", "data/b", 3),
            ("replaced", "edited", 6),
            ("deleted", "new/f", 1),
            ("created", "removed/deep/x", 4),
        ]
        assert (planned.written, planned.unchanged, planned.deleted) == (2, 2, 2)
        assert (planned.bytes_written, planned.dry_run) == (10, True)
        done = history.restore(at=1, overwrite=True, delete=True)
        assert told(done) == told(planned)
        assert read(work) == FIRST
        assert not done.dry_run

    def test_makes_no_directory_and_removes_no_leftover(self, history, tmp_path):
        planned = history.restore(tmp_path / "new/dir", dry_run=True)
        assert not (tmp_path / "new").exists()
        assert planned.written == len(SECOND)
        left = tmp_path / "used" / f".cas-{'0' * 32}"
        left.mkdir(parents=True)
        history.restore(left.parent, dry_run=True)
        assert left.is_dir()

    def test_raises_what_the_restore_would(self, history, work, tmp_path):
        write(work, {"edited": b"by hand"})
        with pytest.raises(RestoreConflictError):
            history.restore(dry_run=True)
        with pytest.raises(RestoreFailedError, match="a file is in its place"):
            history.restore(work / "edited", dry_run=True)
        with pytest.raises(UnknownFileError):
            history.restore(paths=["nothing"], dry_run=True)
        shutil.rmtree(work / "data")
        (work / "data").symlink_to(tmp_path)
        with pytest.raises(UnsafePathError):
            history.restore(dry_run=True)

    def test_names_what_makes_way_for_a_file_or_a_directory(self, run, work):
        write(work, {"x": b"file"})
        run.track(work)
        (work / "x").unlink()
        write(work, {"x/y": b"1", "x/z": b"22"})
        run.track(work)
        planned = run.restore(at=1, overwrite=True, dry_run=True)
        assert told(planned) == [("replaced", "x", 4), ("deleted", "x/y", 1), ("deleted", "x/z", 2)]
        assert told(run.restore(at=1, overwrite=True, delete=True)) == told(planned)
        planned = run.restore(at=2, overwrite=True, delete=True, dry_run=True)
        assert told(planned) == [("deleted", "x", 4), ("created", "x/y", 1), ("created", "x/z", 2)]
        assert told(run.restore(at=2, overwrite=True, delete=True)) == told(planned)
        assert read(work) == {"x/y": b"1", "x/z": b"22"}


class TestDelete:
    def test_makes_the_directory_equal_the_snapshot(self, history, work):
        history.restore(at=1, overwrite=True, delete=True)
        assert read(work) == FIRST
        assert not (work / "new").exists()
        history.restore(overwrite=True, delete=True)
        assert read(work) == SECOND
        assert not (work / "removed").exists()

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_leaves_what_was_never_recorded(self, history, work, overwrite):
        foreign = {"new/theirs": b"t", "data/b": b"changed", ".hidden": b"h", "x.tmp": b"t"}
        write(work, foreign)
        write(work, {"edited": b"before"})
        result = history.restore(at=1, overwrite=overwrite, delete=True)
        assert read(work) == FIRST | foreign
        assert result.kept == ("data/b",)
        assert told(result) == [("deleted", "new/f", 1), ("created", "removed/deep/x", 4)]

    def test_of_all_leaves_what_a_scan_passes_over(self, history, work):
        passed = {
            ".hidden": b"", ".git/config": b"", "node_modules/m": b"", "x.tmp": b"", "old.log": b"",
            "sub/big": b"", "note.bak": b"",
        }  # fmt: skip
        ignoring = {".casignore": b"*.log\n", "sub/.gitignore": b"big\n"}
        write(work, {**passed, **ignoring, "theirs": b"t", "sub/theirs": b"t", "data/b": b"x"})
        os.mkfifo(work / "pipe")
        result = history.restore(at=1, overwrite=True, delete="all", ignore=["*.bak"])
        (work / "pipe").unlink()  # still there
        assert read(work) == {**FIRST, **passed, **ignoring}
        assert result.kept == ()

    def test_removes_hidden_files_that_were_recorded(self, run, work):
        write(work, {"a": b"1"})
        run.track(work)
        write(work, {".env/b": b"2"})
        run.track(work, hidden=True)
        run.restore(at=1, delete=True)
        assert sorted(os.listdir(work)) == ["a"]

    def test_with_paths_is_only_below_them(self, history, work):
        history.restore(paths=["data"], at=1, delete=True)
        assert read(work) == {path: data for path, data in SECOND.items() if path != "data/b"}
        history.restore(paths=["edited"], delete="all")
        assert "new/f" in read(work)

    def test_removes_a_link_and_not_what_it_leads_to(self, run, work, tmp_path):
        write(tmp_path / "outside", {"f": b"theirs"})
        write(work, {"a": b"1"})
        run.track(work)
        (work / "link").symlink_to("a")
        (work / "away").symlink_to(tmp_path / "outside")
        run.track(work)
        run.restore(at=1, delete=True)
        assert os.listdir(work) == ["a"]
        assert read(tmp_path / "outside") == {"f": b"theirs"}

    @pytest.mark.parametrize("what", [True, "all"])
    def test_does_not_follow_a_link_out_of_the_destination(self, history, work, tmp_path, what):
        (work / "new").rename(tmp_path / "outside")
        (work / "new").symlink_to(tmp_path / "outside")
        history.restore(at=1, overwrite=True, delete=what)
        assert read(tmp_path / "outside") == {"f": b"n"}

    @on_one(because="the destination holds a local store")
    @pytest.mark.parametrize("what", [True, "all"])
    def test_never_deletes_the_store(self, run, place, tmp_path, what):
        inside = place["root"].relative_to(tmp_path)
        before = set(read(place["root"]))
        run.put(f"{inside}/cas.json", (place["root"] / "cas.json").read_bytes())
        run.put("a", b"1")
        run.restore(tmp_path, paths=["a"])
        run.restore(tmp_path, at=0, delete=what)
        assert before <= set(read(place["root"]))
        assert not (tmp_path / "a").exists()

    def test_leaves_a_file_that_changes_meanwhile(self, history, work, monkeypatch):
        original = os.mkdir

        def mkdir(path, *arguments, **options):
            if options.get("dir_fd") is not None:  # the directory of the first file to write
                (work / "new/f").write_bytes(b"?")
            return original(path, *arguments, **options)

        monkeypatch.setattr(os, "mkdir", mkdir)
        result = history.restore(at=1, overwrite=True, delete=True)
        assert (work / "new/f").read_bytes() == b"?"
        assert result.kept == ("new/f",)

    def test_does_not_begin_before_all_is_written(self, history, work, monkeypatch):
        def full(*_args):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "write", full)
        with pytest.raises(RestoreFailedError):
            history.restore(at=1, overwrite=True, delete=True)
        assert read(work) == SECOND

    def test_does_not_take_a_file_for_two_where_case_is_ignored(self, run, work, monkeypatch):
        run.put("Data/A", b"1")
        run.put("other", b"o")
        run.remove("Data/A")
        run.put("data/a", b"1")
        write(work, {"Data/A": b"1", "other": b"o"})
        fold_names(monkeypatch)
        result = run.restore(work, delete=True)
        assert (result.unchanged, result.deleted) == (2, 0)
        assert read(work) == {"Data/A": b"1", "other": b"o"}
        assert run.restore(work, delete="all").deleted == 0

    def test_takes_hostile_names(self, run, work):
        write(work, {"a": b"1"})
        run.track(work)
        names = ["-rf", "new\nline", "\x1b[2J", "caf\u00e9", os.fsdecode(b"\xff\xfe")]
        write(work, {f"{folder}/{name}": b"x" for folder in names for name in names})
        run.track(work)
        assert run.restore(at=1, delete=True).deleted == 25
        assert os.listdir(work) == ["a"]

    def test_is_true_false_or_all(self, history):
        with pytest.raises(ValueError, match="True, False or 'all'"):
            history.restore(delete="everything")


class TestCommand:
    @pytest.fixture
    def tracked(self, cas, tmp_path):
        write(tmp_path / "work", FIRST)
        assert cas("track", "work")[0] == 0
        shutil.rmtree(tmp_path / "work/removed")
        write(tmp_path / "work", SECOND)
        assert cas("track", "work")[0] == 0
        return cas

    def test_paths_come_back_in_place(self, tracked, tmp_path):
        work = tmp_path / "work"
        (work / "data/a").unlink()
        code, out, _ = tracked("restore", "data/a")
        assert (code, out) == (0, f"{work}: 1 file written (1 B), 0 there already\n")
        assert read(work) == SECOND
        assert tracked("restore", "edited", "--at", "1")[0] == 1
        assert tracked("restore", "edited", "--at", "1", "--overwrite")[0] == 0
        assert (work / "edited").read_bytes() == b"before"

    def test_a_dry_run_shows_each_file(self, tracked, tmp_path):
        arguments = ("restore", "--at", "1", "--overwrite", "--delete", "--dry-run")
        assert tracked(*arguments)[1].splitlines() == [
            "- data/b  3 B",
            "~ edited  6 B",
            "- new/f  1 B",
            "+ removed/deep/x  4 B",
            f"{tmp_path}/work: 2 files to be written (10 B), 2 to be deleted, 2 there already",
        ]
        report = json.loads(tracked(*arguments, "--json")[1])
        assert report["changes"][0] == {"change": "deleted", "path": "data/b", "size": 3}
        assert (report["deleted"], report["dry_run"]) == (2, True)
        assert read(tmp_path / "work") == SECOND

    def test_delete_tells_what_it_keeps(self, tracked, tmp_path):
        write(tmp_path / "work", {"data/b": b"edited", "mine.log": b"m", "mine": b"m"})
        (tmp_path / "cas.toml").write_text('[track]\nignore = ["*.log"]\n')
        code, out, err = tracked("restore", "--at", "1", "--overwrite", "--delete")
        assert code == 0
        assert "1 deleted" in out
        assert err == "kept, the run can't bring back its content: data/b\n"
        tracked("restore", "--at", "1", "--delete-all")
        assert read(tmp_path / "work") == {**FIRST, "mine.log": b"m"}

    def test_a_directory_that_is_taken_for_a_path_names_the_option(self, tracked):
        code, _, err = tracked("restore", "elsewhere/")
        assert code == 4
        assert "no 'elsewhere'" in err
        assert "--to DIR" in err

    def test_a_run_without_a_directory_names_the_option(self, tracked, tmp_path):
        tracked("fork", "copy", "--run", "work")
        code, _, err = tracked("restore", "--run", "copy")
        assert code == 4
        assert "`cas restore --to DIR`" in err


class TestWhatMustStay:
    def test_the_last_good_copy_stays_where_the_store_has_lost_the_bytes(
        self, store, run, tmp_path
    ):
        work = tmp_path / "w"
        write(work, {"a": b"1", "big": b"only here"})
        run.track(work)
        os.unlink(work / "big")
        run.track(work)
        write(work, {"big": b"only here"})
        backend = store.context.blobs.backend
        for pack in list(backend.iter_objects("packs/")):
            backend.delete(pack.name)
        result = run.restore(at=2, delete=True, paths=None, dry_run=True)
        assert (result.deleted, result.kept) == (0, ("big",))
        with suppress(DanglingFileError):
            run.restore(at=2, delete=True)
        assert (work / "big").read_bytes() == b"only here"

    def test_what_is_written_into_a_directory_while_a_file_is_to_replace_it_stays(
        self, run, tmp_path, monkeypatch
    ):
        work = tmp_path / "w"
        write(work, {"a": b"file"})
        run.track(work)
        os.unlink(work / "a")
        write(work, {"a/x": b"recorded"})
        run.track(work)
        create = new_files.create

        def writing(*arguments):
            write(work, {"a/new": b"unrecorded"})
            return create(*arguments)

        monkeypatch.setattr("index.reading.restore.create", writing)
        with pytest.raises(RestoreFailedError, match=r"a/new.*changed meanwhile"):
            run.restore(at=1, overwrite=True)
        assert read(work) == {"a/x": b"recorded", "a/new": b"unrecorded"}

    def test_what_a_scan_passes_over_stays_whatever_git_brings_in(self, run, tmp_path):
        work = tmp_path / "w"
        write(work, {"a": b"1"})
        run.track(work)
        stays = {".gitignore": b"!.env\n!keep.tmp\n", ".env": b"secret", "keep.tmp": b"1"}
        stays |= {"cas.toml": b"", "sub/store/cas.json": b"{}", "sub/store/index.db": b"db"}
        write(work, {**stays, "stray": b"2"})
        assert run.restore(delete="all").deleted == 1
        assert read(work) == {**stays, "a": b"1"}

    def test_a_recorded_cas_toml_stays(self, run, tmp_path):
        work = tmp_path / "w"
        write(work, {"a": b"1"})
        run.track(work)
        write(work, {"cas.toml": b"[track]\n", "b": b"2"})
        run.track(work)
        assert run.restore(at=1, delete=True).deleted == 1
        assert (work / "cas.toml").exists()
