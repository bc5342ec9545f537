"""Notebooks of Jupyter, with the outputs that can do nothing."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from typing import TYPE_CHECKING, Any, Final

from index.web.previews.content import UnreadableError
from index.web.previews.drawings import check_drawing
from index.web.previews.json_tree import LARGEST_JSON
from index.web.previews.markup import rendered
from index.web.previews.preview import Preview
from index.web.previews.sanitising import clean_html, data_image
from index.web.previews.texts import highlighted, read_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from index.web.previews.content import Content

__all__ = ["show"]

_CELLS: Final = 200
_OUTPUTS: Final = 20
"""Outputs of a cell that are shown."""
_CHARACTERS: Final = 20_000
"""Characters of a cell, or of an output, that are shown."""

_COLOURS: Final = re.compile(r"\x1b\[[0-9;]*m")

_ACTIVE: Final = frozenset({"application/javascript", "text/javascript"})
"""Outputs that are scripts. They are left out, even if a text stands beside them."""

_ENDINGS: Final = {"r": ".R", "julia": ".jl", "javascript": ".js", "c++": ".cpp", "rust": ".rs"}


def show(content: Content, _head: bytes) -> Preview:
    """Return the first cells of a notebook."""
    if content.size > LARGEST_JSON:
        raise UnreadableError("The notebook is too large to show. This is its source.")
    try:
        notebook = json.loads(read_text(content, LARGEST_JSON).text)
        metadata = notebook.get("metadata", {})
        language = metadata.get("kernelspec", {}).get("language", "python")
        cells, shower = notebook["cells"], _Shower(str(language))
        shown = [shower.cell(cell) for cell in cells[:_CELLS]]
    except (ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
        raise UnreadableError("This is not a notebook of Jupyter, version 4.") from error
    notes = [f"The first {_CELLS} of {len(cells):,} cells."] if len(cells) > _CELLS else []
    if shower.is_cut:
        notes.append("Long cells and outputs are cut.")
    if shower.dropped:
        notes.append(f"{shower.dropped:,} outputs that could run or are too large are left out.")
    fields = {"language": str(language), "cells": shown}
    return Preview(
        "notebook", len(cells) > _CELLS or shower.is_cut, " ".join(notes) or None, fields
    )


class _Shower:
    """Makes cells for the page, and counts what it leaves out."""

    def __init__(self, language: str) -> None:
        self.is_cut = False
        self.dropped = 0
        self._ending = _ENDINGS.get(language.lower(), ".py")

    def cell(self, cell: dict[str, Any]) -> dict[str, Any]:
        """Return a cell: its source, and for code what it printed and returned."""
        kind, source = cell["cell_type"], self._short(_text(cell["source"]))
        if kind == "markdown":
            return {"type": "markdown", "text": source, "html": rendered(source), "outputs": []}
        if kind != "code":
            return {"type": "raw", "text": source, "html": None, "outputs": []}
        outputs = cell.get("outputs", [])
        self.is_cut |= len(outputs) > _OUTPUTS
        code = highlighted(source, self._ending)
        return {
            "type": "code",
            "text": source,
            "html": None if code is None else code[1],
            "outputs": [self._output(each) for each in outputs[:_OUTPUTS]],
        }

    def _output(self, output: dict[str, Any]) -> dict[str, Any]:
        kind = output["output_type"]
        if kind == "stream":
            return self._plain(_text(output["text"]))
        if kind == "error":
            return self._plain("\n".join(map(str, output["traceback"]))) | {"type": "error"}
        data = output["data"]
        self.dropped += not _ACTIVE.isdisjoint(data)
        showers: dict[str, Callable[[str], dict[str, Any] | None]] = {
            "image/png": lambda value: _image("image/png", value),
            "image/jpeg": lambda value: _image("image/jpeg", value),
            "image/svg+xml": _drawing,
            "text/html": self._html,
            "text/markdown": lambda value: {"type": "html", "html": rendered(self._short(value))},
            "text/plain": self._plain,
        }
        for media_type, shower in showers.items():
            if media_type in data and (shown := shower(_text(data[media_type]))) is not None:
                return shown
        self.dropped += _ACTIVE.isdisjoint(data)
        return {"type": "dropped", "text": f"Not shown: {', '.join(sorted(data))[:200]}"}

    def _plain(self, text: str) -> dict[str, Any]:
        return {"type": "text", "text": self._short(_COLOURS.sub("", text))}

    def _html(self, text: str) -> dict[str, Any] | None:
        """Return the HTML of an output, without what could run; None if nothing is left."""
        html = clean_html(text) if len(text) <= 10 * _CHARACTERS else ""
        return {"type": "html", "html": html} if html.strip() else None

    def _short(self, text: str) -> str:
        if len(text) <= _CHARACTERS:
            return text
        self.is_cut = True
        return f"{text[:_CHARACTERS]}…"


def _text(value: str | list[str]) -> str:
    """Return a text, which may be there as a list of lines."""
    return value if isinstance(value, str) else "".join(map(str, value))


def _image(media_type: str, encoded: str) -> dict[str, Any] | None:
    source = data_image(media_type, encoded)
    return source and {"type": "image", "source": source}  # type: ignore[return-value]


def _drawing(text: str) -> dict[str, Any] | None:
    """Return an SVG as an image, in which no script runs and nothing else is loaded."""
    data = text.encode("utf-8", "replace")
    try:
        check_drawing(data)
    except UnreadableError:
        return None
    return {"type": "image", "source": f"data:image/svg+xml;base64,{b64encode(data).decode()}"}
