"""Zip and tar files of a run, made while they are read."""

from __future__ import annotations

import re
import stat
import tarfile
import time
import zipfile
from typing import TYPE_CHECKING, BinaryIO, Final, Literal, TypeAlias
from urllib.parse import quote

from cas.deflating import set_level
from index.domain.progress import Progress
from index.domain.snapshots import Skipped
from index.reading.streams import open_version

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from cas.store import BlobStore
    from index.domain.snapshots import FileVersion

__all__ = ["ARCHIVES", "Archive", "ArchiveKind"]

ArchiveKind: TypeAlias = Literal["zip", "tar"]

PIECE: Final = 1 << 18
"""Bytes that are read at once."""

_PERMISSIONS: Final = 0o777
"""Permission bits that an archive keeps. An extracted file never runs as its owner."""

_LEFT_OUT: Final = "LEFT-OUT.txt"

_YEARS: Final = (315_532_800, 4_354_819_198)
"""The first and the last second that a zip file can name: 1980 to 2107."""

_ODD: Final = re.compile(r"\\|%(?=[0-9A-Fa-f]{2})")
"""What is percent-encoded besides characters that can't be printed."""


class Archive:
    """A zip or tar file of file versions. Iterate over it once to get its bytes.

    Links that lead out of the directory are left out, and so are files whose bytes were dropped or
    never stored. A file ``LEFT-OUT.txt`` at the end of the archive names them; it has underscores
    before its name if a file of the run has this name.

    A tar file has any name as it is. A zip file has names in UTF-8: backslashes, characters that
    can't be printed, other bytes, and a ``%`` before two hexadecimal digits are percent-encoded.
    """

    def __init__(
        self, kind: ArchiveKind, versions: Iterable[FileVersion], folder: str, blobs: BlobStore
    ) -> None:
        """Bind to file versions in a directory, which is not part of the names in the archive."""
        self._kind = kind
        self._versions = versions
        self._cut = len(folder) + 1 if folder else 0
        self._blobs = blobs
        self.files = 0
        """Files in the archive so far."""
        self.bytes = 0
        """Their bytes, before compression."""
        self.left_out: list[Skipped] = []
        """What is left out so far, by path in the run, and why."""

    def __iter__(self) -> Generator[bytes]:
        return self.pieces()

    def pieces(self, progress: Callable[[Progress], None] | None = None) -> Generator[bytes]:
        """Yield the bytes of the archive; call `progress` after each file."""
        made = ARCHIVES[self._kind]()
        report = _LEFT_OUT
        for version in self._versions:
            name = version.path[self._cut :]
            if name == report:  # which would replace it where the archive is extracted
                report = f"_{report}"
            reason = version.loss
            if reason is None:
                with open_version(self._blobs, version) as stream:
                    if version.is_link and _leads_out(name, _text_of(stream.read())):
                        reason = "it is a link that leads out of this directory"
                    else:
                        stream.seek(0)
                        yield from made.add(name, version, stream)
                        self.files += 1
                        self.bytes += version.size
            if reason is not None:
                self.left_out.append(Skipped(version.path, reason))
            if progress is not None:
                progress(Progress(self.files, self.bytes))
        text = (f"{_encoded(path[self._cut :])}: {reason}\n" for path, reason in self.left_out)
        yield from made.end(report, "".join(text))


class _Zip:
    """Writes a zip file."""

    def __init__(self) -> None:
        self._pipe = _Pipe()
        self._file = zipfile.ZipFile(self._pipe, "w", zipfile.ZIP_DEFLATED)

    def add(self, name: str, version: FileVersion, stream: BinaryIO) -> Iterator[bytes]:
        """Yield what adds a file to the archive, or a link whose target the stream holds."""
        seconds = min(max(version.mtime_ns // 10**9, _YEARS[0]), _YEARS[1])
        info = zipfile.ZipInfo(_encoded(name), time.gmtime(seconds)[:6])
        info.compress_type = zipfile.ZIP_DEFLATED
        kind = stat.S_IFLNK if version.is_link else stat.S_IFREG
        info.external_attr = (kind | version.mode & _PERMISSIONS) << 16
        info.file_size = version.size
        set_level(info, stream)
        with self._file.open(info, "w") as target:
            while piece := stream.read(PIECE):
                target.write(piece)
                yield from self._pipe.take()

    def end(self, name: str, left_out: str) -> Iterator[bytes]:
        """Yield the end of the archive, with a file of a text if that is not empty."""
        if left_out:
            self._file.writestr(name, left_out)
        self._file.close()
        yield from self._pipe.take()


class _Pipe:
    """Holds what was written until it is taken.

    It can't be closed: a zip file that an interrupt has left open still writes its end, when the
    interpreter discards it.
    """

    def __init__(self) -> None:
        self._written = bytearray()

    def write(self, data: bytes) -> int:
        self._written += data
        return len(data)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass

    def take(self) -> Iterator[bytes]:
        """Yield what was written since, if there is anything."""
        if self._written:
            yield bytes(self._written)
            self._written.clear()


class _Tar:
    """Writes a tar file, whose headers hold any name (POSIX.1-2001, pax)."""

    def add(self, name: str, version: FileVersion, stream: BinaryIO) -> Iterator[bytes]:
        """Yield what adds a file to the archive, or a link whose target the stream holds."""
        info = tarfile.TarInfo(name)
        info.mtime = version.mtime_ns // 10**9
        info.mode = version.mode & _PERMISSIONS
        if version.is_link:
            info.type, info.linkname = tarfile.SYMTYPE, _text_of(stream.read())
            yield _header(info)
            return
        info.size = version.size
        yield _header(info)
        while piece := stream.read(PIECE):
            yield piece
        yield bytes(-info.size % tarfile.BLOCKSIZE)

    def end(self, name: str, left_out: str) -> Iterator[bytes]:
        """Yield the end of the archive, with a file of a text if that is not empty."""
        if left_out:
            info = tarfile.TarInfo(name)
            data = left_out.encode()
            info.size = len(data)
            yield _header(info) + data + bytes(-info.size % tarfile.BLOCKSIZE)
        yield bytes(2 * tarfile.BLOCKSIZE)


ARCHIVES: Final[dict[str, type[_Zip | _Tar]]] = {"zip": _Zip, "tar": _Tar}
"""What writes each kind of archive."""


def _leads_out(name: str, target: str) -> bool:
    """Whether a link may leave the archive, whatever other links do that it goes through."""
    parts = target.split("/")
    ups = next((n for n, part in enumerate(parts) if part != ".."), len(parts))
    return target.startswith("/") or ups > name.count("/") or ".." in parts[ups:]


def _header(info: tarfile.TarInfo) -> bytes:
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _text_of(target: bytes) -> str:
    return target.decode("utf-8", "surrogateescape")


def _encoded(name: str) -> str:
    """Return a name that is valid in UTF-8, and has one meaning on every system."""
    if name.isprintable() and _ODD.search(name) is None:
        return name
    plain = _ODD.sub(lambda found: quote(found[0], safe=""), name)
    return "".join(
        each if each.isprintable() else quote(each, safe="", errors="surrogateescape")
        for each in plain
    )
