"""Bytes outside of the store that runs refer to, by URI."""

from __future__ import annotations

import os
import stat
import sys
from http import HTTPStatus
from textwrap import shorten
from typing import TYPE_CHECKING, BinaryIO, Final
from urllib.parse import unquote_to_bytes

from cas.redaction import shown_url
from index.errors import ReferenceUnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

__all__ = ["iter_reference"]

_READ_SIZE: Final = 1 << 20

_LOCAL: Final = "file://"

_OPEN_FILE: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

_LONGEST: Final = 300
"""Characters of a reason: some clients tell all rules that a name has to follow."""


def iter_reference(uri: str) -> Iterator[bytes]:
    """Yield the bytes at a URI, piece by piece.

    Raises ReferenceUnreachableError if they can't be read.
    """
    handled = sys.exc_info()[1]  # of the caller: it is no cause of what fails here
    shown = shown_url(uri)
    try:
        with _opened(uri, shown) as stream:
            while piece := stream.read(_READ_SIZE):
                yield piece
    except ReferenceUnreachableError:
        raise
    except Exception as error:  # noqa: BLE001 - each filesystem has its own
        failed = ReferenceUnreachableError(shown, _reason(error, handled, is_shown=shown == uri))
        # A client's error may have any part of the URI, in any encoding.
        raise failed from (error if shown == uri else None)


def _opened(uri: str, shown: str) -> AbstractContextManager[BinaryIO]:
    if uri.startswith(_LOCAL):
        return _opened_file(uri.removeprefix(_LOCAL), shown)
    import fsspec  # here, for a verification after the main thread has ended

    return fsspec.open(uri, "rb")  # type: ignore[no-any-return]


def _opened_file(path: str, shown: str) -> BinaryIO:
    """Open a file by the path of a URI: fsspec takes ``%20`` for three characters of a name.

    A name as it is, with a ``%`` that stands for itself, is taken where there is no other.
    """
    if not path.startswith("/"):  # a verification elsewhere would read another file
        way_out = "name the file by its whole path, such as file:///data/raw.csv"
        raise ReferenceUnreachableError(shown, "it depends on the current directory", way_out)
    name = unquote_to_bytes(path)
    if not os.path.lexists(name):
        name = os.fsencode(path)
    mode = os.stat(name).st_mode  # before it is opened: a device may do something then
    if not stat.S_ISREG(mode):
        what = "a directory" if stat.S_ISDIR(mode) else "no regular file"
        raise ReferenceUnreachableError(shown, f"it is {what}", "name a file that has the bytes")
    return open(os.open(name, _OPEN_FILE), "rb")


def _reason(error: Exception, handled: BaseException | None, *, is_shown: bool) -> str:
    """Say in a few words why a URI can't be read.

    Parameters
    ----------
    is_shown
        Whether the whole URI may be shown, and so whatever a client says of it.
    """
    cause: BaseException | None = error
    while cause is not None and cause is not handled:
        number = getattr(cause, "errno", None)
        if isinstance(number, int):  # a resolver has negative ones
            return os.strerror(number) if number > 0 else "its host is not known"
        status = getattr(cause, "status", None)  # aiohttp
        if status in list(HTTPStatus):
            return f"the server answered {status} {HTTPStatus(status).phrase}"
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    kind = type(error).__name__
    # What is not installed was found out before anything of the URI was used.
    if is_shown or isinstance(error, ImportError):
        return shorten(str(error), _LONGEST, placeholder=" …") or f"it failed with {kind}"
    return f"it failed with {kind}; its text may contain a password and is not shown"
