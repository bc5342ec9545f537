"""Results as compact HTML, for notebooks. Everything is escaped, and nothing is a script."""

from __future__ import annotations

from base64 import b64encode
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["PREVIEWED", "SHOWN", "counted", "figure", "paragraph", "preview", "table"]

SHOWN: Final = 20
"""Rows of a table; the rest is counted."""

_IMAGES: Final = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
}
"""Types of images by their first bytes. SVG is not among them: it may hold scripts."""

PREVIEWED: Final = 128 << 10
"""Bytes of the largest file with a preview."""

_LINES: Final = 8
_COLUMNS: Final = 120


def paragraph(*parts: object) -> str:
    """Return one line of text."""
    return f"<p>{' · '.join(_text(part) for part in parts if part not in (None, ''))}</p>"


def table(head: Sequence[str], rows: Iterable[Sequence[object]], *, count: int = 0) -> str:
    """Return a table of the first rows.

    Parameters
    ----------
    count
        Number of all rows, if `rows` has not all of them.
    """
    shown = [*rows]
    if not shown:
        return ""
    more = max(count, len(shown)) - min(len(shown), SHOWN)
    body = "".join(_row("td", row) for row in shown[:SHOWN])
    rest = f"<p>and {more:,} more</p>" if more else ""
    return f"<table><thead>{_row('th', head)}</thead><tbody>{body}</tbody></table>{rest}"


def figure(name: str, content: str) -> str:
    """Return a preview with its name, folded; nothing if there is no content."""
    if not content:
        return ""
    return f"<details><summary>{_text(name)}</summary>{content}</details>"


def preview(data: bytes) -> str:
    """Return a thumbnail of an image, or the head of a text; empty for other content."""
    for start, kind in _IMAGES.items():
        if data.startswith(start):
            source = f"data:{kind};base64,{b64encode(data).decode()}"
            return f'<img src="{source}" style="max-width:16em;max-height:12em">'
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return ""
    lines = [line[:_COLUMNS] for line in text.splitlines()]
    more = ["…"] if len(lines) > _LINES else []
    return f"<pre>{_text(chr(10).join([*lines[:_LINES], *more]))}</pre>" if lines else ""


def counted(count: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _row(cell: str, values: Sequence[object]) -> str:
    return f"<tr>{''.join(f'<{cell}>{_text(value)}</{cell}>' for value in values)}</tr>"


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        value = value.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    # Undecodable bytes of names are lone surrogates, which no page can hold.
    return escape(str(value).encode(errors="replace").decode())
