"""What the terminal is: for a person or a program, how wide, in colour, with a pager."""

from __future__ import annotations

import os
import shutil
import sys
from itertools import chain
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["colour_wanted", "is_for_people", "page", "printable", "terminal_width", "text_width"]

_LESS: Final = "-FRX"
"""Options of less, as git sets them: end if all fits, colours, and leave the text on the screen."""


def is_for_people() -> bool:
    """Whether standard output is a terminal."""
    return sys.stdout.isatty()


def colour_wanted() -> bool | None:
    """Whether output is in colour; None for colour on terminals only.

    NO_COLOR, if it is not empty, means no; otherwise CLICOLOR_FORCE means yes, and CLICOLOR=0 and
    TERM=dumb mean no. Sources: no-color.org and bixense.com/clicolors.
    """
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("CLICOLOR_FORCE", "0") not in ("", "0"):
        return True
    if os.environ.get("CLICOLOR") == "0" or os.environ.get("TERM") == "dumb":
        return False
    return None


def terminal_width() -> int:
    """Return the columns of the terminal: those that COLUMNS says, or 80 if nothing does."""
    return shutil.get_terminal_size().columns


def printable(text: str) -> str:
    """Return text with all characters escaped that a terminal would interpret or can't encode."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def text_width(text: str) -> int:
    """Return how many columns text takes. Some characters take two, and accents none."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def page(lines: Iterator[str]) -> None:
    """Print lines; on a terminal that they don't fit on, through the pager.

    The pager is that of CAS_PAGER or PAGER, or less. It is not used if that is empty or ``cat``.
    """
    pager = os.environ.get("CAS_PAGER", os.environ.get("PAGER", "less"))
    if not (is_for_people() and sys.stdin and sys.stdin.isatty()) or pager in ("", "cat"):
        for line in lines:
            click.echo(line)
        return
    first: list[str] = []
    for line in lines:
        first.append(line)
        if len(first) >= shutil.get_terminal_size().lines:
            break
    else:
        for line in first:
            click.echo(line)
        return
    os.environ.setdefault("LESS", _LESS)
    os.environ["PAGER"] = pager
    colour = click.get_current_context().color
    text = chain(first[:1], (f"\n{line}" for line in chain(first[1:], lines)))
    click.echo_via_pager(text, color=colour)
