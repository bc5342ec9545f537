"""Going on with the chain of records that a run has in storage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from index.errors import UnknownRunError, UnsettledScanError
from index.journal.entries import encode
from index.journal.history import write_history
from index.repository import runs

if TYPE_CHECKING:
    from cas.catalog import WrittenBatch
    from cas.digest import Digest
    from cas.store import BlobStore
    from index.journal.entries import Entry
    from index.repository.runs import FoundRun
    from index.requests import RunKey
    from index.services import Services

__all__ = ["find_chained", "store_entry"]

_ATTEMPTS: Final = 3
"""How often a chain is begun for a run that others keep committing to: they go on with it."""


def find_chained(services: Services, key: RunKey) -> FoundRun:
    """Return a run as it is now, with a chain that has all of it.

    Raises
    ------
    UnknownRunError
        When it isn't there.
    UnsettledScanError
        When what others do to it keeps breaking the chain.
    """
    for _ in range(_ATTEMPTS):
        with services.database.reading() as connection:
            found = runs.find_run(connection, key.session, key.run)
        if found is None:
            raise UnknownRunError(key.session, key.run)
        if found.newest_record is not None:
            return found
        write_history(services.database, services.blobs, services.clock, key)
    raise UnsettledScanError(key.run)


def store_entry(blobs: BlobStore, entry: Entry) -> tuple[WrittenBatch, Digest]:
    """Make a record durable in a small pack of its own; return what is to be recorded of it."""
    with blobs.batch() as batch:
        digest = batch.add_record(encode(entry))
        return batch.finish(), digest
