"""Errors as programs that use fsspec expect them, with this library's sentences."""

from __future__ import annotations

import difflib
import errno
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from index.errors import (
    BytesNotKeptError,
    DamagedFileError,
    DanglingFileError,
    QuotaExceededError,
    StoreNotFoundError,
    UnknownDigestError,
    UnknownFileError,
    UnknownRunError,
    UnknownSessionError,
    UnknownSnapshotError,
    UnknownTagError,
    VersionConflictError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["NOT_FOUND", "as_os_errors", "is_directory", "is_there"]

NOT_FOUND: Final = (
    FileNotFoundError,
    StoreNotFoundError,
    UnknownDigestError,
    UnknownFileError,
    UnknownRunError,
    UnknownSessionError,
    UnknownSnapshotError,
    UnknownTagError,
)
"""What says that something is not there. Its sentence takes far longer than the look."""


class _UnreadableError(OSError):
    errno = errno.EIO
    filename = None

    @property
    def strerror(self) -> str:  # type: ignore[override]  # of an error that is complete
        return str(self)


class _DamagedError(DamagedFileError, _UnreadableError): ...


class _DanglingError(DanglingFileError, _UnreadableError): ...


class _NotKeptError(BytesNotKeptError, _UnreadableError): ...


_UNREADABLE: Final = {
    DamagedFileError: _DamagedError,
    DanglingFileError: _DanglingError,
    BytesNotKeptError: _NotKeptError,
}
"""The errors of files without their bytes, as those that are an `OSError`, too. They are no
`FileNotFoundError`: some libraries take such a file for an empty one."""


@contextmanager
def as_os_errors(
    name: str, *, listed: Callable[..., Iterable[str]] | None = None
) -> Iterator[None]:
    """Raise errors of the block as the `OSError` that fsspec's users expect.

    Parameters
    ----------
    name
        What the caller asked for.
    listed
        Returns the ids of all sessions, or of the runs of a given one, so that an error names the
        closest.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except NOT_FOUND as error:
        sentence = _sentence(error, name, listed)
        raise FileNotFoundError(errno.ENOENT, sentence, f"cas://{name}") from error
    except (DamagedFileError, DanglingFileError, BytesNotKeptError) as error:
        if isinstance(error, OSError):
            raise
        raise _UNREADABLE[type(error)](*error.args) from error
    except QuotaExceededError as error:
        raise OSError(errno.EDQUOT, str(error), f"cas://{name}") from error
    except VersionConflictError as error:
        kind = errno.EBUSY if error.expected else errno.EEXIST  # EEXIST is a FileExistsError
        sentence = f"{str(error).partition(';')[0]}; read it again, and write what is to be there"
        raise OSError(kind, sentence, f"cas://{name}") from error


def _sentence(error: Exception, name: str, listed: Callable[..., Iterable[str]] | None) -> str:
    """Return what is missing, with the closest, in the words of those who have a URL."""
    head = name.split("/")[:2]
    run = "/".join(head).partition("@v")[0]
    if isinstance(error, StoreNotFoundError):
        return f"there is no store at {error.place}; name another, or create it with `cas track`"
    if isinstance(error, UnknownFileError):
        return error.advise(f"`fs.find('cas://{run}')` lists what it has")
    if listed is None or not isinstance(error, UnknownRunError | UnknownSessionError):
        return str(error)
    if isinstance(error, UnknownRunError):
        try:
            there = listed(error.session)
        except UnknownSessionError as unknown:
            return _sentence(unknown, name, listed)
        return _closest(
            f"there is no run {error.run!r} in session {error.session!r}", error.run, there, head[0]
        )
    return _closest(str(error), error.session, listed(), "")


def _closest(sentence: str, wanted: str, there: Iterable[str], above: str) -> str:
    near = difflib.get_close_matches(wanted, list(there))
    if not near:
        return f"{sentence}; `fs.ls('cas://{above}')` lists what there is"
    return f"{sentence}; the closest {'is' if len(near) == 1 else 'are'} " + ", ".join(
        map(repr, near)
    )


def is_directory(name: str) -> IsADirectoryError:
    """Return the error for a directory that was opened as a file."""
    return IsADirectoryError(
        errno.EISDIR, "it is a directory; give the path of a file in it", f"cas://{name}"
    )


def is_there(name: str) -> FileExistsError:
    """Return the error for a file that was to be new."""
    return FileExistsError(errno.EEXIST, "there is such a file", f"cas://{name}")
