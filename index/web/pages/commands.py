"""Commands that a page shows, quoted for a shell."""

from __future__ import annotations

import shlex

__all__ = ["restore_command", "shell_quoted"]


def restore_command(path: str | None, session: str, run: str, at: int | str) -> str:
    """Return the command that writes a file or a directory back as it was at a snapshot.

    Without a path it writes back everything.
    """
    paths = [] if path is None else [f"./{path}" if path.startswith("-") else path]
    words = ["cas", "restore", *paths, "--run", run, "--session", session, "--at", str(at)]
    return " ".join(map(shell_quoted, words))


def shell_quoted(word: str) -> str:
    """Return a word as a POSIX shell reads it, without characters that can't be seen.

    Such characters, and bytes that are not UTF-8, are escaped in ``$'…'`` (POSIX.1-2024).
    """
    if word.isprintable():
        return shlex.quote(word)
    return f"$'{''.join(map(_escaped, word))}'"


def _escaped(character: str) -> str:
    if character in "'\\":
        return f"\\{character}"
    if character.isprintable():
        return character
    return "".join(f"\\{byte:03o}" for byte in character.encode("utf-8", "surrogateescape"))
