"""Orphans: objects below ``packs/`` that have no row in the index.

An orphan may be a foreign object. It may be left over from a lost index, from an index that was
restored from a backup, or from an application's transaction that was rolled back. Or the
transaction is still running: its pack gets a row only at the commit. No clock distinguishes these
cases. So before an object is removed its name is buried: a permanent row ensures that no
transaction can commit a pack of that name. A writer that tries gets a conflict, and stores the
bytes again.
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
"""PostgreSQL's error code for a lock timeout (appendix A of its documentation)."""


def find_orphans(transactions: Transactions, backend: Backend) -> Iterator[Orphan]:
    """Yield objects without a row, in the order of listing.

    A scan inserts the row of a pack before it publishes the object. Objects are listed before the
    rows are read, so no scan is writing one of them.
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
    """Whether an object still exists. Otherwise it was deleted, like its row, after the listing."""
    try:
        backend.size(name)
    except ObjectNotFoundError:
        return False
    return True


def remove_orphan(
    transactions: Transactions, backend: Backend, orphan: Orphan, now: datetime
) -> Orphan:
    """Remove an object if it is still an orphan; return it with the outcome."""
    name = parse_pack_name(orphan.name)
    if name is None:
        return orphan
    outcome = IN_USE
    if transactions.write(lambda connection: _bury(connection, name, now)):
        backend.delete(orphan.name)
        outcome = REMOVED
    return Orphan(orphan.name, orphan.size, outcome)


def _bury(connection: Connection, name: Digest, now: datetime) -> bool:
    """Bury a name; return False if the pack has a row, or if a transaction is inserting one."""
    if connection.dialect.name != "postgresql":
        return packs.bury(connection, name, now)
    # An application's transaction that inserts the row may run for a long time.
    connection.execute(_LOCK_TIMEOUT)
    try:
        with connection.begin_nested():
            return packs.bury(connection, name, now)
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", None) != _LOCKED:
            raise
        return False
