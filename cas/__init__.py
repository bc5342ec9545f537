"""Bytes by digest: blobs in packs, over any backend. Knows no SQL and no sessions."""

from cas.digest import Digest
from cas.errors import CasError
from cas.store import BlobStore
from cas.urls import open_backend

__all__ = ["BlobStore", "CasError", "Digest", "open_backend"]
