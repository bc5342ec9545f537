"""Reading around what a medium refuses to give: bad sectors, blocks whose checksum is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from cas.errors import UnreadableObjectError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cas.backend import Backend

__all__ = ["Salvaged", "read_around"]

_BLOCK: Final = 4 << 10
"""Bytes that are given up together: a sector of present disks, and a page of Linux's cache."""


class Salvaged(NamedTuple):
    """Bytes of an object, as far as they can be read."""

    data: bytes
    """Zeros where the medium refuses."""
    holes: Sequence[range]
    """Offsets in the object of these zeros, in order, each within one block."""


def read_around(backend: Backend, name: str, start: int, size: int) -> Salvaged:
    """Read as `Backend.read` does, but let no more than bad blocks be missing.

    What is refused is asked for again in ever smaller parts, so that a fault that passes is none.

    Raises
    ------
    ObjectNotFoundError
        When there is no object of that name.
    BackendError
        When storage fails in any other way.
    """
    try:
        return Salvaged(backend.read(name, start, size), ())
    except UnreadableObjectError:
        stop = min(start + size, backend.size(name))
    pieces: list[bytes] = []
    holes: list[range] = []
    waiting = [range(start, stop)]
    while waiting:
        part = waiting.pop()
        try:
            pieces.append(backend.read(name, part.start, len(part)))
        except UnreadableObjectError:
            if part.start // _BLOCK < (part.stop - 1) // _BLOCK:
                middle = _middle(part)
                waiting += [range(middle, part.stop), range(part.start, middle)]
            else:
                pieces.append(bytes(len(part)))
                holes.append(part)
    return Salvaged(b"".join(pieces), holes)


def _middle(part: range) -> int:
    """Return a border of two blocks within a part, as near to its middle as they are large."""
    border = (part.start + part.stop) // 2 // _BLOCK * _BLOCK
    return border if border > part.start else border + _BLOCK
