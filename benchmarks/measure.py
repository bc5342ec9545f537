"""Samples, taken in turns, and what is compared.

A benchmark answers questions. An `Answer` holds one series of samples for each contender, measured
in turns, round by round in one run, and comparisons of two series with the ratio that was aimed at.
The ratio that counts is the median of the rounds' ratios: load that comes and goes meets both.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

IS_QUICK: Final = "BENCHMARK_QUICK" in os.environ
"""Whether figures mean nothing, so that nothing need be waited for."""

GOAL: Final = ", the goal"
"""Ends the name of a series that is a fixed figure."""

SHORT_SAMPLES: Final = 1 if IS_QUICK else 3
"""Samples a round of what takes a few hundredths of a second."""

KIB: Final = 1 << 10
MIB: Final = 1 << 20
GIB: Final = 1 << 30

_UNITS: Final = {
    "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")),
    "bytes": ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B")),
    "MiB": ((1.0, "MiB"),),
    "requests": ((1.0, "requests"),),
    "rows": ((1.0, "rows"),),
    "files/s": ((1.0, "files/s"),),
    "pages/s": ((1.0, "pages/s"),),
}


@dataclass(slots=True)
class Series:
    """The samples of one contender, one or more a round."""

    unit: str
    """One of `_UNITS`."""
    values: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The middle sample."""
        return statistics.median(self.values)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The first and the third quartile; the sample itself if there is only one."""
        if len(self.values) < 2:
            return self.values[0], self.values[0]
        first, _, third = statistics.quantiles(self.values, n=4, method="inclusive")
        return first, third

    def by_round(self, rounds: int) -> list[float]:
        """Return the median of each round's samples; a limit, which is one figure, for each."""
        each, left = divmod(len(self.values), rounds)
        if left or not each:
            return [self.median] * rounds
        starts = range(0, len(self.values), each)
        return [statistics.median(self.values[start : start + each]) for start in starts]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One contender against another."""

    work: str
    ours: str
    against: str
    at_most: float | None = None
    """The ratio aimed at; None if none was set."""


@dataclass(slots=True)
class Answer:
    """What was measured for one question."""

    question: str
    subject: str
    """What was worked on, with its n and bytes."""
    rounds: int
    command: str = ""
    """What asks this question again."""
    measured: str = ""
    """When, and at which commit."""
    series: dict[str, Series] = field(default_factory=dict)
    comparisons: list[Comparison] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    skipped: str = ""
    """Why there is no answer, if there is none."""

    def note(self, name: str, value: float, unit: str = "s") -> None:
        """Add a sample to the series `name`."""
        self.series.setdefault(name, Series(unit)).values.append(value)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the wall time of the block to the series `name`."""
        started = time.perf_counter()
        yield
        self.note(name, time.perf_counter() - started)

    def take_turns(self, ways: Mapping[str, Callable[[], object]], *, repeats: int = 1) -> None:
        """Time each way once a round; every other round in the opposite order.

        Parameters
        ----------
        repeats
            How often a way goes for one sample, which is the average.
        """
        for number in range(self.rounds):
            for name in list(ways)[:: -1 if number % 2 else 1]:
                started = time.perf_counter()
                for _ in range(repeats):
                    ways[name]()
                self.note(name, (time.perf_counter() - started) / repeats)

    def limit(self, work: str, ours: str, most: float, unit: str) -> None:
        """Ask for a line that compares a series with a fixed figure."""
        name = f"{show(most, unit)}{GOAL}"
        self.series[name] = Series(unit, [most])
        self.compare(work, ours, name, 1.0)

    def compare(self, work: str, ours: str, against: str, at_most: float | None = None) -> None:
        """Ask for a line that compares two series."""
        self.comparisons.append(Comparison(work, ours, against, at_most))

    def ratios(self, comparison: Comparison) -> tuple[float, float] | None:
        """Return the median of the rounds' ratios, and the ratio of minima; None without both."""
        ours = self.series.get(comparison.ours)
        theirs = self.series.get(comparison.against)
        if ours is None or theirs is None:
            return None
        rounds = max(1, self.rounds)
        pairs = zip(ours.by_round(rounds), theirs.by_round(rounds), strict=True)
        ratios = [ours / theirs for ours, theirs in pairs]
        return statistics.median(ratios), min(ours.values) / min(theirs.values)


def named(size: int) -> str:
    """Write a size in the binary unit that divides it."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if size >= unit and size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size} B"


def of(what: str, who: str) -> str:
    """Return the name of a series of one contender where several works are measured."""
    return f"{what}: {who}"


def show(value: float, unit: str) -> str:
    """Write a figure with three digits and the unit that suits it."""
    scales = _UNITS[unit]
    factor, name = next((s for s in scales if abs(value) >= s[0]), scales[-1])
    scaled = value / factor
    whole = scaled >= 100 or name in ("B", "requests", "rows")
    digits = 0 if whole else 1 if scaled >= 10 else 2
    return f"{scaled:.{digits}f} {name}"


def flush(path: Path) -> None:
    """Write back what is dirty, so that the next thing timed does not wait for it."""
    if IS_QUICK:
        return
    subprocess.run(["sync", "--file-system", str(path)], check=True)
