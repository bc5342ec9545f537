"""The command that prints the completion for a shell: completion."""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from typing import Any, Final, NoReturn

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    add_completion_class,
    get_completion_class,
)

__all__ = ["complete", "completion", "prepare"]

_FOR_BASH: Final = re.compile(r"([^\w@%+=:,./-])")
"""What bash would not take for itself in a word."""


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, /, *, shell: str) -> None:
    """Print the completion of commands, options and names for a shell.

    It completes runs, sessions, paths, snapshots, agents, phases and types that the store has.

    \b
    cas completion bash > ~/.local/share/bash-completion/completions/cas
    cas completion zsh > ~/.zfunc/_cas     with ~/.zfunc in fpath
    cas completion fish > ~/.config/fish/completions/cas.fish
    """  # noqa: D301
    prepare()
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - click has these three
    click.echo(kind(context.find_root().command, {}, "cas", "_CAS_COMPLETE").source())


class _Bash(BashComplete):
    """Escapes names: bash inserts them as they are, after its script has read a line of each."""

    def format_completion(self, item: CompletionItem[Any]) -> str:
        typed = os.environ.get("COMP_WORDS", "")
        is_quoted = typed.count('"') % 2 or typed.count("'") % 2
        name = item.value
        if item.type == "plain" and not is_quoted:
            name = _FOR_BASH.sub(r"\\\1", name)
        name = name.replace("\\", "\\\\")  # `read` takes one of two
        return f"{item.type},{name}"


class _Fish(FishComplete):
    """Has a script that does not cut names at commas."""

    source_template = FishComplete.source_template.replace("split ", "split -m 1 ")


def prepare() -> None:
    """Let the shells get names as they need them."""
    add_completion_class(_Bash)
    add_completion_class(_Fish)


def complete(command: click.Command) -> NoReturn:
    """Print what a shell asks for in the environment, and exit. Errors are not shown."""
    prepare()
    with suppress(Exception):  # a message would appear in the line that is typed
        command.main(prog_name="cas")
    sys.exit(1)
