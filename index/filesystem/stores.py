"""The open stores of a process, which its filesystems share."""

from __future__ import annotations

import atexit
import os
import threading
from typing import TYPE_CHECKING, Final

from cas.redaction import without_secrets
from index.api.location import StoreConfig, open_found

if TYPE_CHECKING:
    from pathlib import Path

    from index import ArtifactStore

__all__ = ["shared_store"]

_stores: Final[dict[tuple[int, str], ArtifactStore]] = {}
"""By process, because a store does not survive a fork, and by where they are."""

_opening: Final = threading.RLock()

os.register_at_fork(
    before=_opening.acquire, after_in_parent=_opening.release, after_in_child=_opening.release
)


def shared_store(place: Path | StoreConfig, *, create: bool) -> ArtifactStore:
    """Return the store that this process has open; open it until the process ends if it has none.

    Raises StoreNotFoundError if there is none and `create` is false.
    """
    key = os.getpid(), str(place)
    if isinstance(place, StoreConfig):
        shown = without_secrets({"index": str(place.index), "blobs": str(place.blobs)})
        key = os.getpid(), repr((shown, place.cache, without_secrets(place.options)))
    store = _stores.get(key)
    if store is None or not store.context.database.is_open:
        with _opening:
            store = _stores.get(key)
            if store is None or not store.context.database.is_open:
                store = _stores[key] = open_found(place, create=create)
                atexit.register(store.close)
    return store
