"""Streams of the bytes of file versions."""

from __future__ import annotations

import io
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from cas.catalog import Location
from cas.errors import BlobNotFoundError, DigestMismatchError
from cas.pieces import PIECE_SIZE
from index.domain.drops import kept_no_bytes
from index.domain.snapshots import FileVersion
from index.errors import BytesNotKeptError, DamagedFileError, DanglingFileError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import BinaryIO

    from cas.catalog import Placement
    from cas.digest import Buffer, Digest
    from cas.store import BlobStore
    from index.db.queries.restorable import RestorableFile
    from index.db.queries.single import PlacedFile

__all__ = [
    "by_place",
    "explaining",
    "explaining_any",
    "open_version",
    "read_version",
    "read_versions",
]


def open_version(blobs: BlobStore, version: FileVersion | PlacedFile) -> BinaryIO:
    """Return a seekable stream of a version's bytes. Bytes are verified before they are returned.

    Raises
    ------
    BytesNotKeptError
        When its bytes were dropped, or gone when the version was adopted.
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


@contextmanager
def explaining_any(blobs: BlobStore, versions: Iterable[RestorableFile]) -> Iterator[None]:
    """Turn errors about missing or damaged blobs into errors that name the file."""
    try:
        yield
    except (BlobNotFoundError, DigestMismatchError) as error:
        if isinstance(error, DamagedFileError):
            raise
        digest = error.digest if isinstance(error, BlobNotFoundError) else error.expected
        path = next(v.path for v in versions if v.digest == digest)
        with explaining(blobs, path, digest):
            raise


def by_place(
    versions: Iterable[RestorableFile], places: Mapping[Digest, Placement]
) -> tuple[dict[Digest, list[RestorableFile]], list[tuple[Digest, Location]], list[Digest]]:
    """Return versions by digest, the places of blobs of one entry, and digests of large blobs.

    Raises DanglingFileError if a blob has no place.
    """
    wanted: dict[Digest, list[RestorableFile]] = {}
    for version in versions:
        if version.digest is not None:
            wanted.setdefault(version.digest, []).append(version)
    small: list[tuple[Digest, Location]] = []
    large: list[Digest] = []
    for digest, named in wanted.items():
        place = places.get(digest)
        if place is None:
            raise DanglingFileError(named[0].path, digest)
        if isinstance(place, Location):
            small.append((digest, place))
        else:
            large.append(digest)
    return wanted, small, large


def read_versions(
    blobs: BlobStore, versions: Iterable[RestorableFile], places: Mapping[Digest, Placement]
) -> Iterator[tuple[str, bytes]]:
    """Yield the paths of versions with all their bytes, verified, as they lie in storage."""
    wanted, small, large = by_place(versions, places)
    # Closed at once, also after an error, so that no prefetching thread is left over.
    with explaining_any(blobs, versions), closing(blobs.read_located(small)) as found:
        for digest, data in found:
            content = bytes(data)
            for version in wanted[digest]:
                yield version.path, content
    for digest in large:
        with explaining(blobs, wanted[digest][0].path, digest):
            content = blobs.read(digest)
        for version in wanted[digest]:
            yield version.path, content


def _digest_of(version: FileVersion | PlacedFile) -> Digest:
    if version.digest is not None:
        return version.digest
    if isinstance(version, FileVersion):
        raise kept_no_bytes(version.path, version.version, version.dropped)
    raise BytesNotKeptError(version.path, version.version)


class _Explaining(io.RawIOBase):
    """The stream of a large file. Its errors name the file."""

    def __init__(
        self, blobs: BlobStore, stream: io.BufferedReader, version: FileVersion | PlacedFile
    ) -> None:
        self._blobs = blobs
        self._raw = stream.detach()
        self._path, self._digest = version.path, _digest_of(version)

    def close(self) -> None:
        self._raw.close()  # which ends its threads
        super().close()

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
