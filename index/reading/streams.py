"""Streams of the bytes of file versions."""

from __future__ import annotations

import io
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cas.errors import BlobNotFoundError, DigestMismatchError
from index.errors import BytesNotKeptError, DamagedFileError, DanglingFileError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from cas.digest import Buffer, Digest
    from cas.store import BlobStore
    from index.db.queries.single import PlacedFile
    from index.domain.snapshots import FileVersion

__all__ = ["explaining", "open_version", "read_version"]


def open_version(blobs: BlobStore, version: FileVersion | PlacedFile) -> BinaryIO:
    """Return a seekable stream of a version's bytes. Bytes are verified before they are returned.

    Raises
    ------
    BytesNotKeptError
        When the version was adopted after its bytes were gone.
    DanglingFileError
        When the bytes are missing from storage.
    DamagedFileError
        When the bytes are damaged; also on a later read.
    """
    digest = _digest_of(version)
    with explaining(blobs, version.path, digest):
        stream = blobs.open(digest, getattr(version, "location", None))
    if not isinstance(stream, io.BufferedReader):
        return stream  # in memory, and verified
    return io.BufferedReader(_Explaining(blobs, stream, version), buffer_size=64 << 10)


def read_version(blobs: BlobStore, version: FileVersion | PlacedFile) -> bytes:
    """Return all bytes of a version, verified. Raises as `open_version` does."""
    digest = _digest_of(version)
    with explaining(blobs, version.path, digest):
        return blobs.read(digest, getattr(version, "location", None))


@contextmanager
def explaining(blobs: BlobStore, path: str, digest: Digest) -> Iterator[None]:
    """Turn errors about bytes into errors that name the file; note the damage for `repair`."""
    try:
        yield
    except BlobNotFoundError as error:
        blobs.note_damaged(error.digest)
        raise DanglingFileError(path, digest) from error
    except DigestMismatchError as error:
        if isinstance(error, DamagedFileError):
            raise
        blobs.note_damaged(error.expected)
        raise DamagedFileError(path, error.expected, error.actual, error.where) from error


def _digest_of(version: FileVersion | PlacedFile) -> Digest:
    if version.digest is None:
        raise BytesNotKeptError(version.path, version.version)
    return version.digest


class _Explaining(io.RawIOBase):
    """The stream of a large file. Its errors name the file."""

    def __init__(
        self, blobs: BlobStore, stream: io.BufferedReader, version: FileVersion | PlacedFile
    ) -> None:
        self._blobs = blobs
        self._raw = stream.detach()
        self._path, self._digest = version.path, _digest_of(version)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._raw.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._raw.seek(offset, whence)

    def readinto(self, buffer: Buffer) -> int | None:  # type: ignore[override]  # a narrower type
        with explaining(self._blobs, self._path, self._digest):
            return self._raw.readinto(buffer)

    def readall(self) -> bytes:
        # The one that is inherited joins pieces of 8 KiB.
        with explaining(self._blobs, self._path, self._digest):
            return self._raw.readall()
