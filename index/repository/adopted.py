"""Versions that are recorded with a past of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, select

from index import tables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection

__all__ = ["insert_past", "list_paths"]


def list_paths(connection: Connection, run_id: int) -> set[str]:
    """Return every path that a run holds or ever held."""
    statement = select(tables.files.c.path).where(tables.files.c.run_id == run_id).distinct()
    return set(connection.scalars(statement))


def insert_past(
    connection: Connection, run_id: int, snapshot: int, rows: Sequence[dict[str, Any]]
) -> None:
    """Insert first versions of paths, each with columns of its own, beginning at a snapshot."""
    shared = {
        "run_id": run_id,
        "version": 1,
        "first_snapshot": snapshot,
        "appeared_in": snapshot,
        "seen_on_disk": True,
    }
    connection.execute(insert(tables.files), [{**row, **shared} for row in rows])
