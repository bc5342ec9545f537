"""Completion of names: what is offered where, and in real shells on a pseudo-terminal.

Each shell that the machine has is run: bash always, zsh and fish where they are installed. The id
of a test names its shell, so a report shows which ones were run.
"""

from __future__ import annotations

import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.shell_completion import BashComplete
from places import EACH_INDEX, environment_of, places

from index import ArtifactStore
from index.cli.commands import cas as group
from index.cli.completion import prepare

place = places(EACH_INDEX)

SHELLS = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config", "-i"],
}
INSTALLED = [name for name in SHELLS if shutil.which(name)]


@pytest.fixture
def filled(place, tmp_path, monkeypatch):
    """A store with two sessions, in the environment of the command."""
    with ArtifactStore.open(**place) as store:
        run = store.session("task").run("run-7")
        labels = {"agent": "engineer", "phase": "control", "node_id": "n1", "step_id": "s1"}
        run.put_many(
            [(f"data/f{n:03}.csv", b"%d" % n) for n in range(60)]
            + [("data/raw/only/deep.txt", b"1"), ("plan.md", b"2"), ("plots/a b,c.png", b"3"),
               ("plots/e\x1bvil", b"4"), ("plots/b\udcffd", b"5"), ("100%_x", b"6")],
            **labels,
        )  # fmt: skip
        run.put("plan.md", b"more", agent="planner", file_type="plan")
        run.put("gone.txt", b"gone")
        run.remove("gone.txt")
        run.tag("best", at=1)
        run.tag("gone")
        run.untag("gone")
        store.session("task").run("run-8").put("other.csv", b"7", agent="plotter")
        store.session("other").run("secret").put("theirs.csv", b"8", agent="stranger")
    monkeypatch.chdir(tmp_path)
    for name in ("CAS_STORE", "CAS_INDEX", "CAS_BLOBS", "CAS_RUN", "CAS_AGENT", "CAS_PHASE"):
        monkeypatch.delenv(name, raising=False)
    told = {"CAS_STORE": str(place["root"])} if "root" in place else environment_of(place)
    for name, value in {**told, "CAS_SESSION": "task"}.items():
        monkeypatch.setenv(name, value)


def offered(*arguments):
    """Return what is offered for the last word of a command line."""
    shell = BashComplete(group, {}, "cas", "_CAS_COMPLETE")
    return [item.value for item in shell.get_completions([*arguments[:-1]], arguments[-1])]


HERE = ("--run", "run-7")

OFFERED = [
    (("ls", "--session", ""), ["other", "task"]),
    (("ls", "--run", ""), ["run-7", "run-8"]),
    (("ls", "--session", "other", "--run", ""), ["secret"]),
    (("ls", "--session", "nobody", "--run", ""), []),
    (("rm", "--run", "run-"), ["run-7", "run-8"]),
    (("track", "work", "--run", "run-"), ["run-7", "run-8"]),
    (("stats", "--session", "task", "--run", "run-"), ["run-7", "run-8"]),
    (("runs", "--session", "t"), ["task"]),
    (("sync", "-", "x", "--session", "task", "--run", "run-7"), ["run-7"]),
    (("find", "--run", "run"), ["run-7", "run-8"]),
    (("ls", *HERE, "--agent", ""), ["engineer", "planner"]),
    (("ls", "--agent", "p"), ["planner", "plotter"]),
    (("find", "--agent", "E"), []),
    (("find", "--phase", ""), ["control"]),
    (("find", "--node", ""), ["n1"]),
    (("find", "--step", "s"), ["s1"]),
    (("find", "--type", "pl"), ["plan", "plot"]),
    (("track", "work", "--agent", "eng"), ["engineer"]),
    (("ls", *HERE, "--at", ""), ["best", "4", "3", "2", "1"]),
    (("ls", *HERE, "--at", "b"), ["best"]),
    (("rewind", *HERE, ""), ["best", "4", "3", "2", "1"]),
    (("tag", *HERE, ""), ["best"]),
    (("tag", *HERE, "best", "pl"), ["plan.md", "plots/"]),
    (("tag", "--run", "run-8", ""), []),
    (("log", *HERE, ""), ["100%_x", "data/", "plan.md", "plots/"]),
    (("cat", *HERE, "pl"), ["plan.md", "plots/"]),
    (("cat", *HERE, "%"), []),
    (("cat", *HERE, "data/r"), ["data/raw/only/deep.txt"]),
    (("cat", *HERE, "plots/"), ["plots/a b,c.png"]),
    (("cat", *HERE, "gone"), []),
    (("ls", *HERE, "plo"), ["plots/a b,c.png"]),
    (("rm", *HERE, "plan.md", "data/f00"), [f"data/f00{n}.csv" for n in range(10)]),
    (("restore", "out", *HERE, "plan"), ["plan.md"]),
    (("log", ""), []),
    (("show", *HERE, ""), ["run-7", "run-8", "100%_x", "data/", "plan.md", "plots/"]),
    (("diff", *HERE, "run-8", ""), ["run-7", "run-8", "best", "4", "3", "2", "1"]),
]


