"""The blob store: a backend, its settings, and a catalog that knows what is in it.

    <root>/cas.json              written once, by whichever process is first
    <root>/packs/ab/<name>.pack  see `cas.packs.pack`

`BlobStore` writes batches and reads blobs. It has no way to remove one: only garbage collection
removes bytes. It decides nothing about which digests exist; that is the `Catalog`'s part, and the
order that keeps both in step is the caller's: `BatchWriter.finish` first, then one transaction that
records what it returned.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from cas.errors import ObjectNotFoundError, UnsupportedFormatError
from cas.packs.pack import MAX_ENTRY_SIZE
from cas.reader import BlobReader
from cas.writer import BatchWriter

if TYPE_CHECKING:
    from cas.backend import Backend
    from cas.cache.cache import PackCache
    from cas.catalog import Catalog

__all__ = ["CHUNK_SIZE", "FORMAT_VERSION", "BlobStore", "StoreSettings", "open_settings"]

FORMAT_VERSION: Final = 1

CHUNK_SIZE: Final = 1 << 20
"""Bytes of a chunk of a large blob, and the largest blob kept in one entry.

On fifty steps that append 1 MiB to a file of 50 MiB, chunks of 1 MiB stored 114 MB, of 64 KiB
107 MB (sixteen times the rows) and of 4 MiB 191 MB. Source: docs/adr/0017-fixed-chunks.md.
"""

_SETTINGS_NAME: Final = "cas.json"
_NUMBERS: Final = {"format_version", "chunk_size"}


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """What is fixed for a store when it is created, as kept in ``cas.json``."""

    format_version: int
    hash: str
    chunker: str
    chunk_size: int
    """Bytes."""
    store_id: str
    """A UUID: tells an index that is paired with the wrong storage."""
    created: str
    """ISO 8601, UTC."""


def open_settings(backend: Backend, *, create: bool) -> StoreSettings:
    """Read a store's settings, or create them; of several creators all get the first one's.

    Raises
    ------
    ObjectNotFoundError
        When there are none and `create` is false.
    UnsupportedFormatError
        When a newer release wrote them, or they are not settings at all.
    """
    try:
        return _read(backend)
    except ObjectNotFoundError:
        if not create:
            raise
    settings = StoreSettings(
        format_version=FORMAT_VERSION,
        hash="blake3-256",
        chunker="fixed",
        chunk_size=CHUNK_SIZE,
        store_id=str(uuid.uuid4()),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    text = json.dumps(asdict(settings), indent=2) + "\n"
    if backend.create(_SETTINGS_NAME, text.encode()):
        return settings
    return _read(backend)


def _read(backend: Backend) -> StoreSettings:
    text = backend.read(_SETTINGS_NAME)
    subject = f"the store at {backend.url}"
    try:
        found = json.loads(text)
        version = found["format_version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UnsupportedFormatError(subject, text[:40], FORMAT_VERSION) from None
    if version != FORMAT_VERSION:
        raise UnsupportedFormatError(subject, version, FORMAT_VERSION)
    try:
        settings = StoreSettings(**{name: found[name] for name in StoreSettings.__slots__})
        known = (settings.hash, settings.chunker) == ("blake3-256", "fixed")
        fits = 0 < settings.chunk_size <= MAX_ENTRY_SIZE and all(
            type(value) is (int if name in _NUMBERS else str)
            for name, value in asdict(settings).items()
        )
    except (KeyError, TypeError):
        settings, known, fits = None, False, False
    if settings is None or not known or not fits:
        raise UnsupportedFormatError(subject, text[:200], "BLAKE3 and fixed chunks")
    return settings


class BlobStore(BlobReader):
    """Blobs by digest, over any backend. Safe for use by several threads."""

    def __init__(
        self,
        backend: Backend,
        catalog: Catalog,
        settings: StoreSettings,
        cache: PackCache | None = None,
    ) -> None:
        super().__init__(backend, catalog, cache)
        self.settings: Final = settings

    @property
    def chunk_size(self) -> int:
        """Bytes of a chunk, and of the largest blob that `BatchWriter.add` takes."""
        return self.settings.chunk_size

    @property
    def url(self) -> str:
        """Where the bytes are, for people."""
        return self._backend.url

    @property
    def cache(self) -> PackCache | None:
        """Where parts of remote packs are kept, if anywhere."""
        return self._cache

    @property
    def backend(self) -> Backend:
        """What the packs are kept in, for maintenance; everyone else has no way to delete."""
        return self._backend

    def batch(self, catalog: Catalog | None = None) -> BatchWriter:
        """Begin a batch of writes, as a context manager.

        Parameters
        ----------
        catalog
            To ask in place of the store's own; it must know the same storage.
        """
        return BatchWriter(self._backend, catalog or self._catalog, chunk_size=self.chunk_size)

    def close(self) -> None:
        """Release what the backend holds open; idempotent."""
        self._backend.close()
