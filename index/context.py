"""The context that all handles of one open store share."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from cas.store import BlobStore
    from index.db.database import Database
    from index.domain.classification import Classifier
    from index.domain.run_state import StateCache

__all__ = ["INDEX_NAME", "StoreContext"]

INDEX_NAME: Final = "index.db"
"""The SQLite index of an embedded store, inside its directory."""


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
