"""Listings of a run's files: patterns, order, pages, and the entries of a directory. No I/O."""

from __future__ import annotations

import difflib
import fnmatch
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, Literal, NamedTuple, TypeAlias, get_args

from index.domain.names import MAX_ROW_ID, check_label, check_path, storable
from index.domain.results import Result

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable

    from index.domain.snapshots import FileVersion

__all__ = [
    "TOKEN",
    "WILDCARDS",
    "DirectoryEntry",
    "FileOrder",
    "IdPattern",
    "NamePattern",
    "check_filters",
    "check_limit",
    "check_order",
    "closest",
    "compile_glob",
    "id_pattern",
    "literal_prefix",
    "name_in",
    "name_pattern",
]

FileOrder: TypeAlias = Literal[
    "appearance", "path", "size", "created_at", "-appearance", "-path", "-size", "-created_at"
]
"""An order of files; with a minus, from last to first. Equal files are ordered by path."""

_SUGGESTED: Final = 3
"""Number of paths that an error names."""

WILDCARDS: Final = re.compile(r"\*+|\?|\[!?\]?[^\]]*\]", re.DOTALL)
"""What in a pattern is not plain text."""

TOKEN: Final = re.compile(r"\*+|\?|\[!?\]?[^\]]*\]|.", re.DOTALL)
"""A wildcard or a character of a pattern."""


@dataclass(frozen=True, slots=True)
class DirectoryEntry(Result):
    """A file or a directory in the listing of a directory."""

    path: str
    """Relative to the work directory."""
    files: int
    """Number of files in the directory and below; 1 for a file."""
    bytes: int
    """Their total size."""
    version: FileVersion | None = None
    """The version of a file; None for a directory."""

    derived: ClassVar = ("name", "is_directory")

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return self.version is None


def check_limit(limit: int | None, what: str = "files") -> int | None:
    """Return the largest number of files to list. Raises TypeError or ValueError."""
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int)):
        raise TypeError(f"limit is a number of {what}, or None for all, not {limit!r}")
    if limit is not None and limit < 0:
        raise ValueError(f"limit is a number of {what} from 0 on, not {storable(limit)}")
    # With room for one more, which says whether that was all.
    return None if limit is None else min(limit, MAX_ROW_ID - 1)


def check_filters(
    file_type: str | None,
    priority: str | None,
    is_final_output: bool | None,  # noqa: FBT001 - as `Run.files` takes it
) -> None:
    """Raise TypeError for a value that no file has."""
    for name, text in (("file_type", file_type), ("priority", priority)):
        given: object = text  # callers without a type checker give anything
        if not isinstance(given, str | None):
            raise TypeError(f"{name} is text, or None for any, not {given!r}")
    if not any(is_final_output is each for each in (None, True, False)):
        raise TypeError(f"is_final_output is True, False, or None for any, not {is_final_output!r}")


def check_order(order_by: FileOrder) -> tuple[str, bool]:
    """Return the name of an order, and whether it is from last to first. Raises ValueError."""
    if order_by not in get_args(FileOrder):
        names = ", ".join(name for name in get_args(FileOrder) if name[0] != "-")
        raise ValueError(f"order_by is one of {names}, or -NAME for the reverse, not {order_by!r}")
    return order_by.removeprefix("-"), order_by.startswith("-")


def compile_glob(pattern: str) -> re.Pattern[str]:
    """Return the expression that a whole path must match. Raises TypeError or ValueError.

    ``*``, ``?`` and ``[a-z]`` match inside one part of the path, and ``**`` any number of parts.
    """
    if not isinstance(pattern, str):
        raise TypeError(f"glob is a pattern such as 'data/**/*.csv', not {pattern!r}")
    parts = pattern.split("/")
    if not parts[0] or "." in parts or ".." in parts or "\0" in pattern:
        raise ValueError(
            f"glob is a pattern relative to the work directory, such as '**/*.csv', not {pattern!r}"
        )
    *parts, last = parts
    spans: list[list[str]] = [[]]  # what lies between two `**`
    for part in parts:
        if part != "**":
            spans[-1].append(f"{_part(part)}/")
        elif spans[-1] or len(spans) == 1:
            spans.append([])
    first, *middle = map("".join, spans)
    end = ".+" if last == "**" else _part(last)
    if middle:
        # Each part matches one name. So where a span matches first is as good as any later place,
        # and a group `(?>…)` keeps it: a hostile pattern costs no more than its length.
        end = f"(?:[^/]+/)*{middle.pop()}{end}"
        first += "".join(f"(?>(?:[^/]+/)*?{span})" for span in middle)
    return re.compile(first + end, re.DOTALL)


