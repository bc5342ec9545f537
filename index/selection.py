"""Looking at files that are named one by one, in place of walking a directory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from index.errors import WorkDirectoryError
from index.names import ancestors
from index.scanner import Scan
from index.worktree import Coverage

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from index.scanner import Candidate
    from index.state import Directories

__all__ = ["Selection"]


class Selection(Scan):
    """A scan of named files: it looks at nothing else, and finds nothing missing."""

    def __init__(self, root: str, known: Directories, paths: Sequence[str]) -> None:
        scopes = tuple(dict.fromkeys(paths))
        super().__init__(root, known, Coverage(scopes, own_paths=frozenset(), ignored=None))

    def seems_unchanged(self) -> bool:
        """Look at the files; return whether all of them have the times that were recorded."""
        seen = len(self.unchanged)
        try:
            for candidate in self:
                known = candidate.known
                if known is None or known.mtime_ns != candidate.status.st_mtime_ns:
                    return False
                seen += 1
        except WorkDirectoryError:
            return False
        return seen + len(self.unchanged) == len(self._coverage.scopes)

    def insist(self, read: Collection[str]) -> None:
        """Raise if one of the files is neither unchanged nor among those that were read.

        WorkDirectoryError with the reason.
        """
        unchanged = {known.path for known in self.unchanged}
        reasons = dict(self.skipped)
        for path in self._coverage.scopes:
            if path not in read and path not in unchanged:
                told = (reasons[place] for place in (path, *ancestors(path)) if place in reasons)
                raise self._refusal(path, next(told, "there is no such file"))

    def _walk(self, fd: int, prefix: str) -> Iterator[Candidate]:
        os.close(fd)
        raise self._refusal(prefix[:-1], "it is a directory; track it, or register its files")

    def _find_missing(self) -> None:
        pass

    def _refusal(self, path: str, reason: str) -> WorkDirectoryError:
        return WorkDirectoryError(f"{self._root}/{path}", reason)
