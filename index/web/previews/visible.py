"""Text of others without characters that hide or reorder it."""

from __future__ import annotations

from typing import Final

__all__ = ["visible"]

_KEPT: Final = frozenset("\n\t\xa0\u2009\u202f\u3000")
"""Not printable for Python, but harmless: the ends of a cell and a line, and spaces with a width,
as French and Chinese text and units have them."""

_INVISIBLE: Final = frozenset(
    (
        0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0,
        *range(0x180B, 0x1810), *range(0xFE00, 0xFE0E), *range(0xE0100, 0xE01F0),
    )
)  # fmt: skip
"""Printable for Python, but drawn as nothing. Source: Default_Ignorable_Code_Point, Unicode 15,
without the variation selectors of emoji; and the empty Braille pattern."""


class _Escapes(dict[int, str]):
    """What each code point is shown as. Those that were met before are kept."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        is_shown = character in _KEPT or (character.isprintable() and code not in _INVISIBLE)
        self[code] = found = character if is_shown else f"{_escape(code)}"
        return found


def _escape(code: int) -> str:
    if code < 0x100:
        return chr(code).encode("unicode_escape").decode("ascii")
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


_ESCAPES: Final = _Escapes()


def visible(text: str) -> str:
    """Return text with escapes in place of all characters that hide or reorder other text.

    These are control characters, bidirectional controls, characters without width, and lone
    surrogates. Newlines and tabs stay. The result can be encoded as UTF-8.
    """
    if text.isascii() and text.isprintable():
        return text
    return text.translate(_ESCAPES)
