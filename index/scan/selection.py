"""Scan of named files, without walking the directory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from index.domain.names import ancestors, check_path
from index.errors import UnsafePathError, WorkDirectoryError
from index.scan.coverage import Coverage
from index.scan.scanner import Scan

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from index.context import OwnFiles
    from index.domain.run_state import Directories
    from index.scan.descent import OpenDirectory
    from index.scan.scanner import UnreadFile

__all__ = ["Selection", "locate"]


class Selection(Scan):
    """A scan of named files. It reads no other files and reports none as missing."""

    def __init__(self, root: str, known: Directories, paths: Sequence[str], own: OwnFiles) -> None:
        self._paths = tuple(dict.fromkeys(paths))
        super().__init__(root, known, Coverage.of_files(self._paths), own=own)

    def require(self, read: Collection[str]) -> None:
        """Check that each file is unchanged or was read.

        Raises WorkDirectoryError with the reason if one is not.
        """
        unchanged = {known.path for known in self.unchanged}
        reasons = dict(self.skipped)
        for path in self._paths:
            if path not in read and path not in unchanged:
                found = (reasons[place] for place in (path, *ancestors(path)) if place in reasons)
                raise self._refusal(path, next(found, "there is no such file"))

    def _walk(self, first: OpenDirectory) -> Iterator[UnreadFile]:
        path = first.prefix[:-1]
        raise self._refusal(path, "it is a directory; track it, or register its files")

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
    """Return the real path of a work directory, and the relative paths of files in it.

    Directories on the way to a file may be links, as long as they stay inside.

    Parameters
    ----------
    owns
        Whether a path belongs to the store.
    database
        The file of an SQLite index. Files beside it whose names begin with its name may belong
        to it.

    Raises
    ------
    UnsafePathError, WorkDirectoryError
        When a file lies outside the directory, or belongs to the store.
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
