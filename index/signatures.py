"""What tells that a file is unchanged without reading it, in the form that is recorded."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    import os

__all__ = ["Signature", "is_storable", "signature_of"]

Signature: TypeAlias = bytes
"""What `stat` tells of a file's content. A scan holds one of each file, and five integers would be
three times as large."""

_SIGNATURE: Final = struct.Struct("<qqqQQ")
"""Size, mtime_ns, ctime_ns, inode, device. The last two are unsigned: overlay filesystems use all
64 bits."""

_pack: Final = _SIGNATURE.pack


def signature_of(status: os.stat_result) -> Signature:
    """Return what identifies a file's content without reading it."""
    times = status.st_mtime_ns, status.st_ctime_ns
    try:
        return _pack(status.st_size, *times, status.st_ino, status.st_dev)
    except struct.error:  # a time that some filesystems can hold, and the columns can't
        parts = "not packed", status.st_size, *times, status.st_ino, status.st_dev
        return repr(parts).encode()


def is_storable(signature: Signature) -> bool:
    """Whether it can be recorded: times are within some 292 years of 1970."""
    return len(signature) == _SIGNATURE.size
