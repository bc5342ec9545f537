"""Rules for the caller's ids and paths, checked once where they enter the library."""

from __future__ import annotations

import os
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from index.errors import InvalidNameError, UnsafePathError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


__all__ = [
    "RunKey",
    "ancestors",
    "as_paths",
    "check_id",
    "check_label",
    "check_path",
    "check_prefix",
]

T = TypeVar("T")

MAX_ID_LENGTH: Final = 255
"""In characters: the width of the columns."""

MAX_TYPE_LENGTH: Final = 32
"""In characters, for file types."""

MAX_ROW_ID: Final = (1 << 63) - 1
"""The largest integer that the databases hold."""

MAX_PATH_BYTES: Final = 4096
"""PATH_MAX of Linux. A longer path can't be restored by its full name."""


def check_id(kind: str, value: str) -> str:
    """Return a session or run id, or raise `InvalidNameError`.

    It refuses what `check_label` refuses, and also a slash or ``..``, because ids become
    segments of URLs.
    """
    check_label(kind, value)
    if "/" in value:
        raise InvalidNameError(kind, value, "it contains a '/'")
    if ".." in value or value == ".":
        raise InvalidNameError(kind, value, "it reads as a relative path")
    return value


def check_label(kind: str, value: str, *, longest: int = MAX_ID_LENGTH) -> str:
    """Return an opaque id of the caller, or raise `InvalidNameError`.

    It refuses the empty string, more than `longest` characters, control characters and text that
    is not valid Unicode.
    """
    if not isinstance(value, str):
        raise InvalidNameError(kind, value, "it is not a string")
    if not value:
        raise InvalidNameError(kind, value, "it is empty")
    if len(value) > longest:
        raise InvalidNameError(
            kind, value, f"it has {len(value)} characters, at most {longest} fit"
        )
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in value):
        raise InvalidNameError(kind, value, "it contains a control or undecodable character")
    return value


def check_path(path: str | os.PathLike[str]) -> str:
    """Return the normal form of a path in a work directory, or raise `UnsafePathError`.

    ``./a//b`` becomes ``a/b``. It refuses absolute paths, ``..``, NUL, the empty path and paths
    that no file system can hold.
    """
    text = os.fspath(path)
    if type(text) is str and _is_plain(text):  # not a StrEnum, which prints differently
        return text
    if text.startswith("/"):
        raise UnsafePathError(text, "it is absolute; give it relative to the work directory")
    if "\0" in text:
        raise UnsafePathError(text, "it contains a NUL character")
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise UnsafePathError(text, "it contains '..'")
    if not parts:
        raise UnsafePathError(text, "it names no file")
    clean = "/".join(parts)
    try:
        size = len(os.fsencode(clean))
    except UnicodeEncodeError:
        raise UnsafePathError(text, "it can't be a file name on this system") from None
    if size > MAX_PATH_BYTES:
        raise UnsafePathError(text[:60] + "…", f"it has more than {MAX_PATH_BYTES} bytes")
    return clean


def _is_plain(text: str) -> bool:
    """Whether a quick check shows that `text` is normal, as most paths are."""
    return (
        text[:1] not in ("", "/", ".")
        and "/." not in text
        and "//" not in text
        and "\0" not in text
        and text[-1] != "/"
        and len(text) <= MAX_PATH_BYTES
        and text.isascii()
    )


def check_prefix(prefix: str | os.PathLike[str]) -> str:
    """Return a prefix of paths, or raise `UnsafePathError` if no path can have it."""
    text = os.fspath(prefix)
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        raise UnsafePathError(text, "no file name on this system begins so") from None
    return text


def as_paths(name: str, values: Iterable[T]) -> tuple[T, ...]:
    """Return the values as a tuple. Raises TypeError for a single string."""
    if isinstance(values, str):
        raise TypeError(f"{name} takes a sequence of strings, not one string")
    return tuple(values)


def ancestors(path: str) -> Iterator[str]:
    """Yield the parent directories of a relative path, nearest first, without the root."""
    while path := path.rpartition("/")[0]:
        yield path


@dataclass(frozen=True, slots=True)
class RunKey:
    """The caller's ids of a run."""

    session: str
    run: str
