"""Queries that read and write whole runs for a transfer to another index."""

from __future__ import annotations

from collections import defaultdict, namedtuple
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from sqlalchemy import Text, bindparam, or_, select, tuple_, type_coerce, update

from index.db import tables
from index.db.bulk import bind_rows, insert_rows, typed_columns
from index.db.queries import counts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy.engine import Connection

__all__ = [
    "SNAPSHOT_COLUMNS",
    "RunColumns",
    "VersionRow",
    "claim_run",
    "find_row",
    "insert_snapshots",
    "iter_versions",
    "link_origin",
    "list_snapshots",
    "update_versions",
]

_PAGE: Final = 5_000
"""Versions read at once, about 5 MB."""


class RunColumns(NamedTuple):
    """A run with the columns that another index needs."""

    id: int
    revision: int
    created_at: datetime
    session_created_at: datetime
    forked_from: str | None
    """The name of the run it was forked from; None if that is deleted."""
    forked_from_id: int | None
    forked_snapshot: int | None
    work_dir: str | None
    status: str | None
    status_reason: str | None
    started_at: datetime | None
    ended_at: datetime | None
    parent: str | None
    notes: dict[str, Any] | None

    @property
    def settled(self) -> dict[str, Any]:
        """Columns that take precedence over those of a run that changed longer ago."""
        moved: dict[str, Any] = {} if self.work_dir is None else {"work_dir": self.work_dir}
        said = {name: getattr(self, name) for name in ("parent", "notes")}
        moved |= {name: value for name, value in said.items() if value is not None}
        if self.status is not None:
            moved |= {name: getattr(self, name) for name in tables.STATUS_COLUMNS}
        return moved


if TYPE_CHECKING:
    VersionRow: TypeAlias = Any
else:
    VersionRow = namedtuple("VersionRow", (*tables.VERSION_COLUMNS, "id", "origin_id"))  # noqa: PYI024 - its fields are those of the table
    """A file version: `index.db.tables.VERSION_COLUMNS`, then its id and origin_id. The path is as
    stored in the column: see `index.db.column_types.encode_path`."""

SNAPSHOT_COLUMNS: Final = tuple(
    column.name for column in tables.snapshots.c if column.name not in ("id", "run_id")
)
"""Columns of a snapshot that are the same in every index."""


def find_row(connection: Connection, session: str, run: str) -> RunColumns | None:
    """Return a run by the caller's ids; None if there is none."""
    origin = tables.runs.alias()
    found = connection.execute(
        select(
            tables.runs.c.id,
            tables.runs.c.revision,
            tables.runs.c.created_at,
            tables.sessions.c.created_at,
            origin.c.name,
            origin.c.id,
            tables.runs.c.forked_snapshot,
            tables.runs.c.work_dir,
            *(tables.runs.c[name] for name in tables.DESCRIPTION_COLUMNS),
        )
        .join(tables.sessions, tables.sessions.c.id == tables.runs.c.session_id)
        .outerjoin(origin, origin.c.id == tables.runs.c.forked_from_id)
        .where(tables.sessions.c.name == session, tables.runs.c.name == run)
    ).first()
    return None if found is None else RunColumns(*found)


def list_snapshots(
    connection: Connection, run_id: int, *, until: int | None = None
) -> list[tuple[Any, ...]]:
    """Return all columns of a run's snapshots, oldest first. The number is the first column."""
    columns = tables.snapshots.c
    statement = (
        select(*(columns[name] for name in SNAPSHOT_COLUMNS))
        .where(columns.run_id == run_id)
        .order_by(columns.number)
    )
    if until is not None:
        statement = statement.where(columns.number <= until)
    return [tuple(row) for row in connection.execute(statement)]


def find_other_size(connection: Connection, run_id: int) -> tuple[str, int, int | None] | None:
    """Return a path of a run whose size differs from its blob's: path, its size, blob's size.

    Return None if there is no such path. The blob's size is None if the blob has no row.
    """
    versions, kept = tables.files.c, tables.blobs.c
    found = connection.execute(
        select(versions.path, versions.size, kept.size)
        .outerjoin(tables.blobs, kept.digest == versions.digest)
        .where(
            versions.run_id == run_id,
            versions.digest.is_not(None),
            or_(kept.size.is_(None), kept.size != versions.size),
        )
        .order_by(versions.path, versions.version)
        .limit(1)
    ).first()
    return None if found is None else (found[0], found[1], found[2])


def iter_versions(connection: Connection, run_id: int) -> Iterator[VersionRow]:
    """Yield a run's versions by path (in byte order) and number, reading one page at a time."""
    columns = tables.files.c
    path = type_coerce(columns.path, Text())
    others = [columns[name] for name in (*tables.VERSION_COLUMNS[1:], "id", "origin_id")]
    last: tuple[str, int] | None = ("", 0)
    while last is not None:
        found = typed_columns(
            connection,
            select(path, *others)
            .where(columns.run_id == run_id, tuple_(path, columns.version) > tuple_(*last))
            .order_by(columns.path, columns.version)
            .limit(_PAGE),
        )
        yield from map(VersionRow._make, zip(*found, strict=True))
        is_full = found and len(found[0]) == _PAGE
        last = (found[0][-1], found[1][-1]) if is_full else None


def claim_run(
    connection: Connection,
    run_id: int,
    revision: int,
    new_revision: int,
    settled: Mapping[str, Any],
) -> bool:
    """Claim a higher revision; return False if another commit was first.

    The run's chain of records is then incomplete, until a new chain starts.

    Parameters
    ----------
    settled
        New values of `RunColumns.settled`; others stay.
    """
    claimed = connection.execute(
        update(tables.runs)
        .where(tables.runs.c.id == run_id, tables.runs.c.revision == revision)
        .values(revision=new_revision, newest_record=None, **settled)
    )
    return claimed.rowcount == 1


def link_origin(connection: Connection, run_id: int, origin_id: int, snapshot: int | None) -> None:
    """Set the run that a run was forked from."""
    connection.execute(
        update(tables.runs)
        .where(tables.runs.c.id == run_id)
        .values(forked_from_id=origin_id, forked_snapshot=snapshot)
    )


def insert_snapshots(connection: Connection, run_id: int, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert the snapshots that `list_snapshots` returned for another run."""
    bound = bind_rows(connection, tables.snapshots, SNAPSHOT_COLUMNS, rows)
    insert_rows(connection, tables.snapshots, SNAPSHOT_COLUMNS, bound, shared={"run_id": run_id})


def update_versions(
    connection: Connection, changes: Sequence[tuple[int, Mapping[str, Any]]]
) -> None:
    """Update columns of versions, by id."""
    alike: defaultdict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for file_id, values in changes:
        alike[tuple(sorted(values))].append(
            {"changed_id": file_id, **{f"new_{name}": value for name, value in values.items()}}
        )
    with counts.counting(connection, [file_id for file_id, _ in changes]):
        for names, parameters in alike.items():
            connection.execute(
                update(tables.files)
                .where(tables.files.c.id == bindparam("changed_id"))
                .values({name: bindparam(f"new_{name}") for name in names}),
                sorted(parameters, key=itemgetter("changed_id")),
            )
