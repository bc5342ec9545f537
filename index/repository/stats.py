"""Counts and sums."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select

from index.models import BlobRow, FileRow, PackRow, RunRow, SessionRow, SnapshotRow
from index.records import RunStats, StoreStats

if TYPE_CHECKING:
    from typing import Any

    from sqlalchemy import ColumnElement
    from sqlalchemy.engine import Connection
    from sqlalchemy.orm import InstrumentedAttribute

__all__ = ["run_stats", "store_stats"]


def run_stats(connection: Connection, run_id: int, session: str, run: str) -> RunStats:
    """Return a run in numbers."""
    current = FileRow.end_snapshot.is_(None)
    versions, version_bytes, files, size = connection.execute(
        select(
            func.count(),
            func.coalesce(func.sum(FileRow.size), 0),
            func.count().filter(current),
            func.coalesce(func.sum(FileRow.size).filter(current), 0),
        ).where(FileRow.run_id == run_id)
    ).one()
    distinct = (
        select(FileRow.digest, FileRow.size).where(FileRow.run_id == run_id).distinct().subquery()
    )

    def count_by(column: InstrumentedAttribute[Any]) -> dict[Any, int]:
        rows = connection.execute(
            select(column, func.count())
            .where(FileRow.run_id == run_id, current)
            .group_by(column)
            .order_by(func.count().desc(), column)
        )
        return dict(row.tuple() for row in rows)

    return RunStats(
        session=session,
        run=run,
        snapshots=connection.scalar(select(func.count()).where(SnapshotRow.run_id == run_id)) or 0,
        files=files,
        bytes=int(size),
        versions=versions,
        version_bytes=int(version_bytes),
        distinct_bytes=int(
            connection.scalar(select(func.coalesce(func.sum(distinct.c.size), 0))) or 0
        ),
        files_by_type=count_by(FileRow.file_type),
        files_by_agent=count_by(FileRow.generating_agent),
        files_by_phase=count_by(FileRow.workflow_phase),
    )


def store_stats(
    connection: Connection, *, store_id: str, index_url: str, blobs_url: str
) -> StoreStats:
    """Return a store in numbers."""

    def count(model: type[Any]) -> int:
        return connection.scalar(select(func.count()).select_from(model)) or 0

    def total(column: InstrumentedAttribute[Any], *conditions: ColumnElement[bool]) -> int:
        statement = select(func.coalesce(func.sum(column), 0)).where(*conditions)
        return int(connection.scalar(statement) or 0)

    live = PackRow.state == "live"
    return StoreStats(
        store_id=store_id,
        index=index_url,
        blobs_at=blobs_url,
        sessions=count(SessionRow),
        runs=count(RunRow),
        versions=count(FileRow),
        version_bytes=total(FileRow.size),
        blobs=count(BlobRow),
        # A large blob's bytes are counted where they are, at its chunks.
        distinct_bytes=total(BlobRow.size, BlobRow.pack_id.is_not(None)),
        packs=connection.scalar(select(func.count()).select_from(PackRow).where(live)) or 0,
        stored_bytes=total(PackRow.size, live),
    )
