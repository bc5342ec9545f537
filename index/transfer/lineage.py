"""Keeping copies and originals together when versions move to another index.

A copy knows the id of the version that was produced, and ids are each index's own. So whatever has
one original, the original included, is a family, and a family has one id in an index: its
original's. Where the original is not there (its run was deleted, or is not synced yet) the id is
one that no row has; if the original comes later, it gets just that id.

A family is recognised in another index by its original's path, version, digest and time, which
copies by fork have too. So it is found there whichever of its members came first, and whichever is
gone by now.
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


def has_copies(source: Database, destination: Database, session: str) -> bool:
    """Whether a session has copies in one of two indexes, which is when ids must be looked for."""
    for database in (source, destination):
        with database.reading() as connection:
            if lineage.has_copies(connection, session):
                return True
    return False


class Lineage:
    """Gives versions of one run their ids in another index, within one transaction of it.

    The transaction has locked the session, so that no other one makes a family twice.
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
        """Bind it to the source's run and the destination's session."""
        self._source = source
        self._run_id = run_id
        self._destination = destination
        self._session_id = session_id
        self._has_copies = has_copies

    def place(self, rows: Sequence[VersionRow]) -> list[tuple[int, int | None]]:
        """Return the id of each row and of its original; the rows are inserted with them."""
        own = {row.id for row in rows}
        origins = {row.origin_id for row in rows if row.origin_id is not None} - own
        families = dict(self._settled(rows, origins)) if self._has_copies or origins else {}
        absent = sorted(origins - families.keys())
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

    def _settled(self, rows: Sequence[VersionRow], origins: set[int]) -> Iterator[tuple[int, int]]:
        """Yield the families of rows that the destination has, each with its id there.

        Parameters
        ----------
        origins
            Originals that are not among the rows.
        """
        # A transaction of its own, in which nothing of the destination can go wrong. What it reads
        # never changes.
        with self._source.reading() as connection:
            known = lineage.find_origins(connection, origins)
            gone = lineage.find_first_copies(connection, self._run_id, origins - known.keys())
        mine = {
            row.id: VersionKey(row.path, row.version, row.digest, row.created_at)
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
            else:  # not there itself, but perhaps awaited by its copies
                awaiting = (each.origin_id for each in there if each.origin_id not in present)
                found = next((origin for origin in awaiting if origin is not None), None)
            if found is not None:
                yield family, found


def _family_of(there: Sequence[Kin], run: str | None) -> int | None:
    """Return the id of the family that versions with one key belong to.

    Of several originals the one of `run` is meant: two runs may have been adopted with equal times.
    """
    if not there:
        return None
    chosen = next((each for each in there if each.run == run), there[0])
    return chosen.id if chosen.origin_id is None else chosen.origin_id
