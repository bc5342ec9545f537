"""What people see: every command in a pseudo-terminal of 80 and of 120 columns, and in a pipe.

The screens are in tests/data/screens. CAS_KEEP_SCREENS=1 writes them anew.
"""

from __future__ import annotations

import difflib
import fcntl
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import threading
from contextlib import suppress
from pathlib import Path

import click
import pytest
from rich.cells import cell_len
from trees import write

from index.cli import main
from index.cli.commands import cas as group

SCREENS = Path(__file__).parents[1] / "data" / "screens"

HERE = ("--run", "work")

COMMANDS = [
    (),
    ("--help",),
    ("nosuch",),
    ("trakc", "work"),
    ("runs",),
    ("ls",),
    ("ls", "-R"),
    ("ls", "data"),
    ("ls", "-R", "--full"),
    ("ls", "--agent", "engineer"),
    ("ls", "-R", "--limit", "1", "--json"),
    ("ls", "-R", "--limit", "2", "--jsonl"),
    ("ls", "nosuch"),
    ("find", "result"),
    ("find", "*.md", "--all-versions", "--agent", "planner"),
    ("find", "--agent", "plannr"),
    ("find", "--where", 'name ~ "result" and size < 1 MB'),
    ("find", "--where", "agnt = 'planner'"),
    ("show", "data/result.csv@1"),
    ("show", "2"),
    ("show", "work@"),
    ("show", "nosuch"),
    ("log", "data/result.csv"),
    ("log", "data/resutl.csv"),
    ("snapshots",),
    ("cat", "data/result.csv@1"),
    ("diff", "1", "2"),
    ("diff", "1", "2", "--by", "agent"),
    ("diff", "--text"),
    ("diff", "--stat"),
    ("diff", "--full", "data"),
    ("diff", "nosuch"),
    ("who", "data/result.csv"),
    ("use", "plan.md", "--node", "plot", *HERE),
    ("use", *HERE),
    ("lineage", "data/result.csv", "--run", "work"),
    ("stale",),
    ("stats", "--run", "work"),
    ("stats", "--by", "agent"),
    ("config",),
    ("restore", "--to", "there"),
    ("restore", "there"),
    ("status", "work", "--run", "new"),
    ("restore", "--at", "1", "--overwrite", "--delete", "--dry-run"),
    ("restore",),
    ("put", "work/plan.md", "--as", "copy.md", "--agent", "planner"),
    ("track", "work", "--dry-run"),
    ("track", "work"),
    ("rewind", "1"),
    ("fork", "branch", "--at", "2", *HERE),
    ("rm", *HERE, "copy.md"),
    ("sync", "-", "elsewhere"),
    ("export", "work", "--as", "bundle"),
    ("export", "work", "--as", "bundle"),
    ("export", "work", "--as", "ocfl", "--at", "1"),
    ("verify",),
    ("repair",),
    ("hold", "case 7", "--run", "branch", "--agent", "counsel"),
    ("prune", "--keep-last", "1", "--drop-larger", "1", "--dry-run"),
    ("rm", "--run", "branch", "--yes"),
    ("hold", "closed", "--run", "branch", "--release"),
    ("drop", "data/result.csv@1", "--reason", "an old rate", *HERE),
    ("quota", "1GiB"),
    ("gc", "--dry-run", "--grace", "0"),
    ("gc",),
    ("backup",),
    ("recover", "--dry-run"),
    ("db", "current"),
    ("tag", "best", "--at", "1", *HERE),
    ("tag", "result", "data/result.csv@2", *HERE),
    ("tag", *HERE),
    ("tag", "--whole-run", "best", *HERE),
    ("tag", "--whole-run"),
    ("describe", "--run", "branch", "--parent", "work", "--note", "rate=0.1"),
    ("diff", "best", *HERE),
    ("run", "--dir", "work", "--agent", "engineer", "sh", "-c", "echo 0.7 >> work/data/result.csv"),
    ("run", "--dir", "work", "false"),
    ("snapshots", *HERE),
    ("runs",),
    ("runs", "--tree"),
    ("rm", "--run", "branch", "--yes"),
]
"""What is typed, one after the other."""

