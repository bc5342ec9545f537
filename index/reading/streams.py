"""Streams of the bytes of file versions."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from cas.errors import BlobNotFoundError, DigestMismatchError
from cas.pieces import PIECE_SIZE
from index.errors import BytesNotKeptError, DamagedFileError, DanglingFileError

if TYPE_CHECKING:
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
    return io.BufferedReader(_Explaining(blobs, stream, version), buffer_size=PIECE_SIZE)


def read_version(blobs: BlobStore, version: FileVersion | PlacedFile) -> bytes:
    """Return all bytes of a version, verified. Raises as `open_version` does."""
    digest = _digest_of(version)
    with explaining(blobs, version.path, digest):
        return blobs.read(digest, getattr(version, "location", None))


def explaining(blobs: BlobStore, path: str, digest: Digest) -> _Explanation:
    """Turn errors about bytes in a block into errors that name the file; note the damage."""
    return _Explanation(blobs, path, digest)


class _Explanation:
    """The context manager of `explaining`. No generator: a small read takes not much longer."""

    __slots__ = ("_blobs", "_digest", "_path")

    def __init__(self, blobs: BlobStore, path: str, digest: Digest) -> None:
        self._blobs, self._path, self._digest = blobs, path, digest

    def __enter__(self) -> None:
        return

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, BlobNotFoundError):
            self._blobs.note_damaged(error.digest)
            raise DanglingFileError(self._path, self._digest) from error
        if isinstance(error, DigestMismatchError) and not isinstance(error, DamagedFileError):
            self._blobs.note_damaged(error.expected)
            raise DamagedFileError(self._path, error.expected, error.actual, error.where) from error


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
