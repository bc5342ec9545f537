"""The open stores of a process, which its filesystems share."""

from __future__ import annotations

import atexit
import os
import threading
from typing import TYPE_CHECKING, Final

from cas.digest import Digest
from cas.redaction import without_secrets
from index.api.location import StoreConfig, open_found

if TYPE_CHECKING:
    from pathlib import Path

    from index import ArtifactStore

__all__ = ["options_of", "shared_store"]

_stores: Final[dict[tuple[int, str, str], ArtifactStore]] = {}
"""By process, because a store does not survive a fork; by where they are, without credentials; and
by the digest of all of that with credentials."""

_opening: Final = threading.RLock()

os.register_at_fork(
    before=_opening.acquire, after_in_parent=_opening.release, after_in_child=_opening.release
)


def shared_store(place: Path | StoreConfig, *, create: bool) -> ArtifactStore:
    """Return the store that this process has open; open it until the process ends if it has none.

    Raises StoreNotFoundError if there is none and `create` is false.
    """
    whole = shown = str(place)
    if isinstance(place, StoreConfig):
        given: dict[str, object] = {"index": str(place.index), "blobs": str(place.blobs)}
        given |= {"cache": place.cache, **place.options}
        whole, shown = repr(given), repr(without_secrets(given))
    key = os.getpid(), shown, str(Digest.of(whole.encode(errors="replace")))
    with _opening:
        store = _stores.get(key)
        if whole == shown:  # whose credentials are found elsewhere, as those of an open store
            same = (found for at, found in _stores.items() if at[:2] == key[:2])
            store = store or next(same, None)
        if store is None or not store.context.database.is_open:
            store = _stores[key] = open_found(place, create=create)
            atexit.register(store.close)
    return store


def options_of(place: Path | StoreConfig) -> dict[str, object]:
    """Return the options of a filesystem over a store, without credentials."""
    if not isinstance(place, StoreConfig):
        return {"store": str(place)}
    names = ("index", "blobs", "cache", "cache_size")
    given = {name: getattr(place, name) for name in names}
    shown = {
        name: value if name == "cache_size" else str(value)
        for name, value in given.items()
        if value is not None
    }
    return without_secrets({**shown, **place.options})
