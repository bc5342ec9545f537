"""Rules for the caller's ids and paths, checked once where they enter the library."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

from cas.digest import Digest
from index.errors import InvalidNameError, UnsafePathError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

__all__ = [
    "CONFIG_NAME",
    "Label",
    "RunKey",
    "all_from_native",
    "ancestors",
    "as_paths",
    "check_id",
    "check_label",
    "check_local",
    "check_path",
    "check_prefix",
    "check_reason",
    "check_scan_path",
    "from_native",
    "is_count",
    "storable",
    "to_native",
    "usable_label",
    "usable_text",
]

CONFIG_NAME: Final = "cas.toml"
"""Name of the file that says which store the commands in its directory use."""

T = TypeVar("T")

Label: TypeAlias = "str | int | UUID"
"""An id or label of the caller. Integers and UUIDs are taken by their text."""

MAX_PREFIX_NAMES: Final = 62
"""In the path that a scan records under: each number of names has a bit of a signed integer."""

MAX_ID_LENGTH: Final = 255
"""In characters: the width of the columns."""

_DIGITS: Final = 16
"""Of the digest that ends a shortened label."""

MAX_TYPE_LENGTH: Final = 32
"""In characters, for file types."""

MAX_ROW_ID: Final = (1 << 63) - 1
"""The largest integer that the databases hold."""

MAX_PATH_BYTES: Final = 4096
"""PATH_MAX of Linux. A longer path can't be restored by its full name."""


def check_id(kind: str, value: Label) -> str:
    """Return a session or run id as text, or raise `InvalidNameError`.

    It refuses what `check_label` refuses, and also a slash or ``..``, because ids become
    segments of URLs. A run id does not begin with ``@``, because ``@best`` is a run by its tag.
    """
    text = check_label(kind, value)
    if kind == "run" and text.startswith("@"):
        raise InvalidNameError(kind, value, "it begins with '@', as the tag of a run does")
    if "/" in text:
        raise InvalidNameError(kind, value, "it contains a '/'")
    if ".." in text or text == ".":
        raise InvalidNameError(kind, value, "it reads as a relative path")
    return text


def check_label(kind: str, value: Label, *, longest: int = MAX_ID_LENGTH) -> str:
    """Return an opaque id of the caller as text, or raise `InvalidNameError`.

    It refuses the empty string, more than `longest` characters, control characters and text that
    is not valid Unicode.
    """
    if not isinstance(value, str):
        value = _text_of(kind, value)
    if not value:
        raise InvalidNameError(kind, value, "it is empty")
    if len(value) > longest:
        raise InvalidNameError(
            kind, value, f"it has {len(value)} characters, at most {longest} fit"
        )
    if any(map(_is_refused, value)):
        raise InvalidNameError(kind, value, "it contains a control or undecodable character")
    return value


def _text_of(kind: str, value: object) -> str:
    from numbers import Integral  # rarely needed
    from uuid import UUID

    if isinstance(value, bool) or not isinstance(value, Integral | UUID):
        raise InvalidNameError(kind, value, "it is no string, integer or UUID")
    try:
        return str(value)
    except ValueError:  # it has more digits than Python writes in decimal
        return hex(int(value))


def usable_label(kind: str, value: object) -> str | None:
    """Return a label without what `check_label` refuses; None if nothing is left.

    A label that is too long ends with the digest of its whole text, so that no two become one.
    """
    try:
        text = value if isinstance(value, str) else _text_of(kind, value)
    except InvalidNameError:
        return None
    text = _printable(text)
    if len(text) > MAX_ID_LENGTH:
        digest = str(Digest.of(text.encode()))[:_DIGITS]
        text = f"{text[: MAX_ID_LENGTH - _DIGITS - 1]}-{digest}"
    return text or None


def usable_text(text: str) -> str | None:
    """Return a text for people without what `check_label` refuses; None if nothing is left."""
    if not isinstance(text, str):
        raise TypeError(f"a reason is text, not {text!r}")
    line = _printable(text)
    return f"{line[: MAX_ID_LENGTH - 1]}…" if len(line) > MAX_ID_LENGTH else line or None


def check_reason(reason: str) -> str:
    """Return a reason as it is kept; raise ValueError if there is none."""
    kept = usable_text(reason)
    if kept is None:
        raise ValueError("give a reason: later it is all that says why")
    return kept


def _printable(text: str) -> str:
    return "".join(" " if _is_refused(character) else character for character in text).strip()


