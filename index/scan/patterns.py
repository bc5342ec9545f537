"""Ignore patterns with the meaning that git gives them (gitignore(5), and `wildmatch.c` in git).

Git matches bytes, so ``?`` is one byte. Here each byte is one character of Latin-1, and names in
ASCII need no conversion. Git judges an entry by its own path alone: what is below an excluded
directory is never looked at, and so never brought back.

A pattern becomes a regular expression that does not go back over what a star has matched, where a
later star could match as much. So a hostile pattern costs no more than its length.
"""

from __future__ import annotations

import re
import string
from itertools import groupby
from typing import TYPE_CHECKING, Final, NamedTuple

from index.errors import InvalidNameError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

__all__ = ["Patterns"]

_SPECIAL: Final = frozenset("*?[\\")
_BYTES: Final = frozenset(map(chr, range(1, 256))) - {"/"}
_PRINTED: Final = frozenset(map(chr, range(0x20, 0x7F)))

_CLASSES: Final = {
    "alnum": frozenset(string.ascii_letters + string.digits),
    "alpha": frozenset(string.ascii_letters),
    "blank": frozenset(" \t"),
    "cntrl": frozenset(map(chr, range(0x20))) | {"\x7f"},
    "digit": frozenset(string.digits),
    "graph": _PRINTED - {" "},
    "lower": frozenset(string.ascii_lowercase),
    "print": _PRINTED,
    "punct": frozenset(string.punctuation),
    "space": frozenset(" \t\n\r"),
    "upper": frozenset(string.ascii_uppercase),
    "xdigit": frozenset(string.hexdigits),
}
"""The classes as git has them, whatever the locale."""


class _MatchesNothingError(Exception):
    """A pattern that is empty, or with an escape or a set that has no end or no member."""


class _Pattern(NamedTuple):
    excludes: bool
    """False after an exclamation mark."""
    only_directories: bool
    of_name: bool
    """Whether it is compared with the name, and not with the whole path."""
    regex: str
    ways: tuple[_Pattern, ...] = ()
    """The directories above what it brings in."""


class _Union:
    """Several patterns as one: whether any of them matches."""

    __slots__ = ("_of_directories", "_of_files", "_within")

    def __init__(self, patterns: Collection[_Pattern]) -> None:
        files = [pattern for pattern in patterns if not pattern.only_directories]
        self._of_files = _joined(files, of_name=True), _joined(files, of_name=False)
        self._of_directories = _joined(patterns, of_name=True), _joined(patterns, of_name=False)
        of_name = self._of_files[0]
        # Only `**` reaches over a slash: it matches all that follows, and so all these names.
        self._within = of_name and re.compile(f"/({of_name.pattern})(?=/)", re.DOTALL)

    def matches(self, path: str, name: str, *, is_directory: bool) -> bool:
        of_name, of_path = self._of_directories if is_directory else self._of_files
        return bool(
            (of_name is not None and of_name.fullmatch(name))
            or (of_path is not None and of_path.fullmatch(path))
        )

    def which(self, names: str) -> Iterable[str]:
        if self._of_files[1] is not None:  # whole paths have to be compared
            return names.split("/")
        return "/".join(self._within.findall(names)).split("/") if self._within else ()


def _joined(patterns: Iterable[_Pattern], *, of_name: bool) -> re.Pattern[str] | None:
    chosen = [pattern.regex for pattern in patterns if pattern.of_name == of_name]
    return re.compile("|".join(chosen), re.DOTALL) if chosen else None


