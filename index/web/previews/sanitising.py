"""HTML of others, reduced to what shows text, tables and small images."""

from __future__ import annotations

import re
from base64 import b64decode
from functools import cache
from typing import Final

import nh3

from index.web.previews.dimensions import MOST_PIXELS, dimensions_of

__all__ = ["clean_code", "clean_html", "data_image"]

_TAGS: Final = {
    "a", "abbr", "b", "blockquote", "br", "caption", "cite", "code", "col", "colgroup", "dd", "del",
    "details", "dfn", "div", "dl", "dt", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "img",
    "ins", "kbd", "li", "mark", "ol", "p", "pre", "q", "s", "samp", "small", "span", "strong",
    "sub", "summary", "sup", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "u", "ul", "var",
}  # fmt: skip

_ATTRIBUTES: Final[dict[str, set[str]]] = {
    "*": set(),
    "a": {"href"},
    "img": {"src", "alt"},
    "ol": {"start"},
    "td": {"colspan", "rowspan"},
    "th": {"colspan", "rowspan", "scope"},
}

_LINK: Final = re.compile(r"(?:https?://|mailto:)", re.IGNORECASE)
_IMAGE: Final = re.compile(r"data:image/(?:png|jpeg|gif);base64,", re.IGNORECASE)


def clean_html(html: str) -> str:
    """Return HTML without what could run, load, hide or reorder anything.

    Links lead to other sites or to mail only. Images are part of the text, and small enough.
    """
    return _html_cleaner().clean(html)


def clean_code(html: str) -> str:
    """Return highlighted code with nothing but text and ``<span class>``."""
    return _code_cleaner().clean(html)


def data_image(media_type: str, encoded: str) -> str | None:
    """Return the URL of an image that holds its bytes; None if it is too large or no image."""
    encoded = "".join(encoded.split())
    try:
        found = dimensions_of(b64decode(encoded, validate=True))
    except ValueError:
        return None
    if found is None or found.media_type != media_type or found.pixels > MOST_PIXELS:
        return None
    return f"data:{media_type};base64,{encoded}"


@cache
def _html_cleaner() -> nh3.Cleaner:
    return nh3.Cleaner(
        tags=_TAGS,
        attributes=_ATTRIBUTES,
        attribute_filter=_kept,
        url_schemes={"http", "https", "mailto", "data"},
        url_relative="deny",
        link_rel="noopener noreferrer nofollow",
    )


@cache
def _code_cleaner() -> nh3.Cleaner:
    return nh3.Cleaner(tags={"span"}, attributes={"*": set(), "span": {"class"}}, link_rel=None)


def _kept(tag: str, attribute: str, value: str) -> str | None:
    """Return the value of an attribute, or None to drop it."""
    if attribute == "href":
        return value if _LINK.match(value) else None
    if (tag, attribute) == ("img", "src"):
        start = _IMAGE.match(value)
        media_type = value[5 : value.find(";")].lower()
        return data_image(media_type, value[start.end() :]) if start else None
    return value
