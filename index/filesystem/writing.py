"""Files that are written: they become versions when they are closed, or never."""

from __future__ import annotations

import io
import logging
import shutil
import sys
import tempfile
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Self, cast

from fsspec.compression import compr
from fsspec.core import OpenFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType, TracebackType

    from index import Content, Run
    from index.filesystem.addresses import Address

__all__ = ["Given", "WrittenFile", "WrittenText"]

_SPOOL_SIZE: Final = 8 << 20
"""Bytes that a file holds in memory; more go to a temporary file."""

_log: Final = logging.getLogger("index.filesystem")


class Given:
    """A file to record whose content is there already."""

    is_dropped = False

    def __init__(
        self, address: Address, run: Run, content: Content, *, expected_version: int | None = None
    ) -> None:
        self.address = address
        self.run = run
        self.expected_version = expected_version
        self._content = content

    def content(self) -> Content:
        """Return the content."""
        return self._content

    def discard(self) -> None:
        """Do nothing: the content is the caller's."""


class WrittenFile(io.BufferedIOBase):
    """A file that is open for writing. It can also be read and is seekable, as archives need it.

    The end of its ``with`` block records its content as a new version, unless the block raises.
    `close` does so unless an exception that was raised after the file was opened is being handled,
    so a ``finally`` records no half of a file either; in an ``except`` block, `commit` records it
    all the same. A file that is dropped without being closed is not recorded, also if the
    ``__del__`` of its user closes it, nor is one in which a write failed.

    Parameters
    ----------
    publish
        Records the content. None if a transaction does that when it ends.
    before
        What the content begins with, as it is stored.
    compression
        The codec of fsspec that the content goes through.
    """

    def __init__(
        self,
        address: Address,
        run: Run,
        publish: Callable[[WrittenFile], object] | None,
        *,
        expected_version: int | None = None,
        before: BinaryIO | None = None,
        compression: str | None = None,
    ) -> None:
        self.address = address
        self.run = run
        """The run of the store that was found when the file was opened."""
        self.expected_version = expected_version
        """Number of the version that the content replaces, 0 for none; None for any."""
        self._publish = publish
        self._spool = cast("BinaryIO", tempfile.SpooledTemporaryFile(_SPOOL_SIZE))  # noqa: SIM115
        self._sink = self._spool
        if before is not None:
            try:
                shutil.copyfileobj(before, self._spool, 1 << 20)
            except BaseException:
                self.discard()
                raise
        if compression is not None:
            self._sink = compr[compression](self._spool, mode="w")
        self._handled = [*_being_handled()]
        """What was being handled when the file was opened, and as far as it was raised then."""
        self._is_whole = True
        self.is_dropped = False
        """Whether there is nothing to record, now or any more."""

    @property
    def name(self) -> str:
        """The URL of the file, without the protocol."""
        return str(self.address)

    path = name

    mode = "wb"

    def readable(self) -> bool:
        return self._sink is self._spool

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._sink is self._spool

    def write(self, data: Any, /) -> int:
        self._check_open()
        try:
            return self._sink.write(data)
        except BaseException:
            self._is_whole = False
            raise

    def read(self, size: int | None = -1, /) -> bytes:
        self._check_open()
        return self._sink.read(-1 if size is None else size)

    read1 = read

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._check_open()
        self._sink.seek(offset, whence)
        return self._sink.tell()

    def tell(self) -> int:
        self._check_open()
        return self._sink.tell()

    def truncate(self, size: int | None = None, /) -> int:
        self._check_open()
        return self._sink.truncate(size)

    def close(self) -> None:
        if self.closed:
            return
        is_whole = _says_caller()
        if is_whole is None:
            raised = next(_being_handled(), None)
            is_whole = raised is None or raised in self._handled
        self._close(is_whole=is_whole)

    def _close(self, *, is_whole: bool) -> None:
        if not is_whole or not self._is_whole:
            if not self.is_dropped:
                _log.warning("cas://%s was not recorded: %r", self.name, sys.exception())
            self.discard()
        elif self._publish is None:
            self._end()  # the transaction records it
        else:
            self.commit()

    def commit(self) -> None:
        """Record what was written, and close the file. Raises what recording raises."""
        if self.is_dropped:
            return
        try:
            if self._publish is not None:
                self._end()
                self._publish(self)
        finally:
            self.discard()

    def discard(self) -> None:
        """Close the file and forget what was written; idempotent."""
        self.is_dropped = True
        self._handled = []  # with all that their tracebacks hold
        with suppress(OSError):  # a full disk; nothing of it is needed
            self._spool.close()
        super().close()

    def content(self) -> BinaryIO:
        """Return what was written, from its beginning. Raises ValueError if the file is open."""
        if not self.closed:
            raise ValueError(
                f"cas://{self.name} is still open; close it before the transaction ends"
            )
        self._spool.seek(0)
        return self._spool

    def _end(self) -> None:
        """End the content. Nothing more can be written."""
        try:
            if self._sink is not self._spool:
                self._sink.close()
        except BaseException:
            self._is_whole = False
            raise
        super().close()

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError(f"cas://{self.name} is closed; open it again")

    def _dealloc_warn(self, _source: object) -> None:
        """Forget the content: a text wrapper calls this when it is dropped without being closed."""
        self._is_whole = False
        self._warn()

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_error: object) -> None:
        if not self.closed:
            self._close(is_whole=kind is None)

    def __del__(self) -> None:
        # The one that is inherited closes, which would record half a file.
        if not self.closed and hasattr(self, "_spool"):
            self._warn()
            self.discard()

    def _warn(self) -> None:
        sentence = f"cas://{self.name} was not closed, so it is not recorded"
        warnings.warn(sentence, ResourceWarning, source=self, stacklevel=3)


class WrittenText(io.TextIOWrapper):
    """A `WrittenFile` as text. The end of its ``with`` block is that of the file's."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self.closed:
            if kind is None:
                self.flush()
            cast("WrittenFile", self.buffer).__exit__(kind, error, traceback)


def _being_handled() -> Iterator[tuple[BaseException, TracebackType | None]]:
    """Yield the exception that is being handled, and those that were being handled then.

    A traceback tells an exception from the same one raised again, which makes it longer.
    """
    error = sys.exception()
    while error is not None:
        yield error, error.__traceback__
        error = error.__context__


def _says_caller() -> bool | None:
    """Return whether a file is whole that is being closed; None if the callers don't tell.

    A ``__del__`` closes what somebody has dropped. The ``with`` block of an `OpenFile` closes the
    file without saying how the block ended.
    """
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - there is no other way to know
    while frame is not None:
        if frame.f_code.co_name == "__del__":
            return False
        if frame.f_code is _END_OF_OPEN_FILE:
            return frame.f_locals["args"][0] is None
        frame = frame.f_back
    return None


_END_OF_OPEN_FILE: Final = OpenFile.__exit__.__code__
