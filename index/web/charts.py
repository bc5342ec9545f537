"""Geometry of small charts. Templates draw them as SVG."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from index.domain.units import human_size

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    _Box: TypeAlias = tuple[str, str, str]
    """A label, a title and a kind."""

__all__ = ["Bar", "Edge", "Graph", "Node", "bars", "graph", "layered"]

_BARS: Final = 8
"""Bars of a chart. The last one stands for all others."""

_SHOWN: Final = 12
"""Boxes in a column of a graph. A table has the others."""

_BOXES: Final = 60
"""Boxes in a graph of any number of columns."""

_CHARACTERS: Final = 30
"""Characters of a label in a graph."""

_ROW: Final = 44
_TOP: Final = 8
_BOX: Final = (260, 32)
_STEP: Final = 330
"""From a column to the next."""
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
    """``"content"``, ``"version"``, ``"maker"`` or ``"other"``."""
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
    """Boxes in columns, and lines between them."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    width: int
    height: int
    box: tuple[int, int]
    """Width and height of each box."""
    left_out: int
    """Boxes that would be too many."""


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
        0,
        (height - _BOX[1]) // 2,
    )
    middle = _column([(title, title, "version") for title in titles], 1, height)
    right = _column([(maker, maker, "maker") for maker in distinct], 2, height)
    edges = [_edge(content, node) for node in middle]
    edges += [
        _edge(node, right[distinct.index(maker)])
        for node, maker in zip(middle, makers, strict=True)
    ]
    left_out = len(versions) - len(shown)
    return Graph(
        (content, *middle, *right), tuple(edges), _STEP * 2 + _BOX[0], height, _BOX, left_out
    )


def layered(
    boxes: Mapping[str, _Box], links: Sequence[tuple[str, str]], roots: Sequence[str]
) -> Graph:
    """Return a graph whose columns are steps to and from some boxes.

    Parameters
    ----------
    boxes
        The label, the title and the kind of each box, by its key.
    links
        Keys of two boxes; the second one is in a column further to the left, but where the graph
        has a circle.
    roots
        The keys of the boxes to begin with. What is nearest to them is shown.
    """
    near: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
    for start, end in links:
        near[start].append((end, -1))
        near[end].append((start, 1))
    level = dict.fromkeys(roots, 0)
    left = deque(roots)
    while left:
        key = left.popleft()
        for other, step in near[key]:
            if other not in level:
                level[other] = level[key] + step
                left.append(other)
    columns: defaultdict[int, list[str]] = defaultdict(list)
    shown = 0
    for key, number in level.items():
        if len(columns[number]) < _SHOWN and shown < _BOXES:
            columns[number].append(key)
            shown += 1
    height = _TOP * 2 + _ROW * max(len(column) for column in columns.values())
    first = min(number for number, column in columns.items() if column)
    placed = {
        key: node
        for number, column in columns.items()
        for key, node in zip(
            column,
            _column([boxes[key] for key in column], number - first, height),
            strict=True,
        )
    }
    edges = [
        _edge(placed[end], placed[start])
        for start, end in links
        if start in placed and end in placed
    ]
    width = max(node.x for node in placed.values()) + _BOX[0]
    return Graph(
        tuple(placed.values()), tuple(edges), width, height, _BOX, len(boxes) - len(placed)
    )


def _column(boxes: Sequence[_Box], column: int, height: int) -> list[Node]:
    """Return boxes one below the other, in the middle of the height."""
    top = (height - _ROW * len(boxes)) // 2 + (_ROW - _BOX[1]) // 2
    return [
        Node(_cut(label), title, kind, _STEP * column, top + _ROW * number)
        for number, (label, title, kind) in enumerate(boxes)
    ]


def _edge(start: Node, end: Node) -> Edge:
    half = _BOX[1] // 2
    return Edge(start.x + _BOX[0], start.y + half, end.x, end.y + half)


def _cut(title: str) -> str:
    """Return the start and the end of a long title; the end of a path says most."""
    if len(title) <= _CHARACTERS:
        return title
    return f"{title[: _CHARACTERS // 3]}…{title[-(_CHARACTERS * 2 // 3 - 1) :]}"