CHANGING = [
    (re.compile(r"\d+ (s|min) ago"), "N s ago"),
    (re.compile(r"(?m)^.*[━⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏].*\n"), ""),
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\.\d+)?([+-]\d\d:?\d\d)"), "<TIME>"),
    (re.compile(r"since \d{4}-\d\d-\d\d"), "since <DAY>"),
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "<ID>"),
    (re.compile(r"/tmp/screen-\w*"), "/tmp/screen"),  # noqa: S108
    (re.compile(r"as [0-9a-f]{64}: [\d.]+ KiB"), "as <DIGEST>: <SIZE>"),
    (re.compile(r"(packs.*?)[0-9a-f]{64}"), r"\1<DIGEST>"),
    (re.compile(r"(?m)(bytes.stored.*\s)\d+( B)?$"), r"\1<SIZE>"),
    (re.compile(r"\d+ blobs in"), "<N> blobs in"),
    (re.compile(r"blobs, [\d.]+ KiB"), "blobs, <SIZE>"),
    (re.compile(r"(in|after) \d+\.\d\d s"), r"\1 N s"),
    (re.compile(r"[\d.]+ [KM]?i?B (new|stored|sent|freed|live|read)"), r"<SIZE> \1"),
    (re.compile(r'"(mtime_ns|id)": \d+'), r'"\1": <N>'),
]


class Terminal:
    """A pseudo-terminal in place of the standard streams of this process."""

    def __init__(self, monkeypatch, columns):
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("LINES", "1000")
        self._ours, theirs = pty.openpty()
        how = {"encoding": "utf-8", "closefd": False}
        self._files = [open(theirs, mode, **how) for mode in "rww"]  # noqa: SIM115
        self._theirs = theirs
        for name, file in zip(("stdin", "stdout", "stderr"), self._files, strict=True):
            monkeypatch.setattr(sys, name, file)
        self._read = []
        self._reading = threading.Thread(target=self._collect)
        self._reading.start()

    def _collect(self):
        while True:
            try:
                part = os.read(self._ours, 1 << 16)
            except OSError:  # the other side is closed
                return
            self._read.append(part)

    def close(self):
        """Return what was shown."""
        for file in self._files:
            file.close()
        os.close(self._theirs)
        self._reading.join()
        os.close(self._ours)
        return b"".join(self._read).decode().replace("\r\n", "\n")


@pytest.fixture
def place(cas, monkeypatch):
    """An empty directory, whose name always has the same length."""
    folder = Path(tempfile.mkdtemp(prefix="screen-", dir="/tmp"))
    monkeypatch.chdir(folder)
    monkeypatch.setenv("TZ", "UTC")
    for name in ("NO_COLOR", "CLICOLOR_FORCE", "CLICOLOR", "TERM", "PAGER", "CAS_PAGER"):
        monkeypatch.delenv(name, raising=False)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def cas_main(cas):
    """Run the command in-process with the streams that it has; return its exit code."""

    def call(*arguments):
        with pytest.raises(SystemExit) as done:
            main(arguments)
        return done.value.code

    return call


@pytest.fixture
def run_of_two(place, cas):
    write(place / "work", {"plan.md": b"# Plan\n", "data/result.csv": b"rate\n0.6\n"})
    assert cas("track", "work", "--agent", "planner", "--phase", "planning")[0] == 0
    write(place / "work", {"data/result.csv": b"rate\n0.69\n", "plots/größe.svg": b"<svg/>"})
    assert cas("track", "work", "--agent", "engineer", "--node", "step_1")[0] == 0


def shown(screen):
    """Return a screen without what differs from one run to the next."""
    for changing, word in CHANGING:
        screen = changing.sub(word, screen)
    return screen.replace("\r", "")


