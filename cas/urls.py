"""From a URL or path to the backend it names; the one module that knows concrete backends."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from cas.local import LocalBackend
from cas.memory import MemoryBackend

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cas.backend import Backend

__all__ = ["open_backend"]


def open_backend(
    url: str | Path, *, storage_options: Mapping[str, object] | None = None
) -> Backend:
    """Return the backend that `url` names, without touching it.

    Parameters
    ----------
    url
        A path or ``file:`` URL of a local directory; ``memory:`` for one that is gone when it is
        closed; or ``s3://bucket/prefix``, ``gs://``, ``az://``, ``sftp://``, ``memory://name`` and
        whatever else fsspec speaks.
    storage_options
        For fsspec's filesystem, as in ``{"endpoint_url": "https://…"}``. Credentials need not be
        here: each service's client finds them in its usual places.

    Raises
    ------
    ValueError
        When no backend is known for it, a package is missing, or options are given to a directory.
    """
    protocol, separator, place = str(url).partition("://")
    protocol = protocol.lower()
    if isinstance(url, Path) or not separator:
        local, remote = (None if url == "memory:" else url), None
    elif protocol in ("file", "local"):
        local, remote = unquote(urlsplit(url).path), None
    else:
        local, remote = None, (url if place or protocol != "memory" else None)
    if remote is not None:
        from cas.object_store import ObjectStoreBackend

        return ObjectStoreBackend(remote, storage_options)
    if storage_options:
        raise ValueError(f"storage_options are for remote storage, and {str(url)!r} is not")
    return MemoryBackend() if local is None else LocalBackend(local)
