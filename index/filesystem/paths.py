"""`UPath` of ``cas://`` URLs, found by universal_pathlib through the entry point."""

from __future__ import annotations

from fsspec import get_filesystem_class
from upath import UPath

__all__ = ["CasPath"]

get_filesystem_class("cas")  # UPath takes the rules of its names from the loaded class


class CasPath(UPath):
    """A path of the filesystem, as pathlib has them. Its names are written as in URLs."""

    __slots__ = ()
