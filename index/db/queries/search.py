"""Queries that search the runs of a session, or of all sessions, page by page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import BigInteger, Text, func, literal, select, tuple_, type_coerce

from index.db import tables
from index.db.column_types import encode_path
from index.db.queries.files import VERSION_FIELDS, has_digest_prefix
from index.db.queries.listings import conditions_for
from index.domain.snapshots import FileVersion

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from index.db.queries.files import Condition

__all__ = [
    "SearchedRun",
    "contains",
    "has_size",
    "list_searched",
    "recorded_in",
    "search_page",
]


class SearchedRun(NamedTuple):
    """A run that may hold what is searched for."""

    id: int
    session: str
    run: str
    versions: int
    """The largest number of its versions that may match."""


def list_searched(
    connection: Connection,
    session: str | None,
    *conditions: Condition,
    labels: Mapping[str, Any],
    past: bool,
    digest: str | None,
) -> list[SearchedRun]:
    """Return the runs whose kept counts have versions with these labels, oldest first.

    Parameters
    ----------
    conditions
        More of `cas_runs`, and of their kept counts.
    labels
        Arguments of `conditions_for`.
    past
        Whether past versions count, too.
    digest
        First digits of a digest that the run must hold; None for any.
    """
    kept, mine = tables.counts.c, tables.runs.c
    number = kept.versions if past else kept.files
    statement = (
        select(mine.id, tables.sessions.c.name, mine.name, func.sum(number))
        .select_from(tables.runs)
        .join(tables.sessions, tables.sessions.c.id == mine.session_id)
        .join(tables.counts, kept.run_id == mine.id)
        .where(number > 0, *conditions_for(**labels, of=tables.counts), *conditions)
        .group_by(mine.id, tables.sessions.c.name, mine.name, mine.created_at)
        .order_by(mine.created_at, tables.sessions.c.name, mine.name)
    )
    if session is not None:
        statement = statement.where(tables.sessions.c.name == session)
    if digest is not None:
        holders = select(tables.files.c.run_id).where(has_digest_prefix(digest))
        statement = statement.where(mine.id.in_(holders))
    return [SearchedRun(*row[:3], int(row[3])) for row in connection.execute(statement)]


def search_page(
    connection: Connection,
    searched: Sequence[SearchedRun],
    *conditions: Condition,
    past: bool,
    noted: bool = False,
    after: FileVersion | None = None,
    limit: int | None = None,
) -> list[FileVersion]:
    """Return matching versions of runs, in the order of the runs, by path and version.

    Parameters
    ----------
    noted
        Whether only versions with notes can match.
    after
        The version after which the page begins; only for a single run.
    """
    columns = tables.files.c
    # The order of an index of all versions, or of the one of current versions.
    order = (columns.path, columns.version) if past else (columns.path,)
    if after is not None:
        place = literal(after.path, columns.path.type), literal(after.version, BigInteger())
        begun = tuple_(*order) > tuple_(*place) if past else columns.path > place[0]
        conditions = (*conditions, begun)
    if noted:
        conditions = (*conditions, columns.meta.is_not(None))
    if not past:
        # No index of current versions fits the sum, so that of versions with notes is used.
        end = columns.end_snapshot + 0 if noted else columns.end_snapshot
        conditions = (*conditions, end.is_(None))
    ids = [each.id for each in searched]
    wanted = columns.run_id == ids[0] if len(ids) == 1 else columns.run_id.in_(ids)
    rows = connection.execute(
        select(columns.id, columns.run_id, *VERSION_FIELDS)
        .where(wanted, *conditions)
        .order_by(*order)
        .limit(limit)
    ).all()
    place_of = {each.id: n for n, each in enumerate(searched)}
    if len(ids) > 1:
        rows = sorted(rows, key=lambda row: place_of[row[1]])
    return [
        FileVersion(row[0], searched[place_of[row[1]]].session, searched[place_of[row[1]]].run,
                    *row[2:])
        for row in rows
    ]  # fmt: skip


def recorded_in(since: datetime | None, until: datetime | None) -> Iterator[Condition]:
    """Yield the conditions that a version was recorded since a time, and before another one."""
    if since is not None:
        yield tables.files.c.created_at >= since
    if until is not None:
        yield tables.files.c.created_at < until


def has_size(larger: int | None, smaller: int | None) -> Iterator[Condition]:
    """Yield the conditions that a version is larger, and smaller, than so many bytes."""
    if larger is not None:
        yield tables.files.c.size > larger
    if smaller is not None:
        yield tables.files.c.size < smaller


def contains(connection: Connection, text: str) -> Iterator[Condition]:
    """Yield the condition that a path, as it is stored, contains a text; none if it is empty.

    LIKE ignores case on SQLite, and % and _ are wildcards for it.
    """
    if text:
        position = func.instr if connection.dialect.name == "sqlite" else func.strpos
        yield position(type_coerce(tables.files.c.path, Text()), encode_path(text)) > 0
