"""Errors as programs that use fsspec expect them, with this library's sentences."""

from __future__ import annotations

import difflib
import errno
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from index.errors import (
    StoreNotFoundError,
    UnknownDigestError,
    UnknownFileError,
    UnknownRunError,
    UnknownSessionError,
    UnknownSnapshotError,
    VersionConflictError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["as_os_errors", "is_directory"]

_NOT_FOUND: Final = (
    StoreNotFoundError,
    UnknownDigestError,
    UnknownFileError,
    UnknownRunError,
    UnknownSessionError,
    UnknownSnapshotError,
)


@contextmanager
def as_os_errors(
    name: str, *, runs: Callable[[str], Iterable[str]] | None = None
) -> Iterator[None]:
    """Raise errors of the block as the `OSError` that fsspec's users expect.

    Parameters
    ----------
    name
        What the caller asked for.
    runs
        Returns the ids of a session's runs, so that the error for an unknown run names the closest.
    """
    try:
        yield
    except _NOT_FOUND as error:
        sentence = str(error)
        if isinstance(error, UnknownRunError) and runs is not None:
            with suppress(UnknownSessionError):
                near = difflib.get_close_matches(error.run, list(runs(error.session)))
                if near:
                    sentence = f"{sentence}; the closest: {', '.join(map(repr, near))}"
        raise FileNotFoundError(errno.ENOENT, sentence, f"cas://{name}") from error
    except VersionConflictError as error:
        kind = errno.EBUSY if error.expected else errno.EEXIST  # EEXIST is a FileExistsError
        raise OSError(kind, str(error), f"cas://{name}") from error


def is_directory(name: str) -> IsADirectoryError:
    """Return the error for a directory that was opened as a file."""
    return IsADirectoryError(
        errno.EISDIR, "it is a directory; give the path of a file in it", f"cas://{name}"
    )
