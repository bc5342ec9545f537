"""Paths of one run that a filesystem may take for one name.

macOS and Windows do not distinguish upper and lower case, nor ways to write an accent. FAT also
drops dots and spaces at the end of a name.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

from index.domain.names import ancestors

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

__all__ = ["folded", "possible_clashes"]


def possible_clashes(paths: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield pairs of paths that some filesystem takes for one; a directory ends with a slash.

    Directories alone are no pair: if they become one, all their files are still there.
    """
    files = _plainly_distinct(paths)
    if files is None:
        files = {}
        for path in paths:
            other = files.setdefault(folded(path), path)
            if other is not path:
                yield other, path
    directories = {path.rpartition("/")[0] for path in paths}
    directories |= {above for directory in directories for above in ancestors(directory)}
    for directory in directories - {""}:
        other = files.get(folded(directory), directory)
        if other != directory:
            yield other, f"{directory}/"


def _plainly_distinct(paths: Collection[str]) -> dict[str, str] | None:
    """Return the paths by their `folded` text if a quick look at all of them finds no clash."""
    text = "\n".join((*paths, ""))
    if not text.isascii() or any(odd in text for odd in ("./", " /", ".\n", " \n")):
        return None
    files = dict(zip(map(str.lower, paths), paths, strict=True))
    return files if len(files) == len(paths) else None


def folded(path: str) -> str:
    """Return the same text for all paths that some filesystem takes for one."""
    if path.isascii() and "./" not in path and " /" not in path and path[-1] not in ". ":
        return path.lower()
    decomposed = unicodedata.normalize("NFKD", path)
    caseless = unicodedata.normalize("NFKD", decomposed.casefold())
    # Some filesystems ignore format characters, such as the zero-width joiner.
    visible = "".join(c for c in caseless if unicodedata.category(c) != "Cf")
    return "/".join(name.rstrip(". ") or name for name in visible.split("/"))
