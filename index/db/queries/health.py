"""Queries on the condition of an index: what maintenance has left, and what the server allows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import DateTime, Text, func, literal, select

from index.db import tables
from index.db.schema import VERSION_TABLE

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.engine import Connection

__all__ = ["Upkeep", "find_upkeep", "missing_rights", "server_state"]

_READ_ONLY_TABLES: Final = (tables.store.name, VERSION_TABLE)
"""Tables that only their owner changes."""


class Upkeep(NamedTuple):
    """What maintenance has done, and what it has left."""

    damaged: int
    """Blobs that are marked as damaged."""
    unverified_since: datetime | None
    """When the pack was verified, or else written, that has waited longest; None without packs."""
    condemned_since: datetime | None
    """When the blob was condemned that has waited longest; None if none is."""
    pending_since: datetime | None
    """When the oldest pack was written whose commit is missing; None if there is none."""
    backed_up_at: datetime | None
    """When the newest copy of the index was stored; None if there is none."""


def find_upkeep(connection: Connection) -> Upkeep:
    """Return what maintenance has done and left. It reads packs, and else indexes."""
    packs, blobs = tables.packs.c, tables.blobs.c
    seen = func.coalesce(packs.verified_at, packs.created_at, type_=packs.created_at.type)
    return Upkeep(
        connection.scalar(select(func.count()).where(blobs.damaged_at.is_not(None))) or 0,
        connection.scalar(select(func.min(seen)).where(packs.state == "live")),
        connection.scalar(
            select(func.min(blobs.condemned_at)).where(blobs.condemned_at.is_not(None))
        ),
        connection.scalar(select(func.min(packs.created_at)).where(packs.state == "pending")),
        connection.scalar(select(func.max(tables.backups.c.created_at))),
    )


class ServerState(NamedTuple):
    """What PostgreSQL says of itself."""

    version: str
    encoding: str
    time: datetime
    is_read_only: bool
    """Whether it is a standby, or was told to change nothing."""


def server_state(connection: Connection) -> ServerState:
    """Return what PostgreSQL says of itself."""
    setting = func.current_setting
    found: Any = connection.execute(
        select(
            setting("server_version", type_=Text),
            setting("server_encoding", type_=Text),
            func.clock_timestamp(type_=DateTime(timezone=True)),
            setting("transaction_read_only", type_=Text),
        )
    ).one()
    version, encoding, time, read_only = found
    return ServerState(version, encoding, time, read_only == "on")


def missing_rights(connection: Connection) -> tuple[list[str], list[str]]:
    """Return the rights that PostgreSQL's role lacks for reading, and for recording."""
    reading: dict[str, Any] = {}
    recording: dict[str, Any] = {}
    for name in (*tables.metadata.tables, VERSION_TABLE):
        reading[f"{name}: SELECT"] = func.has_table_privilege(name, "SELECT")
        if name not in _READ_ONLY_TABLES:
            for right in ("INSERT", "UPDATE", "DELETE"):
                recording[f"{name}: {right}"] = func.has_table_privilege(name, right)
    for table in tables.metadata.tables.values():
        if (column := table.autoincrement_column) is not None and column.autoincrement is True:
            sequence = func.pg_get_serial_sequence(table.name, column.name)
            usable = func.has_sequence_privilege(sequence, "USAGE")
            recording[f"{table.name}: its sequence"] = func.coalesce(usable, literal(value=True))
    lacking = []
    for rights in (reading, recording):
        answers = connection.execute(select(*rights.values())).one()
        lacking.append([name for name, has in zip(rights, answers, strict=True) if not has])
    return lacking[0], lacking[1]
