"""What the benchmarks share: samples, comparisons, the machine, and tables.

A benchmark answers questions. An `Answer` holds one series of samples for each contender, measured
round by round in one run, and comparisons of two series with the ratio that was aimed at.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import sqlite3
import statistics
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

RESULTS: Final = Path(__file__).parent / "results"

MIB: Final = 1 << 20
GIB: Final = 1 << 30

_REPOSITORY: Final = Path(__file__).parent.parent
_UNITS: Final = {
    "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")),
    "bytes": ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B")),
    "MiB": ((1.0, "MiB"),),
    "requests": ((1.0, "requests"),),
    "files/s": ((1.0, "files/s"),),
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

    def compare(self, work: str, ours: str, against: str, at_most: float | None = None) -> None:
        """Ask for a line that compares two series."""
        self.comparisons.append(Comparison(work, ours, against, at_most))

    def ratios(self, comparison: Comparison) -> tuple[float, float] | None:
        """Return the ratio of the medians and that of the minima; None if one is missing."""
        ours = self.series.get(comparison.ours)
        theirs = self.series.get(comparison.against)
        if ours is None or theirs is None:
            return None
        return ours.median / theirs.median, min(ours.values) / min(theirs.values)


def show(value: float, unit: str) -> str:
    """Write a figure with three digits and the unit that suits it."""
    scales = _UNITS[unit]
    factor, name = next((s for s in scales if abs(value) >= s[0]), scales[-1])
    scaled = value / factor
    whole = scaled >= 100 or name in ("B", "requests")
    digits = 0 if whole else 1 if scaled >= 10 else 2
    return f"{scaled:.{digits}f} {name}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, texts: int = 1) -> str:
    """Return a Markdown table whose first `texts` columns are text and the others figures."""
    rule = ["---" if column < texts else "---:" for column in range(len(header))]
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, rule, *rows))


def verdict(answer: Answer, comparison: Comparison) -> list[str]:
    """Return the cells of one comparison: work, against, target, ratios, outcome."""
    target = "" if comparison.at_most is None else f"at most {comparison.at_most:g} x"
    work = f"{comparison.work} ({comparison.ours})"
    found = answer.ratios(comparison)
    if found is None:
        return [answer.question, work, comparison.against, target, "", "", "not measured"]
    medians, minima = found
    outcome = ""
    if comparison.at_most is not None:
        outcome = "reached" if medians <= comparison.at_most else "**missed**"
        if (medians <= comparison.at_most) != (minima <= comparison.at_most):
            outcome += ", by the minima " + ("missed" if minima > comparison.at_most else "reached")
    return [
        answer.question,
        work,
        comparison.against,
        target,
        f"{medians:.2f}",
        f"{minima:.2f}",
        outcome,
    ]


def comparisons_table(answers: Sequence[Answer]) -> str:
    """Return one table of all comparisons."""
    rows = [verdict(answer, wanted) for answer in answers for wanted in answer.comparisons]
    header = ("question", "work", "against", "target", "of medians", "of minima", "outcome")
    return table(header, rows, texts=4)


def series_table(answer: Answer) -> str:
    """Return the table of an answer's samples."""
    rows = []
    for name, series in answer.series.items():
        first, third = series.quartiles
        figures = (series.median, min(series.values), first, third, max(series.values))
        rows.append(
            [name, *(show(figure, series.unit) for figure in figures), str(len(series.values))]
        )
    header = ("", "median", "minimum", "quartile 1", "quartile 3", "maximum", "samples")
    return table(header, rows)


