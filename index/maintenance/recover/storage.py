"""Storage made of the records and contents of a run, from which `recover` makes an index."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cas.catalog import MemoryCatalog
from cas.store import BlobStore, open_settings
from cas.urls import open_backend
from index.domain.names import check_local

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from cas.digest import Buffer, Digest

__all__ = ["rebuild_storage"]


def rebuild_storage(
    directory: str | os.PathLike[str],
    records: Iterable[bytes],
    contents: Iterable[Iterable[Buffer]],
) -> list[Digest]:
    """Make the storage of a store, without an index; return the digests of the contents.

    On return all is durable, and `recover` makes the index. It reports the file versions whose
    content was not among `contents`. Records without a place in a history have no effect.

    Parameters
    ----------
    directory
        A new or empty directory.
    records
        Those of `Run.history_records`.
    contents
        Each in pieces of any size, which are read to the end before the next content is taken.

    Raises
    ------
    BackendError
        When the storage can't be written.
    """
    backend = open_backend(Path(check_local(directory)))
    try:
        blobs = BlobStore(backend, MemoryCatalog(), open_settings(backend, create=True))
        with blobs.batch() as batch:
            digests = [batch.add_pieces(pieces)[0] for pieces in contents]
            for record in records:
                batch.add_record(record)
            batch.finish()
    finally:
        backend.close()
    return digests
