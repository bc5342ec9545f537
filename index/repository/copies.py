"""Copies of history: what a fork begins with and what a rewind brings back. Rows only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import and_, case, func, insert, literal, null, or_, select, update

from index import tables
from index.bulk import batches

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement
    from sqlalchemy.engine import Connection

__all__ = ["bring_back", "copy_history"]

_CONTENT: Final = (
    "digest",
    "size",
    "mode",
    "mtime_ns",
    "file_type",
    "priority",
    "is_final_output",
    "appeared_in",
    "meta",
    "seen_on_disk",
    *tables.PROVENANCE_COLUMNS.values(),
)
"""Columns that a copy has from its original, whatever it is made for."""


def copy_history(connection: Connection, source: int, target: int, snapshot: int) -> None:
    """Give a new run the snapshots and file versions that another had at a snapshot."""
    rows = tables.snapshots.c
    _copy(
        connection,
        tables.snapshots,
        {c.name: c for c in rows if c.name != "id"} | {"run_id": literal(target)},
        rows.run_id == source,
        rows.number <= snapshot,
    )
    columns = tables.files.c
    ended_later = columns.end_snapshot > snapshot
    _copy(
        connection,
        tables.files,
        {
            **{name: columns[name] for name in (*_CONTENT, "path", "version", "created_at")},
            "run_id": literal(target),
            "signature": columns.signature,
            "first_snapshot": columns.first_snapshot,
            "end_snapshot": case((ended_later, null()), else_=columns.end_snapshot),
            "origin_id": _original(),
        },
        columns.run_id == source,
        columns.first_snapshot <= snapshot,
        # A record without bytes ended at once; cut off before that end it would be current.
        or_(columns.digest.is_not(None), and_(columns.end_snapshot <= snapshot)),
    )
    _take_back_condemned(connection, target)


def bring_back(connection: Connection, ids: Sequence[int], snapshot: int, now: datetime) -> None:
    """Make past versions of a run current again, each as a new version of its path."""
    columns = tables.files.c
    newer = tables.files.alias()
    newest = (
        select(func.max(newer.c.version))
        .where(newer.c.run_id == columns.run_id, newer.c.path == columns.path)
        .scalar_subquery()
    )
    for batch in batches(ids):
        _copy(
            connection,
            tables.files,
            {
                **{name: columns[name] for name in (*_CONTENT, "path", "run_id")},
                "version": newest + 1,
                "created_at": literal(now, tables.files.c.created_at.type),
                # What lies in the work directory is something else: it must be read.
                "signature": null(),
                "first_snapshot": literal(snapshot),
                "end_snapshot": null(),
                "origin_id": _original(),
            },
            columns.id.in_(batch),
        )


def _copy(
    connection: Connection,
    table: Any,  # noqa: ANN401 - Table and its alias share no type
    values: dict[str, Any],
    *conditions: ColumnElement[bool],
) -> None:
    source = select(*values.values()).select_from(table).where(*conditions).order_by(table.c.id)
    connection.execute(insert(table).from_select(list(values), source, include_defaults=False))


def _original() -> ColumnElement[int]:
    """Return the version that a copy of a row goes back to: itself, or what it is a copy of."""
    return func.coalesce(tables.files.c.origin_id, tables.files.c.id)


def _take_back_condemned(connection: Connection, run_id: int) -> None:
    """Clear what garbage collection has marked of the blobs that a run refers to now."""
    wanted = select(tables.files.c.digest).where(tables.files.c.run_id == run_id)
    connection.execute(
        update(tables.blobs)
        .where(tables.blobs.c.condemned_at.is_not(None), tables.blobs.c.digest.in_(wanted))
        .values(condemned_at=None)
    )
