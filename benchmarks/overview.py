"""The first page of the results: the goals with what was reached, and the charts.

    python benchmarks/overview.py [RESULTS]

It reads the JSON files of the benchmarks, and nothing is measured.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import svg
from measure import GIB, KIB, MIB, named, show
from pages import RESULTS, answers_in, prose, table, verdict
from suite import QUICK

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from measure import Answer

FIRST, AGAIN, RESTORE = "first track", "unchanged again", "restore"

_HASH_LINES: Final = {
    "BLAKE3, map, all threads": "BLAKE3, map, all threads",
    "BLAKE3, map, 1 thread": "BLAKE3, map, 1 thread",
    "BLAKE3, reads of 1 MiB, 1 thread": "BLAKE3, reads, 1 thread",
    "b3sum, 1 thread": "b3sum, 1 thread",
    "b3sum, 2 threads": "b3sum, 2 threads",
    "xxh3, reads of 1 MiB": "xxh3",
    "SHA-256, reads of 8 KiB": "SHA-256",
    "plain reading, 1 MiB": "plain reading",
}
_STORED: Final = ("runcas", "restic", "borg", "casync", "git", "fixed 1 MiB")
_UNITS: Final = {"GiB": GIB, "MiB": MIB, "KiB": KIB, "B": 1}

Answers = dict[str, "Answer"]


def seconds(value: float) -> str:
    """Write a tick of a time axis."""
    return show(value, "s").replace(".00", "").replace(".0", "")


def draw_hash(answers: Answers) -> str:
    """Throughput against size of file."""
    found: dict[str, list[tuple[float, float]]] = {}
    for question, answer in answers.items():
        number, _, unit = question.partition(" ")
        size = int(number) * _UNITS[unit] if number.isdigit() and unit in _UNITS else 0
        for name, label in _HASH_LINES.items():
            if size and name in answer.series:
                found.setdefault(label, []).append((size, size / answer.series[name].median))
    ordered = {label: found[label] for label in _HASH_LINES.values() if label in found}
    return svg.lines(
        "Hashing one file from the page cache: throughput by size",
        _when(answers),
        ordered,
        lambda value: named(int(value)),
        lambda value: f"{show(value, 'bytes')}/s".replace(".00", "").replace(".0", ""),
    )


def _by_peer(answers: Answers, *works: str) -> dict[str, dict[str, float]]:
    """Return the medians of these works on the small files, by contender, fastest first."""
    rows: dict[str, dict[str, float]] = {}
    for name, series in answers["small"].series.items() if "small" in answers else ():
        work, _, who = name.partition(": ")
        if work in works and who != "scandir + stat":
            rows.setdefault(_CONTENDERS.get(who, who), {})[work] = series.median
    return dict(sorted(rows.items(), key=lambda row: row[1].get(works[0], 0.0)))


_CONTENDERS: Final = {"runcas": "runcas, in process", "cas": "runcas, command", "cp": "cp + sync"}


def draw_track(answers: Answers) -> str:
    """First track and rescan, beside the peers."""
    title = "Keeping a directory: the first time, and again unchanged"
    return svg.dots(title, _when(answers, "small"), _by_peer(answers, FIRST, AGAIN), seconds)


def draw_restore(answers: Answers) -> str:
    """Restore, beside the peers."""
    rows = _by_peer(answers, RESTORE)
    return svg.dots("Writing the directory back", _when(answers, "small"), rows, seconds)


def draw_stored(answers: Answers) -> str:
    """Bytes stored of each workload, as shares of what restic stores."""
    rows = {}
    for workload, answer in answers.items():
        stored = {
            who: answer.series[name].median
            for who in _STORED
            if (name := f"bytes stored: {who}") in answer.series
        }
        if stored:
            base = stored.get("restic") or stored["runcas"]
            rows[workload] = {who: value / base for who, value in stored.items()}
    title = "Bytes stored of files that change, restic = 1"
    return svg.dots(title, _when(answers), rows, lambda value: f"{value:g}")


def draw_scale(answers: Answers) -> str:
    """Time against the number of files."""
    found: dict[str, list[tuple[float, float]]] = {}
    for question, answer in answers.items():
        number = question.removesuffix("-files")
        for name, series in answer.series.items() if number.isdigit() else ():
            if series.unit == "s":
                work, _, who = name.partition(": ")
                label = f"{_CONTENDERS.get(who, who).split(',')[0]}, {work}"
                found.setdefault(label, []).append((int(number), series.median))
    title = "Time by the number of files of 100 to 1,000 bytes"
    ours_first = dict(sorted(found.items(), key=lambda line: not line[0].startswith("runcas")))
    return svg.lines(title, _when(answers), ours_first, lambda v: f"{v:,.0f}", seconds)


CHARTS: Final[Mapping[str, tuple[str, Callable[[Answers], str], str]]] = {
    "hash": ("hash", draw_hash, "Hashing throughput by file size"),
    "track": ("track", draw_track, "First track and rescan, beside other programs"),
    "restore": ("track", draw_restore, "Restore, beside other programs"),
    "stored": ("chunks", draw_stored, "Bytes stored for each workload"),
    "scale": ("scale", draw_scale, "Time by the number of files"),
}
"""For each chart: its benchmark, what draws it if there is something to draw, and its words."""


def _when(answers: Answers, question: str = "") -> str:
    """Return the subtitle: what, if all is about one question, and when."""
    if question in answers:
        return f"{answers[question].subject}; medians, {answers[question].measured}"
    return "; ".join(dict.fromkeys(answer.measured for answer in answers.values()))


def main() -> None:
    """Write the charts that there are answers for, and the page."""
    results = Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS
    found = {name: answers_in(results / f"bench_{name}.json") for name in QUICK}
    parts = ["# Results", _goals(found)]
    for chart, (benchmark, draw, words) in CHARTS.items():
        answers = {name: answer for name, answer in found[benchmark].items() if answer.series}
        path = results / f"chart_{chart}.svg"
        if drawn := draw(answers):
            path.write_text(drawn)
        if path.is_file():
            parts.append(f"![{words}]({path.name})")
    (results / "README.md").write_text("\n\n".join(parts) + "\n")


def _goals(found: Mapping[str, Answers]) -> str:
    """Return the table of all that was aimed at."""
    rows = []
    for benchmark, answers in found.items():
        for answer in answers.values():
            for wanted in answer.comparisons:
                if wanted.at_most is not None:
                    question, work, against, *cells = verdict(answer, wanted)
                    link = f"[{benchmark}, {question}](bench_{benchmark}.md)"
                    rows.append([link, work, against, *cells])
    header = ("", "work", "against", "goal", "median ratio", "of minima", "outcome")
    text = (
        "Each line was measured against what stands beside it, in turns and in one run. The page "
        "has the command, the machine, the versions and the commit."
    )
    return f"{prose(text)}\n\n{table(header, rows, texts=4)}"


if __name__ == "__main__":
    main()
