"""Differences of two sequences of lines or rows, in bounded time."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from difflib import Match, SequenceMatcher
from itertools import accumulate
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Matcher", "split_lines", "unified"]

T = TypeVar("T", bound=Hashable)

_STEPS: Final = 4_000_000
"""Comparisons, about a second. `SequenceMatcher` would need hours for some texts of 1 MiB."""

_CONTEXT: Final = 3
"""Unchanged lines around a change, as in git."""

_NO_NEWLINE: Final = "\\ No newline at end of file"


class Matcher(SequenceMatcher[T]):
    """Finds what two sequences have in common.

    After `_STEPS` comparisons it only looks at the ends of what is left: the differences that it
    finds are right, but may be larger than they need to be.
    """

    def __init__(self, before: Sequence[T], after: Sequence[T]) -> None:
        super().__init__(None, before, after)
        self._before, self._after = before, after
        self._left = _STEPS
        places = self.b2j  # type: ignore[attr-defined]  # documented, but not in its types
        costs = (1 + len(places.get(line, ())) for line in before)
        self._costs = [0, *accumulate(costs)]

    def find_longest_match(
        self, alo: int = 0, ahi: int | None = None, blo: int = 0, bhi: int | None = None
    ) -> Match:
        """Return the longest stretch that both have in these ranges."""
        ahi = len(self._before) if ahi is None else ahi
        bhi = len(self._after) if bhi is None else bhi
        self._left -= self._costs[ahi] - self._costs[alo]
        if self._left > 0:
            return super().find_longest_match(alo, ahi, blo, bhi)
        most = min(ahi - alo, bhi - blo)
        old, new = self._before, self._after
        start = next((n for n in range(most) if old[alo + n] != new[blo + n]), most)
        if start:
            return Match(alo, blo, start)
        end = next((n for n in range(most) if old[ahi - 1 - n] != new[bhi - 1 - n]), most)
        return Match(ahi - end, bhi - end, end)


def split_lines(text: str) -> list[str]:
    """Return the lines of a text with their ends. Only a newline ends one, as for git."""
    lines = text.split("\n")
    last = lines.pop()
    return [f"{line}\n" for line in lines] + ([last] if last else [])


def unified(before: Sequence[str], after: Sequence[str]) -> Iterator[str]:
    """Yield the hunks of a unified diff, in lines without their ends."""
    for hunk in Matcher(before, after).get_grouped_opcodes(_CONTEXT):
        _, a_start, _, b_start, _ = hunk[0]
        _, _, a_end, _, b_end = hunk[-1]
        yield f"@@ -{_range(a_start, a_end)} +{_range(b_start, b_end)} @@"
        for what, a, a_stop, b, b_stop in hunk:
            if what == "equal":
                yield from _marked(" ", before[a:a_stop])
            else:
                yield from _marked("-", before[a:a_stop])
                yield from _marked("+", after[b:b_stop])


def _range(start: int, end: int) -> str:
    count = end - start
    if count == 1:
        return str(start + 1)
    return f"{start + 1 if count else start},{count}"


def _marked(mark: str, lines: Sequence[str]) -> Iterator[str]:
    for line in lines:
        if line.endswith("\n"):
            yield f"{mark}{line[:-1]}"
        else:
            yield f"{mark}{line}"
            yield _NO_NEWLINE
