"""The tutorial runs as printed, and shows what it prints."""

from __future__ import annotations

import os
import re
import sys
import sysconfig
from contextlib import closing
from pathlib import Path

from shells import Shell

PAGE = (Path(__file__).parents[1] / "docs" / "tutorial.md").read_text()


def steps():
    """Return commands, each with what the page says that it prints."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append([line[2:], []])
            elif line.startswith(">") and not found[-1][1]:
                found[-1][0] += "\n" + line[2:]
            else:
                found[-1][1].append(line)
    return found


def pattern_of(lines):
    """Return what matches the lines: `…` is any text, and on a line of its own, any lines."""
    parts = []
    for line in lines:
        words = re.escape(" ".join(line.split())).replace("…", ".*?")
        parts.append(r"(?:.*\n)*?" if line == "…" else rf"{words}\n")
    return "".join(parts)


def test_the_tutorial_runs_as_printed(tmp_path):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CAS_")}
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
    more = {"PATH": path, "NO_COLOR": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    there = "/tmp/mail-attachment.md"  # noqa: S108 - replaced
    assert len(steps()) > 40
    with closing(Shell(tmp_path, {**kept, **more}, columns=80)) as shell:
        for command, expected in steps():
            printed = shell.run(command.replace(there, str(tmp_path / "mail-attachment.md")))
            lines = [" ".join(line.split()) for line in printed.strip().splitlines()]
            text = "".join(f"{line}\n" for line in lines)
            assert re.fullmatch(pattern_of(expected), text), f"$ {command}\n{printed}"


def test_the_tutorial_uses_the_commands_that_beginners_need():
    used = {command.split()[1] for command, _ in steps() if command.startswith("cas ")}
    assert {"track", "ls", "log", "who", "restore", "diff", "fork", "rm", "gc", "verify"} <= used
