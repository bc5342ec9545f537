"""The directories that are tracked, each made once and described in words."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Final

from datasets import copy_of_tree, large_files, small_files, warm
from measure import GIB

SCIENTIFIC: Final = ("numpy", "scipy", "pandas", "matplotlib")

_LARGE_FILES: Final = 4


class Sources:
    """Data sets by name: ``small``, ``tree``, ``large``."""

    def __init__(self, work: Path, *, files: int, tree: Path | None, large_gib: float) -> None:
        """Set what they will be.

        Parameters
        ----------
        work
            Where they are made.
        files
            How many small files.
        tree
            The site-packages to copy; None for those of this interpreter.
        large_gib
            Size of each of the four large files.
        """
        self._work = work
        self._files = files
        self._tree = tree
        self._large_size = int(large_gib * GIB)
        self._made: dict[str, tuple[Path, str]] = {}

    def find(self, name: str) -> tuple[Path, str] | None:
        """Return where a data set is and what; None for a tree that is not installed here."""
        if name not in self._made:
            root = self._work / name
            what = self._make(name, root)
            if what is None:
                return None
            count, size = warm(root)
            self._made[name] = root, f"{count:,} {what}, {size / 1e6:,.0f} MB"
        return self._made[name]

    def _make(self, name: str, root: Path) -> str | None:
        if name == "small":
            small_files(root, self._files)
            return "files of 1 to 16 KiB of text"
        if name == "large":
            large_files(root, _LARGE_FILES, self._large_size)
            return "files that do not compress"
        tree = self._tree or _installed_tree()
        if tree is None:
            return None
        copy_of_tree(tree, root)
        return f"files of site-packages ({_packages_in(tree)})"


def no_tree() -> str:
    """Say why there is no tree."""
    return f"{', '.join(SCIENTIFIC)} are not installed beside this interpreter; give --tree"


def _installed_tree() -> Path | None:
    """Return the site-packages that hold all of the scientific stack, if they are installed."""
    try:
        found = {metadata.distribution(name).locate_file("") for name in SCIENTIFIC}
    except metadata.PackageNotFoundError:
        return None
    return Path(str(found.pop())) if len(found) == 1 else None


def _packages_in(tree: Path) -> str:
    names = {found.name: found.version for found in metadata.distributions(path=[str(tree)])}
    told = [f"{name} {names[name]}" for name in SCIENTIFIC if name in names]
    return f"{', '.join(told)} and {len(names) - len(told)} more distributions"
