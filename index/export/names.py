"""Names of runs, files and activities, as documents of other formats write them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from cas.redaction import without_secrets

if TYPE_CHECKING:
    from cas.digest import Digest

__all__ = [
    "bytes_iri",
    "escaped",
    "file_iri",
    "fits",
    "iri",
    "is_iri",
    "is_text",
    "run_iri",
    "shown",
]

_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE | re.ASCII)

_NO_TEXT: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
"""What JSON, XML or people can't read: control characters, undecodable bytes, noncharacters."""

_LONGEST: Final = 255
"""Bytes of a name on nearly all filesystems."""

_LONGEST_PATH: Final = 768
"""Bytes of a path below the directory of an export. With that directory, macOS allows 1,024."""

_IN_IRIS: Final = "%:/?#[]@!$&'()*+,;="
"""What an IRI of somebody else keeps: the reserved characters of RFC 3986, section 2.2."""

_BY_DIGEST: Final = "sha"
"""What `cas://` URLs of bytes have in place of a session."""


def escaped(name: str, *, kept: str = "") -> str:
    """Return a name as a part of an IRI, with every byte outside of ASCII percent-encoded.

    No name is lost: bytes that are not UTF-8 are written as such, and a dot at the end, which
    PROV-N does not allow there, is written ``%2E``.
    """
    text = quote(name, safe=kept, errors="surrogateescape")
    return f"{text[:-1]}%2E" if text.endswith(".") else text


def run_iri(session: str, run: str, *, version: int | None = None) -> str:
    """Return the `cas://` URL of a run, or what the URL of a version in it begins with."""
    first = f"%73{_BY_DIGEST[1:]}" if session == _BY_DIGEST else escaped(session)
    return f"cas://{first}/{escaped(run)}" + ("" if version is None else f"@v{version}")


def file_iri(session: str, run: str, path: str, version: int | None = None) -> str:
    """Return the `cas://` URL of a version of a file, or of the file as it is now."""
    return f"{run_iri(session, run, version=version)}/{escaped(path, kept='/')}"


def bytes_iri(digest: Digest | str) -> str:
    """Return the `cas://` URL of bytes."""
    return f"cas://{_BY_DIGEST}/{digest}"


def iri(uri: str) -> str:
    """Return an address that somebody gave, as an IRI: escaped, and without passwords."""
    return quote(str(without_secrets({"uri": uri})["uri"]), safe=_IN_IRIS, errors="surrogateescape")


def is_iri(uri: str) -> bool:
    """Whether an address is absolute."""
    return _SCHEME.match(uri) is not None


def is_text(name: str) -> bool:
    """Whether a name is UTF-8 without control characters, so that any format can hold it."""
    return _NO_TEXT.search(name) is None


def fits(path: str) -> bool:
    """Whether a path is short enough for a file below any directory."""
    name = path.encode("utf-8", "surrogateescape")
    return len(name) <= _LONGEST_PATH and max(map(len, name.split(b"/"))) <= _LONGEST


def shown(name: str) -> str:
    """Return a text for people: what no format can hold is percent-encoded."""
    return _NO_TEXT.sub(_percent_encoded, name)


def _percent_encoded(found: re.Match[str]) -> str:
    is_byte = "\udc80" <= found[0] <= "\udcff"  # otherwise a surrogate from JSON
    return quote(found[0], safe="", errors="surrogateescape" if is_byte else "surrogatepass")
