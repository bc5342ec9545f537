"""A shell that runs the blocks of a page one after the other, as a person does."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import tempfile


class Shell:
    """One bash. A command that fails ends it, unless `goes_on`.

    Parameters
    ----------
    columns
        Of the terminal that commands write to; None for a pipe.
    """

    def __init__(self, folder, environment, *, columns=None, goes_on=False):
        ours, theirs = pty.openpty() if columns else os.pipe()
        # A terminal shows results alone: progress is told on stderr.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        more = {"COLUMNS": str(columns), "LINES": "1000"} if columns else {}
        self._bash = subprocess.Popen(
            ["bash"],
            cwd=folder,
            env={**environment, **more},
            stdin=subprocess.PIPE,
            stdout=theirs,
            stderr=self._errors if columns else subprocess.STDOUT,
            text=True,
        )
        os.close(theirs)
        self._ours = ours
        self._send("" if goes_on else "set -euo pipefail\n")

    def run(self, block):
        """Run a block; return what it printed. Raises if the shell ends."""
        self._send(f"{block}\nprintf '\\n::done %s\\n' $?\n")
        printed = ""
        while not (done := re.search(r"\n::done (\d+)\n", printed)):
            try:
                part = os.read(self._ours, 1 << 16)
            except OSError:  # the other side of a terminal is closed
                part = b""
            if not part:
                self._errors.seek(0)
                raise AssertionError(f"{block}\nfailed:\n{printed}{self._errors.read().decode()}")
            printed += part.decode().replace("\r\n", "\n")
        self.code = int(done[1])
        return printed[: done.start()]

    def _send(self, text):
        self._bash.stdin.write(text)
        self._bash.stdin.flush()

    def close(self):
        self._bash.stdin.close()
        self._bash.wait()
        os.close(self._ours)
        self._errors.close()
