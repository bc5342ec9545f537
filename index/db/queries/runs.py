"""Queries on sessions, runs and snapshots."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import BigInteger, and_, bindparam, delete, func, insert, literal, select, update

from index.db import tables
from index.db.bulk import dialect_insert
from index.db.queries.states import is_in
from index.domain.provenance import Provenance
from index.domain.runs import merge_notes
from index.domain.snapshots import ChangeCounts, Skipped, Snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from typing import Any

    from sqlalchemy import Column, ColumnElement, Select, Table
    from sqlalchemy.engine import Connection, Row

    from cas.digest import Digest

__all__ = [
    "FoundRun",
    "advance_revision",
    "count_changes",
    "ensure_run",
    "ensure_session",
    "find_run",
    "find_with_quota",
    "forget_store_id",
    "get_index_id",
    "get_store_id",
    "has_snapshot",
    "insert_run",
    "insert_snapshot",
    "insert_store_id",
    "lead_chain",
    "list_snapshots",
    "lock_run",
    "merge_notes_of",
    "session_exists",
]


class FoundRun(NamedTuple):
    """The row of a run, with its revision and newest record."""

    id: int
    revision: int
    newest_snapshot: int
    newest_record: Digest | None
    """The end of the run's chain of journal records; None if the chain is incomplete."""
    records: int
    work_dir: str | None
    """The directory of its newest scan; None before the first one."""


def get_store_id(connection: Connection) -> str | None:
    """Return the id of the storage that the index belongs to; None if it is not bound yet."""
    return connection.scalar(select(tables.store.c.store_id))


def get_index_id(connection: Connection) -> str:
    """Return the id that a bound index has for its storage."""
    return str(connection.scalar(select(tables.store.c.index_id)))


def forget_store_id(connection: Connection) -> None:
    """Unbind the index from its storage."""
    connection.execute(delete(tables.store))


def insert_store_id(connection: Connection, store_id: str, now: datetime) -> None:
    """Bind the index to a storage, unless it is bound already."""
    values = {"id": 1, "store_id": store_id, "created_at": now}
    _insert_if_absent(connection, tables.store, values)


def find_run(connection: Connection, session: str, run: str) -> FoundRun | None:
    """Return a run by the caller's ids; None if there is none."""
    return find_with_quota(connection, session, run)[0]


def find_with_quota(
    connection: Connection, session: str, run: str
) -> tuple[FoundRun | None, int | None]:
    """Return as `find_run` does, and the quota of the session; None if it has none."""
    found = connection.execute(_by_name(), {"session": session, "run": run}).first()
    if found is None:
        return None, None
    quota, run_id, *others = found
    return None if run_id is None else FoundRun(run_id, *others), quota


def lock_run(connection: Connection, run_id: int) -> None:
    """Let commits to a run wait for this transaction. A writer of SQLite is alone anyway."""
    found = select(tables.runs.c.id).where(tables.runs.c.id == run_id)
    connection.execute(found.with_for_update(key_share=True))


@cache
def _by_name() -> Select[Any]:
    # Built once: that takes longer than the query.
    newest = (
        select(func.coalesce(func.max(tables.snapshots.c.number), 0))
        .where(tables.snapshots.c.run_id == tables.runs.c.id)
        .scalar_subquery()
    )
    chain = tables.records.c
    count = (
        select(func.coalesce(func.max(chain.position), 0))
        .where(chain.run_id == tables.runs.c.id)
        .scalar_subquery()
    )
    mine = and_(
        tables.runs.c.session_id == tables.sessions.c.id, tables.runs.c.name == bindparam("run")
    )
    return (
        select(
            tables.sessions.c.quota_bytes,
            tables.runs.c.id,
            tables.runs.c.revision,
            newest,
            tables.runs.c.newest_record,
            count,
            tables.runs.c.work_dir,
        )
        .select_from(tables.sessions)
        .outerjoin(tables.runs, mine)
        .where(tables.sessions.c.name == bindparam("session"))
    )


