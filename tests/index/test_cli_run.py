"""The command that runs a command: `cas run`."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time

import pytest
from places import on_one
from trees import read, write

from index import ArtifactStore


@pytest.fixture
def started(store_root, tmp_path, monkeypatch):
    """Start `cas run` as a process of its own in a directory `work`."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    script = "import sys; from index.cli import main; main(sys.argv[1:])"
    processes = []

    def start(*arguments, **options):
        command = [sys.executable, "-c", script, "--store", store_root, "run", *arguments]
        process = subprocess.Popen([str(word) for word in command], **options)
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()


def told(store_root):
    """Return the run's summary, its last snapshot and its files."""
    with ArtifactStore.open(store_root) as store:
        run = store.session("default").run("work")
        return run.summary(), run.snapshots()[-1], [v.path for v in run.files()]


def until(condition):
    for _ in range(6_000):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail("it did not come to that")


def test_a_command_is_recorded_with_its_provenance(cas, tmp_path):
    write(tmp_path / "work", {"in": b"1"})
    code, out, err = cas(
        *("run", "--dir", "work", "--agent", "engineer", "--node", "n1", "--final", "*.csv"),
        *("--", "sh", "-c", "echo told; echo 1,2 > work/out.csv"),
    )
    assert (code, out) == (0, "told\n")
    assert err.startswith("work: snapshot 2, 1 added, 0 changed, 0 removed; finished after 0.")
    listed = json.loads(cas("ls", "-R", "--json")[1])
    assert {each["path"]: (each["agent"], each["node_id"]) for each in listed} == {
        "in": (None, None),
        "out.csv": ("engineer", "n1"),
    }
    assert [each["path"] for each in listed if each["is_final_output"]] == ["out.csv"]
    noted = json.loads(cas("snapshots", "--json")[1])[-1]["notes"]
    assert noted["command"] == ["sh", "-c", "echo told; echo 1,2 > work/out.csv"]
    assert noted["directory"] == str(tmp_path)
    assert "echo told" in cas("snapshots")[1]
    assert "finished" in cas("runs")[1]


@pytest.mark.parametrize("words", [("sh", "-c", "exit 3"), ("--", "sh", "-c", "exit 3")])
def test_the_exit_code_is_the_commands(cas, tmp_path, words):
    code, _, err = cas("run", *words)
    assert code == 3
    assert "; failed (exit status 3) after " in err


def test_options_after_the_command_are_the_commands(cas):
    code, out, _ = cas("run", "echo", "--help", "-q", "--", "--json")
    assert (code, out) == (0, "--help -q -- --json\n")


def test_quiet_prints_what_the_command_prints(cas):
    assert cas("run", "-q", "sh", "-c", "echo out; echo err >&2") == (0, "out\n", "err\n")
    assert cas("-q", "run", "sh", "-c", "echo out; echo err >&2; exit 1") == (1, "out\n", "err\n")


def test_environment_variables_are_noted_if_asked_for(cas, monkeypatch):
    monkeypatch.setenv("THREADS", "4")
    cas("run", "--env", "THREADS", "--env", "UNSET_HERE", "true")
    noted = json.loads(cas("snapshots", "--json")[1])[-1]["notes"]
    assert noted["environment"] == {"THREADS": "4", "UNSET_HERE": None}


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("no-such-program",), 127, "error: 'no-such-program' can't be run: there is no such"),
        (("./data",), 126, "error: './data' can't be run: it is no executable file"),
        ((), 2, "Missing argument 'COMMAND"),
        (("--dir", "missing", "true"), 1, "missing"),
        (("--no-such-option", "true"), 2, "No such option"),
    ],
)
def test_a_mistyped_command_makes_no_store(cas, tmp_path, arguments, code, told):
    (tmp_path / "data").write_text("no program")
    done = cas("run", *arguments)
    assert done[0] == code
    assert told in done[2]
    assert not (tmp_path / ".cas").exists()


@on_one(because="processes and terminals are the same on all")
class TestProcesses:
    def test_standard_input_is_the_commands(self, started, place):
        process = started("cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.communicate(b"\0\xff\n")[0] == b"\0\xff\n"
        assert process.returncode == 0

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_a_signal_is_passed_on_and_what_is_left_is_recorded(
        self, started, store_root, number, place
    ):
        process = started("sh", "-c", "echo 1 > made; exec sleep 60", start_new_session=True)
        until(lambda: os.path.exists("made"))
        process.send_signal(number)
        assert process.wait(60) == 128 + number
        summary, snapshot, files = told(store_root)
        assert (summary.status, files) == ("cancelled", ["made"])
        assert snapshot.notes["exit_status"] == 128 + number

    def test_a_command_that_ends_well_though_it_was_interrupted_has_finished(
        self, started, store_root, place
    ):
        script = "trap 'echo 1 > caught; exit 0' INT; echo 1 > made; while :; do sleep 0.05; done"
        process = started("sh", "-c", script, start_new_session=True)
        until(lambda: os.path.exists("made"))
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        summary, _, files = told(store_root)
        assert (summary.status, files) == ("finished", ["caught", "made"])

    def test_an_ignored_signal_stays_ignored(self, started, store_root, place):
        process = started(
            *("sh", "-c", "kill -INT $$; kill -INT $PPID; echo survived"),
            stdout=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
        )
        assert process.communicate()[0] == b"survived\n"
        assert told(store_root)[0].status == "finished"

    def test_a_command_has_the_terminal_and_one_interrupt_for_each_key(
        self, started, store_root, place
    ):
        script = (
            "import os, signal, sys, time\n"
            "got = []\n"
            "signal.signal(signal.SIGINT, lambda *_: got.append(1))\n"
            "print('tty', os.isatty(0) and os.isatty(1) and os.isatty(2), flush=True)\n"
            "while not got: time.sleep(0.01)\n"
            "time.sleep(0.3)\n"
            "print('interrupts', len(got), flush=True)\n"
            "sys.exit(5)\n"
        )
        ours, theirs = pty.openpty()
        process = started(
            *(sys.executable, "-c", script),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: _take_terminal(theirs),
        )
        os.close(theirs)
        seen = b""
        while b"tty True" not in seen:
            seen += os.read(ours, 1000)
        os.write(ours, b"\x03")
        while b"; cancelled (exit status 5)" not in seen:
            seen += os.read(ours, 1000)
        assert process.wait(60) == 5
        os.close(ours)
        assert b"interrupts 1" in seen
        assert told(store_root)[0].status == "cancelled"


def _take_terminal(terminal):
    import fcntl
    import termios

    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)


def test_a_run_can_be_restored_as_it_was_before_the_command(cas, tmp_path):
    write(tmp_path / "work", {"a": b"before"})
    cas("run", "--dir", "work", "sh", "-c", "echo after > work/a")
    assert cas("restore", "--to", "out", "--at", "1")[0] == 0
    assert read(tmp_path / "out") == {"a": b"before"}


def test_another_directory_than_that_of_the_run_is_refused(cas, tmp_path):
    write(tmp_path / "work", {"a": b"1"})
    assert cas("track", "work", "--agent", "planner")[0] == 0
    code, _, err = cas("run", "--run", "work", "--", "true")  # of the directory above
    assert (code, "is another directory" in err) == (1, True), err
    assert cas("ls", "-R")[1].endswith("\ta\n")
    assert cas("run", "--run", "work", "--dir", "work", "--", "true")[0] == 0
