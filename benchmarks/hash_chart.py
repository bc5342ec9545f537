"""The chart of hashing throughput by file size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import matplotlib as mpl
from measure import GIB, MIB

mpl.use("Agg")

from matplotlib import pyplot as plt

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from measure import Answer

_LINES: Final = (
    ("plain reading", "plain reading", "#9a9a9a", "--"),
    ("BLAKE3, map, all threads", "BLAKE3, map, all threads", "#0b5394", "-"),
    ("BLAKE3, map, 1 thread", "BLAKE3, map, 1 thread", "#3d85c6", "-"),
    ("BLAKE3, reads of 1 MiB, 1 thread", "BLAKE3, 1 MiB reads, 1 thread", "#8ab4e8", "-"),
    ("b3sum, {many}", "b3sum, all threads", "#b45f06", "-."),
    ("b3sum, 1 thread", "b3sum, 1 thread", "#e69138", "-."),
    ("xxh3", "xxh3, 1 MiB reads", "#38761d", ":"),
    ("SHA-256", "SHA-256, 8 KiB reads", "#a61c00", "-"),
)

_LABEL_GAP: Final = 1.42
"""Least ratio of the heights of two labels."""


def draw(answers: Sequence[Answer], bytes_of: dict[str, int], subtitle: str, path: Path) -> None:
    """Draw throughput against file size, both logarithmic, each line labelled at its end."""
    sized = [answer for answer in answers if bytes_of[answer.question] > 0]
    sizes = [bytes_of[answer.question] for answer in sized]
    figure, axes = plt.subplots(figsize=(10, 6), dpi=150)
    ends = []
    for start, label, colour, style in _LINES:
        name = _find(sized[0], start)
        if name is None:
            continue
        rates = [
            size / answer.series[name].median / MIB
            for size, answer in zip(sizes, sized, strict=True)
        ]
        axes.plot(sizes, rates, style, color=colour, linewidth=1.8, marker="o", markersize=3)
        ends.append((rates[-1], label, colour))
    _label(axes, sizes[-1], ends)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(sizes, [answer.question for answer in sized])
    axes.set_xlim(sizes[0] / 1.5, sizes[-1] * 1.5)
    ticks = [1, 10, 100, 1024, 4 * 1024, 16 * 1024]
    axes.set_yticks(ticks, ["1 MiB/s", "10 MiB/s", "100 MiB/s", "1 GiB/s", "4 GiB/s", "16 GiB/s"])
    axes.minorticks_off()
    axes.set_xlabel("file size")
    axes.set_ylabel("throughput, median")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(f"Hashing one file from the page cache\n{subtitle}", loc="left", fontsize=11)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def _find(answer: Answer, start: str) -> str | None:
    """Return the series whose name begins so; ``{many}`` is the largest number of threads."""
    head, many, _ = start.partition("{many}")
    names = [name for name in answer.series if name.startswith(head)]
    if not names:
        return None
    return names[-1] if not many else max(names, key=lambda n: int(n.split(", ")[-1].split()[0]))


def _label(axes: plt.Axes, at: float, ends: list[tuple[float, str, str]]) -> None:
    """Write each label beside the end of its line, moved up where two would overlap."""
    lowest = 0.0
    for rate, label, colour in sorted(ends):
        height = max(rate, lowest * _LABEL_GAP)
        lowest = height
        axes.annotate(
            f"{label}, {rate / GIB * MIB:.1f} GiB/s",
            (at * 1.25, height),
            color=colour,
            fontsize=8,
            va="center",
            annotation_clip=False,
        )
