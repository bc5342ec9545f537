"""What every error of the index derives from."""

from __future__ import annotations

__all__ = ["ArtifactIndexError"]


class ArtifactIndexError(Exception):
    """Base of every error that `index` raises on purpose."""
