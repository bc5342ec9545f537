"""The directories that are tracked, each made once and described in words."""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING

from datasets import copy_of_tree, large_files, scientific_files, small_files, warm
from measure import GIB

if TYPE_CHECKING:
    from pathlib import Path

LARGE_FILES = 4


class Sources:
    """Data sets by name: ``small``, ``tree``, ``large``."""

    def __init__(
        self,
        work: Path,
        *,
        files: int = 20_000,
        tree_files: int = 39_000,
        tree: Path | None = None,
        large_gib: float = 1.0,
    ) -> None:
        """Set what they will be.

        Parameters
        ----------
        work
            Where they are made.
        files
            How many small files.
        tree_files
            How many files of a made scientific tree.
        tree
            A site-packages to copy in its place.
        large_gib
            Size of each of the four large files; a copy of one lies beside them.
        """
        self._work = work
        self._files = files
        self._tree_files = tree_files
        self._tree = tree
        self._large_size = int(large_gib * GIB)
        self._made: dict[str, tuple[Path, str]] = {}

    def find(self, name: str) -> tuple[Path, str]:
        """Return where a data set is and what."""
        if name not in self._made:
            root = self._work / name
            what = self._make(name, root)
            count, size = warm(root)
            self._made[name] = root, f"{count:,} {what}, {size / 1e6:,.0f} MB"
        return self._made[name]

    def _make(self, name: str, root: Path) -> str:
        if name == "small":
            small_files(root, self._files)
            return "files of 1 to 16 KiB of text"
        if name == "large":
            large_files(root, LARGE_FILES, self._large_size)
            return "files that do not compress, the last a copy of the first"
        if self._tree is not None:
            copy_of_tree(self._tree, root)
            return f"files of site-packages ({_packages_in(self._tree)})"
        scientific_files(root, self._tree_files)
        return "files with the sizes of scientific packages"


def _packages_in(tree: Path) -> str:
    names = {found.name: found.version for found in metadata.distributions(path=[str(tree)])}
    main = sorted(names.keys() & {"matplotlib", "numpy", "pandas", "scipy"})
    versions = [f"{name} {names[name]}" for name in main]
    return ", ".join([*versions, f"{len(names) - len(main)} more distributions"])
