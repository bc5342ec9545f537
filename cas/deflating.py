"""The level of compression of an entry in a zip file."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from typing import BinaryIO
    from zipfile import ZipInfo

__all__ = ["set_level"]

_QUICK: Final = 1

_STORED: Final = 0
"""The level for bytes that don't compress. It needs a twelfth of the time. Readers of streams take
such an entry, and refuse one without a method of compression whose length comes after it."""

_TRIED: Final = 64 << 10
"""Bytes from which on a sample shows whether a file compresses."""

_SAMPLE: Final = 8 << 10
"""Bytes of each of three pieces of the sample. None is at an end, where a file that does not
compress often has a header or a list that does."""

_WORTHWHILE: Final = 0.9
"""The largest ratio of compressed size to size for which the sample compresses."""


def set_level(entry: ZipInfo, stream: BinaryIO) -> None:
    """Choose how an entry of a zip file is compressed: quickly, or not if its bytes don't compress.

    The level of the whole file does not hold for an entry that is made of a `ZipInfo`.

    Parameters
    ----------
    stream
        The bytes of the entry, at their beginning. It can be sought.
    """
    level = _QUICK if _compresses(stream, entry.file_size) else _STORED
    entry._compresslevel = level  # type: ignore[attr-defined]  # noqa: SLF001


def _compresses(stream: BinaryIO, size: int) -> bool:
    """Whether a sample of a stream compresses, or there is too little for a sample."""
    if size < _TRIED:
        return True
    sample = bytearray()
    for quarter in (1, 2, 3):
        stream.seek(size * quarter // 4)
        sample += stream.read(_SAMPLE)
    stream.seek(0)
    return len(zlib.compress(sample, _QUICK)) < len(sample) * _WORTHWHILE
