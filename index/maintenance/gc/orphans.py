"""Objects below ``packs/`` that no row knows.

They are foreign, or left from an index that was lost or brought back from a backup, or from a
transaction of an application's that was rolled back; or one of those is under way, since it makes
the pack known only when it commits. No clock tells which. So before an object is removed its name
is buried: a row that stays makes sure that no transaction can record a pack of that name any more.
One that tries is told that its pack is dead, and stores the bytes again.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from cas.errors import ObjectNotFoundError
from cas.packs.pack import parse_pack_name
from index.db.bulk import BATCH_SIZE
from index.db.queries import packs
from index.maintenance.gc.report import Orphan

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from cas.backend import Backend, ObjectInfo
    from cas.digest import Digest
    from index.maintenance.gc.transactions import Transactions

__all__ = ["FOREIGN", "FOUND", "IN_USE", "REMOVED", "find_orphans", "remove_orphan"]

FOUND, REMOVED, IN_USE, FOREIGN = "found", "removed", "in use", "foreign"

_LOCK_TIMEOUT: Final = text("SET LOCAL lock_timeout = '1s'")
_LOCKED: Final = "55P03"
"""PostgreSQL's state for a lock that was not had in time (appendix A of its documentation)."""


def find_orphans(transactions: Transactions, backend: Backend) -> Iterator[Orphan]:
    """Yield objects that no row knows, in order of listing.

    Whoever publishes a pack has noted it before; so what is listed first and looked up then is not
    being written by a scan.
    """
    listed = iter(backend.iter_objects("packs/"))
    while batch := list(islice(listed, BATCH_SIZE)):
        yield from _unknown(transactions, backend, batch)


def _unknown(
    transactions: Transactions, backend: Backend, listed: list[ObjectInfo]
) -> Iterator[Orphan]:
    names = {found.name: parse_pack_name(found.name) for found in listed}
    wanted = [name for name in names.values() if name is not None]
    known = transactions.read(lambda connection: packs.find_recorded(connection, wanted))
    for found in listed:
        name = names[found.name]
        if name is None:
            yield Orphan(found.name, found.size, FOREIGN)
        elif name not in known and _is_there(backend, found.name):
            yield Orphan(found.name, found.size, FOUND)


def _is_there(backend: Backend, name: str) -> bool:
    """Whether an object was not deleted, with its row, since it was listed."""
    try:
        backend.size(name)
    except ObjectNotFoundError:
        return False
    return True


def remove_orphan(
    transactions: Transactions, backend: Backend, orphan: Orphan, now: datetime
) -> Orphan:
    """Remove an object that is an orphan still; return what became of it."""
    name = parse_pack_name(orphan.name)
    if name is None:
        return orphan
    outcome = IN_USE
    if transactions.write(lambda connection: _bury(connection, name, now)):
        backend.delete(orphan.name)
        outcome = REMOVED
    return Orphan(orphan.name, orphan.size, outcome)


def _bury(connection: Connection, name: Digest, now: datetime) -> bool:
    """Keep a name from being recorded; False if it is, or if a transaction is about to."""
    if connection.dialect.name != "postgresql":
        return packs.bury(connection, name, now)
    # A transaction of an application's that records it may go on for long.
    connection.execute(_LOCK_TIMEOUT)
    try:
        with connection.begin_nested():
            return packs.bury(connection, name, now)
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", None) != _LOCKED:
            raise
        return False
