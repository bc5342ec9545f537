"""Queries for the file versions, of all sessions, that need damaged blobs."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Final

from sqlalchemy import func, or_, select, union

from index.db import tables
from index.domain.faults import Holder

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from sqlalchemy import ColumnElement
    from sqlalchemy.engine import Connection

    from cas.digest import Digest

__all__ = ["find_holders", "is_needed"]

_SHOWN: Final = 10
"""File versions named for one blob. There may be many: the empty file is in every run."""

_AT_ONCE: Final = 300
"""Blobs in one statement. It names each of them three times."""


def find_holders(
    connection: Connection, digests: Collection[Digest]
) -> dict[Digest, tuple[int, tuple[Holder, ...]]]:
    """Return for each blob the number of file versions that need it, and the first ten of them.

    The versions of a large blob need its chunks and its chunk list. A run needs its records.
    """
    found: dict[Digest, tuple[int, tuple[Holder, ...]]] = {}
    ordered = sorted(digests)
    for start in range(0, len(ordered), _AT_ONCE):
        batch = ordered[start : start + _AT_ONCE]
        for digest, count, holder in chain(
            _versions(connection, batch), _records(connection, batch)
        ):
            _, before = found.get(digest, (0, ()))
            found[digest] = count, (*before, holder)
    return found


def is_needed() -> ColumnElement[bool]:
    """Return the condition that some row refers to the blob."""
    blob = tables.blobs.c.digest
    return or_(
        *(
            select(column).where(column == blob).exists()
            for column in (
                tables.files.c.digest,
                tables.blob_chunks.c.chunk,
                tables.chunk_lists.c.list,
                tables.records.c.digest,
                tables.backups.c.digest,
                tables.backups.c.record,
            )
        )
    )


def _versions(connection: Connection, batch: Sequence[Digest]) -> list[tuple[Digest, int, Holder]]:
    files, chunks, lists = tables.files.c, tables.blob_chunks.c, tables.chunk_lists.c
    runs = tables.runs.c
    needed = union(
        select(tables.blobs.c.digest.label("digest"), tables.blobs.c.digest.label("whole")).where(
            tables.blobs.c.digest.in_(batch)
        ),
        select(chunks.chunk, chunks.blob).where(chunks.chunk.in_(batch)),
        select(lists.list, lists.blob).where(lists.list.in_(batch)),
    ).subquery()
    ranked = (
        select(
            needed.c.digest, files.path, files.version,
            files.generating_agent.label("agent"), runs.session_id, runs.name,
            func.row_number().over(
                partition_by=needed.c.digest,
                order_by=(runs.created_at, runs.name, files.path, files.version),
            ).label("place"),
            func.count().over(partition_by=needed.c.digest).label("total"),
        )
        .join(tables.files, files.digest == needed.c.whole)
        .join(tables.runs, runs.id == files.run_id)
        .subquery()
    )  # fmt: skip
    statement = (
        select(
            ranked.c.digest, ranked.c.total, tables.sessions.c.name, ranked.c.name,
            ranked.c.path, ranked.c.version, ranked.c.agent,
        )
        .join(tables.sessions, tables.sessions.c.id == ranked.c.session_id)
        .where(ranked.c.place <= _SHOWN)
        .order_by(ranked.c.digest, ranked.c.place)
    )  # fmt: skip
    return [
        (digest, total, Holder(*holder)) for digest, total, *holder in connection.execute(statement)
    ]


def _records(connection: Connection, batch: Sequence[Digest]) -> list[tuple[Digest, int, Holder]]:
    statement = (
        select(tables.records.c.digest, tables.sessions.c.name, tables.runs.c.name)
        .join(tables.runs, tables.runs.c.id == tables.records.c.run_id)
        .join(tables.sessions, tables.sessions.c.id == tables.runs.c.session_id)
        .where(tables.records.c.digest.in_(batch))
    )
    return [
        (digest, 1, Holder(session, run, None, None, None))
        for digest, session, run in connection.execute(statement)
    ]