class Patterns:
    """The patterns of one list; the last one that matches decides."""

    __slots__ = ("_all", "_groups", "_ways")

    def __init__(self, lines: Iterable[str], *, strict: bool = False) -> None:
        """Parse patterns, one a line.

        Parameters
        ----------
        strict
            Whether a pattern that can't match anything is an error. To git it is none.

        Raises
        ------
        InvalidNameError
            For such a pattern, and one that is not a string.
        """
        texts = [_as_bytes(line) for line in lines]
        patterns: list[_Pattern] = []
        for text in texts:
            try:
                patterns += _parse(text)
            except _MatchesNothingError:
                if strict:
                    line = text.encode("latin-1").decode("utf-8", "surrogateescape")
                    reason = (
                        "it matches nothing; `[` needs a `]`, and a backslash needs a character"
                    )
                    raise InvalidNameError("pattern", line, reason) from None
        # Most paths match none. The order within neighbours that say the same means nothing.
        self._all = _Union(patterns)
        self._groups: list[tuple[bool, _Union]] = [
            (excludes, _Union(tuple(same)))
            for excludes, same in groupby(patterns, key=lambda pattern: pattern.excludes)
        ][::-1]
        self._ways = _Union([way for pattern in patterns for way in pattern.ways])

    @classmethod
    def of_file(cls, data: bytes) -> Patterns:
        """Parse an ignore file."""
        text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
        return cls(line.removesuffix("\r") for line in text.split("\n"))

    def verdict(self, path: str, name: str, *, is_directory: bool) -> bool | None:
        """Whether the patterns exclude a path; None if none of them matches.

        Parameters
        ----------
        path
            Relative to the directory that the patterns belong to.
        name
            The last part of the path.
        """
        if not path.isascii():
            path, name = _as_bytes(path), _as_bytes(name)
        if self._all.matches(path, name, is_directory=is_directory):
            for excludes, patterns in self._groups:
                if patterns.matches(path, name, is_directory=is_directory):
                    return excludes
        return None

    def which(self, names: str) -> Iterable[str]:
        """Return the names of files that may have a `verdict`. One search finds all of them.

        Parameters
        ----------
        names
            Names in ASCII of files in one directory, with a slash before and after each.
        """
        return self._all.which(names)

    def lead_through(self, directory: str) -> bool:
        """Whether a pattern such as ``!.hydra/config.yaml`` brings in what is below a directory."""
        path = directory if directory.isascii() else _as_bytes(directory)
        return self._ways.matches(path, "", is_directory=True)

    def __bool__(self) -> bool:
        return bool(self._groups)


def _as_bytes(text: str) -> str:
    if not isinstance(text, str):
        raise InvalidNameError("pattern", text, "it is not a string")
    if text.isascii():
        return text
    try:
        return text.encode("utf-8", "surrogateescape").decode("latin-1")
    except UnicodeEncodeError:
        reason = "no file name on this system can match it"
        raise InvalidNameError("pattern", text, reason) from None


def _parse(line: str) -> tuple[_Pattern, ...]:
    """Return the pattern of a line, if it has one.

    Raises
    ------
    _MatchesNothingError
        When the pattern is not well formed.
    """
    line = _without_trailing_spaces(line)
    if not line or line.startswith("#"):
        return ()
    excludes = not line.startswith("!")
    text = line if excludes else line[1:]
    only_directories = text.endswith("/")
    if only_directories:
        text = text[:-1]
    if not text:
        raise _MatchesNothingError
    of_name = "/" not in text
    text = text.removeprefix("/")
    ways = () if excludes else _ways(text)
    return (
        _Pattern(
            excludes,
            only_directories,
            of_name,
            _translate(text),
            tuple(_Pattern(False, True, False, _translate(way)) for way in ways),  # noqa: FBT003
        ),
    )


def _ways(pattern: str) -> Iterator[str]:
    """Yield patterns of the directories on the way to what a pattern matches.

    The first one that it names begins them: `*/a` does not lead through all directories.
    """
    parts = pattern.split("/")
    named = (n for n, part in enumerate(parts) if part[:1] not in ("", "*", "?", "["))
    for depth in range(next(named, len(parts)) + 1, len(parts)):
        yield "/".join(parts[:depth])
        if parts[depth - 1] == "**":
            return


def _without_trailing_spaces(line: str) -> str:
    clean = line.rstrip(" ")
    escapes = len(clean) - len(clean.rstrip("\\"))
    return line[: len(clean) + 1] if escapes % 2 else clean


