"""Files that are written: they become versions when they are closed, or never."""

from __future__ import annotations

import io
import logging
import sys
import tempfile
import warnings
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Self, cast

from fsspec.compression import compr

if TYPE_CHECKING:
    from collections.abc import Callable

    from index import Content
    from index.filesystem.addresses import Address

__all__ = ["Given", "WrittenFile"]

_SPOOL_SIZE: Final = 8 << 20
"""Bytes that a file holds in memory; more go to a temporary file."""

_log: Final = logging.getLogger(__name__)


class Given:
    """A file to record whose content is there already."""

    is_dropped = False

    def __init__(
        self, address: Address, content: Content, *, expected_version: int | None = None
    ) -> None:
        self.address = address
        self.expected_version = expected_version
        self._content = content

    def content(self) -> Content:
        """Return the content."""
        return self._content

    def discard(self) -> None:
        """Do nothing: the content is the caller's."""


class WrittenFile(io.BufferedIOBase):
    """A file that is open for writing. It can also be read and is seekable, as archives need it.

    Closing it records its content as a new version, unless an exception that was raised after it
    was opened is being handled: neither a block that raises nor a ``finally`` records half a file.
    So in an ``except`` block call `commit` to record it all the same. A file that is dropped
    without being closed is not recorded, nor is one in which a write failed.

    Parameters
    ----------
    publish
        Records the content. None if a transaction does that when it ends.
    compression
        The codec of fsspec that the content goes through.
    """

    def __init__(
        self,
        address: Address,
        publish: Callable[[WrittenFile], object] | None,
        *,
        expected_version: int | None = None,
        compression: str | None = None,
    ) -> None:
        self.address = address
        self.expected_version = expected_version
        """Number of the version that the content replaces, 0 for none; None for any."""
        self._publish = publish
        self._spool = cast("BinaryIO", tempfile.SpooledTemporaryFile(_SPOOL_SIZE))  # noqa: SIM115
        self._sink = self._spool
        if compression is not None:
            self._sink = compr[compression](self._spool, mode="w")
        self._handled = sys.exception()
        """What was being handled when the file was opened."""
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
        raised = sys.exception()
        if not self._is_whole or (raised is not None and raised is not self._handled):
            if not self.is_dropped:
                _log.warning("cas://%s was not recorded: %r", self.name, raised)
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
        if kind is not None:
            self._is_whole = False
        self.close()

    def __del__(self) -> None:
        # The one that is inherited closes, which would record half a file.
        if not self.closed and hasattr(self, "_spool"):
            self._warn()
            self.discard()

    def _warn(self) -> None:
        sentence = f"cas://{self.name} was not closed, so it is not recorded"
        warnings.warn(sentence, ResourceWarning, source=self, stacklevel=3)
