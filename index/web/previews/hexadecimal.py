"""Bytes as lines of hexadecimal numbers."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["SHOWN_BYTES", "hex_lines"]

SHOWN_BYTES: Final = 4096
"""Bytes of a file that are shown as numbers."""

_WIDTH: Final = 16


def hex_lines(data: bytes) -> list[dict[str, Any]]:
    """Return the lines of a hexadecimal view, as of ``xxd``."""
    return [
        {
            "offset": f"{offset:08x}",
            "hex": data[offset : offset + _WIDTH].hex(" "),
            "ascii": "".join(
                chr(byte) if 0x20 <= byte < 0x7F else "." for byte in data[offset : offset + _WIDTH]
            ),
        }
        for offset in range(0, len(data), _WIDTH)
    ]
