"""Addresses: what a `cas://` URL names, and the one rule by which names are written in it.

    cas://SESSION/RUN/PATH             the present version of a file, or a directory
    cas://SESSION/RUN@SNAPSHOT/PATH    as it was at a snapshot, given by its number or tag
    cas://SESSION/RUN@vVERSION/PATH    a version of a file, given by its number
    cas://SESSION/@TAG/PATH            a run by its tag, with or without the above after it
    cas://sha/DIGEST                   bytes by their digest, 64 hexadecimal characters

What narrows a run stands before the path, so that a URL ends as the file's name does: programs
tell formats by that.

The rule: in every name, each of ``% ? * [ ]`` is written as ``%`` and two hexadecimal digits, and
so are both colons of ``::``, bytes that are not UTF-8, and ``@`` in an id. Everything else stands
for itself. The session ``sha`` is written ``%73ha``. A character of the rule that has no meaning
where it stands may also be written plainly.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import unquote_to_bytes

from cas.digest import Digest

__all__ = ["Address", "plain", "quoted"]

_IN_PATHS: Final = re.compile(r"[%?*\[\]]|::|[\udc80-\udcff]")
_IN_IDS: Final = re.compile(rf"{_IN_PATHS.pattern}|@")
_BY_DIGEST: Final = "sha"
_SELECTOR: Final = re.compile(r"(v?)(\d{1,18})", re.ASCII)
_TAG: Final = re.compile(r"(?!v?\d+$)[a-z0-9][a-z0-9._-]*", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class Address:
    """What a URL names. An empty part and those after it are not given."""

    session: str = ""
    run: str = ""
    path: str = ""
    snapshot: int | str | None = None
    version: int | None = None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return what the part of a URL after ``cas://`` names. Raises ValueError."""
        first, _, rest = text.strip("/").partition("/")
        if first == _BY_DIGEST:
            return cls(digest=Digest.parse(rest)) if rest else cls()
        named, _, path = rest.partition("/")
        tagged = "@" if named.startswith("@") else ""
        run, separator, selector = named.removeprefix(tagged).partition("@")
        if tagged and not _TAG.fullmatch(run):
            raise ValueError(
                f"cas://{text} has no tag after '@'; write @TAG for the run that a tag names"
            )
        found = _SELECTOR.fullmatch(selector)
        if separator and not (run and (found or _TAG.fullmatch(selector))):
            raise ValueError(
                f"cas://{text} names no snapshot after '@'; write RUN@4 or RUN@TAG for a snapshot, "
                "RUN@v2 for a version, and %40 for an '@' in the id of a run"
            )
        version: int | None = None
        snapshot: int | str | None = selector if separator and not found else None
        if found is not None and found[1]:
            version = int(found[2])
        elif found is not None:
            snapshot = int(found[2])
        return cls(plain(first), tagged + plain(run), plain(path), snapshot, version)

    @property
    def is_read_only(self) -> bool:
        """Whether it names something of the past, or bytes by their digest."""
        return (self.snapshot, self.version, self.digest) != (None, None, None)

    def __str__(self) -> str:
        if self.digest is not None:
            return f"{_BY_DIGEST}/{self.digest}"
        return f"{self.head}/{quoted(self.path)}" if self.path else self.head

    @property
    def head(self) -> str:
        """What stands before the path: the run, as of a snapshot or version, or the session."""
        selector = "" if self.snapshot is None else f"@{self.snapshot}"
        if self.version is not None:
            selector = f"@v{self.version}"
        session = "%73ha" if self.session == _BY_DIGEST else quoted(self.session, _IN_IDS)
        tagged = "@" if self.run.startswith("@") else ""  # as no id of a run does
        run = f"{tagged}{quoted(self.run.removeprefix(tagged), _IN_IDS)}{selector}"
        return f"{session}/{run}" if run else session


def quoted(name: str, characters: re.Pattern[str] = _IN_PATHS) -> str:
    """Return a path, or an id, as it is written in a URL."""
    return characters.sub(_escaped, name)


def _escaped(found: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in found[0].encode("utf-8", "surrogateescape"))


def plain(text: str) -> str:
    """Return a path, or an id, of a URL as it is."""
    if "%" not in text:
        return text
    return unquote_to_bytes(text.encode("utf-8", "surrogateescape")).decode(
        "utf-8", "surrogateescape"
    )
