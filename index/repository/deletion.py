"""Deleting runs, and what that leaves behind. Only rows: bytes are garbage collection's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import bindparam, delete, func, select, update

from index import tables
from index.records import KeptBlob, ReleasedBlob

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy.engine import Connection

__all__ = [
    "count_versions",
    "delete_runs",
    "delete_session",
    "find_session",
    "list_kept",
    "list_released",
    "run_ids",
]


def find_session(connection: Connection, session: str) -> int | None:
    """Return the row id of a session."""
    return connection.scalar(select(tables.sessions.c.id).where(tables.sessions.c.name == session))


def run_ids(connection: Connection, session_id: int) -> dict[int, str]:
    """Return the runs of a session, names by row id, oldest first."""
    rows = connection.execute(
        select(tables.runs.c.id, tables.runs.c.name)
        .where(tables.runs.c.session_id == session_id)
        .order_by(tables.runs.c.id)
    )
    return {run_id: name for run_id, name in rows}  # noqa: C416 - rows are not pairs to mypy


def count_versions(connection: Connection, doomed: Collection[int]) -> tuple[int, int]:
    """Return how many current files and how many file versions runs have."""
    current, versions = connection.execute(
        select(func.count().filter(tables.files.c.end_snapshot.is_(None)), func.count()).where(
            tables.files.c.run_id.in_(doomed)
        )
    ).one()
    return current, versions


def list_released(
    connection: Connection, session_id: int, doomed: Collection[int]
) -> tuple[ReleasedBlob, ...]:
    """Return the contents that only the doomed runs of a session refer to, by digest."""
    elsewhere = tables.files.alias()
    rows = connection.execute(
        select(tables.files.c.digest, func.max(tables.files.c.size))
        .where(
            tables.files.c.run_id.in_(doomed),
            tables.files.c.digest.is_not(None),
            ~select(elsewhere.c.id)
            .join(tables.runs, tables.runs.c.id == elsewhere.c.run_id)
            .where(
                elsewhere.c.digest == tables.files.c.digest,
                tables.runs.c.session_id == session_id,
                elsewhere.c.run_id.not_in(doomed),
            )
            .exists(),
        )
        .group_by(tables.files.c.digest)
        .order_by(tables.files.c.digest)
    )
    return tuple(ReleasedBlob(*row) for row in rows)


def list_kept(
    connection: Connection, session_id: int, doomed: Collection[int]
) -> tuple[KeptBlob, ...]:
    """Return the contents of the doomed runs that others of the session hold, with one of those."""
    holder = tables.files.alias()
    mine = select(tables.files.c.digest).where(tables.files.c.run_id.in_(doomed))
    first = (
        select(
            holder.c.digest,
            func.min(holder.c.id).label("holder_id"),
            func.count(func.distinct(holder.c.run_id)).label("runs"),
        )
        .join(tables.runs, tables.runs.c.id == holder.c.run_id)
        .where(
            tables.runs.c.session_id == session_id,
            holder.c.run_id.not_in(doomed),
            holder.c.digest.in_(mine),
        )
        .group_by(holder.c.digest)
        .subquery()
    )
    rows = connection.execute(
        select(
            first.c.digest,
            tables.files.c.size,
            tables.runs.c.name,
            tables.files.c.path,
            first.c.runs,
        )
        .join(tables.files, tables.files.c.id == first.c.holder_id)
        .join(tables.runs, tables.runs.c.id == tables.files.c.run_id)
        .order_by(first.c.digest)
    )
    return tuple(KeptBlob(*row) for row in rows)


def delete_runs(connection: Connection, doomed: Collection[int]) -> None:
    """Delete runs with all their rows; copies of their versions elsewhere become the originals."""
    _hand_over(connection, doomed)
    connection.execute(delete(tables.runs).where(tables.runs.c.id.in_(doomed)))


def delete_session(connection: Connection, session_id: int) -> None:
    """Delete a session with all its rows. Copies never lie in another session."""
    connection.execute(delete(tables.sessions).where(tables.sessions.c.id == session_id))


def _hand_over(connection: Connection, doomed: Collection[int]) -> None:
    """Make the oldest copy of each doomed version the one that its other copies go back to."""
    originals = select(tables.files.c.id).where(tables.files.c.run_id.in_(doomed))
    copies = connection.execute(
        select(tables.files.c.id, tables.files.c.origin_id)
        .where(tables.files.c.origin_id.in_(originals), tables.files.c.run_id.not_in(doomed))
        .order_by(tables.files.c.id)
    ).all()
    if not copies:
        return
    heirs: dict[int, int] = {}
    for copy_id, origin_id in copies:
        heirs.setdefault(origin_id, copy_id)
    connection.execute(
        update(tables.files)
        .where(tables.files.c.id == bindparam("copy_id"))
        .values(origin_id=bindparam("heir_id")),
        [
            {"copy_id": copy_id, "heir_id": None if heirs[of] == copy_id else heirs[of]}
            for copy_id, of in copies
        ],
    )
