"""A DVC repository becomes a run: what git has, and what DVC's cache has for each commit.

The repositories were written by DVC 3.67 and DVC 2.58: see `keep_dvc.sh`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from places import on_one
from sources import unpack
from trees import contents

from index import Run
from index.errors import ImportMismatchError, ImportSourceError
from index.imports import read_dvc
from index.imports.dvc_files import DvcCache, read_dvc_file
from index.imports.sources import UnreadableFileError

alone = on_one(because="what DVC says is read before a store is written to")


@pytest.fixture(params=["dvc3", "dvc2"])
def repository(request, tmp_path):
    """A repository of four commits."""
    return _unpacked(tmp_path, request.param)


@pytest.fixture
def newer(tmp_path):
    return _unpacked(tmp_path, "dvc3")


def _unpacked(folder, name):
    return unpack(name, folder).rename(folder / "project")


def md5_of(data):
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def git(repository, *arguments):
    done = subprocess.run(
        ["git", "-c", "user.name=Ada", "-c", "user.email=a@b", "-C", repository, *arguments],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def cached(repository, md5):
    """Return the path of an object in the cache."""
    (found,) = (repository / ".dvc" / "cache").glob(f"**/{md5[:2]}/{md5[2:]}")
    return found


def outputs(run, at=None):
    """Return what DVC has made."""
    git_holds = (".dvc", ".dvcignore", "dvc.", "params.yaml", ".gitignore", "data/.gitignore")
    return {
        path: data
        for path, data in contents(run, at).items()
        if not path.startswith(git_holds) and not path.endswith((".dvc", "/.gitignore"))
    }


@pytest.fixture
def session(store):
    return store.session("session-1")


RAW = "b739c9a897daf1e7dc66b44c3a8d14f1"
"""The list of the files in `data/raw`, in the last commit."""

SCRIPT = b"#!/bin/sh\necho\n"
FIRST = {"data/raw/a.csv": b"x,y\n1,2\n", "data/raw/windows.txt": b"line\r\nline\r\n"}


def test_each_commit_has_the_data_that_dvc_had_for_it(session, repository):
    report = read_dvc(session, repository)
    assert (report.run, report.format, report.snapshots, report.skipped) == (
        "project", "dvc", 8, (),
    )  # fmt: skip
    run = session.run("project")
    assert outputs(run, at=1) == {**FIRST, "models/run.sh": SCRIPT}
    assert (
        outputs(run, at=4)
        == {
            **FIRST,
            "models/run.sh": SCRIPT,
            "metrics.json": b"{}\n",
            "total.txt": b"8\n",
            "out/report.txt": b"8\n",
        }
        or outputs(run, at=4)["total.txt"].strip() == b"8"
    )
    last = outputs(run)
    assert last["models/run.sh"] == SCRIPT  # git has it since DVC does not
    assert last["data/raw/a.csv"] == b"x,y\n1,2\n3,4\n"
    assert last["data/raw/b.csv"] == b"new\n"
    assert last["total.txt"] == last["out/report.txt"] == b"12\n"
    assert contents(run)["dvc.yaml"] == (repository / "dvc.yaml").read_bytes()


@alone
def test_modes_and_revisions_count(session, repository):
    assert read_dvc(session, repository, rev="HEAD~1").snapshots == 7
    assert session.run("project")["models/run.sh"].mode & 0o777 == 0o755


def test_a_stage_is_a_node_with_its_command_and_what_it_read(session, repository):
    read_dvc(session, repository)
    run = session.run("project")
    nodes = [each.provenance.node_id for each in run.snapshots()]
    assert nodes == [None, None, "total", "report", None, "total", "report", None]
    total = run.snapshot(3)
    commit = git(repository, "rev-parse", "HEAD~2")
    assert total.provenance.agent == "Ada Lovelace"
    assert total.provenance.event_id == total.notes["commit"] == commit
    assert total.notes["imported"] == {"from": "dvc", "revision": f"{commit}:dvc.lock:total"}
    assert total.notes["stage"] == "total"
    assert total.notes["cmd"].startswith("wc -c")
    assert total.notes["params"] == {"params.yaml": {"lr": 0.1}}
    assert [each["path"] for each in total.notes["deps"]] == ["data/raw/a.csv"]
    assert [each.path for each in total.added] == ["metrics.json", "total.txt"]
    assert run["out/report.txt"].node_id == "report"
    assert run["data/raw/a.csv"].node_id is None
    assert run["data/raw/b.csv"].mtime_ns == 1704272400 * 10**9


def test_odd_commands_and_parameters_can_be_noted(session, newer):
    lock = newer / "dvc.lock"
    text = lock.read_text().replace("lr: 0.1", 'lr: .nan\n        "\\0x": 2024-01-01')
    lock.write_text(text.replace("cmd: mkdir -p out", 'cmd: "mkdir \\0" #'))
    git(newer, "commit", "-q", "-a", "-m", "odd")
    read_dvc(session, newer)
    notes = session.run("project").snapshots()[-1].notes
    assert session.run("project").snapshots()[-2].notes["params"]["params.yaml"]["lr"] == "NaN"
    assert notes["stage"] == "report"


def test_what_a_stage_read_is_its_input(session, repository):
    read_dvc(session, repository)
    run = session.run("project")
    found = [(each.node_id, each.path) for each in run.inputs()]
    assert found == [
        ("total", "data/raw/a.csv"),
        ("report", "total.txt"),
        ("total", "data/raw/a.csv"),
        ("report", "total.txt"),
    ]
    lineage = session.lineage("out/report.txt")
    assert {each.path for each in lineage.versions} >= {"total.txt", "data/raw/a.csv"}


@alone
def test_only_what_has_the_bytes_is_an_input(session, newer):
    (newer / "params.yaml").write_text("lr: 0.5\n")
    lock = newer / "dvc.lock"
    lock.write_text(lock.read_text().replace("lr: 0.1", "lr: 0.5").replace("178ba85", "0000000"))
    git(newer, "commit", "-q", "-a", "-m", "by hand")
    read_dvc(session, newer)
    (last, *_) = reversed(session.run("project").snapshots())
    assert last.notes["stage"] == "total"
    assert session.run("project").inputs(event_id=last.notes["commit"]) == ()


@alone
def test_a_directory_that_was_read_is_an_input(session, newer):
    data = "".join(
        f"  {name}:\n    cmd: ls\n    deps: [{{path: {path}, md5: {md5}.dir, hash: md5}}]\n"
        for name, path, md5 in [("kept", "data/raw", RAW), ("lost", "models", "0" * 32)]
    )
    (newer / "sub").mkdir()
    (newer / "sub" / "dvc.lock").write_text(
        f"schema: '2.0'\nstages:\n{data}".replace("path: ", "path: ../")
    )
    git(newer, "add", "sub")
    git(newer, "commit", "-q", "-m", "directories")
    read_dvc(session, newer)
    run = session.run("project")
    assert {each.path for each in run.inputs(node_id="kept")} == {
        "data/raw/a.csv", "data/raw/b.csv", "data/raw/windows.txt",
    }  # fmt: skip
    assert {each.path for each in run.inputs(node_id="lost")} == {"models/run.sh"}


@pytest.mark.parametrize("tracked", [1, 3, 4, 8])
def test_after_an_interruption_it_goes_on(session, newer, monkeypatch, tracked):
    calls = []

    def track(self, *arguments, **options):
        calls.append(options)
        if len(calls) == tracked:
            raise KeyboardInterrupt
        return original(self, *arguments, **options)

    original = Run.track
    monkeypatch.setattr(Run, "track", track)
    with pytest.raises(KeyboardInterrupt):
        read_dvc(session, newer)
    monkeypatch.undo()
    assert read_dvc(session, newer).snapshots == 9 - tracked
    assert read_dvc(session, newer).snapshots == 0
    assert len(session.run("project").snapshots()) == 8


@alone
def test_the_run_goes_on_in_the_work_directory(session, newer):
    read_dvc(session, newer)
    status = session.run("project").status(newer)
    assert (status.added, status.changed, status.removed) == ((), (), ())


@alone
def test_what_the_cache_lacks_is_reported_and_the_rest_imported(session, repository):
    md5 = md5_of(b"12\n")
    cached(repository, md5).unlink()
    report = read_dvc(session, repository)
    reason = (
        f"DVC's cache does not have it ({md5}); run `dvc fetch --all-commits` before the import"
    )
    assert report.skipped == (("total.txt", reason), ("out/report.txt", reason))
    run = session.run("project")
    assert "total.txt" not in run
    assert run.read_bytes("total.txt", at=4) == b"8\n"
    git(repository, "commit", "-q", "--allow-empty", "-m", "more")
    assert read_dvc(session, repository).snapshots == 1


@alone
def test_a_list_of_files_that_is_missing_is_reported(session, repository):
    for each in (repository / ".dvc" / "cache").glob("**/*.dir"):
        each.unlink()
    report = read_dvc(session, repository)
    assert {each.path for each in report.skipped} == {"data/raw", "out"}
    assert session.run("project").read_bytes("total.txt") == b"12\n"


@alone
def test_bytes_without_their_digest_are_not_imported(session, repository):
    damaged = cached(repository, md5_of(b"new\n"))
    damaged.chmod(0o600)
    damaged.write_bytes(b"old\n")
    report = read_dvc(session, repository)
    assert report.skipped == (
        ("data/raw/b.csv", "its bytes in DVC's cache do not have their MD5 digest"),
    )
    assert "data/raw/b.csv" not in session.run("project")


@alone
@pytest.mark.parametrize("kind", ["link", "fifo", "directory"])
def test_only_files_of_the_cache_are_read(session, newer, tmp_path, kind):
    secret = tmp_path / "secret"
    secret.write_bytes(b"new\n")  # even one with the right bytes
    place = cached(newer, md5_of(b"new\n"))
    place.unlink()
    if kind == "link":
        place.symlink_to(secret)
    elif kind == "fifo":
        os.mkfifo(place)
    else:
        place.mkdir()
    (skipped,) = read_dvc(session, newer).skipped
    assert skipped.path == "data/raw/b.csv"
    assert "DVC's cache" in skipped.reason


def commit_list(repository, entries):
    """Make a directory of DVC with these entries the newest commit."""
    data = json.dumps(entries).encode()
    md5 = md5_of(data)
    place = repository / ".dvc/cache/files/md5" / md5[:2] / f"{md5[2:]}.dir"
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(data)
    (repository / "listed.dvc").write_text(
        f"outs:\n- md5: {md5}.dir\n  hash: md5\n  path: listed\n"
    )
    git(repository, "add", "listed.dvc")
    git(repository, "commit", "-q", "-m", "listed")


@alone
def test_no_path_leads_out(session, newer, tmp_path):
    md5 = md5_of(b"new\n")
    names = ["../up", "/abs", "a/../../b", "", "\ud800", "good"]
    commit_list(newer, [{"md5": md5, "relpath": name} for name in names])
    report = read_dvc(session, newer)
    assert [each.path for each in report.skipped] == [
        "listed: ../up", "listed: /abs", "listed: a/../../b", "listed: ", "listed: \ud800",
    ]  # fmt: skip
    assert session.run("project").read_bytes("listed/good") == b"new\n"
    assert sorted(os.listdir(tmp_path)) == ["place", "project"]


@alone
def test_nothing_is_written_through_a_link_of_the_same_commit(session, newer, tmp_path):
    (tmp_path / "outside").mkdir()
    (newer / "listed").symlink_to(tmp_path / "outside")
    git(newer, "add", "listed")
    commit_list(newer, [{"md5": md5_of(b"new\n"), "relpath": "planted"}])
    report = read_dvc(session, newer)
    assert report.skipped == (("listed", "this machine can't have it: File exists"),)
    assert os.listdir(tmp_path / "outside") == []
    assert session.run("project").read_bytes("listed/planted") == b"new\n"


@alone
@pytest.mark.parametrize("entries", [{"a": 1}, [1], [{"md5": "x"}], "text"])
def test_a_damaged_list_of_files_is_reported(session, newer, entries):
    commit_list(newer, entries)
    assert [each.path for each in read_dvc(session, newer).skipped] == ["listed"]


@alone
def test_a_digest_is_no_path(session, newer):
    commit_list(newer, [{"md5": "../../../../../etc/passwd", "relpath": "p"}])
    assert read_dvc(session, newer).skipped == (("listed/p", "its digest in DVC is no MD5 digest"),)


@pytest.mark.parametrize(
    ("path", "skipped"),
    [
        ("../out", "../out"),
        ("/etc/passwd", "/etc/passwd"),
        ("s3://bucket/key", "s3://bucket/key"),
        (".", "."),
    ],
)
def test_outputs_outside_of_the_repository_are_reported(path, skipped):
    data = f"outs:\n- path: {path}\n  md5: {'0' * 32}\n".encode()
    (stage,) = read_dvc_file("a.dvc", data)
    assert stage.outputs == ()
    assert stage.skipped == ((skipped, "it lies outside of the repository"),)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text",
        b"- a",
        b"outs: 5",
        b"outs: [5]",
        b"outs: [{md5: x}]",
        b"\xff\xfe",
        b"a: &a [x]\nb: *a\nouts: []",
        b"outs: " + b"[" * 5000,
    ],
    ids=["empty", "text", "list", "number", "numbers", "no-path", "bytes", "alias", "deep"],
)
def test_what_is_no_dvc_file_is_reported(data):
    with pytest.raises(UnreadableFileError, match="it is no file of DVC"):
        read_dvc_file("a.dvc", data)


def test_stages_come_after_what_they_read():
    stages = "".join(
        f"  {name}:\n    cmd: x\n    deps: [{{path: {dep}, md5: m}}]\n"
        f"    outs: [{{path: {out}, md5: m}}]\n"
        for name, dep, out in [
            ("c", "b.out", "c.out"),
            ("b", "a.out", "b.out"),
            ("a", "x", "a.out"),
        ]
    )
    found = read_dvc_file("sub/dvc.lock", f"schema: '2.0'\nstages:\n{stages}".encode())
    assert [each.name for each in found] == ["a", "b", "c"]
    assert found[0].outputs[0].path == "sub/a.out"


def test_a_working_directory_and_listed_files_count():
    data = b"wdir: ../w\nouts:\n- path: d\n  files:\n  - {relpath: x/y, md5: m1}\n"
    (stage,) = read_dvc_file("a/b.dvc", data)
    (output,) = stage.outputs
    assert output.path == "w/d"
    assert DvcCache(Path("/nowhere")).list_files(output) == (("x/y", "m1"),)


@alone
def test_a_cache_elsewhere_must_be_named(session, newer, tmp_path):
    shutil.move(newer / ".dvc" / "cache", tmp_path / "shared")
    config = newer / ".dvc" / "config.local"
    config.write_text(f"[cache]\n    dir = {tmp_path / 'shared'}\n")
    with pytest.raises(ImportSourceError, match="its cache is outside of it"):
        read_dvc(session, newer)
    assert read_dvc(session, newer, cache=tmp_path / "shared").skipped == ()
    config.write_text("[cache\n")
    with pytest.raises(ImportSourceError, match=r"config\.local can't be read"):
        read_dvc(session, newer, run="other")


@alone
def test_a_pipe_in_the_place_of_the_configuration_is_not_read(session, newer):
    os.mkfifo(newer / ".dvc" / "config.local")
    assert read_dvc(session, newer).skipped == ()


@alone
def test_a_cache_inside_may_be_anywhere(session, newer):
    (newer / ".dvc" / "cache").rename(newer / "elsewhere")
    (newer / ".dvc" / "config.local").write_text("['remote \"x\"']\n[cache]\ndir = ../elsewhere\n")
    assert read_dvc(session, newer).skipped == ()


@alone
def test_what_is_no_dvc_repository_is_refused(session, newer, tmp_path):
    with pytest.raises(ImportSourceError, match=r"it has no directory \.dvc"):
        read_dvc(session, tmp_path)
    shutil.rmtree(newer / ".git")
    with pytest.raises(ImportSourceError, match="its root has no git history"):
        read_dvc(session, newer)


@alone
def test_bytes_are_read_back_and_compared(session, newer, monkeypatch):
    def iter_object(self, md5, *, is_old):
        for piece in original(self, md5, is_old=is_old):
            yield piece.replace(b"3,4", b"9,9")

    original = DvcCache.iter_object
    monkeypatch.setattr(DvcCache, "iter_object", iter_object)
    with pytest.raises(ImportMismatchError, match=r"'data/raw/a.csv' in snapshot 5: it has other"):
        read_dvc(session, newer)
