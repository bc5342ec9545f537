"""The `cas` command: the one part of the library that prints, exits and reads the environment."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

_COLLECT_EVERY: Final = 100_000
"""Container objects between two searches for cycles; Python's own default is 700. The command makes
many that live until it ends and hardly a cycle: at 700 an eighth of the time of an unchanged scan
of 20,000 files, start included, went into searching. mypy does the same (mypy/main.py)."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the `cas` command and exit."""
    gc.set_threshold(_COLLECT_EVERY)
    from index.cli.main import run  # after the threshold, which the imports profit from most

    run(arguments)
