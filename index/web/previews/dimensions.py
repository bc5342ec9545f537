"""Width and height of images, from their headers."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["HEAD", "MOST_PIXELS", "Dimensions", "dimensions_of", "is_image"]

HEAD: Final = 768 << 10
"""Bytes that hold the header of all but strange images. That of a JPEG follows its meta data, among
which a colour profile for print has half a megabyte."""

MOST_PIXELS: Final = 50_000_000
"""Pixels of the largest image that is shown. A browser takes four bytes for each."""

_NO_FRAMES: Final = frozenset({0xC4, 0xC8, 0xCC})
"""Markers among those of frames, C0 to CF, that begin none. Source: ITU T.81, table B.1."""


@dataclass(frozen=True, slots=True)
class Dimensions:
    """The type of an image, and its width and height in pixels."""

    media_type: str
    width: int
    height: int

    @property
    def pixels(self) -> int:
        """How many pixels a browser decodes."""
        return self.width * self.height


def is_image(head: bytes) -> bool:
    """Whether a content begins as an image of a type that browsers show."""
    return any(is_format(head) for is_format, _, _ in _FORMATS)


def dimensions_of(head: bytes) -> Dimensions | None:
    """Return the dimensions of an image by its first bytes; None if it has no valid header."""
    for is_format, media_type, size_of in _FORMATS:
        if is_format(head):
            try:
                width, height = size_of(head)
            except (struct.error, IndexError, ValueError):
                return None
            return Dimensions(media_type, width, height) if width > 0 and height > 0 else None
    return None


def _png(head: bytes) -> tuple[int, int]:
    if head[12:16] != b"IHDR":
        raise ValueError("no IHDR")
    width, height = struct.unpack_from(">II", head, 16)
    return width, height


def _gif(head: bytes) -> tuple[int, int]:
    """Return the larger of the screen and the first frame: browsers enlarge the screen to it."""
    width, height, packed = struct.unpack_from("<HHB", head, 6)
    position = 13 + (3 << ((packed & 7) + 1) if packed & 0x80 else 0)
    while head[position] == 0x21:  # an extension: a label, then blocks, the last one empty
        position += 2
        while head[position]:
            position += 1 + head[position]
        position += 1
    if head[position] != 0x2C:
        raise ValueError("no frame")
    left, top, frame_width, frame_height = struct.unpack_from("<HHHH", head, position + 1)
    return max(width, left + frame_width), max(height, top + frame_height)


def _bmp(head: bytes) -> tuple[int, int]:
    (size,) = struct.unpack_from("<I", head, 14)
    if size == 12:
        width, height = struct.unpack_from("<HH", head, 18)
        return width, height
    width, height = struct.unpack_from("<ii", head, 18)
    return width, abs(height)  # a negative height means rows from the top


def _jpeg(head: bytes) -> tuple[int, int]:
    position = 2
    while True:
        if head[position] != 0xFF:
            raise ValueError("no marker")
        marker = head[position + 1]
        if marker == 0xFF:  # fill bytes
            position += 1
        elif 0xC0 <= marker <= 0xCF and marker not in _NO_FRAMES:
            height, width = struct.unpack_from(">HH", head, position + 5)
            return width, height
        elif marker in (0xD9, 0xDA):
            raise ValueError("no frame before the data")
        else:
            (length,) = struct.unpack_from(">H", head, position + 2)
            position += 2 + length


def _webp(head: bytes) -> tuple[int, int]:
    kind = head[12:16]
    if kind == b"VP8X":
        return (
            1 + int.from_bytes(head[24:27], "little"),
            1 + int.from_bytes(head[27:30], "little"),
        )
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", head, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 " and head[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", head, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise ValueError("no such chunk")


def _avif(head: bytes) -> tuple[int, int]:
    """Return the largest dimensions among all properties `ispe`, of tiles and thumbnails too."""
    found = []
    position = head.find(b"ispe")
    while position >= 0:
        found.append(struct.unpack_from(">II", head, position + 8))
        position = head.find(b"ispe", position + 4)
    width, height = max(found, key=lambda each: each[0] * each[1])
    return width, height


_FORMATS: Final[
    tuple[tuple[Callable[[bytes], bool], str, Callable[[bytes], tuple[int, int]]], ...]
] = (
    (lambda head: head.startswith(b"\x89PNG\r\n\x1a\n"), "image/png", _png),
    (lambda head: head.startswith(b"\xff\xd8\xff"), "image/jpeg", _jpeg),
    (lambda head: head.startswith((b"GIF87a", b"GIF89a")), "image/gif", _gif),
    (lambda head: head[:4] == b"RIFF" and head[8:12] == b"WEBP", "image/webp", _webp),
    (lambda head: head[4:12] in (b"ftypavif", b"ftypavis"), "image/avif", _avif),
    (lambda head: head[:2] == b"BM" and head[6:10] == bytes(4), "image/bmp", _bmp),
)
