"""Reading around unreadable blocks: bad sectors, and blocks with a wrong checksum."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from cas.errors import UnreadableObjectError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cas.backend import Backend

__all__ = ["Salvaged", "read_around"]

_BLOCK: Final = 4 << 10
"""Smallest unreadable unit in bytes: a sector of present disks, and a page of Linux's cache."""


class Salvaged(NamedTuple):
    """The readable bytes of an object."""

    data: bytes
    """The bytes, with zeros for unreadable blocks."""
    holes: Sequence[range]
    """Ranges of these zeros in the object, in order, each within one block."""


def read_around(backend: Backend, name: str, start: int, size: int) -> Salvaged:
    """Read as `Backend.read` does, but skip unreadable blocks.

    Failed reads are retried in ever smaller parts, so that a transient fault does no harm.

    Raises
    ------
    ObjectNotFoundError
        When there is no object with that name.
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
    """Return a block boundary inside a part, within one block of its middle."""
    border = (part.start + part.stop) // 2 // _BLOCK * _BLOCK
    return border if border > part.start else border + _BLOCK
