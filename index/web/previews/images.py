"""Images that browsers show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from index.web.previews.content import UnreadableError
from index.web.previews.dimensions import HEAD, MOST_PIXELS, dimensions_of
from index.web.previews.preview import Preview

if TYPE_CHECKING:
    from index.web.previews.content import Content

__all__ = ["show"]

_LARGEST: Final = 20 << 20
"""Bytes of the largest image that is shown."""


def show(content: Content, _head: bytes) -> Preview:
    """Return the type and dimensions of an image that is small enough for any browser."""
    found = dimensions_of(content.read(0, HEAD))
    if found is None:
        raise UnreadableError("This image is damaged, or of a type that browsers can't show.")
    size = {"media_type": found.media_type, "width": found.width, "height": found.height}
    if found.pixels > MOST_PIXELS:
        note = f"The image has {found.width:,} by {found.height:,} pixels, too many to show."
        return Preview("refused", note=note, content=size)
    if content.size > _LARGEST:
        note = f"The image has {content.size:,} bytes, too many to show."
        return Preview("refused", note=note, content=size)
    return Preview("image", content=size)
