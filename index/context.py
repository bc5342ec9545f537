"""The context that all handles of one open store share."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from index.db.database import sqlite_url

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import URL

    from cas.store import BlobStore
    from index.db.database import Database
    from index.domain.classification import Classifier
    from index.domain.run_state import StateCache

__all__ = ["INDEX_NAME", "StoreContext", "resolve_location", "utc_now"]

INDEX_NAME: Final = "index.db"
"""The SQLite index of an embedded store, inside its directory."""


def utc_now() -> datetime:
    """Return the present time in UTC: the default clock of a store."""
    return datetime.now(UTC)


def resolve_location(
    root: str | os.PathLike[str] | None,
    index: str | URL | None,
    blobs: str | os.PathLike[str] | None,
) -> tuple[str | URL, str | Path]:
    """Return the URL of the index and the place of the blobs. See `ArtifactStore.open`.

    Raises
    ------
    ValueError
        Unless either `root` alone is given, or `index` and `blobs`.
    """
    if root is not None:
        if index is not None or blobs is not None:
            raise ValueError("give either root, or index and blobs")
        path = Path(root)
        return sqlite_url(path.absolute() / INDEX_NAME), path
    if index is None or blobs is None:
        raise ValueError("give either root, or both index and blobs")
    return index, blobs if isinstance(blobs, str) else Path(blobs)


@dataclass(frozen=True, slots=True)
class StoreContext:
    """The database, blob store and settings of one open store.

    Handles of sessions and runs hold their ids and one of these.
    """

    database: Database
    blobs: BlobStore
    states: StateCache
    clock: Callable[[], datetime]
    classifier: Classifier
    own_paths: Sequence[str] = ()
    """Local paths that belong to the store. Scans never track them."""

    def owns(self, path: str) -> bool:
        """Whether a path belongs to the store or lies inside it."""
        real = os.path.realpath(path)
        stores = [os.path.realpath(own) for own in self.own_paths]
        return any(real == store or real.startswith(f"{store}/") for store in stores)