def _is_refused(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs")


_IS_UTF8: Final = sys.getfilesystemencoding() == "utf-8"
"""Whether this process decodes file names as the store does. In a locale with another encoding, and
without Python's UTF-8 mode, it does not."""


def from_native(name: str) -> str:
    """Return a path of the store from a name that this process has read from a directory."""
    return name if _IS_UTF8 else os.fsencode(name).decode("utf-8", "surrogateescape")


def all_from_native(names: list[str]) -> list[str]:
    """Return `from_native` of each name: the list itself where all of them stay as they are."""
    return names if _IS_UTF8 else list(map(from_native, names))


def to_native(path: str) -> str:
    """Return the name by which this process opens a path of the store."""
    return path if _IS_UTF8 else os.fsdecode(path.encode("utf-8", "surrogateescape"))


_HAS_NUL: Final = "it contains a NUL character"
_NO_NAME: Final = "it can't be a file name on this system"


def check_local(path: str | os.PathLike[str]) -> str:
    """Return a path on this machine as text, or raise `UnsafePathError` if nothing can have it."""
    text = _path_text(path)
    if "\0" in text:
        raise UnsafePathError(text, _HAS_NUL)
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        raise UnsafePathError(text, _NO_NAME) from None
    return text


def _path_text(path: object) -> str:
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    if not isinstance(text, str):
        raise TypeError(f"a path is text or a pathlib path, not {path!r}")
    return text


def check_path(path: str | os.PathLike[str]) -> str:
    """Return the normal form of a path in a work directory, or raise `UnsafePathError`.

    ``./a//b`` becomes ``a/b``. It refuses absolute paths, ``..``, NUL, the empty path and paths
    that no file system can hold.
    """
    if type(path) is str and _is_plain(path):  # not a StrEnum, which prints differently
        return path
    text = _path_text(path)
    if type(text) is str and _is_plain(text):
        return text
    if text.startswith("/"):
        raise UnsafePathError(text, "it is absolute; give it relative to the work directory")
    if "\0" in text:
        raise UnsafePathError(text, _HAS_NUL)
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise UnsafePathError(text, "it contains '..'")
    if not parts:
        raise UnsafePathError(text, "it names no file")
    clean = "/".join(parts)
    try:
        encoded = clean.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise UnsafePathError(text, _NO_NAME) from None
    if len(encoded) > MAX_PATH_BYTES:
        raise UnsafePathError(text[:60] + "…", f"it has more than {MAX_PATH_BYTES} bytes")
    return encoded.decode("utf-8", "surrogateescape")


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


def check_scan_path(prefix: str | os.PathLike[str]) -> str:
    """Return the path of a run that a scan records under, or raise `UnsafePathError`."""
    path = check_path(prefix)
    if path.count("/") >= MAX_PREFIX_NAMES:
        raise UnsafePathError(path, f"a scan's prefix has at most {MAX_PREFIX_NAMES} names")
    return path


def check_prefix(prefix: str | os.PathLike[str]) -> str:
    """Return a prefix of paths, or raise `UnsafePathError` if no path can have it."""
    text = _path_text(prefix)
    if "\0" in text:
        raise UnsafePathError(text, _HAS_NUL)
    try:
        encoded = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise UnsafePathError(text, "no file name begins so") from None
    return encoded.decode("utf-8", "surrogateescape")


def as_paths(name: str, values: Iterable[T | os.PathLike[str]]) -> tuple[T | str, ...]:
    """Return the values as a tuple, with paths as text. Raises TypeError for a single one."""
    given: object = values  # callers without a type checker give anything
    if isinstance(given, str | bytes | os.PathLike):
        raise TypeError(f"{name} takes a sequence, not one: give [{values!r}]")
    if not isinstance(given, Iterable):
        raise TypeError(f"{name} takes a sequence, not {given!r}")
    return tuple(os.fspath(value) if isinstance(value, os.PathLike) else value for value in values)


def is_count(number: object) -> bool:
    """Whether a caller gave a whole number from 0 on."""
    return isinstance(number, int) and not isinstance(number, bool) and number >= 0


def storable(number: int) -> int:
    """Return the nearest number that the databases hold: filesystems have years after 2262."""
    if ~MAX_ROW_ID <= number <= MAX_ROW_ID:
        return number
    return MAX_ROW_ID if number > 0 else ~MAX_ROW_ID


def ancestors(path: str) -> Iterator[str]:
    """Yield the parent directories of a relative path, nearest first, without the root."""
    while path := path.rpartition("/")[0]:
        yield path


@dataclass(frozen=True, slots=True)
class RunKey:
    """The caller's ids of a run."""

    session: str
    run: str
