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
    # Before the imports, which profit from it most, and for good: everything lives until the end.
    set_threshold(COLLECT_EVERY)
    # The interpreter's last act is a search for cycles among all that was ever imported, a sixth of
    # a short command's time; it leaves out what is frozen.
    atexit.register(freeze)
    from index.cli.entry_point import run

    run(arguments)
