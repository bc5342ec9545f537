"""The part of a work directory that a scan covers: its scope, without what it passes over."""

from __future__ import annotations

import os
import stat
from functools import cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final, Literal, Self, TypeAlias

from index.domain.names import ancestors, check_path
from index.scan.patterns import Patterns

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterable, Iterator, Sequence

__all__ = ["DEFAULT_IGNORES", "Coverage", "Reason"]

Reason: TypeAlias = Literal["hidden", "ignored"]
"""Why a scan passes over an entry that its caller did not speak of."""

DEFAULT_IGNORES: Final = (
    ".git",
    ".hg/",
    ".svn/",
    ".venv/",
    "node_modules/",
    "__pycache__/",
    ".ipynb_checkpoints/",
    ".DS_Store",
    "*.tmp",
    # What editors write beside a file: vim, Emacs.
    ".*.sw[a-p]",
    "*~",
    ".#*",
    r"\#*#",
    # Arrays in zarr's second format are no arrays without these.
    "!.zarray",
    "!.zattrs",
    "!.zgroup",
    "!.zmetadata",
)
"""What every scan leaves out by default, and the hidden files that it takes all the same."""

_IGNORE_FILE: Final = ".casignore"
_GIT_IGNORE_FILE: Final = ".gitignore"
_GIT_EXCLUDE_FILE: Final = ".git/info/exclude"

_MAX_IGNORE_FILE: Final = 1 << 20
"""Bytes. A larger ignore file is none: it would be held in memory."""

_OPEN_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@cache
def _default_patterns() -> Patterns:
    return Patterns(DEFAULT_IGNORES)


