"""From a URL or path to the backend it names; the one module that knows concrete backends."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from cas.local import LocalBackend
from cas.memory import MemoryBackend

if TYPE_CHECKING:
    from cas.backend import Backend

__all__ = ["open_backend"]


def open_backend(url: str | Path) -> Backend:
    """Return the backend that `url` names, without touching it.

    Parameters
    ----------
    url
        A path or ``file:`` URL of a local directory, or ``memory:``.

    Raises
    ------
    ValueError
        When no backend is known for it.
    """
    if isinstance(url, Path) or "://" not in str(url):
        if url == "memory:":
            return MemoryBackend()
        return LocalBackend(url)
    parts = urlsplit(str(url))
    if parts.scheme == "file":
        return LocalBackend(unquote(parts.path))
    if parts.scheme == "memory":
        return MemoryBackend()
    raise ValueError(
        f"no storage is known for {parts.scheme!r} URLs; give a local directory or a file:// URL"
    )