def report(title: str, environment: dict[str, str], answers: Sequence[Answer]) -> str:
    """Return the whole page: environment, comparisons, then one section for each question."""
    parts = [f"# {title}", table(("", ""), [list(item) for item in environment.items()], texts=2)]
    if any(answer.comparisons for answer in answers):
        parts += ["## Ratios", comparisons_table(answers)]
    for answer in answers:
        parts.append(f"## {answer.question}")
        if answer.skipped:
            parts.append(f"Skipped: {answer.skipped}.")
            continue
        parts.append(f"{answer.subject}. Rounds: {answer.rounds}.")
        if answer.series:
            parts.append(series_table(answer))
        parts += answer.remarks
    return "\n\n".join(parts) + "\n"


def answer_all(
    file: str,
    title: str,
    questions: Mapping[str, Callable[[], Answer]],
    environment: dict[str, str],
    results: Path,
) -> str:
    """Ask all questions; write page and JSON after each, so that an interruption loses one."""
    results.mkdir(parents=True, exist_ok=True)
    answers: list[Answer] = []
    page = ""
    for name, ask in questions.items():
        print(f"{name} …", flush=True)
        answers.append(ask())
        page = report(title, environment, answers)
        (results / f"{file}.md").write_text(page)
        (results / f"{file}.json").write_text(as_json(environment, answers))
    return page


def as_json(environment: dict[str, str], answers: Sequence[Answer]) -> str:
    """Return everything measured, sample by sample."""
    questions: dict[str, Any] = {}
    for answer in answers:
        compared = []
        for wanted in answer.comparisons:
            medians, minima = answer.ratios(wanted) or (None, None)
            compared.append(
                {
                    "work": wanted.work,
                    "ours": wanted.ours,
                    "against": wanted.against,
                    "at_most": wanted.at_most,
                    "ratio_of_medians": medians,
                    "ratio_of_minima": minima,
                }
            )
        questions[answer.question] = {
            "subject": answer.subject,
            "rounds": answer.rounds,
            "skipped": answer.skipped or None,
            "comparisons": compared,
            "series": {n: {"unit": s.unit, "values": s.values} for n, s in answer.series.items()},
            "remarks": answer.remarks,
        }
    return json.dumps({"environment": environment, "questions": questions}, indent=1) + "\n"


def environment(work: Path, packages: Sequence[str]) -> dict[str, str]:
    """Describe where and with what the benchmark runs; nothing that names a host or a person.

    Parameters
    ----------
    work
        Directory of the temporary data, whose filesystem is named.
    packages
        Distributions whose versions matter.
    """
    versions = [f"{name} {version}" for name in packages if (version := _version(name))]
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit(),
        "CPU": f"{_first_value('/proc/cpuinfo', 'model name')}, {os.cpu_count()} cores",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / GIB:.1f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "filesystem": filesystem(work),
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
        "packages": ", ".join(versions),
        "load before": f"{os.getloadavg()[0]:.1f} processes in the last minute",
        "cache": "warm: everything read is in the page cache",
    }


def commit() -> str:
    """Return the commit that is measured, and whether the packages differ from it."""
    head = output_of(["git", "-C", str(_REPOSITORY), "rev-parse", "--short=12", "HEAD"])
    changed = output_of(
        ["git", "-C", str(_REPOSITORY), "status", "--porcelain", "cas", "index", "migrations"]
    )
    return f"{head or 'unknown'}{' with changes' if changed else ''}"


def filesystem(path: Path) -> str:
    """Return the type of the filesystem that `path` lies on."""
    found = output_of(["df", "--output=fstype,source", str(path)]).splitlines()[-1:]
    kind, _, device = (found[0] if found else "unknown").partition(" ")
    if kind == "ext4" and not list(Path("/proc/fs/jbd2").glob(f"{Path(device.strip()).name}-*")):
        return "ext4 without a journal"
    return kind


def output_of(command: Sequence[str]) -> str:
    """Return what a command prints, or nothing if it can't be run or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def flush(path: Path) -> None:
    """Write back what is dirty, so that the next thing timed does not wait for it."""
    subprocess.run(["sync", "--file-system", str(path)], check=True)


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _first_value(path: str, key: str) -> str:
    for line in Path(path).read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return "unknown"
