"""Drops: past versions whose bytes are let go, while the version itself stays on record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from cas.digest import Digest
from index.errors import BytesNotKeptError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

__all__ = ["Drop", "content_of", "dropped_as", "how_dropped", "kept_no_bytes"]


class Drop(NamedTuple):
    """A version whose bytes a commit lets go."""

    path: str
    version: int
    reason: str


def dropped_as(digest: Digest, drop: Drop, agent: str | None, now: datetime) -> dict[str, Any]:
    """Return what the version says of its bytes from now on, as JSON types."""
    return {
        "digest": str(digest),
        "at": now.isoformat(),
        "reason": drop.reason,
        "agent": agent,
    }


def content_of(digest: Digest | None, dropped: Mapping[str, Any] | None) -> Digest | None:
    """Return the digest that a version has or had; None if it never had one here."""
    return digest if dropped is None else Digest.parse(dropped["digest"])


def how_dropped(dropped: Mapping[str, Any]) -> str:
    """Return when and why bytes were dropped; anonymised documents leave out why."""
    reason = dropped["reason"]
    return f"dropped on {dropped['at'][:10]}" + ("" if reason is None else f": {reason}")


def kept_no_bytes(path: str, version: int, dropped: Mapping[str, Any] | None) -> BytesNotKeptError:
    """Return the error for a version without bytes, which says what became of them."""
    return BytesNotKeptError(path, version, None if dropped is None else how_dropped(dropped))
