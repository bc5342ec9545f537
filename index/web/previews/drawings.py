"""Whether a browser can draw an SVG: a small one may stand for millions of shapes."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from functools import cache
from typing import Final, NoReturn
from xml.parsers import expat

from index.web.previews.content import UnreadableError

__all__ = ["check_drawing"]

_SHAPES: Final = 200_000
"""Elements with all references replaced. Chromium draws a million in 7 seconds."""

_REFERENCE: Final = re.compile(r"url\(\s*[\"']?#([^)\"']+)")
"""A reference to a pattern, a mask and the like, as attributes and styles have it."""

_ENTITIES: Final = "The drawing has XML entities, so only its source is shown."


def check_drawing(data: bytes) -> None:
    """Check that content is an SVG that a browser draws quickly.

    Raises
    ------
    UnreadableError
        When it is no SVG, is cut off, has entities, or has too many shapes.
    """
    shapes = _Shapes()
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.EntityDeclHandler = _refuse_entities
    parser.StartElementHandler = shapes.start
    parser.EndElementHandler = shapes.end
    try:
        parser.Parse(data, True)  # noqa: FBT003 - the signature of expat
        count = shapes.count()
    except expat.ExpatError:
        raise UnreadableError("This is no SVG. This is its source.") from None
    except RecursionError:
        count = _SHAPES + 1
    if count > _SHAPES:
        raise UnreadableError("The drawing has too many shapes, so only its source is shown.")


def _refuse_entities(*_declaration: object) -> NoReturn:
    raise UnreadableError(_ENTITIES)


class _Shapes:
    """Elements by the nearest element around them that has an id, and what these refer to."""

    def __init__(self) -> None:
        self._opened = [0]
        self._numbers: dict[str, int] = {}
        self._elements: Counter[int] = Counter()
        self._inner: dict[int, list[int]] = defaultdict(list)
        self._references: dict[int, list[str]] = defaultdict(list)
        self._last = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """Note the beginning of an element."""
        if not self._elements and tag.rpartition(" ")[2] != "svg":
            raise UnreadableError("This is no SVG. This is its source.")
        number = self._opened[-1]
        if "id" in attributes:
            self._last += 1
            self._inner[number].append(self._last)
            number = self._last
            self._numbers.setdefault(attributes["id"], number)
        self._elements[number] += 1
        for name, value in attributes.items():
            if name.rpartition(" ")[2] == "href" and value.startswith("#"):
                self._references[number].append(value[1:])
            elif "url(" in value:
                self._references[number] += _REFERENCE.findall(value)
        self._opened.append(number)

    def end(self, _tag: str) -> None:
        """Note the end of an element."""
        self._opened.pop()

    def count(self) -> int:
        """Return how many elements there are with all references replaced.

        A circle of references counts as too many.
        """
        entered: set[int] = set()

        @cache
        def within(number: int) -> int:
            if number in entered:
                return _SHAPES + 1
            entered.add(number)
            referred = (self._numbers.get(name) for name in self._references[number])
            below = [*self._inner[number], *(each for each in referred if each is not None)]
            total = self._elements[number] + sum(map(within, below))
            entered.discard(number)
            return min(total, _SHAPES + 1)

        return within(0)
