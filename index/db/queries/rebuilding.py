"""Queries that rebuild an index from storage."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, func, insert, or_, select, update

from index.db import tables
from index.db.bulk import batches, insert_rows
from index.db.column_types import decode_path
from index.db.queries import runs
from index.db.queries.blobs import PLACE_NAMES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from cas.catalog import ChunkedBlob, Location
    from cas.digest import Digest

__all__ = [
    "counts",
    "delete_run",
    "delete_sessions",
    "end_link",
    "find_current",
    "find_version",
    "has_blob",
    "insert_absent",
    "insert_large",
    "insert_located",
    "insert_pack",
    "insert_run",
    "link_forks",
    "list_absent_records",
    "list_chained",
    "list_elsewhere",
    "list_lost",
    "list_records",
    "list_sessions",
    "set_aside",
    "set_run",
    "set_run_aside",
    "touch_files",
]


def insert_pack(connection: Connection, name: Digest, size: int, now: datetime) -> int:
    """Insert a live pack; return its id."""
    made = connection.execute(
        insert(tables.packs).values(name=name, size=size, state="live", created_at=now)
    )
    return int(made.inserted_primary_key[0])  # type: ignore[index] # a single row has one


def insert_located(
    connection: Connection, pack_id: int, places: Mapping[Digest, Location], now: datetime
) -> int:
    """Insert the blobs of a pack that no other pack has; return the number."""
    rows = [(digest, pack_id, *place[1:]) for digest, place in sorted(places.items())]
    columns = ("digest", *PLACE_NAMES)
    return insert_rows(
        connection, tables.blobs, columns, rows, shared={"created_at": now}, ignore_conflicts=True
    )


def list_elsewhere(
    connection: Connection, pack_id: int, digests: Collection[Digest]
) -> list[Digest]:
    """Return those of `digests` that another pack has."""
    columns = tables.blobs.c
    found: list[Digest] = []
    for batch in batches(sorted(digests)):
        elsewhere = (columns.digest.in_(batch), columns.pack_id != pack_id)
        found += connection.scalars(select(columns.digest).where(*elsewhere))
    return found


def insert_absent(connection: Connection, sizes: Mapping[Digest, int], now: datetime) -> None:
    """Insert blobs whose bytes are missing, as damaged; existing blobs stay."""
    insert_rows(
        connection,
        tables.blobs,
        ("digest", "size"),
        sorted(sizes.items()),
        shared={"created_at": now, "damaged_at": now},
        ignore_conflicts=True,
    )


def insert_large(
    connection: Connection, blob: ChunkedBlob, chunk_list: Digest, now: datetime
) -> bool:
    """Insert a large blob whose chunks have rows; return False if it exists already."""
    row = [(blob.digest, blob.size)]
    made = insert_rows(
        connection,
        tables.blobs,
        ("digest", "size"),
        row,
        shared={"created_at": now},
        ignore_conflicts=True,
    )
    if not made:
        return False
    insert_rows(
        connection,
        tables.blob_chunks,
        ("blob", "position", "chunk"),
        [(blob.digest, position, chunk) for position, chunk in enumerate(blob.chunks)],
    )
    insert_rows(connection, tables.chunk_lists, ("blob", "list"), [(blob.digest, chunk_list)])
    return True


def insert_run(
    connection: Connection,
    session: str,
    run: str,
    created_at: datetime,
    *,
    session_created_at: datetime | None = None,
    forked_from: str | None = None,
    forked_snapshot: int | None = None,
) -> int:
    """Insert a run, and its session if that is missing; return the id of the run."""
    session_id = runs.ensure_session(connection, session, session_created_at or created_at)
    known = tables.runs.c
    forked_from_id = (
        None
        if forked_from is None
        else connection.scalar(
            select(known.id).where(known.session_id == session_id, known.name == forked_from)
        )
    )
    made = runs.insert_run(
        connection,
        session_id,
        run,
        created_at,
        forked_from_id=forked_from_id,
        forked_snapshot=forked_snapshot,
    )
    assert made is not None, "chains have different names"  # noqa: S101
    return made


def list_sessions(connection: Connection) -> set[str]:
    """Return the names of all sessions."""
    return set(connection.scalars(select(tables.sessions.c.name)))


def set_aside(connection: Connection, sessions: Iterable[str]) -> list[int]:
    """Give sessions other names, so that later ones can have theirs; return their ids."""
    columns = tables.sessions.c
    ids: list[int] = []
    for batch in batches(sorted(sessions)):
        ids += connection.scalars(select(columns.id).where(columns.name.in_(batch)))
    for session_id in ids:
        named = update(tables.sessions).where(columns.id == session_id)
        connection.execute(named.values(name=uuid.uuid4().hex))
    return ids


def delete_sessions(connection: Connection, ids: Sequence[int]) -> None:
    """Delete sessions with all that was said of them."""
    for batch in batches(ids):
        connection.execute(delete(tables.sessions).where(tables.sessions.c.id.in_(batch)))


def end_link(connection: Connection, run_id: int) -> None:
    """End the link of a run to the run that it was a part of."""
    connection.execute(update(tables.runs).where(tables.runs.c.id == run_id).values(parent=None))


def set_run(
    connection: Connection,
    run_id: int,
    *,
    revision: int,
    newest_record: Digest | None,
    settled: Mapping[str, Any],
) -> None:
    """Set the revision and newest record of a run, and new values of its columns."""
    connection.execute(
        update(tables.runs)
        .where(tables.runs.c.id == run_id)
        .values(revision=revision, newest_record=newest_record, **settled)
    )


def set_run_aside(connection: Connection, run_id: int, name: str) -> None:
    """Give a run another name, so that a later one can have its name and its moves of tags."""
    connection.execute(update(tables.runs).where(tables.runs.c.id == run_id).values(name=name))
    moves = update(tables.run_tags).where(tables.run_tags.c.run_id == run_id)
    connection.execute(moves.values(run_id=None))


def delete_run(connection: Connection, run_id: int) -> None:
    """Delete a run."""
    connection.execute(delete(tables.runs).where(tables.runs.c.id == run_id))


def link_forks(connection: Connection, run_id: int, session: str, run: str) -> None:
    """Link the forks of a run to the one of that name, if it was made at the same time."""
    mine, other = tables.runs.c, tables.runs.alias().c
    made_at = select(other.created_at).where(other.id == run_id).scalar_subquery()
    same = connection.scalar(
        select(mine.id)
        .join(tables.sessions, tables.sessions.c.id == mine.session_id)
        .where(tables.sessions.c.name == session, mine.name == run, mine.created_at == made_at)
    )
    forks = update(tables.runs).where(mine.forked_from_id == run_id)
    connection.execute(forks.values(forked_from_id=same))


def find_current(connection: Connection, run_id: int, paths: Iterable[str]) -> dict[str, int]:
    """Return the ids of the current versions of paths; paths without one are left out."""
    found: dict[str, int] = {}
    columns = tables.files.c
    for batch in batches(list(paths)):
        rows = connection.execute(
            select(columns.path, columns.id).where(
                columns.run_id == run_id, columns.end_snapshot.is_(None), columns.path.in_(batch)
            )
        )
        found.update((path, file_id) for path, file_id in rows)
    return found


def find_version(
    connection: Connection, session: str, run: str, path: str, version: int
) -> int | None:
    """Return the id of a version; `path` is given as stored in the column."""
    columns = tables.files.c
    found: int | None = connection.scalar(
        select(columns.id)
        .join(tables.runs, tables.runs.c.id == columns.run_id)
        .join(tables.sessions, tables.sessions.c.id == tables.runs.c.session_id)
        .where(
            tables.sessions.c.name == session,
            tables.runs.c.name == run,
            columns.path == decode_path(path),
            columns.version == version,
        )
    )
    return found


def touch_files(connection: Connection, values: Iterable[tuple[int, int, int, int]]) -> None:
    """Set mode, mtime_ns and seen_by of versions by id."""
    for file_id, mode, mtime_ns, seen_by in values:
        connection.execute(
            update(tables.files)
            .where(tables.files.c.id == file_id)
            .values(mode=mode, mtime_ns=mtime_ns, seen_by=seen_by)
        )


def has_blob(connection: Connection, digest: Digest) -> bool:
    """Whether a blob has a row."""
    found = connection.scalar(select(tables.blobs.c.digest).where(tables.blobs.c.digest == digest))
    return found is not None


def list_records(connection: Connection) -> frozenset[Digest]:
    """Return the digests of all journal records in the index."""
    return frozenset(connection.scalars(select(tables.records.c.digest)))


def list_absent_records(connection: Connection) -> list[Digest]:
    """Return the digests of records in chains whose bytes storage does not have."""
    absent = (
        select(tables.records.c.digest)
        .join(tables.blobs, tables.blobs.c.digest == tables.records.c.digest)
        .where(tables.blobs.c.pack_id.is_(None))
    )
    return sorted(set(connection.scalars(absent)))


def list_chained(connection: Connection) -> list[tuple[Any, ...]]:
    """Return all runs: session, name, newest record, revision, created_at, id, record count."""
    runs, chain = tables.runs.c, tables.records.c
    count = (
        select(func.coalesce(func.max(chain.position), 0))
        .where(chain.run_id == runs.id)
        .scalar_subquery()
    )
    rows = connection.execute(
        select(
            tables.sessions.c.name,
            runs.name,
            runs.newest_record,
            runs.revision,
            runs.created_at,
            runs.id,
            count,
        )
        .join(tables.sessions, tables.sessions.c.id == runs.session_id)
        .order_by(runs.created_at, tables.sessions.c.name, runs.name)
    )
    return [tuple(row) for row in rows]


def list_lost(connection: Connection, most: int) -> list[tuple[Any, ...]]:
    """Return session, run, path, version, agent and digest of versions whose bytes are damaged.

    Large files that lack any of their chunks are included.
    """
    columns = tables.files.c
    incomplete = (
        select(tables.blob_chunks.c.blob)
        .join(tables.blobs, tables.blobs.c.digest == tables.blob_chunks.c.chunk)
        .where(tables.blobs.c.damaged_at.is_not(None))
    )
    rows = connection.execute(
        select(
            tables.sessions.c.name,
            tables.runs.c.name,
            columns.path,
            columns.version,
            columns.generating_agent,
            columns.digest,
        )
        .join(tables.runs, tables.runs.c.id == columns.run_id)
        .join(tables.sessions, tables.sessions.c.id == tables.runs.c.session_id)
        .join(tables.blobs, tables.blobs.c.digest == columns.digest)
        .where(or_(tables.blobs.c.damaged_at.is_not(None), columns.digest.in_(incomplete)))
        .order_by(tables.sessions.c.name, tables.runs.c.name, columns.path, columns.version)
        .limit(most)
    )
    return [tuple(row) for row in rows]


def counts(connection: Connection) -> tuple[int, int, int, int, int, int]:
    """Return the numbers of packs, blobs, sessions, runs, snapshots and versions."""
    counted = [
        connection.scalar(select(func.count()).select_from(table)) or 0
        for table in (
            tables.packs,
            tables.blobs,
            tables.sessions,
            tables.runs,
            tables.snapshots,
            tables.files,
        )
    ]
    return (counted[0], counted[1], counted[2], counted[3], counted[4], counted[5])
