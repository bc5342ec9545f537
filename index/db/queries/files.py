"""Queries on file versions."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Text,
    and_,
    bindparam,
    cast,
    func,
    literal,
    or_,
    select,
    update,
)

from cas.digest import DIGEST_SIZE
from index.db import tables
from index.db.bulk import allocate_ids, batches, bind_rows, insert_rows, run_over
from index.db.column_types import encode_path
from index.db.queries import counts
from index.domain.annotations import FileKind
from index.domain.results import make_of
from index.domain.snapshots import FileVersion

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy.engine import Connection, CursorResult, Row

    from cas.digest import Digest
    from index.domain.changes import NewRow
    from index.domain.provenance import Provenance
    from index.domain.run_state import KnownFile, Observed

__all__ = [
    "VERSION_FIELDS",
    "Condition",
    "annotate",
    "end_versions",
    "fill_provenance",
    "has_digest",
    "has_digest_prefix",
    "has_path",
    "has_version",
    "insert_versions",
    "insert_whole",
    "list_by_id",
    "list_digests",
    "list_in_sessions",
    "list_versions",
    "make_version",
    "read_versions",
    "refresh",
    "visible_at",
]

Condition: TypeAlias = ColumnElement[bool]
"""A condition on the file versions of a listing."""

VERSION_FIELDS: Final = tuple(
    tables.files.c[tables.PROVENANCE_COLUMNS.get(field.name, field.name)]
    for field in fields(FileVersion)
    if field.name not in ("id", "session", "run", "refused", "torn")
)
"""The columns of a `FileVersion` besides its ids, in the order of its fields."""

make_version: Final = make_of(FileVersion)

_LABELS: Final = slice(
    1 + VERSION_FIELDS.index(tables.files.c.file_type),
    2 + VERSION_FIELDS.index(tables.files.c.event_id),
)
_WIDTH: Final = 1 + len(VERSION_FIELDS)
"""Where a row of a version's id and fields has its labels, and where it ends."""

_ROWS_AT_ONCE: Final = 5_000
"""Rows that are made versions at once."""

_END: Final = (
    "UPDATE cas_files SET end_snapshot = {snapshot} WHERE id {wanted} RETURNING " + counts.COUNTED  # noqa: S608 - names of our own columns
)

_INSERTED: Final = (
    "id",
    "path",
    "version",
    "digest",
    "size",
    "mode",
    "mtime_ns",
    *FileKind._fields,
    "appeared_in",
    "signature",
    "seen_by",
)


def end_versions(connection: Connection, ids: Sequence[int], snapshot: int) -> None:
    """End current versions at a snapshot."""
    ended: list[Sequence[Any]] = []
    for batch in batches(ids):
        ended += run_over(connection, _END, tables.files.c.id, batch, extra={"snapshot": snapshot})
    counts.add_ended(connection, ended)


def insert_versions(
    connection: Connection,
    rows: Iterable[NewRow],
    *,
    count: int,
    run_id: int,
    snapshot: int,
    provenance: Provenance,
    now: datetime,
) -> Sequence[int]:
    """Insert new current versions; return their ids, in the order given.

    Parameters
    ----------
    rows
        Path, version number, observation, kind, first snapshot of the path.
    count
        The number of rows.
    """
    ids = allocate_ids(connection, tables.files, count)
    as_json = tables.files.c.meta.type.dialect_impl(connection.dialect).bind_processor(
        connection.dialect
    )
    assert as_json is not None  # noqa: S101 - JSON is bound as text
    values = (
        (
            file_id,
            encode_path(path),
            version,
            digest,
            size,
            mode,
            mtime_ns,
            file_type,
            priority,
            final,
            None if meta is None else as_json(meta),
            appeared_in,
            signature if trusted else None,
            seen_by,
        )
        # Unpacking is faster: reading each field of a named tuple takes 50% longer.
        for file_id, (
            path,
            version,
            (_, digest, size, mode, mtime_ns, signature, trusted, seen_by, _),
            (file_type, priority, final, meta),
            appeared_in,
        ) in zip(ids, counts.counting_new(connection, run_id, rows, provenance), strict=True)
    )
    insert_rows(
        connection,
        tables.files,
        _INSERTED,
        values,
        shared={
            "run_id": run_id,
            "created_at": now,
            "first_snapshot": snapshot,
            **{
                column: getattr(provenance, name)
                for name, column in tables.PROVENANCE_COLUMNS.items()
            },
        },
    )
    return ids


