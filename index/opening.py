"""Opening the bytes of a file version that was found."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from cas.errors import BlobNotFoundError
from index.errors import BytesNotKeptError, DanglingFileError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from cas.digest import Digest
    from cas.store import BlobStore
    from index.records import FileVersion

__all__ = ["open_version", "read_version"]


def open_version(blobs: BlobStore, version: FileVersion) -> BinaryIO:
    """Return a seekable stream of a version's bytes, each verified before it is returned.

    Raises
    ------
    BytesNotKeptError
        When the version was adopted after its bytes were gone.
    DanglingFileError
        When they are missing from storage.
    DigestMismatchError
        When they are damaged, here or on a read.
    """
    with _digest_of(version) as digest:
        return blobs.open(digest)


def read_version(blobs: BlobStore, version: FileVersion) -> bytes:
    """Return a version's bytes whole and verified; raises as `open_version` does."""
    with _digest_of(version) as digest:
        return blobs.read(digest)


@contextmanager
def _digest_of(version: FileVersion) -> Iterator[Digest]:
    if version.digest is None:
        raise BytesNotKeptError(version.path, version.version)
    try:
        yield version.digest
    except BlobNotFoundError as error:
        raise DanglingFileError(version.path, version.digest) from error
