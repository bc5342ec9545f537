"""Geometry of small charts. Templates draw them as SVG."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from index.domain.units import human_size

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["Bar", "Edge", "Graph", "Node", "bars", "graph"]

_BARS: Final = 8
"""Bars of a chart. The last one stands for all others."""

_SHOWN: Final = 12
"""Versions in a graph. A table has the others."""

_CHARACTERS: Final = 30
"""Characters of a label in a graph."""

_ROW: Final = 44
_TOP: Final = 8
_BOX: Final = (260, 32)
_COLUMNS: Final = (0, 330, 660)
_WIDTH: Final = _COLUMNS[-1] + _BOX[0]
"""Sizes in a graph, in the units of its view box."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of a chart."""

    label: str | None
    """None for what has no label."""
    text: str
    """The amount, for people."""
    percent: float
    """The length, compared with the longest bar."""
    url: str | None
    """Where the bar leads."""


def bars(
    amounts: Mapping[str, int] | Mapping[str | None, int],
    lead: Callable[[str], str] | None = None,
    *,
    is_size: bool = False,
    in_order: bool = False,
) -> list[Bar]:
    """Return a bar for each amount, the longest first, without those that are 0.

    Parameters
    ----------
    lead
        Returns the URL of a label.
    is_size
        Whether amounts are bytes.
    in_order
        Whether the bars keep the order of `amounts`.
    """
    rows = [(label, amount) for label, amount in amounts.items() if amount or in_order]
    if not in_order:
        rows.sort(key=lambda row: (-row[1], row[0] or ""))
    if len(rows) > _BARS:
        others = rows[_BARS - 1 :]
        rows[_BARS - 1 :] = [(f"{len(others)} others", sum(amount for _, amount in others))]
        counted = len(rows) - 1
    else:
        counted = len(rows)
    longest = max((amount for _, amount in rows), default=0) or 1
    return [
        Bar(
            label,
            human_size(amount) if is_size else f"{amount:,}",
            round(100 * amount / longest, 1),
            lead(label) if lead and label is not None and number < counted else None,
        )
        for number, (label, amount) in enumerate(rows)
    ]


@dataclass(frozen=True, slots=True)
class Node:
    """A box of a graph with a label."""

    label: str
    """Cut to what fits."""
    title: str
    """All of it."""
    kind: str
    """``"content"``, ``"version"`` or ``"maker"``."""
    x: int
    y: int


@dataclass(frozen=True, slots=True)
class Edge:
    """A line from the right of a box to the left of another."""

    x1: int
    y1: int
    x2: int
    y2: int


@dataclass(frozen=True, slots=True)
class Graph:
    """A content, the versions that hold it, and the runs and agents that made them."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    width: int
    height: int
    box: tuple[int, int]
    """Width and height of each box."""
    left_out: int
    """Versions that are not in the graph."""


def graph(versions: Sequence[dict[str, Any]]) -> Graph:
    """Return the graph of the versions that hold the same bytes, given as JSON types."""
    shown = versions[:_SHOWN]
    titles = [f"{each['path']}, version {each['version']}" for each in shown]
    makers = [f"{each['run']} · {each['agent'] or 'no agent'}" for each in shown]
    distinct = [*dict.fromkeys(makers)]
    height = _TOP * 2 + _ROW * max(len(shown), 1)
    content = Node(
        f"{str(shown[0]['digest'])[:16]}…" if shown else "",
        str(shown[0]["digest"]) if shown else "",
        "content",
        _COLUMNS[0],
        (height - _BOX[1]) // 2,
    )
    middle = _column(titles, "version", 1, height)
    right = _column(distinct, "maker", 2, height)
    edges = [_edge(content, node) for node in middle]
    edges += [
        _edge(node, right[distinct.index(maker)])
        for node, maker in zip(middle, makers, strict=True)
    ]
    left_out = len(versions) - len(shown)
    return Graph((content, *middle, *right), tuple(edges), _WIDTH, height, _BOX, left_out)


def _column(titles: Sequence[str], kind: str, column: int, height: int) -> list[Node]:
    """Return boxes one below the other, in the middle of the height."""
    top = (height - _ROW * len(titles)) // 2 + (_ROW - _BOX[1]) // 2
    return [
        Node(_cut(title), title, kind, _COLUMNS[column], top + _ROW * number)
        for number, title in enumerate(titles)
    ]


def _edge(start: Node, end: Node) -> Edge:
    half = _BOX[1] // 2
    return Edge(start.x + _BOX[0], start.y + half, end.x, end.y + half)


def _cut(title: str) -> str:
    """Return the start and the end of a long title; the end of a path says most."""
    if len(title) <= _CHARACTERS:
        return title
    return f"{title[: _CHARACTERS // 3]}…{title[-(_CHARACTERS * 2 // 3 - 1) :]}"
