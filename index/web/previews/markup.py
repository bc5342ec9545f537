"""Markdown."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt

from index.web.previews.preview import Preview
from index.web.previews.sanitising import clean_html
from index.web.previews.texts import read_text

if TYPE_CHECKING:
    from index.web.previews.content import Content

__all__ = ["rendered", "show"]


def show(content: Content, _head: bytes) -> Preview:
    """Return the beginning of a text in Markdown as HTML."""
    found = read_text(content)
    fields = {"text": found.text, "html": rendered(found.text)}
    return Preview("markdown", not found.is_whole, found.note, fields)


def rendered(text: str) -> str:
    """Return Markdown as sanitised HTML. HTML in the text is shown as text."""
    return clean_html(_parser().render(text))


@cache
def _parser() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
