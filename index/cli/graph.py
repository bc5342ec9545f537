"""A lineage as text: a tree for people, and graphs for programs that draw them."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING

from index.cli.terminal import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from index.domain.inputs import Input
    from index.domain.lineage import Activity, Lineage, LineageEdge
    from index.domain.snapshots import FileVersion

__all__ = ["as_dot", "as_mermaid", "iter_tree"]


class _Nodes:
    """The nodes of a lineage by their keys, and its edges by both ends."""

    def __init__(self, lineage: Lineage) -> None:
        self.versions = {f"v{each.id}": each for each in lineage.versions}
        self.activities = {each.id: each for each in lineage.activities}
        self.others = {f"i{n}": each for n, each in enumerate(lineage.others)}
        self.from_start: defaultdict[str, list[LineageEdge]] = defaultdict(list)
        self.from_end: defaultdict[str, list[LineageEdge]] = defaultdict(list)
        for edge in lineage.edges:
            self.from_start[edge.start].append(edge)
            self.from_end[edge.end].append(edge)

    def label(self, key: str) -> str:
        """Return a node in a line."""
        if key in self.versions:
            return _version(self.versions[key])
        if key in self.activities:
            return _activity(self.activities[key])
        return _other(self.others[key])

    def above(self, key: str) -> Iterator[tuple[str, str]]:
        """Yield what a version comes from: a mark, and a key."""
        for edge in self.from_start[key]:
            if edge.kind == "same":
                yield "= ", edge.end
            else:
                yield from (("", used.end) for used in self.from_start[edge.end])

    def below(self, key: str) -> Iterator[tuple[str, str]]:
        """Yield what was made from a version; of an activity that made nothing, that one."""
        for edge in self.from_end[key]:
            if edge.kind == "same":
                yield "= ", edge.start
            elif edge.kind == "used":
                made = [("", each.start) for each in self.from_end[edge.start]]
                yield from made or [("read by ", edge.start)]


def iter_tree(lineage: Lineage) -> Iterator[str]:
    """Yield the lines of a tree: what a file comes from, or what was made from it, below it.

    A file that stands in two places has what is below it only at the first.
    """
    nodes = _Nodes(lineage)
    for key in lineage.of:
        if lineage.direction == "both":
            yield from _tree(nodes, key, nodes.above, "comes from")
            yield from _tree(nodes, key, nodes.below, "goes into")
        else:
            yield from _tree(
                nodes, key, nodes.above if lineage.direction == "up" else nodes.below, ""
            )


def _tree(
    nodes: _Nodes, root: str, near: Callable[[str], Iterator[tuple[str, str]]], title: str
) -> Iterator[str]:
    shown: set[str] = set()
    # A stack, because a chain may be longer than Python's recursion allows.
    left = [("", "", "", root)]
    while left:
        indent, branch, mark, key = left.pop()
        maker = ", ".join(
            _activity(nodes.activities[edge.end])
            for edge in nodes.from_start[key]
            if edge.kind == "made"
        )
        line = f"{indent}{branch}{mark}{nodes.label(key)}{f'  ({maker})' if maker else ''}"
        if key == root and not indent and title:
            line += f" {title}"
        children = list(dict.fromkeys(near(key))) if key in nodes.versions else []
        if key in shown:
            yield line + (" … as above" if children else "")
            continue
        shown.add(key)
        yield line
        deeper = indent + {"": "", "├─ ": "│  ", "└─ ": "   "}[branch]
        last = len(children) - 1
        left += [
            (deeper, "└─ " if n == last else "├─ ", *child)
            for n, child in reversed(list(enumerate(children)))
        ]


def as_dot(lineage: Lineage) -> Iterator[str]:
    """Yield the lines of a graph for Graphviz; data flows along its arrows."""
    yield "digraph lineage {"
    yield "  rankdir=LR; node [fontname=sans];"
    nodes = _Nodes(lineage)
    shapes = ((nodes.versions, "box"), (nodes.activities, "ellipse"), (nodes.others, "note"))
    for keys, shape in shapes:
        for key in keys:
            # A string of JSON is one of DOT: both escape the quote and the backslash alike.
            label = json.dumps(nodes.label(key), ensure_ascii=False)
            yield f"  {key} [shape={shape}, label={label}];"
    for edge in lineage.edges:
        style = " [style=dashed, label=same]" if edge.kind == "same" else ""
        yield f"  {edge.end} -> {edge.start}{style};"
    yield "}"


def as_mermaid(lineage: Lineage) -> Iterator[str]:
    """Yield the lines of a flowchart for Mermaid, as Markdown pages draw it."""
    yield "flowchart LR"
    nodes = _Nodes(lineage)
    forms = ((nodes.versions, "[", "]"), (nodes.activities, "([", "])"), (nodes.others, "[/", "/]"))
    for keys, begin, end in forms:
        for key in keys:
            yield f'  {key}{begin}"{_entities(nodes.label(key))}"{end}'
    for edge in lineage.edges:
        yield f"  {edge.end} {'-. same .->' if edge.kind == 'same' else '-->'} {edge.start}"


def _entities(text: str) -> str:
    """Return text for a label of Mermaid, which takes the numbers of characters between # and ;."""
    plain = (each if each.isalnum() or each in " ._-/@,()" else f"#{ord(each)};" for each in text)
    return "".join(plain)


def _version(version: FileVersion) -> str:
    dropped = "" if version.dropped is None else ", dropped"
    return printable(f"{version.path}@{version.version} of {version.run}{dropped}")


def _other(found: Input) -> str:
    if found.uri is not None:
        return printable(f"{found.uri} {found.digest}")
    if found.path is None:
        return f"deleted {found.digest}"
    return printable(f"{found.path}@{found.version} of {found.source_run or found.run}, deleted")


def _activity(activity: Activity) -> str:
    ids = (activity.node_id, activity.step_id, activity.event_id)
    words = [each for each in (*ids, *activity.agents) if each is not None]
    return printable(", ".join(words) or f"run {activity.run}")
