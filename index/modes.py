"""What a recorded mode says."""

from __future__ import annotations

from stat import S_IFLNK
from typing import Final

__all__ = ["is_link"]

_TYPE: Final = 0o170000
"""The bits that hold the type of a file. (POSIX leaves the values open; Linux, the BSDs and macOS
agree on them.)"""


def is_link(mode: int) -> bool:
    """Return whether a mode is a symbolic link's.

    A damaged row may have any integer here: of those that are no mode `stat` raises OverflowError.
    """
    return mode & _TYPE == S_IFLNK
