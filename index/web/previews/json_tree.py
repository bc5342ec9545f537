"""JSON as a tree, and JSON Lines as a list of trees."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from index.web.previews.content import UnreadableError
from index.web.previews.preview import Preview
from index.web.previews.texts import SHOWN_TEXT, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from index.web.previews.content import Content

__all__ = ["LARGEST_JSON", "show", "show_value"]

LARGEST_JSON: Final = 4 << 20
"""Bytes of the largest file that is parsed. A larger one is shown as text."""

_DEPTH: Final = 20
_NODES: Final = 2_000
_CHARACTERS: Final = 500
_LINES: Final = 100


class _Literal(str):
    """A number as it is written. A number of Python has other digits, or takes too long."""

    __slots__ = ()


class _Members(list[tuple[str, Any]]):
    """The members of an object. A dictionary would lose names that are there twice."""

    __slots__ = ()


def show(content: Content, _head: bytes) -> Preview:
    """Return the first nodes of a file's values."""
    if content.ending in (".jsonl", ".ndjson"):
        return _show_lines(content)
    if content.size > LARGEST_JSON:
        raise UnreadableError("The file is too large to show as a tree.")
    return show_value(_parsed(read_text(content, LARGEST_JSON).text))


def show_value(value: Any) -> Preview:  # noqa: ANN401 - JSON
    """Return the first nodes of a value of JSON."""
    tree = _Tree()
    root = tree.tree(value)
    return Preview("json", tree.is_cut, tree.note, {"tree": root})


def _show_lines(content: Content) -> Preview:
    found = read_text(content, SHOWN_TEXT)
    lines = found.text.split("\n")
    if not found.is_whole:
        lines = lines[:-1]  # the last one is cut
    lines = [line for line in lines if line.strip()]
    shown = show_value([_parsed(line) for line in lines[:_LINES]])
    truncated = shown.truncated or not found.is_whole or len(lines) > _LINES
    note = f"The first {_LINES} lines." if len(lines) > _LINES else shown.note
    return Preview("json", truncated, note, shown.content)


def _parsed(text: str) -> Any:  # noqa: ANN401 - JSON
    try:
        return json.loads(
            text,
            parse_int=_Literal,
            parse_float=_Literal,
            parse_constant=_Literal,
            object_pairs_hook=_Members,
        )
    except ValueError as error:
        raise UnreadableError(f"This is not valid JSON: {error}.") from error
    except RecursionError as error:
        raise UnreadableError("This JSON is nested too deeply to show as a tree.") from error


class _Tree:
    """Nodes of a value, as many as are shown.

    They are taken level by level, and small values before large ones of the same level, each of
    which takes at most half of what is left. So a long list hides nothing that stands beside it.
    """

    def __init__(self) -> None:
        self.is_cut = False
        self.note: str | None = None
        self._left = _NODES

    def tree(self, value: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
        """Return a value as a node, with those below it."""
        root = self._node(value)
        level = [(value, root)] if isinstance(value, list) else []
        for _ in range(_DEPTH):
            level.sort(key=lambda each: len(each[0]))
            below: list[tuple[list[Any], dict[str, Any]]] = []
            for value, node in level:
                most = self._left if len(level) == 1 else (self._left + 1) // 2
                below += self._fill(value, node, most)
            level = below
        if any(value for value, _ in level):
            self._cut(f"Values below a depth of {_DEPTH} are not shown.")
        return root

    def _fill(
        self, value: list[Any], node: dict[str, Any], most: int
    ) -> Iterator[tuple[list[Any], dict[str, Any]]]:
        """Give a node its items, and yield those that have items themselves."""
        count = min(len(value), most)
        self._left -= count
        if count < len(value):
            self._cut(f"Only {_NODES:,} values are shown.")
        for number, member in enumerate(value[:count]):
            key, inner = member if isinstance(value, _Members) else (str(number), member)
            item = self._node(inner)
            node["items"].append({"key": self._short(key), "value": item})
            if isinstance(inner, list):
                yield inner, item

    def _node(self, value: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
        """Return a value as a node, without the items that it has."""
        if isinstance(value, list):
            kind = "object" if isinstance(value, _Members) else "array"
            return {"type": kind, "count": len(value), "items": []}
        if value is None or isinstance(value, bool):
            return {"type": "constant", "text": json.dumps(value)}
        kind = "number" if isinstance(value, _Literal) else "string"
        return {"type": kind, "text": self._short(value)}

    def _short(self, text: str) -> str:
        if len(text) <= _CHARACTERS:
            return text
        self._cut(f"Only the first {_CHARACTERS} characters of long texts are shown.")
        return f"{text[:_CHARACTERS]}…"

    def _cut(self, note: str) -> None:
        self.is_cut = True
        self.note = self.note or note
