"""Queries on packs for garbage collection: their usage, dead packs, moved entries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import bindparam, delete, exists, func, select, update

from cas.catalog import Location
from index.db import tables
from index.db.bulk import batches, dialect_insert
from index.db.queries.blobs import PLACE, PLACE_NAMES, SHARE, make_packs_live

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement
    from sqlalchemy.engine import Connection

    from cas.digest import Digest
    from cas.packs.pack import SealedPack
    from cas.packs.rewriter import EntryFault, MovedEntry

__all__ = [
    "PackUsage",
    "StoredPack",
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


class StoredPack(NamedTuple):
    """A pack as the index describes it."""

    id: int
    name: Digest
    size: int
    created_at: datetime


_COLUMNS: Final = (_packs.id, _packs.name, _packs.size, _packs.created_at)


class PackUsage(NamedTuple):
    """A live pack, and how much of it rows point to."""

    id: int
    name: Digest
    size: int
    entries: int
    stored_size: int
    damaged: int
    """The number of entries marked as damaged."""


def declare_pending_dead(
    connection: Connection, created_by: datetime | None, limit: int
) -> list[StoredPack]:
    """Declare dead the pending packs created by a moment (None for all); return them."""
    conditions = [_packs.state == "pending"]
    if created_by is not None:
        conditions.append(_packs.created_at <= created_by)
    return _declare_dead(connection, conditions, limit)


def declare_empty_dead(connection: Connection, after: int, limit: int) -> list[StoredPack]:
    """Declare dead the live packs with higher ids that no row points to; return them.

    A pack becomes live together with its rows. Nobody points more rows to a live pack.
    """
    empty = ~exists().where(_blobs.pack_id == _packs.id)
    return _declare_dead(connection, [_packs.state == "live", _packs.id > after, empty], limit)


def _declare_dead(
    connection: Connection, conditions: Sequence[ColumnElement[bool]], limit: int
) -> list[StoredPack]:
    # Skip locked packs: another transaction is making them live, or declaring them dead.
    chosen = select(*_COLUMNS).where(*conditions).order_by(_packs.id).limit(limit)
    rows = connection.execute(chosen.with_for_update(skip_locked=True, of=tables.packs)).all()
    found = [StoredPack(*row) for row in rows]
    if found:
        ids = [pack.id for pack in found]
        connection.execute(update(tables.packs).where(_packs.id.in_(ids)).values(state="dead"))
    return found


def list_of_state(
    connection: Connection, state: str, after: int = 0, limit: int | None = None
) -> list[StoredPack]:
    """Return packs of a state that have bytes, by id: at most `limit`, with ids after `after`."""
    statement = (
        select(*_COLUMNS)
        .where(_packs.state == state, _packs.id > after, _packs.size > 0)
        .order_by(_packs.id)
        .limit(limit)
    )
    return [StoredPack(*row) for row in connection.execute(statement)]


def drop_dead(connection: Connection, ids: Collection[int]) -> None:
    """Delete the rows of dead packs whose objects are gone."""
    connection.execute(delete(tables.packs).where(_packs.id.in_(list(ids)), _packs.state == "dead"))


def bury(connection: Connection, name: Digest, now: datetime) -> bool:
    """Bury the name of an orphan, so that no transaction can ever make its pack live.

    The row that stays is a dead pack without bytes. Return False if another transaction has
    inserted a row with the name.
    """
    buried = select(_packs.id).where(_packs.name == name, _packs.state == "dead", _packs.size == 0)
    made = (
        dialect_insert(connection, tables.packs)
        .values(name=name, size=0, state="dead", created_at=now)
        .on_conflict_do_nothing()
    )
    # Without this option PostgreSQL always reports -1 for an INSERT.
    inserted = connection.execute(made, execution_options={"preserve_rowcount": True})
    return inserted.rowcount == 1 or connection.scalar(buried) is not None


def find_recorded(connection: Connection, names: Sequence[Digest]) -> set[Digest]:
    """Return those of `names` that have a row, without buried names."""
    found: set[Digest] = set()
    for batch in batches(names):
        found.update(
            connection.scalars(select(_packs.name).where(_packs.name.in_(batch), _packs.size > 0))
        )
    return found


def list_usage(connection: Connection) -> list[PackUsage]:
    """Return the usage of each live pack, oldest first."""
    used = (
        select(
            _blobs.pack_id,
            func.count().label("entries"),
            func.sum(SHARE).label("stored_size"),
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
        .order_by(_packs.created_at, _packs.name)
    )
    return [
        PackUsage(id_, name, size, entries, int(stored_size), damaged)
        for id_, name, size, entries, stored_size, damaged in connection.execute(statement)
    ]


def list_entries(connection: Connection, pack: PackUsage) -> list[tuple[Digest, Location]]:
    """Return the blobs whose bytes are in a pack, without those marked as damaged."""
    rows = connection.execute(
        select(_blobs.digest, *PLACE).where(_blobs.pack_id == pack.id, _blobs.damaged_at.is_(None))
    )
    return [(digest, Location(pack.name, *place)) for digest, *place in rows]


def move_entries(
    connection: Connection, sealed: SealedPack, moved: Sequence[MovedEntry]
) -> int | None:
    """Make a rewritten pack live, and point rows to it that still point to the old places.

    Return the number of rows, or None if the pack was declared dead meanwhile.
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
        # A row that a writer has locked keeps its old place; the next collection moves it.
        rows = connection.execute(
            select(_blobs.digest, _blobs.pack_id, _blobs.pack_offset)
            .where(_blobs.digest.in_(batch))
            .with_for_update(skip_locked=True, key_share=True)
        )
        still = [
            {
                "blob": digest,
                **dict(zip(_NEW, (made[sealed.name], *targets[digest].target[1:]), strict=True)),
            }
            for digest, pack_id, offset in rows
            if (pack_id, offset)
            == (old.get(targets[digest].source.pack), targets[digest].source.offset)
        ]
        if still:
            connection.execute(_MOVE, still)
        count += len(still)
    return count


_NEW: Final = tuple(f"new_{name}" for name in PLACE_NAMES)

_MOVE: Final = (
    update(tables.blobs)
    .where(_blobs.digest == bindparam("blob"))
    .values({name: bindparam(new) for name, new in zip(PLACE_NAMES, _NEW, strict=True)})
)


def mark_damaged(connection: Connection, faults: Sequence[EntryFault], now: datetime) -> list[Any]:
    """Mark blobs as damaged whose rows still point to the damaged place; return them.

    Other blobs may have been moved or repaired since.
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
