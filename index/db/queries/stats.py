"""Queries for statistics of runs and stores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import func, or_, select

from cas.packs.pack import pack_size
from index.db import tables
from index.db.queries.blobs import SHARE
from index.db.queries.health import find_upkeep
from index.domain.reports import GroupStats, RunStats, StoreStats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Column, ColumnElement, Table
    from sqlalchemy.engine import Connection

    from cas.cache.cache import PackCache

__all__ = ["group_stats", "run_stats", "store_stats"]

_KEPT: Final = tables.counts.c
"""Statistics of versions come from their kept counts: a run may have a million versions."""

_LABELS: Final[dict[str, Column[Any]]] = {
    "session": tables.sessions.c.name,
    "run": tables.runs.c.name,
    **{name: _KEPT[column] for name, column in tables.PROVENANCE_COLUMNS.items()},
    "file_type": _KEPT.file_type,
    "priority": _KEPT.priority,
    "is_final_output": _KEPT.is_final_output,
}

_TOTALS: Final = tuple(
    func.coalesce(func.sum(column), 0)
    for column in (_KEPT.files, _KEPT.bytes, _KEPT.versions, _KEPT.version_bytes)
)


def run_stats(connection: Connection, run_id: int, session: str, run: str) -> RunStats:
    """Return the statistics of a run."""
    mine = _KEPT.run_id == run_id
    distinct = func.coalesce(func.sum(_KEPT.distinct_bytes), 0)
    found = connection.execute(select(*_TOTALS, distinct).where(mine)).one()
    files, size, versions, version_bytes, distinct_bytes = map(int, found)

    def count_by(column: Column[Any]) -> dict[Any, int]:
        count = func.sum(_KEPT.files)
        rows = connection.execute(
            select(column, count)
            .where(mine, _KEPT.files > 0)
            .group_by(column)
            .order_by(count.desc(), column)
        )
        return {value: int(files) for value, files in rows}

    return RunStats(
        session=session,
        run=run,
        snapshots=connection.scalar(select(func.count()).where(tables.snapshots.c.run_id == run_id))
        or 0,
        files=files,
        bytes=size,
        versions=versions,
        version_bytes=version_bytes,
        distinct_bytes=distinct_bytes,
        files_by_type=count_by(_KEPT.file_type),
        files_by_agent=count_by(_KEPT.generating_agent),
        files_by_phase=count_by(_KEPT.workflow_phase),
        files_by_step=count_by(_KEPT.step_id),
        files_by_node=count_by(_KEPT.node_id),
        files_by_priority=count_by(_KEPT.priority),
        final_outputs=count_by(_KEPT.is_final_output).get(True, 0),
    )


def group_stats(
    connection: Connection,
    labels: Sequence[str],
    *,
    session: str | None = None,
    run_id: int | None = None,
) -> tuple[GroupStats, ...]:
    """Return statistics for each combination of labels, of a run, a session or the store."""
    columns = [_LABELS[label] for label in labels]
    statement = (
        select(*columns, *_TOTALS)
        .select_from(tables.counts)
        .join(tables.runs, tables.runs.c.id == _KEPT.run_id)
        .join(tables.sessions, tables.sessions.c.id == tables.runs.c.session_id)
        .where(_KEPT.versions > 0)
        .group_by(*columns)
    )
    if session is not None:
        statement = statement.where(tables.sessions.c.name == session)
    if run_id is not None:
        statement = statement.where(_KEPT.run_id == run_id)
    rows = [tuple(row) for row in connection.execute(statement)]
    rows.sort(key=lambda row: [(value is None, value) for value in row[: len(labels)]])
    return tuple(
        GroupStats(dict(zip(labels, row, strict=False)), *map(int, row[len(labels) :]))
        for row in rows
    )


def store_stats(
    connection: Connection,
    *,
    store_id: str,
    index_url: str,
    blobs_url: str,
    cache: PackCache | None,
) -> StoreStats:
    """Return the statistics of a store."""

    def count(table: Table) -> int:
        return connection.scalar(select(func.count()).select_from(table)) or 0

    def total(column: ColumnElement[Any], *conditions: ColumnElement[bool]) -> int:
        statement = select(func.coalesce(func.sum(column), 0)).where(*conditions)
        return int(connection.scalar(statement) or 0)

    live = tables.packs.c.state == "live"
    # Blobs that only serve to rebuild the index are not content, even after their run is deleted.
    content = ~or_(
        select(tables.records.c.id)
        .where(tables.records.c.digest == tables.blobs.c.digest)
        .exists(),
        select(tables.chunk_lists.c.blob)
        .where(tables.chunk_lists.c.list == tables.blobs.c.digest)
        .exists(),
        select(tables.released.c.digest)
        .where(tables.released.c.digest == tables.blobs.c.digest, tables.released.c.path.is_(None))
        .exists(),
    )
    condemned = tables.blobs.c.condemned_at.is_not(None)
    packs, pack_bytes = connection.execute(
        select(func.count(), func.coalesce(func.sum(tables.packs.c.size), 0)).where(live)
    ).one()
    in_packs = tables.blobs.c.pack_id.is_not(None)
    entries, entry_bytes = connection.execute(
        select(func.count(), func.coalesce(func.sum(SHARE), 0)).where(in_packs)
    ).one()
    needed = packs * pack_size(0, 0) + pack_size(entries, int(entry_bytes)) - pack_size(0, 0)
    return StoreStats(
        store_id=store_id,
        index=index_url,
        blobs_at=blobs_url,
        sessions=count(tables.sessions),
        runs=count(tables.runs),
        versions=total(_KEPT.versions),
        version_bytes=total(_KEPT.version_bytes),
        blobs=connection.scalar(select(func.count()).select_from(tables.blobs).where(content)) or 0,
        # The bytes of a large blob are counted at its chunks.
        distinct_bytes=total(tables.blobs.c.size, in_packs, content),
        packs=packs,
        stored_bytes=int(pack_bytes),
        condemned=connection.scalar(select(func.count()).where(condemned)) or 0,
        condemned_bytes=total(SHARE, condemned),
        dead_bytes=max(int(pack_bytes) - needed, 0),
        cache_at=None if cache is None else str(cache.root),
        cache_bytes=None if cache is None else cache.used,
        cache_limit_bytes=None if cache is None else cache.limit,
        **find_upkeep(connection)._asdict(),
    )
