"""A content-addressed blob store: blobs in packs, on any backend, without SQL or sessions."""

from cas.digest import Digest
from cas.errors import CasError
from cas.store import BlobStore
from cas.urls import open_backend

__all__ = ["BlobStore", "CasError", "Digest", "open_backend"]