def ensure_run(connection: Connection, session: str, run: str, now: datetime) -> int:
    """Return the id of a run; insert it and its session if they are missing."""
    session_id = ensure_session(connection, session, now)
    runs = tables.runs.c
    found = select(runs.id).where(runs.session_id == session_id, runs.name == run)
    while True:  # on a server, others may delete what was there a moment ago
        run_id = insert_run(connection, session_id, run, now) or connection.scalar(found)
        if run_id is not None:
            return int(run_id)


def ensure_session(
    connection: Connection, session: str, created_at: datetime, *, lock: bool = False
) -> int:
    """Return the id of a session; insert it if it is missing. Lock its row on a server if asked."""
    found = select(tables.sessions.c.id).where(tables.sessions.c.name == session)
    if lock:
        found = found.with_for_update(key_share=True)
    while True:  # on a server, others may delete what was there a moment ago
        _insert_if_absent(connection, tables.sessions, {"name": session, "created_at": created_at})
        session_id = connection.scalar(found)
        if session_id is not None:
            return int(session_id)


def insert_run(
    connection: Connection,
    session_id: int,
    name: str,
    created_at: datetime,
    *,
    revision: int = 0,
    forked_from_id: int | None = None,
    forked_snapshot: int | None = None,
    newest_record: Digest | None = None,
    settled: Mapping[str, Any] | None = None,
) -> int | None:
    """Insert a run without files; return its id, or None if its name is taken.

    Parameters
    ----------
    settled
        Values of `tables.DESCRIPTION_COLUMNS` and its work directory, where they are known.
    """
    made = (
        dialect_insert(connection, tables.runs)
        .values(
            session_id=session_id,
            name=name,
            forked_from_id=forked_from_id,
            forked_snapshot=forked_snapshot,
            revision=revision,
            newest_record=newest_record,
            created_at=created_at,
            **(settled or {}),
        )
        .on_conflict_do_nothing()
        .returning(tables.runs.c.id)
    )
    made_id: int | None = connection.scalar(made)
    return made_id


def advance_revision(
    connection: Connection,
    run_id: int,
    revision: int,
    *,
    newest_record: Digest | None,
    next_record: Digest | None,
    settled: Mapping[str, Any] | None = None,
) -> bool:
    """Claim the next revision and lock the run's row; return False if another commit was first.

    Parameters
    ----------
    newest_record
        The end of the run's chain as read with the revision.
    next_record
        The new end of the chain; None if no record describes this commit.
    settled
        New values of its work directory and of `tables.DESCRIPTION_COLUMNS`; others stay.
    """
    claimed = connection.execute(
        update(tables.runs)
        .where(
            tables.runs.c.id == run_id,
            tables.runs.c.revision == revision,
            tables.runs.c.newest_record == newest_record,
        )
        .values(revision=revision + 1, newest_record=next_record, **(settled or {}))
    )
    return claimed.rowcount == 1


def lead_chain(connection: Connection, found: FoundRun, newest_record: Digest) -> bool:
    """Start a new chain for a run and lock its row; return False if the run has changed."""
    claimed = connection.execute(
        update(tables.runs)
        .where(
            tables.runs.c.id == found.id,
            tables.runs.c.revision == found.revision,
            tables.runs.c.newest_record == found.newest_record,
        )
        .values(newest_record=newest_record)
    )
    return claimed.rowcount == 1


def merge_notes_of(connection: Connection, run_id: int, changed: Mapping[str, Any]) -> None:
    """Change notes of a run whose next revision is claimed, by name; None removes one."""
    mine = tables.runs.c
    before = connection.scalar(select(mine.notes).where(mine.id == run_id))
    notes = merge_notes(before, changed)
    connection.execute(update(tables.runs).where(mine.id == run_id).values(notes=notes))


def insert_snapshot(
    connection: Connection, run_id: int, snapshot: Snapshot, scope: Sequence[str] | None
) -> int:
    """Insert a snapshot; return the id of its row, which on a server is never used twice."""
    provenance = snapshot.provenance
    made = connection.execute(
        insert(tables.snapshots).values(
            run_id=run_id,
            number=snapshot.number,
            **{c: getattr(provenance, name) for name, c in tables.PROVENANCE_COLUMNS.items()},
            scope=None if scope is None else list(scope),
            unchanged=snapshot.unchanged,
            skipped=[list(skipped) for skipped in snapshot.skipped] or None,
            torn=list(snapshot.torn) or None,
            notes=snapshot.notes,
            bytes_read=snapshot.bytes_read,
            bytes_stored=snapshot.bytes_stored,
            created_at=snapshot.created_at,
        )
    )
    return int(made.inserted_primary_key[0])  # type: ignore[index] # a single row has one


