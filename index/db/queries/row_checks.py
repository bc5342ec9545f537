"""Queries that find inconsistent rows, each with one statement over a whole table.

This library does not write such rows. They come from disk faults, restored backups or manual edits.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import and_, case, false, func, literal, null, or_, select

from cas.packs.codec import Codec
from cas.packs.pack import HEADER_SIZE, MAX_ENTRY_SIZE, MAX_FRAME_SIZE, TRAILER_SIZE
from index.db import tables
from index.domain.faults import FaultKind, Holder
from index.domain.tags import check_tag
from index.errors import InvalidNameError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import ColumnElement, FromClause, Select
    from sqlalchemy.engine import Connection

    from cas.digest import Digest

__all__ = ["RowFault", "count_without_list", "find_unsound"]

_MOST: Final = 1_000
"""Rows that one check reports. A damaged table may have a million, which nobody reads."""

_CODECS: Final = tuple(codec.value for codec in Codec)


class RowFault(NamedTuple):
    """An inconsistent row."""

    kind: FaultKind
    subject: str
    detail: str
    digest: Digest | None = None
    holder: Holder | None = None
    pack_id: int | None = None
    """The pack in which the location of a blob is impossible."""


def find_unsound(connection: Connection) -> Iterator[RowFault]:
    """Yield inconsistent rows, at most a thousand of each kind."""
    yield from _snapshots(connection)
    yield from _versions(connection)
    yield from _file_sizes(connection)
    yield from _chunks(connection)
    yield from _lists(connection)
    yield from _locations(connection)
    yield from _overlaps(connection)
    yield from _records(connection)
    yield from _inputs(connection)
    yield from _run_tags(connection)


def count_without_list(connection: Connection) -> int:
    """Return the number of large blobs with chunks but without a chunk list in storage."""
    blobs, lists, chunks = tables.blobs.c, tables.chunk_lists.c, tables.blob_chunks.c
    listed = select(lists.blob).where(lists.blob == blobs.digest).exists()
    chunked = select(chunks.blob).where(chunks.blob == blobs.digest).exists()
    return (
        connection.scalar(
            select(func.count())
            .select_from(tables.blobs)
            .where(blobs.pack_id.is_(None), chunked, ~listed)
        )
        or 0
    )


def _snapshots(connection: Connection) -> Iterator[RowFault]:
    yield from _numbered(
        connection, tables.snapshots.c.run_id, tables.snapshots.c.number,
        FaultKind.BROKEN_SNAPSHOTS, "snapshots",
    )  # fmt: skip


def _records(connection: Connection) -> Iterator[RowFault]:
    yield from _numbered(
        connection, tables.records.c.run_id, tables.records.c.position,
        FaultKind.BROKEN_RECORDS, "records",
    )  # fmt: skip


def _inputs(connection: Connection) -> Iterator[RowFault]:
    yield from _numbered(
        connection, tables.inputs.c.run_id, tables.inputs.c.position,
        FaultKind.BROKEN_INPUTS, "inputs",
    )  # fmt: skip


def _numbered(
    connection: Connection,
    run_id: ColumnElement[int],
    number: ColumnElement[int],
    kind: FaultKind,
    noun: str,
) -> Iterator[RowFault]:
    """Yield runs whose snapshots, records or inputs are not numbered from 1 without a gap."""
    count, first, last = func.count(), func.min(number), func.max(number)
    found = (
        select(run_id.label("run_id"), count.label("n"), first.label("low"), last.label("high"))
        .where(run_id.is_not(None))
        .group_by(run_id)
        .having(or_(first != 1, last != count))
        .subquery()
    )
    for session, run, there, low, high in connection.execute(
        _named(found, found.c.run_id, found.c.n, found.c.low, found.c.high).limit(_MOST)
    ):
        detail = f"its {there} {noun} have numbers from {low} to {high}"
        holder = Holder(session, run, None, None, None)
        yield RowFault(kind, f"run {session}/{run}", detail, holder=holder)


def _run_tags(connection: Connection) -> Iterator[RowFault]:
    """Yield tags of runs with an impossible name, run or history, at most so many as `_MOST`."""
    moves, runs, sessions = tables.run_tags.c, tables.runs.c, tables.sessions.c
    is_astray = and_(
        moves.run_id.is_not(None), or_(runs.id.is_(None), runs.session_id != moves.session_id)
    )
    statement = (
        select(
            sessions.name, moves.name, func.count(), func.min(moves.position),
            func.max(moves.position), func.sum(case((is_astray, 1), else_=0)),
        )
        .select_from(tables.run_tags)
        .outerjoin(tables.sessions, sessions.id == moves.session_id)
        .outerjoin(tables.runs, runs.id == moves.run_id)
        .group_by(moves.session_id, sessions.name, moves.name)
        .order_by(sessions.name, moves.name)
    )  # fmt: skip
    found = (
        RowFault(FaultKind.BROKEN_RUN_TAGS, f"tag {name!r} of session {session}", detail)
        for session, name, *counted in connection.execute(statement)
        for detail in _reasons(session, name, *counted)
    )
    yield from islice(found, _MOST)


def _reasons(
    session: str | None, name: str, count: int, low: int, high: int, astray: int
) -> Iterator[str]:
    try:
        check_tag(name)
    except InvalidNameError as error:
        yield str(error)
    if session is None:
        yield "its session has no row"
    if (low, high) != (1, count):
        yield f"its {count} moves have numbers from {low} to {high}"
    if astray:
        yield f"{astray} of its moves are to runs that its session does not have"


def _named(
    source: FromClause, run_id: ColumnElement[int], *columns: ColumnElement[Any]
) -> Select[Any]:
    """Return a query of the session's and run's names, followed by columns of the source."""
    return (
        select(tables.sessions.c.name, tables.runs.c.name, *columns)
        .select_from(source)
        .join(tables.runs, tables.runs.c.id == run_id)
        .join(tables.sessions, tables.sessions.c.id == tables.runs.c.session_id)
    )


def _versions(connection: Connection) -> Iterator[RowFault]:
    files = tables.files.c
    along: dict[str, Any] = {"partition_by": (files.run_id, files.path), "order_by": files.version}
    chain = select(
        files.run_id, files.path, files.version, files.generating_agent, files.digest,
        files.first_snapshot, files.end_snapshot, files.appeared_in,
        func.row_number().over(**along).label("place"),
        func.lag(files.end_snapshot).over(**along).label("before"),
    ).subquery()  # fmt: skip
    newest = (
        select(tables.snapshots.c.run_id, func.max(tables.snapshots.c.number).label("number"))
        .group_by(tables.snapshots.c.run_id)
        .subquery()
    )
    last = func.coalesce(newest.c.number, 0)
    own = chain.c
    reasons: dict[str, ColumnElement[bool]] = {
        "a version before it is missing": own.version != own.place,
        "it begins before the version before it has ended": and_(
            own.place > 1, or_(own.before.is_(None), own.before > own.first_snapshot)
        ),
        "it ends at a snapshot that is not after its first": own.end_snapshot <= own.first_snapshot,
        "it appeared after its first snapshot": or_(
            own.appeared_in > own.first_snapshot, own.appeared_in < 1
        ),
        "it is of a snapshot that there is not": or_(
            own.first_snapshot > last, own.end_snapshot > last
        ),
    }
    reason = case(*((condition, literal(text)) for text, condition in reasons.items()))
    statement = (
        _named(chain, own.run_id, own.path, own.version, own.generating_agent, own.digest, reason)
        .outerjoin(newest, newest.c.run_id == tables.runs.c.id)
        .where(or_(false(), *reasons.values()))
        .limit(_MOST)
    )
    for *who, digest, detail in connection.execute(statement):
        holder = Holder(*who)
        yield RowFault(FaultKind.BROKEN_VERSIONS, _subject(holder), detail, digest, holder)


def _file_sizes(connection: Connection) -> Iterator[RowFault]:
    files, blobs = tables.files.c, tables.blobs.c
    statement = (
        _named(
            tables.files, files.run_id, files.path, files.version, files.generating_agent,
            files.digest, files.size, blobs.size,
        )
        .outerjoin(tables.blobs, blobs.digest == files.digest)
        .where(files.digest.is_not(None), or_(blobs.size.is_(None), blobs.size != files.size))
        .limit(_MOST)
    )  # fmt: skip
    for *who, digest, recorded, size in connection.execute(statement):
        holder = Holder(*who)
        if size is None:
            detail, kind = "its bytes have no row", FaultKind.MISSING_BLOB
        else:
            detail = f"it is recorded with {recorded} bytes and has {size}"
            kind = FaultKind.WRONG_FILE_SIZE
        yield RowFault(kind, _subject(holder), detail, digest, holder)


def _chunks(connection: Connection) -> Iterator[RowFault]:
    """Yield large blobs whose chunks are not numbered from 0, or do not have its size together.

    A damaged blob with neither a place nor chunks is not a fault here: it is lost, large or not.
    """
    large, chunks, pieces = tables.blobs.alias("large"), tables.blob_chunks.c, tables.blobs.c
    lost = func.sum(case((pieces.size.is_(None), 1), else_=0))
    count = func.count(chunks.position)
    whole = func.coalesce(func.sum(pieces.size), 0)
    statement = (
        select(large.c.digest, large.c.size, count, whole)
        .select_from(large)
        .outerjoin(tables.blob_chunks, chunks.blob == large.c.digest)
        .outerjoin(tables.blobs, and_(pieces.digest == chunks.chunk, pieces.pack_id.is_not(None)))
        .where(
            large.c.pack_id.is_(None),
            or_(large.c.damaged_at.is_(None), chunks.blob.is_not(None)),
        )
        .group_by(large.c.digest, large.c.size)
        .having(
            or_(
                count == 0,
                func.min(chunks.position) != 0,
                func.max(chunks.position) != count - 1,
                lost != 0,
                whole != large.c.size,
            )
        )
        .limit(_MOST)
    )
    for digest, size, there, together in connection.execute(statement):
        detail = (
            f"it has {size} bytes, and its {there} chunks together {together}, or not from 0 on"
        )
        yield RowFault(FaultKind.BROKEN_CHUNKS, f"large blob {digest}", detail, digest)


def _lists(connection: Connection) -> Iterator[RowFault]:
    """Yield chunk lists, journal records and backups whose blobs have no rows."""
    blobs = tables.blobs.c
    sources = (
        ("the chunk list of blob", tables.chunk_lists, tables.chunk_lists.c.list),
        ("a record", tables.records, tables.records.c.digest),
        ("a backup", tables.backups, tables.backups.c.digest),
        ("a backup", tables.backups, tables.backups.c.record),
    )
    for noun, table, column in sources:
        statement = (
            select(table.c.blob if table is tables.chunk_lists else null(), column)
            .outerjoin(tables.blobs, blobs.digest == column)
            .where(blobs.digest.is_(None))
            .limit(_MOST)
        )
        for blob, digest in connection.execute(statement):
            subject = noun if blob is None else f"{noun} {blob}"
            yield RowFault(FaultKind.MISSING_BLOB, subject, "its bytes have no row", digest)


def _locations(connection: Connection) -> Iterator[RowFault]:
    blobs, packs = tables.blobs.c, tables.packs.c
    ends = blobs.pack_offset + blobs.stored_size
    reasons: dict[str, ColumnElement[bool]] = {
        "its pack has no row": packs.id.is_(None),
        "its pack is not live": packs.state != "live",
        "it is outside its pack": or_(
            blobs.pack_offset < HEADER_SIZE, blobs.stored_size < 0, ends > packs.size - TRAILER_SIZE
        ),
        "it can't be decoded": or_(
            blobs.codec.not_in(_CODECS),
            blobs.size > MAX_ENTRY_SIZE,
            ~blobs.frame_size.between(0, MAX_FRAME_SIZE),
            blobs.frame_start < 0,
            and_(
                blobs.frame_size != 0,
                or_(
                    blobs.frame_start + blobs.size > blobs.frame_size,
                    blobs.codec != Codec.ZSTD.value,
                ),
            ),
            and_(blobs.codec == Codec.RAW.value, blobs.size != blobs.stored_size),
        ),
    }
    reason = case(*((condition, literal(text)) for text, condition in reasons.items()))
    statement = (
        select(blobs.digest, blobs.pack_id, reason)
        .outerjoin(tables.packs, packs.id == blobs.pack_id)
        .where(blobs.pack_id.is_not(None), or_(false(), *reasons.values()))
        .limit(_MOST)
    )
    for digest, pack_id, detail in connection.execute(statement):
        yield _misplaced(digest, pack_id, detail)


def _overlaps(connection: Connection) -> Iterator[RowFault]:
    blobs = tables.blobs.c
    ends = blobs.pack_offset + blobs.stored_size
    order = blobs.pack_offset, ends, blobs.frame_start

    def before(value: ColumnElement[int]) -> ColumnElement[int]:
        return func.lag(value).over(partition_by=blobs.pack_id, order_by=order)

    in_frame = and_(
        before(blobs.pack_offset) == blobs.pack_offset,
        before(ends) == ends,
        before(blobs.frame_start + blobs.size) <= blobs.frame_start,
    )
    placed = (
        select(
            blobs.digest,
            blobs.pack_id,
            and_(before(ends) > blobs.pack_offset, ~in_frame).label("overlaps"),
        )
        .where(blobs.pack_id.is_not(None))
        .subquery()
    )
    statement = select(placed.c.digest, placed.c.pack_id).where(placed.c.overlaps)
    for digest, pack_id in connection.execute(statement.limit(_MOST)):
        yield _misplaced(digest, pack_id, "it overlaps another blob")


def _misplaced(digest: Digest, pack_id: int, detail: str) -> RowFault:
    subject = f"blob {digest}"
    return RowFault(FaultKind.BAD_LOCATION, subject, detail, digest, pack_id=pack_id)


def _subject(holder: Holder) -> str:
    return f"{holder.session}/{holder.run}: {holder.path} (version {holder.version})"
