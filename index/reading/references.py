"""Bytes outside of the store that runs refer to, by URI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cas.redaction import shown_url
from index.errors import ReferenceUnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["iter_reference"]

_READ_SIZE: Final = 1 << 20


def iter_reference(uri: str) -> Iterator[bytes]:
    """Yield the bytes at a URI, piece by piece.

    Raises ReferenceUnreachableError if they can't be read.
    """
    import fsspec  # here, for a verification after the main thread has ended

    try:
        with fsspec.open(uri, "rb") as stream:
            while piece := stream.read(_READ_SIZE):
                yield piece
    except Exception as error:  # each filesystem has its own
        reason = str(error) or type(error).__name__
        raise ReferenceUnreachableError(shown_url(uri), reason) from error