def has_snapshot(connection: Connection, snapshot_id: int) -> bool:
    """Whether a snapshot was committed, by the id of its row."""
    found = connection.scalar(
        select(tables.snapshots.c.id).where(tables.snapshots.c.id == snapshot_id)
    )
    return found is not None


def list_snapshots(
    connection: Connection,
    run_id: int,
    number: int | None = None,
    *,
    provenance: Provenance | None = None,
    before: int | None = None,
    limit: int | None = None,
) -> list[Snapshot]:
    """Return a run's snapshots without their changes, oldest first.

    Parameters
    ----------
    number
        Only the snapshot of this number.
    provenance
        Only those that have all fields of it.
    before
        Only those of a lower number.
    limit
        Only so many: the newest ones.
    """
    columns = tables.snapshots.c
    statement = select(tables.snapshots).where(columns.run_id == run_id)
    if number is not None:
        statement = statement.where(columns.number == literal(number, BigInteger()))
    for name, column in tables.PROVENANCE_COLUMNS.items():
        if (value := getattr(provenance, name, None)) is not None:
            statement = statement.where(columns[column] == value)
    if before is not None:
        statement = statement.where(columns.number < literal(before, BigInteger()))
    statement = statement.order_by(columns.number.desc()).limit(limit)
    return [_snapshot(row) for row in reversed(connection.execute(statement).all())]


def count_changes(
    connection: Connection, run_id: int, numbers: Sequence[int]
) -> dict[int, ChangeCounts]:
    """Return how many files each of some snapshots added, changed and removed.

    Parameters
    ----------
    numbers
        Their numbers, ascending. There may be more in the result.
    """
    versions, later = tables.files.c, tables.files.alias().c

    def count(column: Column[Any], *conditions: ColumnElement[bool]) -> dict[int, int]:
        rows = connection.execute(
            select(column, func.count())
            .where(versions.run_id == run_id, is_in(column, numbers), *conditions)
            .group_by(column)
        )
        return {found: files for found, files in rows}  # noqa: C416 - mypy does not see pairs

    begun, ended = count(versions.first_snapshot), count(versions.end_snapshot)
    is_next = (
        later.run_id == versions.run_id,
        later.path == versions.path,
        later.first_snapshot == versions.end_snapshot,
    )
    changed = count(versions.end_snapshot, select(later.id).where(*is_next).exists())
    return {
        each: ChangeCounts(
            begun.get(each, 0) - changed.get(each, 0),
            changed.get(each, 0),
            ended.get(each, 0) - changed.get(each, 0),
        )
        for each in begun.keys() | ended.keys()
    }


def session_exists(connection: Connection, session: str) -> bool:
    """Whether a session exists: something was once written to it."""
    found = connection.scalar(select(tables.sessions.c.id).where(tables.sessions.c.name == session))
    return found is not None


def _snapshot(row: Row[Any]) -> Snapshot:
    return Snapshot(
        row.number,
        Provenance(
            **{name: getattr(row, column) for name, column in tables.PROVENANCE_COLUMNS.items()}
        ),
        row.created_at,
        row.unchanged,
        tuple(Skipped(*skipped) for skipped in row.skipped or ()),
        row.bytes_read,
        row.bytes_stored,
        torn=tuple(row.torn or ()),
        notes=row.notes,
    )


def _insert_if_absent(connection: Connection, table: Table, values: dict[str, Any]) -> bool:
    """Insert a row unless its key exists; return whether it was inserted."""
    statement = dialect_insert(connection, table).values(values).on_conflict_do_nothing()
    result = connection.execute(statement, execution_options={"preserve_rowcount": True})
    return result.rowcount == 1