def literal_prefix(pattern: str) -> str:
    """Return the text that every match of a pattern begins with."""
    return re.split(r"[*?\[]", pattern, maxsplit=1)[0]


class NamePattern(NamedTuple):
    """A pattern for names or paths, and what of it a database can look for."""

    matches: Callable[[str], object]
    """Takes a path."""
    prefix: str
    """Text that every match begins with."""
    part: str
    """Text that every match contains."""


def name_pattern(pattern: str) -> NamePattern:
    """Return what a text says of names; with a slash, of paths. Raises TypeError or ValueError.

    A text with wildcards is as in `compile_glob`, and matches as a whole. Another one matches where
    it occurs.
    """
    if not isinstance(pattern, str):
        raise TypeError(f"pattern is text such as 'result' or '*.csv', not {pattern!r}")
    text = pattern.removeprefix("./")
    is_path = "/" in text
    if not WILDCARDS.search(text):
        if is_path:
            return NamePattern(lambda path: text in path, "", text)
        return NamePattern(lambda path: text in path.rpartition("/")[2], "", text)
    match = compile_glob(text).fullmatch
    if is_path:
        return NamePattern(match, literal_prefix(text), "")
    part = max(WILDCARDS.split(text), key=len)
    return NamePattern(lambda path: match(path.rpartition("/")[2]), "", part)


class IdPattern(NamedTuple):
    """A pattern for ids."""

    matches: Callable[[str], object]
    """Takes an id."""
    like: str
    """A pattern of SQL's LIKE, with the escape character ``\\``, that every match fulfils."""


def id_pattern(pattern: str) -> IdPattern:
    """Return what a text says of ids. Raises InvalidNameError for one that no id can match.

    A text with ``*``, ``?`` or ``[a-z]`` matches as a whole, as in `fnmatch`. Another one matches
    where it occurs.
    """
    text = check_label("pattern of ids", pattern)
    like = "".join(map(_like, TOKEN.finditer(text)))
    if not WILDCARDS.search(text):
        return IdPattern(lambda name: text in name, f"%{like}%")
    return IdPattern(re.compile(fnmatch.translate(text)).match, like)


def _like(token: re.Match[str]) -> str:
    text = token[0]
    if text[0] == "*":
        return "%"
    if text == "?" or len(text) > 1:  # a set
        return "_"
    return re.sub(r"[%_\\]", r"\\\g<0>", text)


def name_in(
    folder: str, entry: str | os.PathLike[str] | DirectoryEntry | FileVersion | None
) -> str | None:
    """Return the name of an entry directly in a directory, given with its final slash."""
    if entry is None:
        return None
    given: object = getattr(entry, "path", entry)
    path = check_path(given)  # type: ignore[arg-type]  # which says what it takes
    name = path.removeprefix(folder)
    if "/" in name:
        raise ValueError(f"after is an entry of {folder or 'the work directory'!r}, not {path!r}")
    return name


def _part(part: str) -> str:
    first, *rest = re.split("\0", "".join(map(_translated, TOKEN.finditer(part))))
    if not rest:
        return first
    *middle, last = rest
    return "".join([first, *(f"(?>[^/]*?{text})" for text in middle), f"[^/]*{last}"])


def _translated(token: re.Match[str]) -> str:
    """Return the expression of a token; NUL for a star."""
    text = token[0]
    if text[0] == "*":
        return "\0"
    if text == "?":
        return "[^/]"
    if len(text) > 1:  # a set
        return f"(?!/){fnmatch.translate(text)[:-2]}"  # without the end of the text
    return re.escape(text)


def closest(path: str, candidates: Iterable[str]) -> tuple[str, ...]:
    """Return the paths that `path` may stand for: of the same name, or alike."""
    paths = list(dict.fromkeys(candidates))
    name = path.rpartition("/")[2].casefold()
    same = [other for other in paths if other.rpartition("/")[2].casefold() == name]
    alike = difflib.get_close_matches(path, paths, _SUGGESTED)
    return tuple(dict.fromkeys([*same, *alike]))[:_SUGGESTED]
