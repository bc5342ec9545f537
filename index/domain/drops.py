"""Drops: past versions whose bytes are let go, while the version itself stays on record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from cas.digest import Digest
from index.errors import BytesNotKeptError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from index.domain.snapshots import FileVersion

__all__ = ["Drop", "content_of", "dropped_as", "kept_no_bytes"]


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


def kept_no_bytes(version: FileVersion) -> BytesNotKeptError:
    """Return the error for a version without bytes, which says what became of them."""
    what = version.dropped
    reason = None if what is None else f"dropped on {what['at'][:10]}: {what['reason']}"
    return BytesNotKeptError(version.path, version.version, reason)
