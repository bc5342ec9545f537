"""The blob store: a backend, its settings, and a catalog of its blobs.

    <root>/cas.json              written once, by the first process
    <root>/index.json            names the index that the storage belongs to
    <root>/packs/ab/<name>.pack  see `cas.packs.pack`

`BlobStore` writes batches and reads blobs. It can't delete blobs: only garbage collection does. The
`Catalog` decides which digests exist. The caller keeps both consistent: it first calls
`BatchWriter.finish`, and then records the result in one transaction.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from cas.chunker import CHUNK_SIZE, CHUNK_SIZES, CHUNKER, Chunker
from cas.errors import ObjectNotFoundError, UnsupportedFormatError
from cas.reader import BlobReader
from cas.writer import BatchWriter

if TYPE_CHECKING:
    from cas.backend import Backend
    from cas.cache.cache import PackCache
    from cas.catalog import Catalog, StoreCatalog
    from cas.digest import Digest

__all__ = [
    "FORMAT_VERSION",
    "BlobStore",
    "StoreSettings",
    "claim_storage",
    "find_owner",
    "open_settings",
]

FORMAT_VERSION: Final = 1

_SETTINGS_NAME: Final = "cas.json"
_CLAIM_NAME: Final = "index.json"
_NUMBERS: Final = {"format_version", "chunk_size"}


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """The settings of a store in ``cas.json``. They are fixed when the store is created."""

    format_version: int
    hash: str
    chunker: str
    chunk_size: int
    """Bytes; see `cas.chunker`."""
    store_id: str
    """A UUID. It reveals an index that is used with the wrong storage."""
    created: str
    """ISO 8601, UTC."""


def open_settings(backend: Backend, *, create: bool) -> StoreSettings:
    """Read a store's settings, or create them. Concurrent creators all get those of the first one.

    Raises
    ------
    ObjectNotFoundError
        When there are no settings and `create` is false.
    UnsupportedFormatError
        When a newer release wrote them, or they are not valid.
    """
    try:
        return _read(backend)
    except ObjectNotFoundError:
        if not create:
            raise
    settings = StoreSettings(
        format_version=FORMAT_VERSION,
        hash="blake3-256",
        chunker=CHUNKER,
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
        known = (settings.hash, settings.chunker) == ("blake3-256", CHUNKER)
        fits = settings.chunk_size in CHUNK_SIZES and all(
            type(value) is (int if name in _NUMBERS else str)
            for name, value in asdict(settings).items()
        )
    except (KeyError, TypeError):
        settings, known, fits = None, False, False
    if settings is None or not known or not fits:
        raise UnsupportedFormatError(subject, text[:200], f"BLAKE3, and chunks that {CHUNKER} cuts")
    return settings


def find_owner(backend: Backend) -> str | None:
    """Return the id of the index that storage belongs to; None if it belongs to none.

    To an index, the packs of another one are orphans, which it may remove.
    """
    try:
        text = backend.read(_CLAIM_NAME)
    except ObjectNotFoundError:
        return None
    try:
        return str(json.loads(text)["index_id"])
    except (ValueError, KeyError, TypeError, RecursionError):
        subject = f"{_CLAIM_NAME} of the store at {backend.url}"
        raise UnsupportedFormatError(subject, text[:40], "the id of an index") from None


def claim_storage(backend: Backend, index_id: str, *, replace: bool = False) -> bool:
    """Claim storage for an index, unless another has; return whether it belongs to `index_id`.

    Of several that claim it at once, one gets it.

    Parameters
    ----------
    replace
        Take the storage from the index that had it. That one was lost, or is refused from now on.
    """
    if replace:
        backend.delete(_CLAIM_NAME)
    data = (json.dumps({"index_id": index_id}) + "\n").encode()
    return backend.create(_CLAIM_NAME, data) or find_owner(backend) == index_id


class BlobStore(BlobReader):
    """A store of blobs by digest, on any backend. Safe for use by several threads."""

    def __init__(
        self,
        backend: Backend,
        catalog: StoreCatalog,
        settings: StoreSettings,
        cache: PackCache | None = None,
    ) -> None:
        super().__init__(backend, catalog, cache)
        self._own = catalog
        self.settings: Final = settings
        self.chunker: Final = Chunker(settings.chunk_size)

    @property
    def url(self) -> str:
        """Location of the bytes, for display."""
        return self._backend.url

    @property
    def cache(self) -> PackCache | None:
        """The cache of remote packs, if there is one."""
        return self._cache

    @property
    def backend(self) -> Backend:
        """The backend of the packs, for maintenance. Only maintenance may delete."""
        return self._backend

    def note_damaged(self, digest: Digest) -> None:
        """Note that a reader found a blob missing or damaged, as far as that can be noted."""
        self._own.note_damaged(digest)

    def batch(self, catalog: Catalog | None = None) -> BatchWriter:
        """Begin a batch of writes, as a context manager.

        Parameters
        ----------
        catalog
            The catalog to use in place of the store's own. It must describe the same storage.
        """
        if catalog is None:
            catalog = self._own.in_batch()
        return BatchWriter(self._backend, catalog, self.chunker)

    def close(self) -> None:
        """Release open resources of the backend; idempotent."""
        self._backend.close()
