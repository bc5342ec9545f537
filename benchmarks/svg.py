"""Charts as SVG, readable on white and on black, in colour and in grey.

Contenders differ in shape and dash as well as in colour. The colours follow the scheme of who looks
(``prefers-color-scheme``). Both kinds of chart have logarithmic axes: a distance is a ratio.
"""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Points: TypeAlias = "Sequence[tuple[float, float]]"
Label: TypeAlias = "Callable[[float], str]"

_LIGHT: Final = (
    *("#0b4f9c", "#c2410c", "#15803d", "#7e22ce", "#0e7490", "#a16207", "#be185d", "#4d5562"),
)
_DARK: Final = (
    *("#7ab8ff", "#ff9d66", "#6ddc8b", "#cfa3ff", "#5fd3e6", "#e5c04f", "#ff8fc0", "#b9c0cb"),
)
_DASHES: Final = ("", "7 4", "2 3", "9 3 2 3", "5 2", "1 4", "12 4", "4 6")
_SHAPES: Final = (
    "M-4.5 0A4.5 4.5 0 1 0 4.5 0A4.5 4.5 0 1 0-4.5 0Z",
    "M-4-4H4V4H-4Z",
    "M0-5.5L5.5 0L0 5.5L-5.5 0Z",
    "M0-5L5 4H-5Z",
    "M0 5L5-4H-5Z",
    "M-4-4L4 4M-4 4L4-4",
    "M0-5V5M-5 0H5",
    "M-4.5 0A4.5 4.5 0 1 0 4.5 0A4.5 4.5 0 1 0-4.5 0ZM-4.5 0H4.5",
)
_OPEN: Final = frozenset({5, 6, 7})
"""Shapes that are drawn by their lines."""

_WIDTH: Final = 860
_LEFT: Final = 150
_RIGHT: Final = 210
_TOP: Final = 84
_LABEL_GAP: Final = 16


def _style() -> str:
    colours = ""
    for at, colour in enumerate(_LIGHT):
        colours += f".c{at}{{stroke:{colour};fill:{colour}}}"
    dark = "".join(f".c{at}{{stroke:{c};fill:{c}}}" for at, c in enumerate(_DARK))
    return (
        "<style>text{font:13px system-ui,sans-serif;fill:#24292f;stroke:none}"
        ".t{font-size:16px;font-weight:600}.s{fill:#57606a}.e{text-anchor:end}"
        ".m{text-anchor:middle}.g{stroke:#8c959f;stroke-opacity:.35;fill:none}"
        f"{colours}.l,.o{{fill:none;stroke-width:2}}"
        "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.s{fill:#9aa4b0}"
        f".g{{stroke-opacity:.45}}{dark}.l,.o{{fill:none}}}}</style>"
    )


class _Axis:
    """A logarithmic axis between two pixels."""

    def __init__(self, values: Sequence[float], low: float, high: float) -> None:
        least, most = math.log10(min(values)), math.log10(max(values))
        margin = max(0.04 * (most - least), 0.08)
        self._least, self._most = least - margin, most + margin
        self._low, self._high = low, high

    def at(self, value: float) -> float:
        """Return the pixel of a value."""
        share = (math.log10(value) - self._least) / (self._most - self._least)
        return round(self._low + share * (self._high - self._low), 1)

    def ticks(self) -> list[float]:
        """Return round values, about eight at most."""
        steps: tuple[int, ...] = (1, 2, 5) if self._most - self._least < 2.5 else (1,)
        powers = range(math.floor(self._least), math.ceil(self._most) + 1)
        every = 1 + len(powers) // 9
        values = (step * 10.0**power for power in powers[::every] for step in steps)
        return [v for v in values if self._least <= math.log10(v) <= self._most]


