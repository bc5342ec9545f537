"""What a reader learns of an error: a status, its kind, and one sentence without secrets."""

from __future__ import annotations

import logging
from typing import NamedTuple

from starlette.exceptions import HTTPException

from cas.errors import BackendError, BlobNotFoundError, DigestMismatchError, InvalidDigestError
from index.errors import (
    AmbiguousNameError,
    BytesNotKeptError,
    DanglingFileError,
    IndexUnavailableError,
    StoreClosedError,
)
from index.web.access import UnauthorizedError

__all__ = ["Failure", "failure_of"]

_logger = logging.getLogger("index.web")


class Failure(NamedTuple):
    """An answer in place of what was asked for."""

    status: int
    error: str
    """The name of the error's class."""
    message: str


_NOTHING = "there is nothing here"

_PHRASES = {404: _NOTHING, 405: "this can only be read"}


def failure_of(error: Exception) -> Failure:
    """Return what to answer. Texts of unexpected errors may name places, so they are only logged.

    What a reader may not see fails like what does not exist.
    """
    name = type(error).__name__
    if isinstance(error, UnauthorizedError):
        return Failure(401, name, "this needs a token; open the page with the link of `cas serve`")
    if isinstance(error, HTTPException):
        return Failure(
            error.status_code, "HTTPError", _PHRASES.get(error.status_code, error.detail)
        )
    if isinstance(error, BytesNotKeptError):
        return Failure(410, name, _sentence(error))
    if isinstance(error, LookupError) and not isinstance(error, KeyError | IndexError):
        return Failure(404, name, _sentence(error))
    if isinstance(error, AmbiguousNameError | InvalidDigestError) or (
        isinstance(error, ValueError) and not isinstance(error, UnicodeError)
    ):
        return Failure(400, name, _sentence(error))
    if isinstance(error, DigestMismatchError | DanglingFileError | BlobNotFoundError):
        _logger.error("a file can't be read: %s", error)
        return Failure(500, name, "its bytes are missing or damaged; the owner can `cas repair` it")
    if isinstance(error, BackendError | IndexUnavailableError | StoreClosedError):
        _logger.error("the store can't be read: %s", error)
        return Failure(503, name, "the store can't be read now; try again later")
    _logger.error("an answer failed", exc_info=error)
    return Failure(500, "InternalError", "this failed; the log of the server says why")


def _sentence(error: Exception) -> str:
    """Return the text of an error without the advice to call a method."""
    return str(error).partition("; `")[0]
