"""Lineage across indexes: keep copies and their originals together when versions are synced.

A copy stores the id of its original, but each index has its own ids. So an original and all its
copies form a family, and a family has one id in each index: that of the original. If the original
is missing (its run is deleted, or not synced yet), no row has that id. If the original comes later,
it gets exactly that id.

A family is recognised in another index by its original's path, version, digest and time, which
copies by fork share. So it is found there no matter which member came first, or which is deleted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from index.db import tables
from index.db.bulk import allocate_ids
from index.db.queries import lineage
from index.db.queries.lineage import VersionKey

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy.engine import Connection

    from index.db.database import Database
    from index.db.queries.lineage import Kin
    from index.db.queries.transfer import VersionRow

__all__ = ["Lineage", "has_copies"]


def has_copies(*sessions: tuple[Database, str]) -> bool:
    """Whether a session, given for each index, has copies. Only then must ids be looked up."""
    for database, session in sessions:
        with database.reading() as connection:
            if lineage.has_copies(connection, session):
                return True
    return False


class Lineage:
    """Gives versions of a run their ids in another index, within one transaction there.

    The transaction has locked the session, so that no other transaction makes the same family.
    """

    def __init__(
        self,
        source: Database,
        run_id: int,
        destination: Connection,
        session_id: int,
        *,
        has_copies: bool,
    ) -> None:
        """Bind to the run of the source and the session of the destination."""
        self._source = source
        self._run_id = run_id
        self._destination = destination
        self._session_id = session_id
        self._has_copies = has_copies

    def place(self, rows: Sequence[VersionRow]) -> list[tuple[int, int | None]]:
        """Return the id of each row and of its original, to insert the rows with."""
        origins = {row.origin_id for row in rows if row.origin_id is not None}
        if not (origins or self._has_copies):
            return [(fresh, None) for fresh in self._allocate(len(rows))]
        origins -= {row.id for row in rows}
        families = dict(self._settled(rows, origins))
        absent = sorted(origins - families.keys())
        fresh = sum(row.origin_id is not None or row.id not in families for row in rows)
        # All at once: SQLite counts an id as used only when a row has it or a higher one.
        ids = iter(self._allocate(len(absent) + fresh))
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

    def _allocate(self, count: int) -> Sequence[int]:
        return allocate_ids(self._destination, tables.files, count)

    def _settled(self, rows: Sequence[VersionRow], origins: set[int]) -> Iterator[tuple[int, int]]:
        """Yield the families that the destination has, each with its id there.

        Parameters
        ----------
        origins
            Originals that are not among the rows.
        """
        # A separate transaction, so errors of the destination don't affect it. The rows that it
        # reads never change.
        with self._source.reading() as connection:
            known = lineage.find_origins(connection, origins)
            gone = lineage.find_first_copies(connection, self._run_id, origins - known.keys())
        mine = {
            row.id: VersionKey.of(row.path, row.version, row.digest, row.created_at, row.dropped)
            for row in rows
            if row.origin_id is None
        }
        keys = {**{family: key for family, (_, key) in known.items()}, **gone, **mine}
        kin = lineage.find_kin(self._destination, self._session_id, keys.values())
        originals = {each.origin_id for key in mine.values() for each in kin.get(key, ())}
        present = lineage.find_present(self._destination, {each for each in originals if each})
        for family, key in keys.items():
            there = kin.get(key, [])
            if family not in mine:
                found = _family_of(there, known[family][0] if family in known else None)
            else:  # the original is missing, but its copies may have its id
                awaiting = (each.origin_id for each in there if each.origin_id not in present)
                found = next((origin for origin in awaiting if origin is not None), None)
            if found is not None:
                yield family, found


def _family_of(there: Sequence[Kin], run: str | None) -> int | None:
    """Return the id of the family of versions with the same key.

    If there are several originals, the one of `run` counts: two runs may have been adopted with
    equal times.
    """
    if not there:
        return None
    chosen = next((each for each in there if each.run == run), there[0])
    return chosen.id if chosen.origin_id is None else chosen.origin_id
