"""Write the man pages of `cas`, from the texts that `--help` and the reference show.

    python docs/man_pages.py ~/.local/share/man/man1

Needs `click-man`, which the extras `docs` and `test` have.
"""

from __future__ import annotations

import argparse
import copy
import re
from importlib.metadata import version
from pathlib import Path

import click
from click_man.core import write_man_pages

from index.cli.commands import cas


def roff(text: str) -> str:
    """Return a help text as roff: what click prints as it is becomes lines that are not filled."""
    parts = []
    for part in text.replace("\\", "\\e").split("\n\n"):
        lines = part.split("\n")
        if lines[0].strip() == "\b":
            parts.append("\n".join([".nf", *(line.strip() for line in lines[1:]), ".fi"]))
        else:
            parts.append("\n".join(line.strip() for line in lines))
    return re.sub(r"(?m)^(?=')", r"\\&", "\n\n".join(parts))


def described(command: click.Command, context: click.Context) -> click.Command:
    """Return a copy of a command, and of those in it, whose help is roff."""
    made: click.Command = copy.copy(command)
    made.short_help = command.get_short_help_str(200)
    made.help = roff(command.help or "")
    if isinstance(command, click.Group):
        names = command.list_commands(context)
        found = {name: command.get_command(context, name) for name in names}
        made = click.Group(command.name, params=command.params, help=made.help)
        made.short_help = command.get_short_help_str(200)
        made.commands = {name: described(each, context) for name, each in found.items() if each}
    return made


def main() -> None:
    """Write a page for each command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("directory", type=Path, help="where the pages go; it is made if missing")
    folder = parser.parse_args().directory.expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    commands = described(cas, click.Context(cas))
    write_man_pages("cas", commands, version=version("runcas"), target_dir=str(folder))
    for page in folder.glob("cas*.1"):
        text = page.read_text(encoding="utf-8")
        ascii_only = re.sub(r"[^\x00-\x7f]", lambda found: f"\\[u{ord(found[0]):04X}]", text)
        page.write_text(ascii_only, encoding="ascii")


if __name__ == "__main__":
    main()
