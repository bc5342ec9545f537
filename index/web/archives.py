"""Archives of a directory of a run, made while they are sent."""

from __future__ import annotations

import io
import posixpath
import stat
import tarfile
import time
import zipfile
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO, Final
from urllib.parse import quote

from starlette.responses import Response

from index.errors import BytesNotKeptError
from index.web.downloads import PIECE, disposition
from index.web.streaming import Streamed

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from index import FileVersion, Session
    from index.web.asked import Asked

__all__ = ["archive"]

_PERMISSIONS: Final = 0o777
"""Permission bits that an archive keeps. An extracted file never runs as its owner."""

_LEFT_OUT: Final = "LEFT-OUT.txt"

_YEARS: Final = (315_532_800, 4_354_819_198)
"""The first and the last second that a zip file can name: 1980 to 2107."""


def archive(asked: Asked) -> Response:
    """Return a directory of a run as it is, or was at a snapshot, as one zip or tar file.

    Links that lead out of the directory are left out, and so are files whose bytes were never
    stored. A file ``LEFT-OUT.txt`` at the end of the archive names them; it has underscores before
    its name if a file of the run has this name.
    """
    run, folder = asked.run, asked["path"].strip("/")
    # The state does not change while it is sent; and this raises if there is no such directory.
    at = run.summary().snapshots if asked["at"] is None else asked["at"]
    run.list_dir(folder, at=at, limit=1)
    kind = _KINDS[asked["format"]]
    name = f"{posixpath.basename(folder) or run.id}.{asked['format']}"
    headers = {"Content-Type": kind.media_type, "Content-Disposition": disposition(name)}
    if asked.is_head:
        return Response(headers=headers)
    versions = run.iter_files(prefix=f"{folder}/" if folder else None, at=at)
    return Streamed(_written(asked.session, versions, folder, kind), headers=headers)


class _Zip:
    """Writes a zip file. Its names are UTF-8; other bytes of a name are percent-encoded."""

    media_type = "application/zip"

    def __init__(self) -> None:
        self._pipe = _Pipe()
        self._file = zipfile.ZipFile(self._pipe, "w", zipfile.ZIP_DEFLATED, compresslevel=1)

    def add(self, name: str, version: FileVersion, stream: BinaryIO) -> Iterator[bytes]:
        """Yield what adds a file to the archive, or a link whose target the stream holds."""
        seconds = min(max(version.mtime_ns // 10**9, _YEARS[0]), _YEARS[1])
        info = zipfile.ZipInfo(_percent_encoded(name), time.gmtime(seconds)[:6])
        info.compress_type = zipfile.ZIP_DEFLATED
        kind = stat.S_IFLNK if version.is_link else stat.S_IFREG
        info.external_attr = (kind | version.mode & _PERMISSIONS) << 16
        info.file_size = version.size
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


class _Pipe(io.RawIOBase):
    """Holds what was written until it is taken."""

    def __init__(self) -> None:
        self._written = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]  # what `zipfile` writes
        self._written += data
        return len(data)

    def take(self) -> Iterator[bytes]:
        """Yield what was written since, if there is anything."""
        if self._written:
            yield bytes(self._written)
            self._written.clear()


class _Tar:
    """Writes a tar file, whose headers hold any name (POSIX.1-2001, pax)."""

    media_type = "application/x-tar"

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


_KINDS: Final[dict[str, type[_Zip | _Tar]]] = {"zip": _Zip, "tar": _Tar}


def _written(
    session: Session, versions: Iterable[FileVersion], folder: str, kind: type[_Zip | _Tar]
) -> Generator[bytes]:
    made = kind()
    cut = len(folder) + 1 if folder else 0
    left_out, report = [], _LEFT_OUT
    for version in versions:
        name = version.path[cut:]
        if name == report:  # which would replace it where the archive is extracted
            report = f"_{report}"
        reason = "its bytes were never stored"
        with suppress(BytesNotKeptError), session.open(version.id) as stream:
            reason = ""
            if version.is_link and _leads_out(name, _text_of(stream.read())):
                reason = "it is a link that leads out of this directory"
            else:
                stream.seek(0)
                yield from made.add(name, version, stream)
        if reason:
            left_out.append(f"{_percent_encoded(name)}: {reason}\n")
    yield from made.end(report, "".join(left_out))


def _leads_out(name: str, target: str) -> bool:
    """Whether a link may leave the archive, whatever other links do that it goes through."""
    parts = target.split("/")
    ups = next((n for n, part in enumerate(parts) if part != ".."), len(parts))
    return target.startswith("/") or ups > name.count("/") or ".." in parts[ups:]


def _header(info: tarfile.TarInfo) -> bytes:
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _text_of(target: bytes) -> str:
    return target.decode("utf-8", "surrogateescape")


def _percent_encoded(name: str) -> str:
    """Return a name that is valid in UTF-8, and has one meaning on every system."""
    if "\\" not in name and name.isprintable():
        return name
    return "".join(
        quote(each, safe="", errors="surrogateescape")
        if each == "\\" or not each.isprintable()
        else each
        for each in name
    )