def test_each_place_offers_the_names_that_fit(filled):
    for arguments, expected in OFFERED:
        assert offered(*arguments) == expected, arguments


def test_at_most_fifty_names_are_offered(filled):
    assert offered("cat", *HERE, "data/") == [f"data/f{n:03}.csv" for n in range(50)]


def test_a_store_may_be_named_before_or_after_the_command(filled, place, monkeypatch):
    if "root" in place:
        where = ("--store", str(place["root"]))
        assert offered("ls", *where, "--run", "")
    else:
        where = ("--index", place["index"], "--blobs", str(place["blobs"]))
    for name in ("CAS_STORE", "CAS_INDEX", "CAS_BLOBS"):
        monkeypatch.delenv(name, raising=False)
    assert offered("ls", "--run", "") == []
    assert offered(*where, "ls", "--run", "") == ["run-7", "run-8"]


def test_nothing_is_said_or_made_where_there_is_no_store(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    for where in ((), ("--store", "none"), ("--index", "sqlite:///none.db", "--blobs", "b"),
                  ("--index", "nonsense", "--blobs", "b"), ("--index", "x")):  # fmt: skip
        for arguments in (("ls", "--run", ""), ("cat", ""), ("ls", "--agent", "")):
            assert offered(*where, *arguments) == []
    offered("nosuch", "")
    assert capfd.readouterr() == ("", "")
    (tmp_path / "cas.toml").write_text("[[[")
    asked = {"_CAS_COMPLETE": "bash_complete", "COMP_WORDS": "cas ls --run ", "COMP_CWORD": "3"}
    done = subprocess.run(
        [sys.executable, "-c", "from index.cli import main; main()"],
        env={**os.environ, **asked},
        capture_output=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == (b"", b"")
    assert [path.name for path in tmp_path.iterdir()] == ["cas.toml"]


def test_it_reads_few_rows_of_a_large_directory(filled, place, monkeypatch):
    """Each name is a step in an index, not a pass over the files of a directory."""
    from index.db.queries import names

    with ArtifactStore.open(**place) as store, store.context.database.reading() as connection:
        asked = []
        original = connection.scalar
        monkeypatch.setattr(connection, "scalar", lambda s: asked.append(1) or original(s))
        run = store.session("task").run("run-7")
        with run._reading() as (_, found):
            assert names.list_entries(connection, found.id, "", 50) == [
                "100%_x", "data/", "plan.md", "plots/",
            ]  # fmt: skip
        assert len(asked) == 5


def test_names_are_escaped_for_bash_and_whole_for_fish(monkeypatch):
    from click.shell_completion import CompletionItem, get_completion_class

    prepare()
    bash = get_completion_class("bash")(group, {}, "cas", "_CAS_COMPLETE")
    item = CompletionItem("a b$(x)'é/@1")
    monkeypatch.setenv("COMP_WORDS", "cas cat a")
    assert bash.format_completion(item) == "plain,a\\\\ b\\\\$\\\\(x\\\\)\\\\'é/@1"
    monkeypatch.setenv("COMP_WORDS", 'cas cat "a')
    assert bash.format_completion(item) == "plain,a b$(x)'é/@1"
    assert bash.format_completion(CompletionItem("a b", type="file")) == "file,a b"
    fish = get_completion_class("fish")(group, {}, "cas", "_CAS_COMPLETE")
    assert "split -m 1 " in fish.source()


class Shell:
    """An interactive shell on a pseudo-terminal, whose `cas` writes down its arguments."""

    def __init__(self, name, folder):
        self.said = folder / "said"
        command = folder / "bin" / "cas"
        command.parent.mkdir()
        command.write_text(
            f"#!/bin/sh\n"
            f'if [ -n "$_CAS_COMPLETE" ] || [ "$1" = completion ]; then\n'
            f"  exec {sys.executable} -c 'from index.cli import main; main()' \"$@\"\n"
            f"fi\n"
            f'for each in "$@"; do printf \'%s\\n\' "$each"; done > {self.said}.part\n'
            f"mv {self.said}.part {self.said}\n"
        )
        command.chmod(0o755)
        script = folder / f"completion.{name}"
        environment = {
            **os.environ,
            "PATH": f"{command.parent}:{os.environ['PATH']}",
            "TERM": "dumb" if name == "bash" else "xterm",
            "HOME": str(folder),
            "PS1": "$ ",
        }
        made = subprocess.run(
            [command, "completion", name], env=environment, capture_output=True, check=True
        )
        script.write_bytes(made.stdout)
        self._pid, self._terminal = pty.fork()
        if not self._pid:
            os.execvpe(SHELLS[name][0], SHELLS[name], environment)  # noqa: S606
        if name == "zsh":
            self.type("autoload -U compinit; compinit -u -D; LISTMAX=1000\n")
        self.type(f"source {script}\n")
        self.type("echo rea''dy\n")
        self.read_until(b"ready")

    def type(self, text):
        os.write(self._terminal, text.encode())

    def read_until(self, wanted=None, seconds=60.0):
        """Read what the shell shows until something of it comes, or until it pauses."""
        shown = b""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends and not (wanted and wanted in shown):
            if select.select([self._terminal], [], [], 0.1)[0]:
                shown += os.read(self._terminal, 1 << 16)
        assert wanted is None or wanted in shown, shown
        return shown

    def complete(self, typed, shows):
        """Type a line, press Tab until something is shown, press Return; return the arguments."""
        self.said.unlink(missing_ok=True)
        self.type(typed + "\t")
        self.read_until(shows.encode())
        self.type("\n")
        ends = time.monotonic() + 60
        while not self.said.exists() and time.monotonic() < ends:
            self.read_until(seconds=0.1)
        return self.said.read_text().splitlines()

    def close(self):
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._terminal)


def test_bash_is_always_run():
    assert "bash" in INSTALLED


@pytest.mark.slow
@pytest.mark.parametrize("shell", INSTALLED)
@pytest.mark.parametrize("place", ["sqlite-local"], indirect=True)
def test_names_are_completed_in_a_real_shell(filled, shell, tmp_path):
    opened = Shell(shell, tmp_path)
    try:
        for typed, shows, expected in [
            ("cas snap", "snapshots", ["snapshots"]),
            ("cas ls --run run-7 --agent eng", "engineer", ["engineer"]),
            ("cas log --run run-7 data/ra", "deep.txt", ["data/raw/only/deep.txt"]),
            ("cas cat --run run-7 plo", "c.png", ["plots/a b,c.png"]),
            ("cas cat --run run-7 100", "_x", ["100%_x"]),
            ("cas restore out --run run-7 plan", ".md", ["plan.md"]),
            ("cas ls --session oth", "other", ["other"]),
        ]:
            assert opened.complete(typed, shows)[-1:] == expected, typed
    finally:
        opened.close()


def test_the_scripts_name_the_command():
    for name in SHELLS:
        done = subprocess.run(
            [sys.executable, "-c", "from index.cli import main; main()", "completion", name],
            capture_output=True,
            text=True,
            check=True,
        )
        assert "_CAS_COMPLETE" in done.stdout
        assert str(Path.cwd()) not in done.stdout
