"""Text and code."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, Final

from index.web.previews.content import UnreadableError
from index.web.previews.preview import Preview

if TYPE_CHECKING:
    from index.web.previews.content import Content

__all__ = ["SHOWN_TEXT", "Text", "highlighted", "is_text", "read_text", "show_text"]

SHOWN_TEXT: Final = 256 << 10
"""Bytes of text that are read."""

_LONGEST_LINE: Final = 20_000
"""Characters of a line that is highlighted. Lexers are slow on longer ones."""

_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

_TEXT_CONTROLS: Final = frozenset(b"\t\n\r\f\b\x1b")


class Text:
    """The beginning of a file, decoded."""

    def __init__(self, text: str, *, is_whole: bool, note: str | None) -> None:
        self.text = text
        self.is_whole = is_whole
        self.note = note


def is_text(head: bytes) -> bool:
    """Whether bytes look like text: UTF-8, UTF-16 with its mark, or an 8-bit encoding."""
    if any(head.startswith(mark) for mark, _ in _MARKS):
        return True
    if b"\0" in head:
        return False
    controls = sum(byte < 0x20 and byte not in _TEXT_CONTROLS for byte in head)
    if _is_utf8(head):
        return controls * 10 <= len(head)
    if _is_mostly_utf8(head):
        return not controls
    high = sum(byte >= 0x80 for byte in head)
    return not controls and high * 3 <= len(head)


def read_text(content: Content, most: int = SHOWN_TEXT) -> Text:
    """Return the beginning of a file as text, with newlines as line ends."""
    data = content.read(0, most)
    is_whole = len(data) == content.size
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
    note = None
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(data, final=is_whole)
    except UnicodeDecodeError:
        if _is_mostly_utf8(data):
            decoder = codecs.getincrementaldecoder(encoding)("backslashreplace")
            text, note = (
                decoder.decode(data, final=is_whole),
                "Bytes that are not UTF-8 are escaped.",
            )
        else:
            text, note = data.decode("latin-1"), "This text is not UTF-8. It is shown as Latin-1."
    if "\0" in text:
        raise UnreadableError("This is no text: it has zero bytes.")
    return Text(text.replace("\r\n", "\n"), is_whole=is_whole, note=note)


def show_text(content: Content, note: str | None = None) -> Preview:
    """Return the beginning of a file as code if its language is known, otherwise as text."""
    found = read_text(content)
    truncated, note = not found.is_whole, note or found.note
    code = highlighted(found.text, content.name)
    if code is None:
        return Preview("text", truncated, note, {"text": found.text})
    language, html = code
    fields = {"text": found.text, "html": html, "language": language}
    return Preview("code", truncated, note, fields)


def highlighted(text: str, name: str) -> tuple[str, str] | None:
    """Return the language of a code and its HTML, by a name or its ending; None if it is unknown.

    The HTML has nothing but text and ``<span class>``.
    """
    from pygments import highlight
    from pygments.formatters.html import HtmlFormatter
    from pygments.lexers import get_lexer_for_filename
    from pygments.lexers.special import TextLexer
    from pygments.util import ClassNotFound

    from index.web.previews.sanitising import clean_code

    if max(map(len, text.split("\n")), default=0) > _LONGEST_LINE:
        return None
    try:
        # Without the text: its choice between languages must not depend on code that guesses.
        lexer = get_lexer_for_filename(f"file{name}" if name.startswith(".") else name)
    except ClassNotFound:
        return None
    if isinstance(lexer, TextLexer):
        return None
    lexer.stripnl = False
    lexer.ensurenl = False
    html = highlight(text, lexer, HtmlFormatter(nowrap=True))
    return lexer.name, clean_code(html)


def _is_utf8(head: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return True


def _is_mostly_utf8(data: bytes) -> bool:
    """Whether text has more characters of several bytes in UTF-8 than bytes that are not UTF-8."""
    text = data.decode("utf-8", "surrogateescape")
    broken = sum("\udc80" <= character <= "\udcff" for character in text)
    return sum(character >= "\x80" for character in text) > 2 * broken
