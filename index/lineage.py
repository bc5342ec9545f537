"""Keeping copies and originals together when versions move to another index.

A copy knows the id of the version that was produced, and ids are each index's own. So whatever has
one original, the original included, is a family, and a family has one id in an index: its
original's. Where the original is not there (its run was deleted, or is not synced yet) the id is
one that no row has; if the original comes later, it gets just that id.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from index import tables
from index.bulk import allocate_ids
from index.repository import lineage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy.engine import Connection

    from index.database import Database
    from index.repository.transfer import VersionRow

__all__ = ["Lineage"]


class Lineage:
    """Gives versions of one run their ids in another index, within one transaction of it.

    The transaction has locked the session, so that no other one makes a family twice.
    """

    def __init__(
        self,
        source: Database,
        destination: Connection,
        session: str,
        session_id: int,
        run_id: int,
    ) -> None:
        self._source = source
        self._destination = destination
        self._session_id = session_id
        with source.reading() as connection:
            self._has_copies = lineage.has_copies(connection, session)
        self._others = (
            lineage.other_runs(destination, session_id, run_id) if self._has_copies else set()
        )

    def place(self, rows: Sequence[VersionRow]) -> list[tuple[int, int | None]]:
        """Return the id of each row and of its original; the rows are inserted with them."""
        families = dict(self._settled(rows)) if self._has_copies else {}
        own = {row.id for row in rows}
        # What is copied but neither here nor there; in the order of age that the source has.
        absent = sorted({row.origin_id for row in rows if row.origin_id} - own - families.keys())
        fresh = sum(row.origin_id is not None or row.id not in families for row in rows)
        # In one go: SQLite remembers an id as used once a row has it or a higher one.
        ids = iter(allocate_ids(self._destination, tables.files, len(absent) + fresh))
        families.update(zip(absent, ids, strict=False))
        placed: list[tuple[int, int | None]] = []
        for row in rows:
            if row.origin_id is not None:
                placed.append((next(ids), families[row.origin_id]))
                continue
            if row.id not in families:
                families[row.id] = next(ids)
            placed.append((families[row.id], None))
        return placed

    def _settled(self, rows: Sequence[VersionRow]) -> Iterator[tuple[int, int]]:
        """Yield the families of rows that the destination has, each with its id there."""
        own = {row.id for row in rows}
        origins = {row.origin_id for row in rows if row.origin_id} - own
        # Transactions of their own, in which nothing of the destination can go wrong. What they
        # read never changes.
        with self._source.reading() as connection:
            names = lineage.find_names(connection, origins)
        there = lineage.find_ids(self._destination, self._session_id, names.values())
        found = {family: there[name][0] for family, name in names.items() if name in there}
        yield from found.items()
        if not self._others:
            return
        wanted = {row.origin_id or row.id for row in rows} - found.keys()
        with self._source.reading() as connection:
            copies = [
                (family, name)
                for family, name in lineage.find_copies(connection, wanted)
                if name.run in self._others
            ]
        there = lineage.find_ids(self._destination, self._session_id, (name for _, name in copies))
        for family, name in copies:
            origin = there.get(name, (0, None))[1]
            if origin is not None:
                yield family, origin
