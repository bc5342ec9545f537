"""Backends and caches by URL or path. Only this module knows the concrete backends."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from cas.backends.local import LocalBackend
from cas.backends.memory import MemoryBackend

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from cas.backend import Backend
    from cas.cache.cache import PackCache

__all__ = ["STORAGE_WAIT_S", "open_backend", "open_cache"]

STORAGE_WAIT_S: Final = 60.0
"""Seconds that an outage of a service may take."""


def open_backend(
    url: str | Path,
    *,
    storage_options: Mapping[str, object] | None = None,
    wait: float = STORAGE_WAIT_S,
) -> Backend:
    """Return the backend that `url` names. This reads and writes nothing.

    Parameters
    ----------
    url
        A path or ``file:`` URL of a local directory. ``memory:`` for a backend that loses its
        objects when it is closed. Or the URL of any filesystem of fsspec, such as
        ``s3://bucket/prefix``, ``gs://``, ``az://``, ``sftp://`` or ``memory://name``.
    storage_options
        Options for fsspec's filesystem, as in ``{"endpoint_url": "https://…"}``. Credentials need
        not be here: the client of each service finds them in its usual places.
    wait
        Seconds that calls go on trying while remote storage is down.

    Raises
    ------
    ValueError
        When no backend is known for `url`, a package is missing, or a directory gets options.
    """
    local, remote = _split(url)
    if remote is not None:
        from cas.backends.fsspec import ObjectStoreBackend
        from cas.backends.retrying import Retrying

        return ObjectStoreBackend(remote, storage_options, retrying=Retrying(deadline=wait))
    if storage_options:
        raise ValueError(f"storage_options are for remote storage, and {str(url)!r} is not")
    return MemoryBackend() if local is None else LocalBackend(local)


def open_cache(
    url: str | Path, root: str | os.PathLike[str], *, limit: int | None = None
) -> PackCache | None:
    """Return a cache for the backend that `url` names, or None if that is not remote.

    Parameters
    ----------
    root
        Directory of the cache. It is created if it does not exist.
    limit
        Largest size in bytes; None for `cas.cache.cache.DEFAULT_CACHE_SIZE`.

    Raises
    ------
    CacheUnavailableError
        When the directory can't be written to, or contains other files.
    """
    _, remote = _split(url)
    if remote is None:
        return None
    from cas.cache.cache import DEFAULT_CACHE_SIZE, PackCache

    return PackCache(root, limit=DEFAULT_CACHE_SIZE if limit is None else limit)


def _split(url: str | Path) -> tuple[str | Path | None, str | None]:
    """Return a local path or None, and a remote URL or None. Both are None for ``memory:``."""
    protocol, separator, place = str(url).partition("://")
    protocol = protocol.lower()
    if isinstance(url, Path) or not separator:
        return (None if url == "memory:" else url), None
    if protocol in ("file", "local"):
        return unquote(urlsplit(url).path), None
    return None, (url if place or protocol != "memory" else None)
