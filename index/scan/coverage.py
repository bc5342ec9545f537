"""The part of a work directory that a scan covers: its scope, without ignored paths."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from index.domain.names import ancestors, check_path

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from pathspec import GitIgnoreSpec

__all__ = ["Coverage"]


@dataclass(frozen=True, slots=True)
class Coverage:
    """The paths that a scan covers. Only there does a missing file count as removed."""

    scopes: Sequence[str]
    """Directories relative to the root; ``""`` is the whole root."""
    own_paths: frozenset[str]
    """The store's own paths inside the root."""
    ignored: GitIgnoreSpec | None

    @classmethod
    def of(
        cls,
        root: str,
        *,
        scope: Sequence[str] | None,
        ignore: Sequence[str],
        own: Iterable[str],
    ) -> Coverage:
        """Return the coverage of one scan.

        Parameters
        ----------
        root
            The work directory; it decides which paths of `own` matter.
        scope
            Directories relative to the root, or None for all of it.
        ignore
            Patterns in gitignore syntax.
        own
            Absolute paths that belong to the store.

        Raises
        ------
        UnsafePathError
            When a scope leads out of the root.
        """
        spec = None
        if ignore:
            from pathspec import GitIgnoreSpec

            spec = GitIgnoreSpec.from_lines(ignore)
        return cls(_outermost(scope), frozenset(_inside(root, own)), spec)

    @property
    def selective(self) -> bool:
        """Whether `excludes` can ever return True."""
        return self.ignored is not None or bool(self.own_paths)

    def excludes(self, path: str, *, is_directory: bool) -> bool:
        """Whether the scan skips a path that is neither hidden nor a cache."""
        if path in self.own_paths:
            return True
        return self.ignored is not None and self.ignored.match_file(
            f"{path}/" if is_directory else path
        )

    def covers(self, path: str) -> bool:
        """Whether the scan finds a file at this path if one exists."""
        below = self._below_scope(path)
        if below is None or any(part[0] == "." or part == "__pycache__" for part in below):
            return False
        if not self.selective:
            return True
        folder = ""
        for part in path.split("/")[:-1]:
            folder = f"{folder}/{part}" if folder else part
            if self.excludes(folder, is_directory=True):
                return False
        return not self.excludes(path, is_directory=False)

    def _below_scope(self, path: str) -> list[str] | None:
        """Return the parts of `path` below its scope; None if no scope contains it."""
        for scope in self.scopes:
            if scope == "":
                return path.split("/")
            if path == scope:
                return []
            if path.startswith(f"{scope}/"):
                return path[len(scope) + 1 :].split("/")
        return None


def _outermost(scope: Sequence[str] | None) -> Sequence[str]:
    """Return normalised scopes, without those inside other scopes."""
    if scope is None:
        return ("",)
    if any(PurePosixPath(entry) == PurePosixPath(".") and entry for entry in scope):
        return ("",)
    clean = {check_path(entry) for entry in scope}
    return tuple(sorted(entry for entry in clean if clean.isdisjoint(ancestors(entry))))


def _inside(root: str, own: Iterable[str]) -> Collection[str]:
    real_root = os.path.realpath(root)
    found = []
    for path in own:
        relative = os.path.relpath(os.path.realpath(path), real_root)
        if relative != "." and not relative.startswith("../") and relative != "..":
            found.append(relative)
    return found
