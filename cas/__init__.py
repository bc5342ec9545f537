"""A content-addressed blob store: blobs in packs, on any backend, without SQL or sessions.

What opens a store is imported on first use: `cas.digest` and `cas.errors` do without.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from cas.digest import Digest
from cas.errors import CasError

if TYPE_CHECKING:
    from cas.store import BlobStore
    from cas.urls import open_backend

__all__ = ["BlobStore", "CasError", "Digest", "__version__", "open_backend"]

__version__: str

_IMPORTED_LATER: Final = {"BlobStore": "cas.store", "open_backend": "cas.urls"}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any attribute
    if name == "__version__":
        from importlib.metadata import version  # slow, and rarely needed

        return version("runcas")
    if name not in _IMPORTED_LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_IMPORTED_LATER[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
