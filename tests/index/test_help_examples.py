"""Every example of `cas COMMAND --help` works as it is printed."""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys

import pytest
from sources import commit, unpack
from trees import write

from cas.digest import Digest
from index import ArtifactStore
from index.cli.commands import cas as group

EXAMPLE = re.compile(r"^\s*((?:[A-Z_]+=\S+ )?cas .*?)(?:  +\S.*)?$")

LAST = ("rm",)
"""Commands whose examples come last, because they delete what the others use."""

ALLOWED = {"cas status work/ --exit-code": (0, 1)}
"""Exit codes that an example may have besides 0."""


def examples_of(command, path=()):
    if hasattr(command, "list_commands"):
        for name in command.list_commands(None):
            yield from examples_of(command.get_command(None, name), (*path, name))
        return
    for part in (command.help or "").split("\n\n"):
        for line in part.splitlines() if part.strip(" ").startswith("\b") else ():
            if found := EXAMPLE.match(line):
                yield path[0], found[1].rstrip()


EXAMPLES = sorted(examples_of(group), key=lambda each: each[0] in LAST)


@pytest.fixture
def world(cas, tmp_path, monkeypatch):
    """What the examples speak of: runs of several sessions, other stores, files."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", os.path.dirname(sys.executable), prepend=os.pathsep)
    (tmp_path / "cas.toml").write_text('[defaults]\nrun = "run-7"\n')
    for place, run in (("work", "run-7"), ("one", "1"), ("two", "2"), ("two", "run-8")):
        files = {"data/result.csv": run.encode(), "plots/result.png": b"png", "plots/a.png": b"a"}
        write(tmp_path / place, {**files, "data/old.csv": b"old", "plots/draft.png": b"draft"})
        assert cas("track", place, "--run", run, "--agent", "engineer")[0] == 0
    for version in (b"1", b"2", b"3"):
        write(tmp_path, {"notes.md": version, "work/data/part-1.csv": version})
        assert cas("put", "notes.md", "--run", "run-7")[0] == 0
        assert cas("track", "work", "--run", "run-7")[0] == 0
    write(tmp_path / "work", {"data/part-2.csv": b"2", "reports/all.pdf": b"pdf"})
    assert cas("track", "work", "--run", "run-7")[0] == 0
    assert cas("tag", "best", "--at", "1", "--run", "run-7")[0] == 0
    assert cas("tag", "result", "data/result.csv@1", "--run", "run-7")[0] == 0
    for session in ("session-1", "task-12"):
        assert cas("track", "one", "--session", session, "--run", "run-7")[0] == 0
    write(
        tmp_path, {"report.pdf": b"pdf", "root/tmp/out.csv": b"1", "root/scratch/job-7/out/a": b"1"}
    )
    write(tmp_path, {"root/data/raw.csv": b"raw", "data/raw.csv": b"raw", "clean.py": b""})
    write(tmp_path, {"train.py": b"", "plots.py": b"", "simulate": b"#!/bin/sh\n"})
    (tmp_path / "simulate").chmod(0o755)
    (tmp_path / "team").mkdir()
    (tmp_path / "team" / "cas.toml").write_text('index = "sqlite:///i.db"\nblobs = "blobs"\n')
    assert cas("sync", "-", "team/cas.toml", "--session", "session-1")[0] == 0
    assert cas("sync", "-", "root/backup/artifacts", "--run", "run-7")[0] == 0
    commit(tmp_path / "project", "one", {"a": b"1"})
    subprocess.run(["git", "-C", tmp_path / "project", "tag", "v1.0"], check=True)
    write(tmp_path, {"results/load/a": b"1", "results/fit/a": b"2"})
    unpack("mlflow", tmp_path)
    (tmp_path / "files" / "mlruns").rename(tmp_path / "mlruns")
    with ArtifactStore.open(tmp_path / "artifacts") as store:
        store.session("s").run("r").put("a", b"1")
    with sqlite3.connect(tmp_path / "app.db") as database:
        database.execute("CREATE TABLE files (id TEXT, file_path TEXT, run_id TEXT, node_id TEXT)")
        database.execute("INSERT INTO files VALUES ('1', '/gone/a', 'old', 'n')")
    database.close()
    return tmp_path


def as_here(text, world):
    """Return an example with places that are in the test's directory."""
    text = re.sub(r"(?<=[ =])/(?=(data|scratch|tmp|backup|home|srv)/)", f"{world}/root/", text)
    text = text.replace("4f2a…", "4f2a001").replace("4f2a001", str(Digest.of(b"run-7"))[:7])
    bucket = world / ("another" if "runs.db" in text else "bucket")
    text = text.replace("s3://bucket/prefix", str(bucket))
    return text.replace("postgresql+psycopg://host/db", f"sqlite:///{world}/other.db")


def test_every_example_of_the_help_works(world, cas, monkeypatch):
    assert len(EXAMPLES) > 80
    failed = []
    for name, printed in EXAMPLES:
        if name == "recover":
            for lost in ("artifacts/index.db", "other.db"):
                (world / lost).unlink(missing_ok=True)
        if name == "restore":
            shutil.rmtree(world / "elsewhere", ignore_errors=True)
        if name == "fork":
            assert cas("rm", "--run", "run-8", "--yes")[0] == 0
        with monkeypatch.context() as patched:
            patched.chdir(world)
            patched.setattr("sys.stdin", io.StringIO("y\n"))  # for what asks first
            if name == "init":
                (world / "new").mkdir(exist_ok=True)
                patched.chdir(world / "new")
                (world / "new" / "cas.toml").unlink(missing_ok=True)
            for part in as_here(printed, world).split(" || "):
                words = shlex.split(part.split(" > ")[0])
                while "=" in words[0]:
                    patched.setenv(*words.pop(0).split("=", 1))
                code = run(name, words[1:], cas)
                if code not in ALLOWED.get(part, (0,)):
                    failed.append((printed, code, cas(*words[1:])[2]))
    assert failed == [], failed


def run(name, words, cas):
    if name in ("watch", "serve"):  # they would go on; their tests are elsewhere
        command = group.get_command(None, name)
        command.make_context(name, words[1:], parent=group.make_context("cas", [name, *words[1:]]))
        return 0
    if name == "run" and "--run" not in words:  # it records this directory, which is no run-7
        words = [*words[:1], "--run", "recorded", *words[1:]]
    return cas(*words)[0]