def _text(x: float, y: float, words: str, kind: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" class="{kind}">{escape(words)}</text>'


def _mark(x: float, y: float, number: int) -> str:
    at = number % len(_SHAPES)
    kind = f"c{at} o" if at in _OPEN else f"c{at}"
    return f'<path class="{kind}" transform="translate({x:g} {y:g})" d="{_SHAPES[at]}"/>'


def _page(title: str, subtitle: str, height: float, parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:g}" role="img"'
        f' width="{_WIDTH}" height="{height:g}"><title>{escape(title)}</title>{_style()}'
    )
    words = [_text(16, 26, title, "t"), _text(16, 46, subtitle, "s")]
    return "\n".join([head, *words, *parts, "</svg>"]) + "\n"


def _across(
    axis: _Axis, ticks: Sequence[float], label: Label, top: float, bottom: float
) -> list[str]:
    parts = []
    for value in ticks:
        x = axis.at(value)
        parts.append(f'<path class="g" d="M{x:g} {top:g}V{bottom:g}"/>')
        parts.append(_text(x, bottom + 18, label(value), "m s"))
    return parts


def lines(
    title: str, subtitle: str, series: Mapping[str, Points], x_label: Label, y_label: Label
) -> str:
    """Return a chart of lines, each named at its end; the ticks across are where points are.

    Without a line it is no chart, but an empty text.
    """
    if not series:
        return ""
    bottom = _TOP + 340
    xs = [x for points in series.values() for x, _ in points]
    ys = [y for points in series.values() for _, y in points]
    across, up = _Axis(xs, _LEFT - 50, _WIDTH - _RIGHT), _Axis(ys, bottom, _TOP)
    parts = _across(across, sorted(set(xs)), x_label, _TOP, bottom)
    for value in up.ticks():
        y = up.at(value)
        parts.append(f'<path class="g" d="M{_LEFT - 50} {y:g}H{_WIDTH - _RIGHT}"/>')
        parts.append(_text(_LEFT - 58, y + 4, y_label(value), "e s"))
    ends = []
    for number, (name, points) in enumerate(series.items()):
        places = [(across.at(x), up.at(y)) for x, y in points]
        path = "L".join(f"{x:g} {y:g}" for x, y in places)
        at = number % len(_DASHES)
        parts.append(f'<path class="c{at} l" stroke-dasharray="{_DASHES[at]}" d="M{path}"/>')
        parts += [_mark(x, y, number) for x, y in places]
        ends.append((places[-1][1], number, name))
    lowest = -math.inf
    for y, number, name in sorted(ends):
        lowest = max(y, lowest + _LABEL_GAP)
        parts.append(_mark(_WIDTH - _RIGHT + 14, lowest, number))
        parts.append(_text(_WIDTH - _RIGHT + 26, lowest + 4, name))
    return _page(title, subtitle, max(bottom, lowest) + 32, parts)


def dots(title: str, subtitle: str, rows: Mapping[str, Mapping[str, float]], label: Label) -> str:
    """Return a chart of rows, with a mark for each figure of a row and a legend of the marks.

    Without a row it is no chart, but an empty text.
    """
    if not rows:
        return ""
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    height = 24
    bottom = _TOP + height * len(rows)
    axis = _Axis([v for row in rows.values() for v in row.values()], _LEFT, _WIDTH - 40)
    parts = _across(axis, axis.ticks(), label, _TOP, bottom)
    x = 22.0
    for number, name in enumerate(names):
        parts += [_mark(x, 64, number), _text(x + 10, 68, name)]
        x += 34 + 7.2 * len(name)
    for number, (row, figures) in enumerate(rows.items()):
        y = _TOP + height * (number + 0.5)
        places = [axis.at(value) for value in figures.values()]
        parts.append(_text(_LEFT - 12, y + 4, row, "e"))
        parts.append(f'<path class="g" d="M{min(places):g} {y:g}H{max(places):g}"/>')
        parts += [
            _mark(place, y, names.index(name)) for place, name in zip(places, figures, strict=True)
        ]
    return _page(title, subtitle, bottom + 32, parts)
