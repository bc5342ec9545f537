"""Commands as a page prints them in blocks of a console, with what they print."""

from __future__ import annotations

import os
import re
import sys
import sysconfig
from contextlib import closing

from shells import Shell


def steps_of(page):
    """Return the commands of a page, each with the lines that it prints."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", page, re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append([line[2:], []])
            elif line.startswith(">") and not found[-1][1]:
                found[-1][0] += "\n" + line[2:]
            else:
                found[-1][1].append(line)
    return found


def _pattern_of(lines):
    """Return what matches the lines: `…` is any text, and on a line of its own, any lines."""
    parts = []
    for line in lines:
        words = re.escape(" ".join(line.split())).replace("…", ".*?")
        parts.append(r"(?:.*\n)*?" if line == "…" else rf"{words}\n")
    return "".join(parts)


def play(page, directory):
    """Run the commands of a page in a directory; each must print what the page says."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CAS_")}
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
    more = {"PATH": path, "NO_COLOR": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with closing(Shell(directory, {**kept, **more}, columns=80)) as shell:
        for command, expected in steps_of(page):
            printed = shell.run(command)
            lines = [" ".join(line.split()) for line in printed.strip().splitlines()]
            text = "".join(f"{line}\n" for line in lines)
            assert re.fullmatch(_pattern_of(expected), text), f"$ {command}\n{printed}"
