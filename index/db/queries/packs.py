"""Packs as garbage collection sees them: how full they are, which are dead, what moves where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import bindparam, delete, exists, func, select, update

from cas.catalog import Location
from index.db import tables
from index.db.bulk import batches, dialect_insert
from index.db.queries.blobs import make_packs_live

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement
    from sqlalchemy.engine import Connection

    from cas.digest import Digest
    from cas.packs.pack import SealedPack
    from cas.packs.rewriter import EntryFault, MovedEntry

__all__ = [
    "PackRow",
    "PackUsage",
    "bury",
    "declare_empty_dead",
    "declare_pending_dead",
    "drop_dead",
    "find_recorded",
    "list_entries",
    "list_of_state",
    "list_usage",
    "mark_damaged",
    "move_entries",
]

_packs: Final = tables.packs.c
_blobs: Final = tables.blobs.c


class PackRow(NamedTuple):
    """A pack as the index has it."""

    id: int
    name: Digest
    size: int
    created_at: datetime


_COLUMNS: Final = (_packs.id, _packs.name, _packs.size, _packs.created_at)


class PackUsage(NamedTuple):
    """A live pack, and what of it rows point to."""

    id: int
    name: Digest
    size: int
    entries: int
    stored_size: int
    damaged: int
    """How many of the entries are known to be damaged."""


def declare_pending_dead(
    connection: Connection, created_by: datetime | None, limit: int
) -> list[PackRow]:
    """Declare dead what was about to be published by a moment, None for ever; return it."""
    conditions = [_packs.state == "pending"]
    if created_by is not None:
        conditions.append(_packs.created_at <= created_by)
    return _declare_dead(connection, conditions, limit)


def declare_empty_dead(connection: Connection, after: int, limit: int) -> list[PackRow]:
    """Declare dead live packs, of higher ids, into which no row points; return them.

    Nobody points a row into a pack that was live before: a pack becomes live with its rows.
    """
    empty = ~exists().where(_blobs.pack_id == _packs.id)
    return _declare_dead(connection, [_packs.state == "live", _packs.id > after, empty], limit)


def _declare_dead(
    connection: Connection, conditions: Sequence[ColumnElement[bool]], limit: int
) -> list[PackRow]:
    # A pack that is locked is being made live, or declared dead by another collector.
    chosen = select(*_COLUMNS).where(*conditions).order_by(_packs.id).limit(limit)
    rows = connection.execute(chosen.with_for_update(skip_locked=True, of=tables.packs)).all()
    found = [PackRow(*row) for row in rows]
    if found:
        ids = [pack.id for pack in found]
        connection.execute(update(tables.packs).where(_packs.id.in_(ids)).values(state="dead"))
    return found


def list_of_state(
    connection: Connection, state: str, after: int = 0, limit: int | None = None
) -> list[PackRow]:
    """Return packs of a state that have bytes, by id: all with higher ids, or at most so many."""
    statement = (
        select(*_COLUMNS)
        .where(_packs.state == state, _packs.id > after, _packs.size > 0)
        .order_by(_packs.id)
        .limit(limit)
    )
    return [PackRow(*row) for row in connection.execute(statement)]


def drop_dead(connection: Connection, ids: Collection[int]) -> None:
    """Forget dead packs whose objects are gone."""
    connection.execute(delete(tables.packs).where(_packs.id.in_(list(ids)), _packs.state == "dead"))


def bury(connection: Connection, name: Digest, now: datetime) -> bool:
    """Keep the name of an object that nobody recorded from ever being recorded.

    Its row is a dead pack of no bytes, and stays. False if somebody else has recorded it.
    """
    buried = select(_packs.id).where(_packs.name == name, _packs.state == "dead", _packs.size == 0)
    made = (
        dialect_insert(connection, tables.packs)
        .values(name=name, size=0, state="dead", created_at=now)
        .on_conflict_do_nothing()
    )
    # Without the option the count of an INSERT on PostgreSQL is -1, whatever it did.
    inserted = connection.execute(made, execution_options={"preserve_rowcount": True})
    return inserted.rowcount == 1 or connection.scalar(buried) is not None


def find_recorded(connection: Connection, names: Sequence[Digest]) -> set[Digest]:
    """Return those of some names that packs have, without those that are buried."""
    found: set[Digest] = set()
    for batch in batches(names):
        found.update(
            connection.scalars(select(_packs.name).where(_packs.name.in_(batch), _packs.size > 0))
        )
    return found


def list_usage(connection: Connection) -> list[PackUsage]:
    """Return what of each live pack is in use, by id."""
    used = (
        select(
            _blobs.pack_id,
            func.count().label("entries"),
            func.sum(_blobs.stored_size).label("stored_size"),
            func.count(_blobs.damaged_at).label("damaged"),
        )
        .where(_blobs.pack_id.is_not(None))
        .group_by(_blobs.pack_id)
        .subquery()
    )
    statement = (
        select(
            _packs.id,
            _packs.name,
            _packs.size,
            func.coalesce(used.c.entries, 0),
            func.coalesce(used.c.stored_size, 0),
            func.coalesce(used.c.damaged, 0),
        )
        .outerjoin(used, used.c.pack_id == _packs.id)
        .where(_packs.state == "live")
        .order_by(_packs.id)
    )
    return [
        PackUsage(id_, name, size, entries, int(stored_size), damaged)
        for id_, name, size, entries, stored_size, damaged in connection.execute(statement)
    ]


def list_entries(connection: Connection, pack: PackUsage) -> list[tuple[Digest, Location]]:
    """Return the blobs whose bytes are in a pack, without those known to be damaged."""
    rows = connection.execute(
        select(_blobs.digest, _blobs.pack_offset, _blobs.stored_size, _blobs.size, _blobs.codec)
        .where(_blobs.pack_id == pack.id, _blobs.damaged_at.is_(None))
    )  # fmt: skip
    return [(digest, Location(pack.name, *place)) for digest, *place in rows]


def move_entries(
    connection: Connection, sealed: SealedPack, moved: Sequence[MovedEntry]
) -> int | None:
    """Make a rewritten pack live, and have rows point to it that point to the old places still.

    Return how many; None if the pack was declared dead meanwhile.
    """
    made = make_packs_live(connection, [sealed])
    if made is None:
        return None
    old = {name: id_ for id_, name in connection.execute(
        select(_packs.id, _packs.name).where(_packs.name.in_({m.source.pack for m in moved}))
    )}  # fmt: skip
    targets = {m.digest: m for m in moved}
    count = 0
    for batch in batches(sorted(targets)):
        # Whoever has a row locked has its old place, too: the next collection moves it.
        rows = connection.execute(
            select(_blobs.digest, _blobs.pack_id, _blobs.pack_offset)
            .where(_blobs.digest.in_(batch))
            .with_for_update(skip_locked=True, key_share=True)
        )
        still = [
            {"blob": digest, "offset": targets[digest].target.offset}
            for digest, pack_id, offset in rows
            if (pack_id, offset)
            == (old.get(targets[digest].source.pack), targets[digest].source.offset)
        ]
        if still:
            connection.execute(_MOVE, [{**row, "pack": made[sealed.name]} for row in still])
        count += len(still)
    return count


_MOVE: Final = (
    update(tables.blobs)
    .where(_blobs.digest == bindparam("blob"))
    .values(pack_id=bindparam("pack"), pack_offset=bindparam("offset"))
)


def mark_damaged(connection: Connection, faults: Sequence[EntryFault], now: datetime) -> list[Any]:
    """Note that blobs are damaged, of those whose rows lead to where that was found; return them.

    Somebody may have moved or mended the others since.
    """
    marked = []
    for fault in sorted(faults, key=lambda fault: fault.digest):
        pack = select(_packs.id).where(_packs.name == fault.source.pack).scalar_subquery()
        changed = connection.execute(
            update(tables.blobs)
            .where(
                _blobs.digest == fault.digest,
                _blobs.pack_id == pack,
                _blobs.pack_offset == fault.source.offset,
            )
            .values(damaged_at=func.coalesce(_blobs.damaged_at, now))
        )
        if changed.rowcount:
            marked.append(fault)
    return marked