class Coverage:
    """The entries that one scan covers. Only there does a missing file count as removed.

    Paths are relative to the work directory. Patterns that the caller gave hold for every file.
    Hidden entries and the default patterns do not hold for files of the run: those are looked at.
    """

    def __init__(
        self,
        scope: Sequence[str] | None = None,
        *,
        ignore: Iterable[str] = (),
        hidden: bool = False,
        default_ignores: bool = True,
        gitignore: bool = False,
    ) -> None:
        """Describe what a scan covers.

        Parameters
        ----------
        scope
            Directories, or None for the whole work directory. A scope is entered, whatever the
            patterns say about it and the directories above it.
        ignore
            Patterns, as in an ignore file.
        hidden
            Whether hidden entries count as all others do.
        default_ignores
            Whether `DEFAULT_IGNORES` count.
        gitignore
            Whether git's ignore files in the work directory count, besides ``.casignore``.

        Raises
        ------
        UnsafePathError, InvalidNameError
            When a scope leads out of the work directory, or a pattern is not valid.
        """
        self.scopes: Sequence[str] = _outermost(scope)
        """``""`` is the whole work directory."""
        self._scopes = frozenset(self.scopes)
        self._hidden = hidden
        self._ignore = Patterns(ignore, strict=True)
        self.is_selective = bool(self._ignore)
        """Whether `excludes` can return anything but None. An ignore file makes it true."""
        self._defaults = _default_patterns() if default_ignores else None
        self._ignore_files: tuple[str, ...] = (_IGNORE_FILE,)
        if gitignore:
            self._ignore_files += (_GIT_IGNORE_FILE, _GIT_EXCLUDE_FILE)
        self._of_directories: dict[str, list[Patterns]] = {}
        """Of the ignore files in a directory, the one with the last word first."""
        self._read_in: set[str] = set()
        self._verdicts: dict[str, bool] = {}

    @classmethod
    def of_files(cls, paths: Sequence[str]) -> Self:
        """Return the coverage of named files, whose directories are not looked at."""
        coverage = cls(hidden=True, default_ignores=False)
        coverage.scopes = paths
        coverage._scopes = frozenset(paths)
        coverage._ignore_files = ()
        return coverage

    def read_ignore_files(
        self, directory: str, fd: int, names: Container[str] | None = None
    ) -> list[tuple[str, OSError]]:
        """Read the ignore files of an open directory, before its entries are judged.

        Return the paths of those that can't be read, with the errors.

        Parameters
        ----------
        names
            The names of the entries; None if they were not listed.
        """
        if directory in self._read_in:
            return []
        self._read_in.add(directory)
        prefix = f"{directory}/" if directory else ""
        failed = []
        for name in self._ignore_files:
            if name == _GIT_EXCLUDE_FILE and directory:
                continue
            if names is not None and name.partition("/")[0] not in names:
                continue
            try:
                patterns = self._read(name, fd)
            except OSError as error:
                failed.append((f"{prefix}{name}", error))
                continue
            if patterns:
                self._of_directories.setdefault(directory, []).append(patterns)
                self.is_selective = True
        return failed

    def _read(self, name: str, directory: int) -> Patterns | None:
        try:
            fd = os.open(name, _OPEN_FILE, dir_fd=directory)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return None
            with open(fd, "rb", closefd=False) as file:
                data = file.read(_MAX_IGNORE_FILE + 1)
        finally:
            os.close(fd)
        if len(data) > _MAX_IGNORE_FILE:
            raise OSError(f"an ignore file has at most {_MAX_IGNORE_FILE >> 20} MiB")
        return Patterns.of_file(data)

    def is_ignore_file(self, name: str) -> bool:
        """Whether a file of this name says what the scan passes over."""
        return name in self._ignore_files

    def excludes(self, path: str, *, is_directory: bool) -> bool | None:
        """Whether the caller's patterns exclude an entry; None if they say nothing about it."""
        name = path.rpartition("/")[2]
        for patterns, below in self._lists_for(path):
            said = patterns.verdict(below, name, is_directory=is_directory)
            if said is not None:
                return said
        return None

    def which(self, directory: str, names: Collection[str]) -> Collection[str]:
        """Return the names of files in a directory that patterns may concern.

        About any other name `excludes` and `passes_over` say nothing.
        """
        joined = f"/{'/'.join(names)}/"
        if not joined.isascii():
            return names
        lists = [patterns for patterns, _ in self._lists_for(f"{directory}/" if directory else "")]
        if self._defaults is not None:
            lists.append(self._defaults)
        found = {name for patterns in lists for name in patterns.which(joined)}
        if "/." in joined and not self._hidden:
            found.update(name for name in names if name[0] == ".")
        return found

    def leads_through(self, directory: str) -> bool:
        """Whether a pattern of the caller brings in something below a directory."""
        return any(patterns.lead_through(below) for patterns, below in self._lists_for(directory))

    def _lists_for(self, path: str) -> Iterator[tuple[Patterns, str]]:
        """Yield the lists that hold for a path, the one with the last word first.

        With each comes the path relative to where the list is.
        """
        if not self.is_selective:
            return
        yield self._ignore, path
        if self._of_directories:
            for directory in (*ancestors(path), ""):
                for patterns in self._of_directories.get(directory, ()):
                    yield patterns, path[len(directory) + 1 :] if directory else path

    def passes_over(self, path: str, name: str, *, is_directory: bool) -> Reason | None:
        """Return why a scan passes over an entry that the caller's patterns don't mention."""
        if self._defaults is not None:
            said = self._defaults.verdict(path, name, is_directory=is_directory)
            if said is not None:
                return "ignored" if said else None
        return "hidden" if name[0] == "." and not self._hidden else None

    def covers(self, path: str) -> bool:
        """Whether the scan finds a file of the run at this path if one exists."""
        scope = self._scope_of(path)
        if scope is None:
            return False
        if path == scope or not self.is_selective:
            return True
        for directory in _between(scope, path):
            if directory not in self._verdicts:
                self._verdicts[directory] = bool(self.excludes(directory, is_directory=True))
            if self._verdicts[directory]:
                return False
        return not self.excludes(path, is_directory=False)

    def _scope_of(self, path: str) -> str | None:
        if "" in self._scopes:
            return ""
        return next((each for each in (path, *ancestors(path)) if each in self._scopes), None)


def _between(scope: str, path: str) -> Iterator[str]:
    """Yield the directories above a path that are below its scope, outermost first."""
    end = len(scope) + 1 if scope else 0
    while (end := path.find("/", end)) > 0:
        yield path[:end]
        end += 1


def _outermost(scope: Sequence[str] | None) -> Sequence[str]:
    """Return normalised scopes, without those inside other scopes."""
    if scope is None:
        return ("",)
    # What is not a path, `check_path` refuses.
    if any(entry and PurePosixPath(str(entry)) == PurePosixPath(".") for entry in scope):
        return ("",)
    clean = {check_path(entry) for entry in scope}
    return tuple(sorted(entry for entry in clean if clean.isdisjoint(ancestors(entry))))
