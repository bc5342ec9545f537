"""The open stores of a process, which its filesystems share."""

from __future__ import annotations

import atexit
import os
import threading
from typing import TYPE_CHECKING, Any, Final

import index
from cas.redaction import without_secrets

if TYPE_CHECKING:
    from collections.abc import Mapping

    from index import ArtifactStore

__all__ = ["shared_store"]

_stores: Final[dict[tuple[int, str], ArtifactStore]] = {}
"""By process, because a store does not survive a fork, and by how they are opened."""

_opening: Final = threading.RLock()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_opening.acquire,
        after_in_parent=_opening.release,
        after_in_child=_opening.release,
    )


def shared_store(root: str | None, options: Mapping[str, Any]) -> ArtifactStore:
    """Return the store that this process has open; open it until the process ends if it has none.

    Without a root and a place of the index it is the one that `index.open` finds.
    """
    place = root or (None if "index" in options else os.getcwd())  # noqa: PTH109 - for a key
    key = os.getpid(), repr((place, sorted(without_secrets(options).items())))
    with _opening:
        store = _stores.get(key)
        if store is None or not store.context.database.is_open:
            if root is None and "index" not in options:
                store = index.open(**options)
            else:
                store = index.ArtifactStore.open(root, **{"create": False, **options})
            atexit.register(store.close)
            _stores[key] = store
    return store
