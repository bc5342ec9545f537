"""Errors of temporary files, as errors of this package."""

from __future__ import annotations

import errno
import tempfile
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from cas.errors import BackendError, StorageFullError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["using_temporary_files"]


@contextmanager
def using_temporary_files() -> Iterator[None]:
    """Translate errors of temporary files to those of `cas.errors`.

    Raises
    ------
    StorageFullError
        When no space is left for them.
    BackendError
        When no directory can be used for them, or it fails.
    """
    try:
        yield
    except OSError as error:
        where, reason = "temporary files", error.strerror or str(error)
        with suppress(FileNotFoundError):  # none of the directories that it tries can be used
            where = f"temporary files in {tempfile.gettempdir()}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFullError(where) from error
        advice = "set TMPDIR to a directory that you may write to"
        raise BackendError(where, f"{reason}; {advice}") from error
