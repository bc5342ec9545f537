"""The command that prints the completion for a shell: completion."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

__all__ = ["completion"]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, /, *, shell: str) -> None:
    """Print the completion of commands and options for a shell.

    \b
    cas completion bash > ~/.local/share/bash-completion/completions/cas
    cas completion zsh > ~/.zfunc/_cas     with ~/.zfunc in fpath
    cas completion fish > ~/.config/fish/completions/cas.fish
    """  # noqa: D301
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - click has these three
    click.echo(kind(context.find_root().command, {}, "cas", "_CAS_COMPLETE").source())
