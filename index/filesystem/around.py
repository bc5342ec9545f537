"""What a run has where files are to be written."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Final

from index.errors import UnknownRunError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from index import FileVersion, Run

__all__ = ["MANY", "Around"]

MANY: Final = 16
"""Files from which on one listing is made for all of them, and they are read together."""

_LISTED: Final = 20
"""Files that such a listing has for each of them; of a larger directory, each path is asked for."""


class Around:
    """Tells what is at, below and above paths: by a listing if there are many of them.

    Of a run that does not exist, it raises UnknownRunError or finds nothing.
    """

    def __init__(self, run: Run, paths: Sequence[str] = ()) -> None:
        self._run = run
        self._asked: dict[str, FileVersion | None] = {}
        self._files: dict[str, FileVersion] | None = None
        """All files below a directory."""
        self._directories: set[str] = set()
        self._below = ""
        """What their paths begin with."""
        if len(paths) >= MANY:
            folder = posixpath.dirname(posixpath.commonprefix(paths))
            self._list(f"{folder}/" if folder else "", _LISTED * len(paths))

    def find(self, path: str) -> FileVersion | None:
        """Return the file at a path."""
        path = posixpath.normpath(path)
        if self._files is not None and path.startswith(self._below):
            return self._files.get(path)
        if path not in self._asked:
            self._asked[path] = self._run.get(path)
        return self._asked[path]

    def has_below(self, path: str) -> bool:
        """Return whether a path is that of a directory."""
        path = posixpath.normpath(path)
        if self._files is not None and path.startswith(self._below):
            return path in self._directories
        return bool(self._run.files(prefix=f"{path}/", order_by="path", limit=1))

    def _list(self, below: str, most: int) -> None:
        try:
            found = self._run.files(prefix=below or None, order_by="path", limit=most)
        except UnknownRunError:
            below, found = "", ()
        if len(found) == most:
            return
        self._files = {each.path: each for each in found}
        self._below = below
        for path in self._files:
            while (path := posixpath.dirname(path)) and path not in self._directories:
                self._directories.add(path)
