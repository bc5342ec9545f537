"""Queries on adopted versions, whose times and ends come from an older tracker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import Text, cast, func, insert, select

from index.db import tables
from index.db.queries import counts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection

__all__ = ["KnownPath", "insert_past", "list_origins", "list_paths", "next_version"]

_ORIGINS: Final = 100
"""Adopted paths to check for the work directory. A path through a link does not show it."""


class KnownPath(NamedTuple):
    """A path that a run holds, or held once."""

    newest_version: int
    appeared_in: int
    is_lost: bool
    """Whether none of its versions has bytes."""


def list_paths(connection: Connection, run_id: int) -> dict[str, KnownPath]:
    """Return all paths that a run holds, or held once."""
    rows = connection.execute(
        select(
            tables.files.c.path,
            func.max(tables.files.c.version),
            func.min(tables.files.c.appeared_in),
            func.count(tables.files.c.digest) == 0,
        )
        .where(tables.files.c.run_id == run_id)
        .group_by(tables.files.c.path)
    )
    return {path: KnownPath(*known) for path, *known in rows}


def list_origins(connection: Connection, run_id: int) -> list[tuple[str, str]]:
    """Return some adopted paths of a run, each with its path in the old table."""
    # As text: PostgreSQL looks into no JSON that has "\\u0000" anywhere.
    is_adopted = cast(tables.files.c.meta, Text).contains('"adopted": {')
    rows = connection.execute(
        select(tables.files.c.path, tables.files.c.meta)
        .where(tables.files.c.run_id == run_id, is_adopted)
        .order_by(tables.files.c.path, tables.files.c.version)
        .limit(_ORIGINS)
    )
    adopted = ((path, meta.get("adopted")) for path, meta in rows if isinstance(meta, dict))
    return [
        (path, found["file_path"])
        for path, found in adopted
        if isinstance(found, dict) and isinstance(found.get("file_path"), str)
    ]


def next_version(known: KnownPath | None, snapshot: int) -> dict[str, int]:
    """Return the numbering columns of a path's next version, beginning at a snapshot."""
    version, appeared_in = (known.newest_version, known.appeared_in) if known else (0, snapshot)
    return {"version": version + 1, "appeared_in": appeared_in}


def insert_past(
    connection: Connection, run_id: int, snapshot: int, rows: Sequence[dict[str, Any]]
) -> None:
    """Insert versions that begin at a snapshot, each with its own columns."""
    shared = {"run_id": run_id, "first_snapshot": snapshot, "seen_by": 1}
    connection.execute(insert(tables.files), [{**row, **shared} for row in rows])
    counts.count_again(connection, run_id)
