"""How far a long operation is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from index.domain.results import Result

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Progress"]


@dataclass(frozen=True, slots=True)
class Progress(Result):
    """The progress of a long operation."""

    files: int
    bytes: int
    files_total: int | None = None
    bytes_total: int | None = None

    @classmethod
    def of_one(
        cls, progress: Callable[[Progress], None], total: int | None
    ) -> Callable[[int], None]:
        """Return a function that is called with the bytes read of a file, and reports the sum."""
        read = 0

        def report(size: int) -> None:
            nonlocal read
            read += size
            progress(cls(0, read, 1, total))

        return report
