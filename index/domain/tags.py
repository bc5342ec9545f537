"""Tags: names for snapshots of a run and versions of its files, and for runs of a session."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, TypeGuard

from index.domain.names import check_id
from index.domain.results import Result
from index.errors import InvalidNameError

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["NewRunTag", "NewTag", "RunTag", "Tag", "check_run_word", "check_tag", "is_tag"]

_ALLOWED: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

_NUMBER: Final = re.compile(r"v?[0-9]+", re.IGNORECASE)
"""What names a snapshot or a version by itself."""


class NewTag(NamedTuple):
    """Where a tag points from a commit on; at nothing once it is removed."""

    name: str
    snapshot: int | None = None
    path: str | None = None
    version: int | None = None
    agent: str | None = None


@dataclass(frozen=True, slots=True)
class Tag(Result):
    """A name of a snapshot, or of a version of a file."""

    session: str
    run: str
    name: str
    snapshot: int | None
    """The snapshot that it names; None if it names a version, or was removed."""
    path: str | None
    """The file of the version that it names."""
    version: int | None
    agent: str | None
    """Who said so."""
    created_at: datetime
    """When it was set, moved or removed."""


class NewRunTag(NamedTuple):
    """A move of the tag of a run, by a commit to that run."""

    name: str
    position: int
    """The number of the move: of all moves of the tag in the session, the highest counts."""
    is_removed: bool = False
    """Whether the tag names nothing from then on."""
    agent: str | None = None


@dataclass(frozen=True, slots=True)
class RunTag(Result):
    """A name of a run in its session."""

    session: str
    name: str
    run: str | None
    """The run that it names; None if it was removed, or if that run was deleted."""
    agent: str | None
    """Who said so."""
    created_at: datetime
    """When it was set, moved or removed."""


def check_tag(name: str) -> str:
    """Return the name of a tag; raise InvalidNameError if no tag can have it."""
    if not isinstance(name, str):
        raise InvalidNameError("tag", name, "it is no string")
    if _NUMBER.fullmatch(name):
        raise InvalidNameError("tag", name, "it reads as the number of a snapshot or version")
    if not _ALLOWED.fullmatch(name):
        reason = (
            "it has up to 64 letters, digits, '.', '_' and '-', and begins with one of the first"
        )
        raise InvalidNameError("tag", name, f"{reason} two")
    return name


def check_run_word(word: str) -> str:
    """Return what names a run, its id or ``@TAG``; raise InvalidNameError if nothing can."""
    return f"@{check_tag(word[1:])}" if word.startswith("@") else check_id("run", word)


def is_tag(at: object) -> TypeGuard[str]:
    """Whether a snapshot is given by its tag. The text of a number is none."""
    return isinstance(at, str) and not (at.isascii() and at.isdecimal())
