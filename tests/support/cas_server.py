"""`cas serve` as a process: what it prints, what it answers, and what it holds."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

from places import environment_of

__all__ = ["Server", "cas_server"]


class Server:
    """A running `cas serve`, with what it has printed."""

    def __init__(self, process):
        self.process = process
        lines = []
        while not (lines and lines[-1].startswith("The link")):
            lines.append(process.stdout.readline().decode())
            assert lines[-1], lines
        self.printed = "".join(lines)
        self.links = dict(re.findall(r"^(.*): (http://\S+)$", self.printed, re.MULTILINE))
        self.tokens = re.findall(r"^  token: (\S+)$", self.printed, re.MULTILINE)
        self.address = next(iter(self.links.values())).partition("/login")[0]

    def get(self, path, token=None, cookie=None):
        """Return status and body of an answer; redirections are followed with their cookies."""
        jar = urllib.request.HTTPCookieProcessor()
        opener = urllib.request.build_opener(jar)
        url = path if path.startswith("http") else f"{self.address}{path}"
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        try:
            with opener.open(urllib.request.Request(url, headers=headers), timeout=60) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def memory(self, which="VmHWM"):
        """Return bytes of memory: by default, the most that it has had in memory."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{which}:"))

    def open_files(self):
        """Return what its descriptors are: paths of files, and kinds and numbers of others."""
        found = []
        for each in Path(f"/proc/{self.process.pid}/fd").iterdir():
            try:
                found.append(os.readlink(each))
            except FileNotFoundError:
                continue  # it was closed meanwhile
        return found


@contextmanager
def cas_server(place, *arguments, cwd=None, **environment):
    """Yield a `Server` of the store at a place. `arguments` are options of `cas serve`."""
    embedded = ["--store", str(place["root"])] if "root" in place else []
    others = {} if embedded else environment_of(place)
    command = [sys.executable, "-c", "from index.cli import main; main()", *embedded, "serve"]
    process = subprocess.Popen(
        [*command, *arguments],
        env={**os.environ, **environment, **others},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=cwd,
    )
    try:
        yield Server(process)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
