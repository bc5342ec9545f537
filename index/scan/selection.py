"""Looking at files that are named one by one, in place of walking a directory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from index.domain.names import ancestors, check_path
from index.errors import UnsafePathError, WorkDirectoryError
from index.scan.coverage import Coverage
from index.scan.scanner import Scan

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from index.domain.run_state import Directories
    from index.scan.scanner import Candidate

__all__ = ["Selection", "locate"]


class Selection(Scan):
    """A scan of named files: it looks at nothing else, and finds nothing missing."""

    def __init__(self, root: str, known: Directories, paths: Sequence[str]) -> None:
        scopes = tuple(dict.fromkeys(paths))
        super().__init__(root, known, Coverage(scopes, own_paths=frozenset(), ignored=None))

    def require(self, read: Collection[str]) -> None:
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


def locate(
    work_dir: str,
    file_paths: Sequence[str | os.PathLike[str]],
    owns: Callable[[str], bool],
    database: str | None,
) -> tuple[str, list[str]]:
    """Return where a work directory really is, and the paths of files in it.

    Directories on the way to a file may be links, as long as they don't lead out of it.

    Parameters
    ----------
    owns
        Whether a path is the store's own.
    database
        The file of the index, if it is one: its neighbours that begin like it may be its own.

    Raises
    ------
    UnsafePathError, WorkDirectoryError
        When a file lies outside, or belongs to the store.
    """
    if isinstance(file_paths, str | bytes | os.PathLike):
        raise TypeError(f"file_paths is a sequence of paths, not the one path {file_paths!r}")
    root = os.path.realpath(work_dir)
    inside = f"{root.rstrip('/')}/"
    own = None if database is None else os.path.realpath(database)
    folders: dict[str, tuple[str, bool]] = {}
    paths = []
    for file_path in file_paths:
        text = _text(file_path)
        try:
            clean = check_path(text.lstrip("/"))
        except UnsafePathError as error:
            raise UnsafePathError(text, error.reason) from None
        folder, name = os.path.split(f"/{clean}" if text.startswith("/") else inside + clean)
        if folder not in folders:
            real = os.path.realpath(folder)
            folders[folder] = f"{real.rstrip('/')}/", owns(real)
        place, is_own = folders[folder]
        full = place + name
        if not full.startswith(inside):
            raise UnsafePathError(text, f"it is outside the work directory {root!r}")
        if is_own or (own is not None and full.startswith(own) and owns(full)):
            raise WorkDirectoryError(full, "it belongs to the store itself")
        paths.append(full[len(inside) :])
    return root, paths


def _text(file_path: object) -> str:
    text: object = os.fspath(file_path) if isinstance(file_path, (str, os.PathLike)) else None
    if not isinstance(text, str):
        raise TypeError(f"a file path is a string or a Path of one, not {file_path!r}")
    return text
