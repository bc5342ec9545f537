"""The `cas` command: the one part of the library that prints, exits and reads the environment."""

from __future__ import annotations

import atexit
from gc import freeze, set_threshold
from typing import TYPE_CHECKING, NoReturn

from index.decorators import COLLECT_EVERY

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the `cas` command and exit."""
    # Set before the imports, which gain the most. It stays set: all objects live until the exit.
    set_threshold(COLLECT_EVERY)
    # At exit the interpreter searches all imported objects for cycles, which takes a sixth of a
    # short command's time. It skips frozen objects.
    atexit.register(freeze)
    from index.cli.entry_point import run

    run(arguments)
