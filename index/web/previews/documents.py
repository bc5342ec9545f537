"""Documents that the browser itself draws: SVG and PDF."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from index.web.previews.content import UnreadableError
from index.web.previews.drawings import check_drawing
from index.web.previews.preview import Preview

if TYPE_CHECKING:
    from index.web.previews.content import Content

__all__ = ["show"]

LARGEST_SVG: Final = 4 << 20
"""Bytes of the largest drawing that is shown."""


def show(content: Content, head: bytes) -> Preview:
    """Return that a document can be drawn. Nothing of it gets into the page."""
    if head.startswith(b"%PDF-"):
        return Preview("pdf", content={"media_type": "application/pdf"})
    if content.size > LARGEST_SVG:
        raise UnreadableError("The drawing is too large to show. This is its source.")
    check_drawing(content.read(0, LARGEST_SVG))
    return Preview("svg", content={"media_type": "image/svg+xml"})
