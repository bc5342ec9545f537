"""Downloads of contents: by ranges, with conditions, and from a sandbox."""

from __future__ import annotations

import re
from email.utils import format_datetime
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple
from urllib.parse import quote

from starlette.responses import Response

from index.web.streaming import Streamed

if TYPE_CHECKING:
    from collections.abc import Generator

    from index import FileVersion
    from index.web.asked import Asked

__all__ = ["content", "disposition", "media_type", "read_range"]

PIECE: Final = 1 << 18
"""Bytes that are read and sent at once."""

SANDBOX: Final = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""The policy of contents: no script, no form, no other page of this site, nothing from elsewhere.
A document may have styles and images of its own."""

VIEWER: Final = "default-src 'none'; style-src 'unsafe-inline'"
"""The policy of PDF documents. Chromium's viewer ignores any, and Safari's shows nothing in a
sandbox. A script of a document runs in the viewer only, without any access to pages."""

PDF: Final = "application/pdf"

_IMAGES: Final = {
    "avif": "image/avif",
    "bmp": "image/bmp",
    "gif": "image/gif",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
}

_TEXTS: Final = re.compile(
    "c|cc|cfg|cpp|csv|err|f90|go|h|hpp|ini|java|jl|js|jsonl?|log|m|md|out|pl|pyx?|r|rs|rst|sh|sql"
    "|tex|toml|ts|tsv|txt|ya?ml"
)

_OTHERS: Final = {
    "gz": "application/gzip",
    "h5": "application/x-hdf5",
    "hdf5": "application/x-hdf5",
    "htm": "text/html; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "ipynb": "application/x-ipynb+json",
    "parquet": "application/vnd.apache.parquet",
    "svg": "image/svg+xml",
    "tar": "application/x-tar",
    "tif": "image/tiff",
    "tiff": "image/tiff",
    "xml": "application/xml",
    "zip": "application/zip",
}
"""Types that a browser saves and does not show: they may be active."""


class _Type(NamedTuple):
    media_type: str
    is_shown: bool
    """Whether a browser may show it. It saves other contents."""


def media_type(path: str) -> _Type:
    """Return the type of a content by the ending of its name. The content itself has no say."""
    ending = path.rpartition("/")[2].rpartition(".")[2].lower()
    if ending in _IMAGES:
        return _Type(_IMAGES[ending], is_shown=True)
    if ending == "pdf":
        return _Type(PDF, is_shown=True)
    if _TEXTS.fullmatch(ending):
        return _Type("text/plain; charset=utf-8", is_shown=True)
    return _Type(_OTHERS.get(ending, "application/octet-stream"), is_shown=False)


def disposition(path: str, *, is_shown: bool = False) -> str:
    """Return a Content-Disposition header with the name of a file (RFC 6266)."""
    name = path.rpartition("/")[2]
    plain = re.sub(r"[^ !#-\[\]-~]|[%/\\:*?<>|]", "_", name)
    encoded = quote(name.encode("utf-8", "replace"), safe="")
    kind = "inline" if is_shown else "attachment"
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{encoded}"


def content(asked: Asked) -> Response:
    """Return the bytes of a file version, or of a digest, verified.

    If bytes turn out to be damaged on the way, the connection ends before `Content-Length` bytes.
    """
    version = _wanted(asked)
    if version.digest is None:
        asked.session.open(version.id)  # which raises what became of them
    kind = media_type(version.path)
    is_shown = kind.is_shown and not asked["download"]
    headers = {
        "Content-Type": kind.media_type,
        "Content-Disposition": disposition(version.path, is_shown=is_shown),
        "Content-Security-Policy": VIEWER if kind.media_type == PDF else SANDBOX,
        "Accept-Ranges": "bytes",
        "ETag": f'"{version.digest}"',
        "Last-Modified": format_datetime(version.created_at, usegmt=True),
        # The bytes of a version never change, but what a reader may see can.
        "Cache-Control": "private, no-cache",
    }
    etag, given = headers["ETag"], asked.headers
    if "if-match" in given and not _names(given["if-match"], etag, is_strong=True):
        return Response(status_code=412, headers=headers)
    if _names(given.get("if-none-match", ""), etag):
        return Response(status_code=304, headers=headers)
    span = range(version.size)
    status = 200
    # Ranges are of GET alone (RFC 9110, section 14.2).
    if not asked.is_head and given.get("if-range", etag) in (etag, headers["Last-Modified"]):
        part = read_range(given.get("range", ""), version.size)
        if part is not None:
            status, span = (206 if part else 416), part
            shown = f"{span.start}-{span.stop - 1}" if part else "*"
            headers["Content-Range"] = f"bytes {shown}/{version.size}"
    if status == 416 or asked.is_head:
        headers["Content-Length"] = str(len(span))
        return Response(status_code=status, headers=headers)
    headers["Content-Length"] = str(len(span))
    stream = asked.session.open(version.id)
    return Streamed(_pieces(stream, span), status, headers)


def _wanted(asked: Asked) -> FileVersion:
    if "file_id" in asked.path:
        return asked.session.file(asked.path["file_id"])
    digest = asked.session.digest(asked.path["digest"])
    return next(asked.session.find(digest=digest, all_versions=True, limit=1))


def _names(header: str, etag: str, *, is_strong: bool = False) -> bool:
    """Whether a list of entity tags has this one, by a comparison of RFC 9110."""
    listed = [each.strip().removeprefix("" if is_strong else "W/") for each in header.split(",")]
    return "*" in listed or etag in listed


def read_range(header: str, size: int) -> range | None:
    """Return the bytes that a Range header asks for; none if there are none such.

    None if there is no header, or one that a server may ignore: of several ranges, or malformed
    (RFC 9110, section 14.2).
    """
    found = _RANGE.fullmatch(header.strip())
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        return range(max(size - int(found[2]), 0), size)
    first = int(found[1])
    last = min(int(found[2]), size - 1) if found[2] else size - 1
    if found[2] and int(found[2]) < first:
        return None
    return range(first, last + 1)


_RANGE: Final = re.compile(r"bytes=[ \t]*(\d{0,18})-(\d{0,18})", re.ASCII)


def _pieces(stream: BinaryIO, span: range) -> Generator[bytes]:
    with stream:
        stream.seek(span.start)
        left = len(span)
        while left:
            piece = stream.read(min(left, PIECE))
            left -= len(piece)
            yield piece