def compare(name, screens):
    file = SCREENS / name
    if os.environ.get("CAS_KEEP_SCREENS"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(screens)
    kept = file.read_text()
    difference = difflib.unified_diff(kept.splitlines(), screens.splitlines(), "kept", "shown")
    assert kept == screens, "\n".join(difference)


@pytest.mark.parametrize("columns", [80, 120, 20])
def test_screens_of_a_terminal(run_of_two, place, cas_main, monkeypatch, columns):
    screens = []
    for arguments in COMMANDS:
        with monkeypatch.context() as patched:
            terminal = Terminal(patched, columns)
            code = cas_main(*arguments)
            screen = terminal.close()
        exit_code = f"[{code}]\n" if code else ""
        plain = click.unstyle(shown(screen))
        screens.append(f"$ cas {' '.join(arguments)}\n{plain}{exit_code}")
        is_table = arguments[:1] in (("ls",), ("log",), ("runs",), ("snapshots",), ("who",))
        if is_table and code == 0 and not {"--json", "--jsonl", "--full"}.intersection(arguments):
            assert max(map(cell_len, plain.splitlines())) <= columns
    compare(f"{columns}.txt", "\n".join(screens))


def test_screens_of_a_pipe(run_of_two, place, cas):
    screens = []
    for arguments in COMMANDS:
        code, out, err = cas(*arguments)
        exit_code = f"[{code}]\n" if code else ""
        screens.append(f"$ cas {' '.join(arguments)}\n{shown(out + err)}{exit_code}")
        assert "\x1b" not in out + err
    compare("pipe.txt", "\n".join(screens))


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"CLICOLOR": "0"}, False), ({"TERM": "dumb"}, False)],
)
def test_a_terminal_has_colour_unless_it_is_not_wanted(
    run_of_two, cas_main, monkeypatch, environment, coloured
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    for arguments in (("ls", "-R"), ("diff", "1", "2"), ("ls", "nosuch")):
        with monkeypatch.context() as patched:
            terminal = Terminal(patched, 80)
            cas_main(*arguments)
            assert ("\x1b[" in terminal.close()) == coloured, arguments


def test_a_pipe_has_colour_if_it_is_forced(run_of_two, cas, monkeypatch):
    monkeypatch.setenv("CLICOLOR_FORCE", "1")
    assert "\x1b[" in cas("diff", "1", "2")[1]
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in cas("diff", "1", "2")[1]


def in_a_real_terminal(*arguments, size=(50, 80), **environment):
    """Return what a process shows in a terminal of so many lines and columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    known = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
    command = [sys.executable, "-c", "from index.cli import main; main()", *arguments]
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
    process = subprocess.Popen(command, env={**known, **environment}, **streams)
    os.close(theirs)
    parts = []
    with suppress(OSError):  # the other side is closed
        while part := os.read(ours, 1 << 16):
            parts.append(part)
    os.close(ours)
    assert process.wait() == 0
    return click.unstyle(b"".join(parts).decode()).splitlines()


def test_a_real_terminal_says_how_wide_it_is(run_of_two):
    lines = in_a_real_terminal("ls", "-R", size=(50, 44))
    assert lines[0].split()[-1] == "PATH"
    assert len(lines) == 4
    assert max(map(cell_len, lines)) <= 44


def test_a_listing_goes_through_the_pager_if_it_is_longer_than_the_terminal(run_of_two, place):
    pager = place / "pager"
    pager.write_text(f"#!{sys.executable}\nimport sys\nprint(len(list(sys.stdin)), 'paged')\n")
    pager.chmod(0o755)
    for variable in ("CAS_PAGER", "PAGER"):
        paged = in_a_real_terminal("ls", "-R", size=(3, 80), **{variable: str(pager)})
        assert paged == ["4 paged"]
    assert len(in_a_real_terminal("ls", "-R", size=(50, 80), PAGER=str(pager))) == 4
    assert len(in_a_real_terminal("ls", "-R", size=(3, 80), PAGER="cat")) == 4


def test_every_command_has_a_screen():
    # watch and serve go on, and doctor tells of the machine
    unseen = {"init", "adopt", "import", "completion", "doctor", "watch", "serve"}
    assert {each[0] for each in COMMANDS if each} >= set(group.list_commands(None)) - unseen
