"""Queries that delete runs and note the blobs released. Garbage collection deletes the bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import delete, exists, func, null, select, update

from index.db import tables
from index.db.bulk import dialect_insert
from index.db.queries.liveness import is_referenced
from index.db.queries.parents import end_links
from index.domain.reports import KeptBlob, ReleasedBlob

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement, FromClause, Select, Subquery
    from sqlalchemy.engine import Connection

    from cas.digest import Digest

__all__ = [
    "DeadRun",
    "FoundSession",
    "count_versions",
    "delete_runs",
    "delete_session",
    "find_session",
    "forget",
    "ids_of",
    "is_present",
    "list_contents",
    "list_dead",
    "list_kept",
    "list_referenced",
    "list_released",
    "note_released",
]


class FoundSession(NamedTuple):
    """The row of a session."""

    id: int
    created_at: datetime


def find_session(
    connection: Connection, session: str, *, lock: bool = False
) -> FoundSession | None:
    """Return a session; None if there is none. Lock its row if asked."""
    columns = tables.sessions.c
    statement = select(columns.id, columns.created_at).where(columns.name == session)
    found = connection.execute(statement.with_for_update() if lock else statement).first()
    return None if found is None else FoundSession(*found)


def ids_of(session_id: int) -> Select[Any]:
    """Return a subquery for the run ids of a session; there may be too many to list."""
    return select(tables.runs.c.id).where(tables.runs.c.session_id == session_id)


class DeadRun(NamedTuple):
    """A run that is about to be deleted, as the index describes it."""

    id: int
    session_id: int
    name: str
    revision: int
    newest_record: Digest | None
    created_at: datetime

    def recorded(self) -> tuple[str, str | None, str]:
        """Return name, newest record and creation time, as journal records name a run."""
        newest = None if self.newest_record is None else str(self.newest_record)
        return self.name, newest, self.created_at.isoformat()


def list_dead(
    connection: Connection, session: str, run: str | Sequence[str] | None, *, lock: bool = False
) -> list[DeadRun]:
    """Return the runs of a session that match `run` (None for all), oldest first.

    Parameters
    ----------
    lock
        Lock the runs against changes by others until the transaction ends.
    """
    columns = tables.runs.c
    statement = (
        select(*(columns[name] for name in DeadRun._fields))
        .join(tables.sessions, tables.sessions.c.id == columns.session_id)
        .where(tables.sessions.c.name == session)
        .order_by(columns.created_at, columns.name)
    )
    if run is not None:
        statement = statement.where(columns.name.in_([run] if isinstance(run, str) else run))
    if lock:
        statement = statement.with_for_update(of=tables.runs)
    return [DeadRun(*row) for row in connection.execute(statement)]


def count_versions(connection: Connection, dead: Collection[int] | Select[Any]) -> tuple[int, int]:
    """Return the numbers of current files and of file versions in runs."""
    current, versions = connection.execute(
        select(func.count().filter(tables.files.c.end_snapshot.is_(None)), func.count()).where(
            tables.files.c.run_id.in_(dead)
        )
    ).one()
    return current, versions


def list_released(
    connection: Connection, session_id: int, dead: Collection[int]
) -> tuple[ReleasedBlob, ...]:
    """Return the contents that only the dead runs of a session refer to, by digest."""
    mine = _contents_of(dead).subquery()
    elsewhere = tables.files.alias()
    # Check each content once, not each version: runs repeat contents thousands of times.
    rows = connection.execute(
        select(mine.c.digest, mine.c.size)
        .where(
            ~select(elsewhere.c.id)
            .join(tables.runs, tables.runs.c.id == elsewhere.c.run_id)
            .where(
                elsewhere.c.digest == mine.c.digest,
                tables.runs.c.session_id == session_id,
                elsewhere.c.run_id.not_in(dead),
            )
            .exists()
        )
        .order_by(mine.c.digest)
    )
    return tuple(ReleasedBlob(*row) for row in rows)


def list_contents(connection: Connection, session_id: int) -> tuple[ReleasedBlob, ...]:
    """Return all contents that a session refers to, by digest."""
    statement = _contents_of(ids_of(session_id)).order_by(tables.files.c.digest)
    return tuple(ReleasedBlob(*row) for row in connection.execute(statement))


def _contents_of(run_ids: Collection[int] | Select[Any]) -> Select[Any]:
    return (
        select(tables.files.c.digest, func.max(tables.files.c.size).label("size"))
        .where(tables.files.c.run_id.in_(run_ids), tables.files.c.digest.is_not(None))
        .group_by(tables.files.c.digest)
    )


def list_kept(
    connection: Connection, session_id: int, dead: Collection[int]
) -> tuple[KeptBlob, ...]:
    """Return the contents of the dead runs that other runs hold, each with one of those runs."""
    holder = tables.files.alias()
    mine = select(tables.files.c.digest).where(tables.files.c.run_id.in_(dead))
    first = (
        select(
            holder.c.digest,
            func.min(holder.c.id).label("holder_id"),
            func.count(func.distinct(holder.c.run_id)).label("runs"),
        )
        .join(tables.runs, tables.runs.c.id == holder.c.run_id)
        .where(
            tables.runs.c.session_id == session_id,
            holder.c.run_id.not_in(dead),
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


def delete_runs(connection: Connection, dead: Collection[int]) -> None:
    """Delete runs with all their rows. Copies of their versions in other runs stay.

    It relies on no foreign key: an application's SQLite connection may not enforce them.
    """
    runs = tables.runs.c
    for table in (
        *(tables.files, tables.counts, tables.snapshots),
        *(tables.records, tables.tags, tables.holds),
    ):
        connection.execute(delete(table).where(table.c.run_id.in_(dead)))
    moves = update(tables.run_tags).where(tables.run_tags.c.run_id.in_(dead))
    connection.execute(moves.values(run_id=None))
    end_links(connection, dead)
    forks = update(tables.runs).where(runs.forked_from_id.in_(dead))
    connection.execute(forks.values(forked_from_id=None))
    connection.execute(delete(tables.runs).where(runs.id.in_(dead)))


def is_present(connection: Connection, run_id: int) -> bool:
    """Whether a run has a row."""
    found = connection.scalar(select(tables.runs.c.id).where(tables.runs.c.id == run_id))
    return found is not None


def delete_session(connection: Connection, session_id: int) -> None:
    """Delete a session with all its rows. No other session has copies of its versions."""
    connection.execute(delete(tables.sessions).where(tables.sessions.c.id == session_id))


_NAMES = ("session", "run", "path", "agent")


def note_released(connection: Connection, dead: Collection[int] | Select[Any]) -> None:
    """Note the last owners of blobs that only these runs hold; call it before deleting the runs.

    It notes the first version of each content, and the first run of each journal record. While the
    runs still refer to a blob, garbage collection can't delete it before the note is written.
    """
    for found in (_contents(dead), _records(dead)):
        names = found.selected_columns.keys()
        insert = dialect_insert(connection, tables.released).from_select(names, found)
        connection.execute(
            insert.on_conflict_do_update(
                index_elements=["digest"], set_={name: insert.excluded[name] for name in _NAMES}
            )
        )


def _contents(dead: Collection[int] | Select[Any]) -> Select[Any]:
    files, other = tables.files.c, tables.files.alias()
    mine = (
        select(
            files.digest, files.run_id, files.path, files.generating_agent.label("agent"),
            # Copies by fork have the time of the version that was produced.
            _place(
                files.digest, files.origin_id.is_not(None), files.created_at, files.path,
                files.version,
            ),
        )
        .where(files.run_id.in_(dead), files.digest.is_not(None))
        .subquery()
    )  # fmt: skip
    return _owners(mine, mine.c.path, mine.c.agent, other, dead)


def _records(dead: Collection[int] | Select[Any]) -> Select[Any]:
    records, other = tables.records.c, tables.records.alias()
    mine = (
        select(records.digest, records.run_id, _place(records.digest, tables.runs.c.created_at))
        .join(tables.runs, tables.runs.c.id == records.run_id)
        .where(records.run_id.in_(dead))
        .subquery()
    )
    return _owners(mine, null().label("path"), null().label("agent"), other, dead)


def _place(digest: ColumnElement[Any], *order: ColumnElement[Any]) -> ColumnElement[int]:
    """Return the place of a row among those of its digest."""
    return func.row_number().over(partition_by=digest, order_by=order).label("place")


def _owners(
    mine: Subquery,
    path: ColumnElement[Any],
    agent: ColumnElement[Any],
    other: FromClause,
    dead: Collection[int] | Select[Any],
) -> Select[Any]:
    """Return the first of the rows of each digest that `other` has in no other run."""
    # Check each content once, not each version: runs repeat contents thousands of times.
    is_shared = exists().where(other.c.digest == mine.c.digest, other.c.run_id.not_in(dead))
    return (
        select(
            mine.c.digest,
            tables.sessions.c.name.label("session"),
            tables.runs.c.name.label("run"),
            path,
            agent,
        )
        .join(tables.runs, tables.runs.c.id == mine.c.run_id)
        .join(tables.sessions, tables.sessions.c.id == tables.runs.c.session_id)
        .where(mine.c.place == 1, ~is_shared)
        .order_by(mine.c.digest)  # insert in the order of the primary key
    )


def list_referenced(connection: Connection, limit: int) -> list[Digest]:
    """Return at most `limit` noted blobs that something keeps, if only as a part of another."""
    noted = tables.released.c.digest
    return list(connection.scalars(select(noted).where(is_referenced(noted)).limit(limit)))


def forget(connection: Connection, digests: Sequence[Digest]) -> int:
    """Delete notes of last owners, except those that a deletion is writing; return the number."""
    noted = tables.released.c.digest
    chosen = select(noted).where(noted.in_(digests)).with_for_update(skip_locked=True)
    gone = connection.scalars(chosen).all()
    connection.execute(delete(tables.released).where(noted.in_(gone)))
    return len(gone)
