"""`cas import` and what it guesses."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from pathlib import Path
from tarfile import ExFileObject

import pytest
from sources import commit, unpack
from trees import write

from index.imports.formats import find_format
from index.imports.git_objects import GitRepository


@pytest.fixture
def repository(tmp_path):
    return commit(tmp_path / "project", "one", {"a": b"1"})


def test_it_says_what_it_reads_and_what_it_recorded(cas, repository):
    assert cas("import", "project") == (
        0,
        "run project: 1 snapshot, 1 file version, 1 B; the same as in the source\n",
        "reading project as a git history\n",
    )
    assert cas("import", "project", "--from", "git") == (0, "run project: nothing new\n", "")
    assert cas("ls", "--run", "project")[1].split("\t")[-1] == "a\n"


def test_json_has_a_report_for_each_run(cas, repository):
    (report,) = json.loads(cas("import", "project", "--json", "--session", "s")[1])
    assert report == {
        "session": "s",
        "run": "project",
        "format": "git",
        "source": "project",
        "snapshots": 1,
        "versions": 1,
        "bytes": 1,
        "skipped": [],
    }


def test_what_is_skipped_is_reported(cas, tmp_path):
    write(tmp_path / "results", {"step_1/a": b"1", "readme": b"r"})
    code, out, err = cas("import", "results")
    assert (code, err.splitlines()[-1]) == (0, "skipped readme: it is in no folder")
    assert out.startswith("run results: 1 snapshot")


def test_a_difference_exits_with_3(cas, repository, monkeypatch):
    monkeypatch.setattr(GitRepository, "list_files", lambda self, commit: {})
    code, _, err = cas("import", "project")
    assert code == 3
    assert err.splitlines()[-1] == (
        "error: run 'project' is not what 'project' lists: 'a' in snapshot 1: the source does not"
        " have it; see whether the source has changed meanwhile, and import it into another run"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("project", "--as-states"), "--as-states is not for a git history"),
        (("project", "--step", "a"), "--step is not for a git history"),
        (("project", "--dvc-cache", "."), "--dvc-cache is not for a git history"),
        (("gone",), "does not exist"),
        (("project", "--from", "svn"), "'svn' is not one of"),
        (("plain",), "say what plain is: --from"),
    ],
)
def test_what_does_not_fit_is_a_usage_error(cas, repository, tmp_path, arguments, said):
    (tmp_path / "plain").mkdir()
    code, _, err = cas("import", *arguments)
    assert (code, said in err) == (2, True), err
    assert not (tmp_path / ".cas").exists()


def test_a_source_that_is_none_exits_with_1(cas, tmp_path):
    (tmp_path / "empty").mkdir()
    code, _, err = cas("import", "empty", "--from", "git")
    assert (code, "cannot import 'empty': it is no git repository" in err) == (1, True)


def test_what_is_plain_is_guessed(repository, tmp_path):
    unpack("dvc3", tmp_path)
    unpack("mlflow", tmp_path)
    subprocess.run(["git", "clone", "-q", "--bare", repository, tmp_path / "bare"], check=True)
    files = {
        "o/0=ocfl_object_1.1": b"",
        "b/bagit.txt": b"",
        "s/step_1/a": b"",
        "s/step-2/a": b"",
        "s/notes.md": b"",
        "n/01_load/a": b"",
        "other/data/a": b"",
        "other/step_1/a": b"",
    }
    write(tmp_path, {**files, "x.bundle": b"", "empty/a": b""})
    found = {
        name: find_format(tmp_path / name)
        for name in ("project", "bare", "dvc3", "files/mlruns", "server", "server/mlflow.db", "o",
                     "b", "s", "n", "other", "empty", "x.bundle")
    }  # fmt: skip
    assert found == {
        "project": "git", "bare": "git", "dvc3": "dvc", "files/mlruns": "mlflow",
        "server": "mlflow", "server/mlflow.db": "mlflow", "o": "ocfl", "b": "bagit", "s": "steps",
        "n": "steps", "other": None, "empty": None, "x.bundle": "bundle",
    }  # fmt: skip


@pytest.mark.parametrize("source", ["project", "run.bundle"])
def test_a_full_temporary_directory_is_named(cas, repository, tmp_path, monkeypatch, source):
    cas("import", "project", "--run", "r")
    cas("export", "r", "--as", "bundle", "-o", "run.bundle")
    write(tmp_path, {"small/there": b""})
    original = Path.open

    def open_(path, mode="r", *arguments, **options):
        if "x" in mode:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(path, mode, *arguments, **options)

    monkeypatch.setattr(Path, "open", open_)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "small"))
    code, _, err = cas("import", source, "--run", "again")
    assert (code, err.splitlines()[-1]) == (
        5,
        f"error: no space is left for temporary files in {tmp_path / 'small'}; free some and run"
        " the command again, nothing incomplete was recorded",
    )


def test_a_bundle_that_can_not_be_read_is_named(cas, tmp_path, monkeypatch):
    write(tmp_path, {"w/a": b"1"})
    cas("track", "w", "--run", "r")
    cas("export", "r", "--as", "bundle", "-o", "run.bundle")

    def read(_file, _size=-1):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(ExFileObject, "read", read)
    code, _, err = cas("import", "run.bundle", "--session", "s")
    reason = "cannot import 'run.bundle': it can't be read: Input/output error"
    assert (code, err.splitlines()[-1]) == (1, f"error: {reason}")


@pytest.mark.parametrize(
    "source_format", ["bundle", "git", "dvc", "mlflow", "steps", "ocfl", "bagit", None]
)
def test_a_pipe_is_refused_at_once(cas, tmp_path, source_format):
    os.mkfifo(tmp_path / "pipe")
    told = () if source_format is None else ("--from", source_format)
    code, _, err = cas("import", "pipe", *told)
    assert (code, err.startswith("error: cannot import 'pipe': ")) == (1, True)
    assert len(err.splitlines()) == 1
