"""The content of a single file from the caller: bytes, a path, or a stream."""

from __future__ import annotations

import io
import os
import stat
import tempfile
import time
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, BinaryIO, Final, TypeAlias

from cas.temporary import using_temporary_files
from cas.writer import PIECE_SIZE
from index.domain.names import check_local, storable
from index.domain.run_state import Observed
from index.domain.snapshots import FileVersion
from index.errors import WorkDirectoryError
from index.scan.findings import reason_of
from index.scan.ingest import read_settled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cas.writer import BatchWriter

__all__ = ["Content", "NewFile", "Source", "new_file", "opened"]

_PLAIN: Final = stat.S_IFREG | 0o644
"""The mode of what comes from no file."""

_SPOOL_SIZE: Final = 8 << 20
"""Bytes of an unseekable stream held in memory; larger ones go to a temporary file."""

Content: TypeAlias = (
    bytes | bytearray | memoryview | str | os.PathLike[str] | BinaryIO | FileVersion
)
"""Bytes, the path of a file, or a binary file object, read from its current position. Or a version
of any run of the session, whose bytes are then not read."""


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file to put: its path in the run, its content, and what is said of it."""

    path: str | os.PathLike[str]
    content: Content
    _: KW_ONLY
    file_type: str | None = None
    is_final_output: bool | None = None
    meta: object = None
    expected_version: int | None = None
    """Number of the version that it replaces, 0 for none. If another one is current, the call fails
    with `VersionConflictError`. None replaces whatever is there."""

    def __post_init__(self) -> None:
        expected = self.expected_version
        if isinstance(expected, bool) or not isinstance(expected, int | None):
            raise TypeError(f"expected_version is the number of a version, not {expected!r}")


def new_file(given: object) -> NewFile:
    """Return a file to put, given as one or as a pair of path and content. Raises TypeError."""
    if isinstance(given, NewFile):
        return given
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise TypeError(f"each file is a NewFile, or a pair of path and content, not {given!r}")
    return NewFile(*given)


class _Stream:
    """A seekable stream of bytes, from its present position to its end."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._start = stream.tell()
        self._opened_ns = time.time_ns()

    def read_into(self, batch: BatchWriter, path: str) -> tuple[Observed, bool]:
        """Store the bytes for `path`. Return what was found there, and True."""
        self._stream.seek(self._start)
        digest, size = batch.add_pieces(self._pieces(PIECE_SIZE))
        return Observed(
            path,
            digest,
            size,
            _PLAIN,
            self._opened_ns,
            signature=None,
            trusted=False,
            seen_by=0,
        ), True

    def _pieces(self, size: int) -> Iterator[bytes]:
        """Yield the rest of the stream in pieces of `size` bytes, the last one shorter."""
        while piece := self._read(size):
            yield piece
            if len(piece) < size:
                return

    def _read(self, size: int) -> bytes:
        """Read `size` bytes, or fewer at the end. A raw stream may return fewer per call."""
        data = _read_some(self._stream, size)
        while 0 < len(data) < size and (more := _read_some(self._stream, size - len(data))):
            data += more
        return data


def _read_some(stream: BinaryIO, size: int) -> bytes:
    """Read up to `size` bytes; none at the end. Raises TypeError for what a stream can't return."""
    data: object = stream.read(size)
    if not isinstance(data, bytes):
        what = "nothing yet: let it block" if data is None else f"{type(data).__name__}, not bytes"
        raise TypeError(f"the stream {stream!r} returned {what}")
    return data


class _File:
    """An open file, named by the caller."""

    def __init__(self, name: str, fd: int, status: os.stat_result) -> None:
        self._name = name
        self._fd = fd
        self._status = status

    def read_into(self, batch: BatchWriter, path: str) -> tuple[Observed, bool]:
        """Store the bytes for `path`. Return what was found, and whether it was so all the while.

        Raises WorkDirectoryError if the file can't be read.
        """
        try:
            digest, size, after, signature, is_whole = read_settled(batch, self._fd, self._status)
        except OSError as error:
            raise WorkDirectoryError(self._name, reason_of(error)) from error
        return Observed(
            path,
            digest,
            size,
            after.st_mode,
            storable(after.st_mtime_ns),
            signature,
            trusted=False,
            seen_by=0,
        ), is_whole


Source: TypeAlias = _Stream | _File
"""An open source of bytes, which can be read more than once."""


@contextmanager
def opened(content: Content) -> Iterator[Source]:
    """Open the content from a caller. The caller's own stream stays open.

    Raises
    ------
    WorkDirectoryError
        When a path can't be read or is not a regular file.
    UnsafePathError
        When nothing can have such a path.
    TypeError
        When it is no content.
    BackendError
        When a stream that can't seek does not fit into a temporary file.
    """
    if isinstance(content, bytes | bytearray | memoryview):
        yield _Stream(io.BytesIO(content))
    elif isinstance(content, str | os.PathLike):
        yield from _opened_file(check_local(content))
    elif isinstance(content, FileVersion) or not _is_binary(content):
        raise TypeError(
            "content is bytes, the path of a file, or a file that is open in binary mode, "
            f"not {content!r}"
        )
    elif content.seekable():
        yield _Stream(content)
    else:
        with tempfile.SpooledTemporaryFile(_SPOOL_SIZE) as spool:
            while piece := _read_some(content, 1 << 20):
                with using_temporary_files():
                    spool.write(piece)
            with using_temporary_files():
                spool.seek(0)  # writes the rest
            yield _Stream(spool)  # type: ignore[arg-type]  # has BinaryIO's methods


def _is_binary(content: object) -> bool:
    return hasattr(content, "read") and not isinstance(content, io.TextIOBase)


def _opened_file(path: str) -> Iterator[Source]:
    try:
        # O_NONBLOCK: do not wait for a writer if it is a FIFO.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise WorkDirectoryError(path, reason_of(error)) from error
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise WorkDirectoryError(path, "it is not a regular file")
        yield _File(path, fd, status)
    finally:
        os.close(fd)
