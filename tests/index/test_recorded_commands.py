"""Commands that a run records, from Python."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from datetime import datetime

import pytest
from places import EACH_INDEX, on_one, places
from trees import contents, write

from cas.errors import StoreClosedError
from index import provenance
from index.errors import (
    CommandNotFoundError,
    CommandNotStartedError,
    OtherDirectoryError,
    UnknownRunError,
    WorkDirectoryError,
)

place = places(EACH_INDEX)


def shell(script):
    return ["sh", "-c", script]


@pytest.fixture(autouse=True)
def directory(work, monkeypatch):
    """The work directory, which is the current one too."""
    monkeypatch.chdir(work)
    return work


def test_what_a_command_makes_is_its_own_and_what_was_there_is_nobodys(run, work):
    write(work, {"old": b"1", "grows": b"2"})
    done = run.record(shell("echo 3 > new; echo 4 >> grows"), work, agent="engineer", node_id="n")
    assert (done.status, done.reason, done.exit_status) == ("finished", None, 0)
    assert {v.path: (v.agent, v.node_id) for v in run.files()} == {
        "old": (None, None),
        "new": ("engineer", "n"),
        "grows": ("engineer", "n"),
    }
    before, after = run.snapshots()
    assert (before.notes, before.provenance.agent) == (None, None)
    assert after == done.snapshot
    assert [v.path for v in done.snapshot.added] == ["new"]
    assert [v.path for v in done.snapshot.changed] == ["grows"]


def test_files_that_were_there_stay_nobodys_inside_a_provenance_scope(run, work):
    write(work, {"old": b"1"})
    with provenance(agent="engineer", node_id="n"):
        run.record(shell("echo 2 > new"))
    assert {v.path: v.agent for v in run.files()} == {"old": None, "new": "engineer"}


def test_the_notes_tell_how_it_was_run(run, work):
    done = run.record(
        [*shell('exec "$@"'), "sh", "true", "--password", "sesame", "https://u:p@host/"],
        environment={"THREADS": "4", "UNSET": None},
    )
    notes = done.snapshot.notes
    assert notes == run.snapshots()[-1].notes
    assert notes["command"] == [
        *shell('exec "$@"'), "sh", "true", "--password", "***", "https://***@host/",
    ]  # fmt: skip
    assert notes["directory"] == str(work)
    assert (notes["status"], notes["exit_status"]) == ("finished", 0)
    assert notes["environment"] == {"THREADS": "4", "UNSET": None}
    assert notes["host"] == socket.gethostname()
    assert notes["user"]
    assert datetime.fromisoformat(notes["started_at"]).utcoffset() is not None
    assert 0 <= notes["duration_s"] < 60


def test_the_environment_is_not_noted_by_itself(run, monkeypatch):
    monkeypatch.setenv("SECRET", "sesame")
    assert "sesame" not in str(run.record(["true"]).snapshot.to_dict())
    assert "environment" not in run.record(["true"]).snapshot.notes


def test_a_command_that_changes_nothing_is_recorded(run, work):
    write(work, {"a": b"1"})
    run.track(work)
    done = run.record(["true"])
    assert (done.snapshot.number, done.snapshot.added, done.snapshot.unchanged) == (2, (), 1)
    assert len(run.snapshots()) == 2  # nothing was new before it


@pytest.mark.parametrize(
    ("script", "exit_status", "status", "reason"),
    [
        ("echo half > out; exit 3", 3, "failed", "exit status 3"),
        ("echo half > out; kill -KILL $$", 137, "failed", "killed by SIGKILL"),
        ("echo half > out; kill -INT $$", 130, "cancelled", "killed by SIGINT"),
        ("echo half > out; kill -TERM $$", 143, "cancelled", "killed by SIGTERM"),
    ],
)
def test_what_a_command_that_fails_has_left_is_recorded(run, script, exit_status, status, reason):
    done = run.record(shell(script), agent="engineer")
    assert (done.exit_status, done.status, done.reason) == (exit_status, status, reason)
    assert contents(run) == {"out": b"half\n"}
    told = run.summary()
    assert (told.status, told.status_reason) == (status, reason)
    assert told.started_at <= told.ended_at
    assert done.snapshot.notes["exit_status"] == exit_status


def test_the_run_is_running_meanwhile(run, place, work):
    script = (
        "from pathlib import PosixPath; from index import ArtifactStore; "
        f"store = ArtifactStore.open(**{place!r}); run = store.session('session-1').run('run-1'); "
        "open('seen', 'w').write(run.summary().status); run.put('put', b'1', agent='inner')"
    )
    outside = work.parent / "outside.py"
    outside.write_text(script)
    done = run.record([sys.executable, outside], agent="outer")
    assert done.status == "finished"
    assert (work / "seen").read_text() == "running"
    assert {v.path: v.agent for v in run.files()} == {"seen": "outer", "put": "inner"}


def test_the_standard_streams_and_other_descriptors_are_the_commands(run, work):
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)  # noqa: FBT003
    script = f"import os; os.write({writing}, b'passed')"
    assert run.record([sys.executable, "-c", script]).status == "finished"
    os.close(writing)
    with open(reading) as stream:
        assert stream.read() == "passed"


@pytest.mark.parametrize("word", ["no-such-program", "./missing", ""])
def test_a_command_that_does_not_exist_leaves_nothing(run, word):
    with pytest.raises(CommandNotFoundError, match="there is no such program; check its spelling"):
        run.record([word])
    with pytest.raises(UnknownRunError):
        run.summary()


def test_a_file_that_is_no_program_leaves_nothing(run, work):
    write(work, {"data": b"1"})
    with pytest.raises(CommandNotStartedError, match="it is no executable file"):
        run.record(["./data"])
    with pytest.raises(UnknownRunError):
        run.summary()


def test_a_program_that_can_not_be_started_has_failed(run, work):
    write(work, {"script": b"#!/no/such/interpreter\n"})
    (work / "script").chmod(0o755)
    with pytest.raises(CommandNotStartedError, match="No such file"):
        run.record(["./script"])
    told = run.summary()
    assert (told.status, told.snapshots) == ("failed", 1)
    assert told.status_reason.startswith("'./script' can't be run: No such file")


@pytest.mark.parametrize("command", ["true", b"true", ()])
def test_a_command_is_a_sequence_of_words(run, command):
    with pytest.raises((TypeError, ValueError), match="command"):
        run.record(command)


def test_a_directory_that_the_command_removes_is_told_and_the_run_has_failed(run, work):
    write(work, {"sub/a": b"1"})
    with pytest.raises(WorkDirectoryError):
        run.record(["rm", "-r", "sub"], "sub")
    told = run.summary()
    assert (told.status, told.status_reason) == ("failed", "what it left was not recorded")
    assert contents(run) == {"a": b"1"}


def test_a_failure_to_record_is_raised_as_it_is(run, store, monkeypatch):
    monkeypatch.setattr("index.api.command._run", lambda _words: (store.close(), (0, False))[1])
    with pytest.raises(StoreClosedError):
        run.record(["true"])


def test_nothing_runs_if_the_first_scan_refuses(run, work):
    (work / "other").mkdir()
    run.track(work)
    with pytest.raises(OtherDirectoryError):
        run.record(shell("echo 1 > made"), "other", same_directory=True)
    assert not (work / "made").exists()


def test_it_takes_the_arguments_of_a_scan(run, work):
    write(work, {"in/a": b"1", "out/b": b"2"})
    run.record(
        shell("echo 1 > in/c; echo 1 > in/d.tmp2; echo 1 > .hidden; echo 1 > out/d"),
        scope=["in", ".hidden"],
        ignore=["*.tmp2"],
        hidden=True,
        prefix="p",
        final=["in/*"],
    )
    assert {v.path: v.is_final_output for v in run.files()} == {
        "p/in/a": True,
        "p/in/c": True,
        "p/.hidden": False,
    }


def test_several_at_once_are_all_recorded(run, work):
    async def record():
        await asyncio.gather(
            *(run.record_async(shell(f"echo {n} > {n}"), work, agent=f"a{n}") for n in range(3))
        )

    asyncio.run(record())
    assert set(contents(run)) == {"0", "1", "2"}
    noted = [each.notes["command"][-1] for each in run.snapshots() if each.notes]
    assert sorted(noted) == [f"echo {n} > {n}" for n in range(3)]
    assert run.summary().status == "finished"


@on_one(because="git is the same on all")
class TestGit:
    @pytest.fixture
    def git(self, work):
        def call(*arguments):
            subprocess.run(
                ["git", "-c", "user.name=n", "-c", "user.email=e", *arguments],
                cwd=work,
                check=True,
                capture_output=True,
            )

        call("init")
        return call

    def test_the_commit_and_whether_it_is_all_are_noted(self, run, work, git):
        write(work, {"code.py": b"1"})
        assert "git" not in run.record(["true"]).snapshot.notes  # there is no commit yet
        git("add", "code.py")
        git("commit", "-m", "first")
        head = (work / ".git/HEAD").read_text().split()[-1]
        commit = (work / ".git" / head).read_text().strip()
        made = run.record(shell("echo 2 > code.py; echo 3 > new"))
        assert made.snapshot.notes["git"] == {"commit": commit, "dirty": False}
        assert run.record(["true"]).snapshot.notes["git"] == {"commit": commit, "dirty": True}

    def test_without_git_nothing_is_noted_of_it(self, run, work, git, monkeypatch, tmp_path):
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "true").symlink_to("/bin/true")
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))
        assert "git" not in run.record(["true"]).snapshot.notes
