"""Copying the tables of an index to another, empty index, row by row."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import func, insert, select, text, update

from index.db import tables
from index.db.bulk import bind_rows, insert_rows
from index.db.column_types import encode_path

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from datetime import datetime

    from sqlalchemy import Table
    from sqlalchemy.engine import Connection

__all__ = ["copy_blobs", "copy_meaning", "copy_packs", "settle_ids"]

_ROWS: Final = 10_000
"""Rows held in memory at once."""

_MEANING: Final = (
    tables.sessions,
    tables.runs,
    tables.snapshots,
    tables.tags,
    tables.holds,
    tables.inputs,
    tables.run_tags,
    tables.files,
    tables.counts,
    tables.blob_chunks,
    tables.chunk_lists,
    tables.records,
    tables.backups,
)
"""The tables that give blobs their meaning, each after the tables that it refers to."""


def copy_packs(source: Connection, target: Connection) -> None:
    """Copy packs, and blobs with their locations."""
    for table in (tables.packs, tables.blobs):
        for rows in _pages(source, table):
            _insert(target, table, [column.name for column in table.c], rows)


def copy_blobs(source: Connection, target: Connection, now: datetime) -> None:
    """Copy blobs that the target lacks. Blobs of one entry are damaged there: no pack has them."""
    names = ("digest", "size", "created_at", "damaged_at")
    columns = [column.name for column in tables.blobs.c]
    digest, size, pack, created = map(columns.index, ("digest", "size", "pack_id", "created_at"))
    for rows in _pages(source, tables.blobs):
        copies = [
            (row[digest], row[size], row[created], None if row[pack] is None else now)
            for row in rows
        ]
        _insert(target, tables.blobs, names, copies, ignore_conflicts=True)


def copy_meaning(source: Connection, target: Connection) -> None:
    """Copy the tables that give blobs their meaning. The target has the blobs already."""
    origins: list[tuple[int, int]] = []
    for table in _MEANING:
        columns = [column.name for column in table.c]
        # Closed at once, also after an error, because PostgreSQL keeps a cursor open.
        with closing(_pages(source, table)) as pages:
            for rows in pages:
                if table is tables.runs:
                    # A fork may come before the run that it is of.
                    origin = columns.index("forked_from_id")
                    origins += [(row[0], row[origin]) for row in rows if row[origin] is not None]
                    rows = [(*row[:origin], None, *row[origin + 1 :]) for row in rows]
                _insert(target, table, columns, rows, ignore_conflicts=table is not tables.files)
    for run_id, origin_id in origins:
        target.execute(
            update(tables.runs).where(tables.runs.c.id == run_id).values(forked_from_id=origin_id)
        )


def settle_ids(target: Connection) -> None:
    """Have new ids differ from the copied ones."""
    if target.dialect.name != "postgresql":
        return  # SQLite does this when rows are inserted with their ids
    for table in tables.metadata.sorted_tables:
        if "id" not in table.c or table is tables.store:
            continue
        highest = target.scalar(select(func.max(table.c.id)))
        if highest is not None:
            sequence = text("SELECT setval(pg_get_serial_sequence(:name, 'id'), :highest)")
            target.execute(sequence, {"name": table.name, "highest": highest})


def _pages(source: Connection, table: Table) -> Generator[Sequence[Sequence[Any]]]:
    statement = select(table).order_by(*table.primary_key.columns)
    with source.execution_options(yield_per=_ROWS).execute(statement) as result:
        yield from result.partitions()


def _insert(
    target: Connection,
    table: Table,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    ignore_conflicts: bool = False,
) -> None:
    if target.dialect.name == "sqlite":
        statement = insert(table)
        if ignore_conflicts:
            statement = statement.prefix_with("OR IGNORE")
        target.execute(statement, [dict(zip(columns, row, strict=True)) for row in rows])
        return
    if "path" in columns:
        path = list(columns).index("path")
        rows = [
            row if row[path] is None else (*row[:path], encode_path(row[path]), *row[path + 1 :])
            for row in rows
        ]
    bound = bind_rows(target, table, columns, rows)
    insert_rows(target, table, columns, bound, ignore_conflicts=ignore_conflicts)