def insert_whole(
    connection: Connection, run_id: int, columns: Sequence[str], rows: Sequence[Sequence[Any]]
) -> None:
    """Insert versions from another index with all their columns; paths are given as stored."""
    bound = bind_rows(connection, tables.files, columns, rows)
    digest, size = map(list(columns).index, ("digest", "size"))
    distinct = counts.Distinct(connection, run_id)
    distinct.add((row[digest], row[size]) for row in rows if row[digest] is not None)
    insert_rows(connection, tables.files, columns, bound, shared={"run_id": run_id})
    counts.add_whole(connection, run_id, columns, rows, distinct.bytes)


def refresh(connection: Connection, found: Sequence[tuple[KnownFile, Observed]]) -> None:
    """Update the `stat` columns of current versions whose content is unchanged."""
    if not found:
        return
    connection.execute(
        update(tables.files)
        .where(tables.files.c.id == bindparam("known_id"), tables.files.c.end_snapshot.is_(None))
        .values(
            mode=bindparam("new_mode"),
            mtime_ns=bindparam("new_mtime"),
            signature=bindparam("new_signature"),
            seen_by=bindparam("new_seen_by"),
        ),
        [
            {
                "known_id": known.id,
                "new_mode": seen.mode,
                "new_mtime": seen.mtime_ns,
                "new_signature": seen.signature if seen.trusted else None,
                "new_seen_by": known.seen_by | seen.seen_by,
            }
            for known, seen in found
        ],
    )


def fill_provenance(connection: Connection, ids: Sequence[int], provenance: Provenance) -> None:
    """Fill in missing provenance of versions; provenance that is there stays."""
    values = {
        column: func.coalesce(tables.files.c[column], getattr(provenance, name))
        for name, column in tables.PROVENANCE_COLUMNS.items()
        if getattr(provenance, name) is not None
    }
    with counts.counting(connection, ids):
        for batch in batches(ids):
            filled = update(tables.files).where(tables.files.c.id.in_(batch))
            connection.execute(filled.values(values))


def annotate(connection: Connection, notes: Mapping[int, Mapping[str, Any]]) -> None:
    """Set columns of versions, given by id: annotations, and provenance that was claimed."""
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for file_id, values in notes.items():
        groups[json.dumps(values, sort_keys=True)].append(file_id)
    with counts.counting(connection, list(notes)):
        for ids in groups.values():
            for batch in batches(ids):
                noted = update(tables.files).where(tables.files.c.id.in_(batch))
                connection.execute(noted.values(dict(notes[batch[0]])))


def has_path(path: str) -> Condition:
    """Return the condition that a version belongs to this path."""
    return tables.files.c.path == path


def has_version(number: int) -> Condition:
    """Return the condition that a version has this number."""
    return tables.files.c.version == literal(number, BigInteger())  # any that a caller gives


def visible_at(snapshot: int | None) -> Condition:
    """Return the condition that a version was current at a snapshot; None means now."""
    if snapshot is None:
        return tables.files.c.end_snapshot.is_(None)
    return and_(
        tables.files.c.first_snapshot <= snapshot,
        or_(tables.files.c.end_snapshot.is_(None), tables.files.c.end_snapshot > snapshot),
    )


def list_versions(
    connection: Connection,
    run_id: int,
    session: str,
    run: str,
    *conditions: Condition,
) -> list[FileVersion]:
    """Return file versions of a run, ordered by the path's first appearance, then by version."""
    result = connection.execute(
        select(tables.files.c.id, *VERSION_FIELDS)
        .where(tables.files.c.run_id == run_id, *conditions)
        .order_by(tables.files.c.appeared_in, tables.files.c.path, tables.files.c.version)
    )
    return read_versions(result, session, run)[0]


