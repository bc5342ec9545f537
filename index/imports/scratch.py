"""Temporary directories, where an import writes what it has read before it is recorded."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cas.temporary import using_temporary_files

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["temporary_folder"]


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make an empty directory, which is gone in the end.

    Raises StorageFullError or BackendError if there can be none.
    """
    with using_temporary_files():
        folder = tempfile.TemporaryDirectory(prefix="cas-import-")
    with folder as path:
        yield Path(path)
