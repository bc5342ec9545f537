"""Draw the screen of examples/three_steps.sh, as README.md shows it.

    python docs/draw_screen.py                  writes docs/three_steps.svg
    python docs/draw_screen.py --text           prints the text of the screen

Everything in the picture is what the commands print in a terminal of 84 columns.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "docs" / "three_steps.svg"
COLUMNS = 84


def screen() -> str:
    """Run the example in a pseudo-terminal; return what it shows, with escapes for colours."""
    import pty

    ours, theirs = pty.openpty()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("CAS_")},
        "COLUMNS": str(COLUMNS),
        "LINES": "1000",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "TERM": "xterm-256color",
    }
    for name in ("NO_COLOR", "CLICOLOR"):
        environment.pop(name, None)
    with tempfile.TemporaryDirectory() as folder:
        command = ["sh", str(ROOT / "examples" / "three_steps.sh"), f"{folder}/demo"]
        running = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment
        )
        os.close(theirs)
        parts = []
        try:
            while part := os.read(ours, 1 << 16):
                parts.append(part)
        except OSError:  # the terminal is closed
            pass
        os.close(ours)
        if running.wait():
            raise SystemExit(b"".join(parts).decode())
    return b"".join(parts).decode().replace("\r\n", "\n").strip("\n")


def main() -> None:
    """Draw or print the screen."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--text", action="store_true", help="print the text instead")
    shown = Text.from_ansi(screen())
    if parser.parse_args().text:
        print(shown.plain)
        return
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(shown)
    # The fonts that rich names come from the network: leave them out.
    form = console.export_svg.__kwdefaults__["code_format"]
    form = re.sub(r"@font-face \{\{.*?\}\}\s*|<!--.*?-->\s*", "", form, flags=re.DOTALL)
    form = form.replace("Fira Code", "ui-monospace, Menlo, Consolas")
    form = form.replace("<svg ", '<svg xml:space="preserve" ', 1)  # spaces at the ends of texts
    title = "A run of three steps by two agents"
    svg = console.export_svg(title=title, theme=MONOKAI, code_format=form, unique_id="screen")
    lines = (line.rstrip() for line in svg.splitlines())
    PICTURE.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