def read_versions(
    result: CursorResult[Any], session: str, run: str
) -> tuple[list[FileVersion], Row[Any] | None]:
    """Return the versions of a run from rows of its id and `VERSION_FIELDS`, and the last row.

    Equal labels are one object in all of them: a run of a million files has few.
    """
    found: list[FileVersion] = []
    last = None
    shared: dict[object, Any] = {}
    share = shared.setdefault
    for rows in result.partitions(_ROWS_AT_ONCE):
        found += [
            make_version(
                row[0],
                session,
                run,
                *row[1 : _LABELS.start],
                *[share(label, label) for label in row[_LABELS]],
                *row[_LABELS.stop : _WIDTH],
            )
            for row in rows
        ]
        last = rows[-1]
    return found, last


def list_by_id(
    connection: Connection, session: str, run: str, ids: Sequence[int]
) -> list[FileVersion]:
    """Return file versions by their ids, ordered by path."""
    found: list[FileVersion] = []
    for batch in batches(ids):
        rows = connection.execute(
            select(tables.files.c.id, *VERSION_FIELDS).where(tables.files.c.id.in_(batch))
        )
        found.extend(make_version(row[0], session, run, *row[1:]) for row in rows)
    return sorted(found, key=lambda version: version.path)


def list_in_sessions(
    connection: Connection,
    session: str | None,
    *conditions: Condition,
    limit: int | None = None,
) -> list[FileVersion]:
    """Return file versions of a session, or of all sessions, in the order they were committed."""
    statement = (
        select(tables.files.c.id, tables.sessions.c.name, tables.runs.c.name, *VERSION_FIELDS)
        .join(tables.runs, tables.runs.c.id == tables.files.c.run_id)
        .join(tables.sessions, tables.sessions.c.id == tables.runs.c.session_id)
        .where(*conditions)
        .order_by(
            tables.files.c.created_at,
            tables.sessions.c.name,
            tables.runs.c.name,
            tables.files.c.path,
            tables.files.c.version,
        )
        .limit(limit)
    )
    if session is not None:
        statement = statement.where(tables.sessions.c.name == session)
    return [make_version(*row) for row in connection.execute(statement).all()]


def list_digests(
    connection: Connection, session: str | None, prefix: str, *, at_most: int
) -> list[Digest]:
    """Return digests with a hexadecimal prefix, of a session or of all sessions."""
    held = select(tables.files.c.id).where(tables.files.c.digest == tables.blobs.c.digest)
    if session is not None:
        held = (
            held.join(tables.runs, tables.runs.c.id == tables.files.c.run_id)
            .join(tables.sessions, tables.sessions.c.id == tables.runs.c.session_id)
            .where(tables.sessions.c.name == session)
        )
    # Blobs with the prefix are few, but the versions that hold one may be very many.
    begins = _begins(tables.blobs.c.digest, prefix)
    statement = select(tables.blobs.c.digest).where(begins, held.exists())
    return list(connection.scalars(statement.order_by(tables.blobs.c.digest).limit(at_most)))


def has_digest(digest: bytes) -> Condition:
    """Return the condition that a version holds these bytes, or did until they were dropped."""
    columns = tables.files.c
    had = and_(columns.digest.is_(None), cast(columns.dropped, Text).contains(digest.hex()))
    return or_(columns.digest == digest, had)


def has_digest_prefix(prefix: str) -> Condition:
    """Return the condition that the digest of a version begins with these hexadecimal digits."""
    return _begins(tables.files.c.digest, prefix)


def _begins(digest: ColumnElement[Any], prefix: str) -> Condition:
    lowest, highest = (bytes.fromhex(prefix.ljust(2 * DIGEST_SIZE, digit)) for digit in "0f")
    return digest.between(lowest, highest)
