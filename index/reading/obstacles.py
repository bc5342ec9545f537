"""What makes way for the files of a restore: only what the run can bring back, as it was seen."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from index.domain.names import from_native, to_native
from index.domain.run_state import signature_of
from index.errors import RestoreFailedError
from index.reading.surplus import SurplusFile
from index.reading.walker import Walker, remove_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from cas.digest import Digest
    from index.reading.destination import Destination

__all__ = ["check_obstacles", "remove_obstacle"]


def check_obstacles(
    obstacles: Mapping[str, bool],
    target: Destination,
    paths: Collection[str],
    known_below: Callable[[str], Collection[tuple[str, Digest | None]]],
    can_read: Callable[[Digest], bool],
) -> dict[str, SurplusFile]:
    """Return the files, by path, that make way for files with other paths.

    Raises RestoreFailedError if a directory would be replaced by a file, and the run can't bring
    back one of the files in it.
    """
    going: dict[str, SurplusFile] = {}
    with target.walker() as walker:
        for path, is_directory in obstacles.items():
            if not is_directory:
                if path not in paths and (found := walker.status(path)) is not None:
                    going[path] = SurplusFile(path, found.st_size, signature_of(found))
                continue
            known = {(to_native(each), digest) for each, digest in known_below(from_native(path))}
            for file, status in walker.files_below(path):
                digest = walker.digest(file, status)
                if digest is None or (file, digest) not in known:
                    reason = f"it is a directory with {file!r}, which the run never had"
                    raise RestoreFailedError(path, f"{reason}; move it away")
                if not can_read(digest):
                    reason = f"it is a directory with {file!r}, whose bytes the store has lost"
                    raise RestoreFailedError(path, f"{reason}; move it away")
                going[file] = SurplusFile(file, status.st_size, signature_of(status))
    return going


def remove_obstacle(path: str, name: str, parent: int, going: Mapping[str, SurplusFile]) -> None:
    """Remove a directory if all files in it are still what they were.

    Raises RestoreFailedError if one is not. Then none was removed.

    Parameters
    ----------
    path
        Of the directory, in the destination.
    name, parent
        Its name in the open directory `parent`.
    """
    with closing(Walker(parent)) as walker:
        for file, status in walker.files_below(name):
            inside = f"{path}{file.removeprefix(name)}"
            seen = going.get(inside)
            if seen is None or seen.signature != signature_of(status):
                raise RestoreFailedError(inside, "it changed meanwhile; run the restore again")
    remove_tree(name, parent)
