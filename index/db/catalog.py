"""The index as the catalog of the byte layer: which blobs exist, and where they are."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from index.db.queries import blobs
from index.db.queries.single import locate_one
from index.errors import ArtifactIndexError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from cas.catalog import Location, Placement
    from cas.digest import Digest
    from cas.packs.pack import SealedPack
    from index.db.database import Database

__all__ = ["SqlCatalog", "TransactionCatalog"]

_NOTE_WAIT_S: Final = 2.0
"""Seconds that a reader waits for writers before it reports damage without a note of it."""


class SqlCatalog:
    """A `cas.catalog.Catalog` over the index. Each call runs in its own transaction."""

    def __init__(
        self, database: Database, clock: Callable[[], datetime], *, caller: int | None = None
    ) -> None:
        self._database = database
        self._clock = clock
        self._caller = caller

    def find_known(self, digests: Collection[Digest]) -> set[Digest]:
        return self._database.read(lambda connection: blobs.find_known(connection, digests))

    def locate(self, digests: Collection[Digest]) -> Mapping[Digest, Placement]:
        if len(digests) == 1:
            (digest,) = digests
            if location := locate_one(self._database, digest):
                return {digest: location}
        return self._database.read(lambda connection: blobs.locate(connection, digests))

    def locate_entries(
        self, digests: Collection[Digest]
    ) -> tuple[dict[Digest, Location], Collection[Digest]]:
        """Return the places of blobs of one entry, and which are large; unknown ones in neither."""
        return self._database.read(lambda connection: blobs.locate_entries(connection, digests))

    def register_pack(self, pack: SealedPack) -> None:
        self._database.write(
            lambda connection: blobs.insert_pending_pack(connection, pack, self._clock()),
            is_repeatable=True,
            caller=self._caller,
        )

    def in_batch(self) -> SqlCatalog:
        return SqlCatalog(self._database, self._clock, caller=threading.get_ident())

    def note_damaged(self, digest: Digest) -> None:
        # The reader may not be allowed to write. It reports the damage in any case.
        with suppress(ArtifactIndexError), self._database.writing(lock_wait=_NOTE_WAIT_S) as db:
            blobs.note_damaged(db, digest, self._clock())


class TransactionCatalog:
    """A `cas.catalog.Catalog` over a transaction that its owner begins and ends.

    New packs are noted in this object, not in the index, because another thread publishes them and
    must not use the transaction's connection. The owner of the transaction writes their rows.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.packs: list[SealedPack] = []

    def find_known(self, digests: Collection[Digest]) -> set[Digest]:
        return blobs.find_known(self._connection, digests)

    def locate(self, digests: Collection[Digest]) -> Mapping[Digest, Placement]:
        return blobs.locate(self._connection, digests)

    def register_pack(self, pack: SealedPack) -> None:
        self.packs.append(pack)
