"""A content-addressed blob store: blobs in packs, on any backend, without SQL or sessions."""

from cas.digest import Digest
from cas.errors import CasError
from cas.store import BlobStore
from cas.urls import open_backend

__all__ = ["BlobStore", "CasError", "Digest", "__version__", "open_backend"]

__version__: str


def __getattr__(name: str) -> str:
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version  # slow, and rarely needed

    return version("runcas")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