def _translate(pattern: str) -> str:
    """Return a regular expression for the whole of a path."""
    start = next((at for at, char in enumerate(pattern) if char in _SPECIAL), len(pattern))
    # Between two `**` lie parts that single stars separate.
    spans: list[tuple[str, list[str]]] = [("", [re.escape(pattern[:start])])]
    at = start
    while at < len(pattern):
        char = pattern[at]
        if char == "*":
            end = at + len(pattern[at:]) - len(pattern[at:].lstrip("*"))
            # Git compares the text before the first special character by itself: what follows
            # begins the pattern anew.
            opens = at == start or pattern[at - 1] == "/"
            if end - at == 1 or not opens or pattern[end : end + 1] not in ("", "/", "\\"):
                spans[-1][1].append("")
            elif pattern[end : end + 1] == "/":
                spans.append(("/", [""]))
                end += 1
            elif pattern[end : end + 1] == "" or pattern[end + 1 : end + 2] == "/":
                spans.append(("*", [""]))
            else:
                spans[-1][1].append("")
            at = end
            continue
        if char == "[":
            regex, at = _set(pattern, at + 1)
        elif char == "\\":
            at += 1
            regex = re.escape(_char(pattern, at))
        else:
            regex = "[^/]" if char == "?" else re.escape(char)
        spans[-1][1][-1] += regex
        at += 1
    return "".join(_span(*span, is_last=span is spans[-1]) for span in spans)


def _span(lead: str, parts: Sequence[str], *, is_last: bool) -> str:
    """Return the expression of what follows a ``**``, up to the next one.

    The first place where it matches is as good as any later one, if another ``**`` follows. The
    same holds for a star within a span. A group ``(?>…)`` keeps that place.
    """
    first, *rest = parts
    inner = first
    if rest:
        inner += "".join(f"(?>[^/]*?{part})" for part in rest[:-1]) + f"[^/]*{rest[-1]}"
    if not lead:
        return inner
    if is_last:
        return f"(?:.*/)?{inner}" if lead == "/" else f".*{inner}"
    return f"(?>(?:.*?/)??{inner})" if lead == "/" else f"(?>.*?{inner})"


def _set(pattern: str, at: int) -> tuple[str, int]:
    """Return the expression of a set whose text begins at a place, and the place of its end."""
    is_negated = pattern[at : at + 1] in ("!", "^")
    start = at = at + is_negated
    members: set[str] = set()
    before = ""  # what a range may begin with
    while (char := _char(pattern, at)) != "]" or at == start:
        if char == "\\":
            at += 1
            char = _char(pattern, at)
            members.add(char)
        elif char == "-" and before and pattern[at + 1 : at + 2] not in ("", "]"):
            at += 1 + (pattern[at + 1] == "\\")
            members.update(map(chr, range(ord(before), ord(_char(pattern, at)) + 1)))
            char = ""
        elif char == "[" and (end := _end_of_class(pattern, at)):
            members |= _CLASSES[pattern[at + 2 : end - 1]]
            at, char = end, ""
        else:
            members.add(char)
        before = char
        at += 1
    allowed = _BYTES - members if is_negated else _BYTES & members
    if not allowed:
        raise _MatchesNothingError
    return "[" + "".join(f"\\x{ord(char):02x}" for char in sorted(allowed)) + "]", at


def _end_of_class(pattern: str, at: int) -> int | None:
    """Return where a class as ``[:digit:]`` in a set ends; None if there is none here."""
    if pattern[at + 1 : at + 2] != ":":
        return None
    end = pattern.find("]", at + 2)
    if end < 0:
        raise _MatchesNothingError
    if end == at + 2 or pattern[end - 1] != ":":
        return None
    if pattern[at + 2 : end - 1] not in _CLASSES:
        raise _MatchesNothingError
    return end


def _char(pattern: str, at: int) -> str:
    if at >= len(pattern):
        raise _MatchesNothingError
    return pattern[at]
