"""Queries that find, condemn and delete unreferenced blobs.

A file version, a journal record or a backup keeps a blob. A large blob that is kept also keeps its
chunks and its chunk list. Each statement reads a bounded range or number of digests. It skips
locked rows instead of waiting for them: the writer that holds the lock needs the blob.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from sqlalchemy import and_, delete, exists, func, or_, select, update

from index.db import tables
from index.db.queries.blobs import SHARE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement, FromClause
    from sqlalchemy.engine import Connection

    from cas.digest import Digest

__all__ = [
    "FIRST",
    "LAST",
    "Candidate",
    "Swept",
    "condemn",
    "find_bound",
    "is_referenced",
    "list_candidates",
    "oldest_condemned",
    "sweep",
    "unmark",
]

FIRST: Final = b""
LAST: Final = b"\xff" * 33
"""Bounds before and after every digest."""

_blobs: Final = tables.blobs.c
_DIRECT: Final = (
    tables.files.c.digest,
    tables.records.c.digest,
    tables.backups.c.digest,
    tables.backups.c.record,
)
"""Columns that refer to a blob directly."""

_PARTS: Final = (
    (tables.blob_chunks.c.chunk, tables.blob_chunks.c.blob),
    (tables.chunk_lists.c.list, tables.chunk_lists.c.blob),
)
"""Columns that refer to a part of a large blob, each with the column of that blob."""


class Candidate(NamedTuple):
    """A blob that is condemned, or can be."""

    digest: Digest
    size: int
    pack_id: int | None
    """None for a large blob, whose bytes are in its chunks."""
    stored_size: int
    condemned_at: datetime | None
    is_needed: bool
    session: str | None
    """The last owner, if it is known: session, run, path and agent."""
    run: str | None
    path: str | None
    agent: str | None


class Swept(NamedTuple):
    """The results of one batch."""

    blobs: int = 0
    stored_size: int = 0
    unmarked: int = 0


def find_bound(
    connection: Connection, after: bytes, size: int, *, only_large: bool = False
) -> bytes | None:
    """Return the last digest of the next `size` blobs; None if no blobs are left after them."""
    statement = select(_blobs.digest).where(_blobs.digest > after).order_by(_blobs.digest)
    if only_large:
        statement = statement.where(_blobs.pack_id.is_(None))
    return connection.scalar(statement.offset(size - 1).limit(1))


def list_candidates(
    connection: Connection,
    after: bytes,
    until: bytes,
    *,
    untouched_since: datetime | None,
    only_large: bool = False,
) -> list[Candidate]:
    """Return the blobs of a range that are condemned or can be, in order of digest.

    Parameters
    ----------
    untouched_since
        Only blobs that nobody has used since then can be condemned; None for all.
    """
    needed = ~_unneeded(_blobs.digest, untouched_since, after, until)
    names = tables.released.c
    statement = (
        select(
            _blobs.digest,
            _blobs.size,
            _blobs.pack_id,
            SHARE,
            _blobs.condemned_at,
            needed.label("is_needed"),
            names.session,
            names.run,
            names.path,
            names.agent,
        )
        .outerjoin(tables.released, names.digest == _blobs.digest)
        .where(_blobs.digest > after, _blobs.digest <= until)
        .order_by(_blobs.digest)
    )
    if only_large:
        statement = statement.where(_blobs.pack_id.is_(None))
    fresh = (
        _blobs.condemned_at.is_(None),
        *_old(tables.blobs, untouched_since),
        _unneeded(_blobs.digest, untouched_since, after, until),
    )
    # Two statements: in one, a database looks up the references of every row twice.
    # The expression keeps SQLite from sorting all condemned blobs for each range.
    condemned = func.coalesce(_blobs.condemned_at, None).is_not(None)
    found = [
        Candidate(*row)
        for conditions in (fresh, (condemned,))
        for row in connection.execute(statement.where(*conditions))
    ]
    return sorted(found)


def condemn(
    connection: Connection,
    digests: Sequence[bytes],
    now: datetime,
    untouched_since: datetime | None,
) -> set[Digest]:
    """Condemn those of the blobs that are still unneeded and not condemned; return them."""
    chosen = (
        select(_blobs.digest)
        .where(
            _blobs.digest.in_(digests),
            _blobs.condemned_at.is_(None),
            *_old(tables.blobs, untouched_since),
            _unneeded(_blobs.digest, untouched_since),
        )
        .with_for_update(skip_locked=True, of=tables.blobs)
    )
    rows = connection.scalars(chosen).all()
    if rows:
        connection.execute(
            update(tables.blobs).where(_blobs.digest.in_(rows)).values(condemned_at=now)
        )
    return set(rows)


def oldest_condemned(connection: Connection) -> datetime | None:
    """Return when the blob was condemned that has been so for longest; None if none is."""
    statement = select(func.min(_blobs.condemned_at)).where(_blobs.condemned_at.is_not(None))
    oldest: datetime | None = connection.scalar(statement)
    return oldest


def sweep(connection: Connection, digests: Sequence[bytes], condemned_by: datetime | None) -> Swept:
    """Delete condemned blobs that are still unneeded; unmark those that are needed again.

    Deleting a large blob deletes the rows of its chunk positions, but not the chunks.

    Parameters
    ----------
    condemned_by
        Sweep only blobs condemned by then; None for all, condemned or not.
    """
    due: list[ColumnElement[bool]] = [_blobs.digest.in_(digests)]
    if condemned_by is not None:
        due.append(_blobs.condemned_at <= condemned_by)
    # A writer that adds a reference locks the row until it commits, so a row that is locked here
    # gets no new reference. A separate statement looks for references; it sees all commits.
    locked = connection.scalars(
        select(_blobs.digest).where(*due).with_for_update(skip_locked=True)
    ).all()
    if not locked:
        return Swept()
    gone = connection.execute(
        select(_blobs.digest, SHARE).where(
            _blobs.digest.in_(locked), *(~exists().where(to == _blobs.digest) for to in _DIRECT),
            *(~exists().where(part == _blobs.digest) for part, _ in _PARTS),
        )
    ).all()  # fmt: skip
    if gone:
        connection.execute(
            delete(tables.blobs).where(_blobs.digest.in_([digest for digest, _ in gone]))
        )
    kept = set(locked).difference(digest for digest, _ in gone)
    unmarked = unmark(connection, sorted(kept)) if kept else 0
    return Swept(len(gone), sum(size for _, size in gone), unmarked)


def unmark(connection: Connection, digests: Sequence[bytes]) -> int:
    """Unmark condemned blobs that are needed again; return the number."""
    chosen = (
        select(_blobs.digest)
        .where(
            _blobs.digest.in_(digests),
            _blobs.condemned_at.is_not(None),
            or_(
                *(exists().where(to == _blobs.digest) for to in _DIRECT),
                *_parts_of(_blobs.digest, lambda holder: holder.c.condemned_at.is_(None)),
            ),
        )
        .with_for_update(skip_locked=True, of=tables.blobs)
    )
    rows = connection.scalars(chosen).all()
    if rows:
        connection.execute(
            update(tables.blobs).where(_blobs.digest.in_(rows)).values(condemned_at=None)
        )
    return len(rows)


def is_referenced(digest: ColumnElement[Digest]) -> ColumnElement[bool]:
    """Return the condition that something refers to a blob, or to a large blob with this part."""
    return ~_unneeded(digest, None)


def _unneeded(
    digest: ColumnElement[Digest],
    untouched_since: datetime | None,
    after: bytes | None = None,
    until: bytes | None = None,
) -> ColumnElement[bool]:
    """Return the condition that nothing keeps a blob.

    A large blob keeps its parts if something refers to it directly, or if it is too young to be
    condemned. The range of digests, if given, also limits the tables of references: a database that
    merges two sorted lists then reads only a part of the second.
    """

    def is_kept(holder: FromClause) -> ColumnElement[bool]:
        young = [
            and_(holder.c.condemned_at.is_(None), ~condition)
            for condition in _old(holder, untouched_since)
        ]
        return or_(*(exists().where(to == holder.c.digest) for to in _DIRECT), *young)

    def refers(to: ColumnElement[Digest]) -> ColumnElement[bool]:
        in_range = () if after is None or until is None else (to > after, to <= until)
        return exists().where(to == digest, *in_range)

    return and_(*(~refers(to) for to in _DIRECT), *(~part for part in _parts_of(digest, is_kept)))


def _parts_of(
    digest: ColumnElement[Digest], is_kept: Callable[[FromClause], ColumnElement[bool]]
) -> Iterator[ColumnElement[bool]]:
    """Yield the conditions that a blob is a part of a large blob that is kept."""
    for part, whole in _PARTS:
        holder = tables.blobs.alias()
        yield exists().where(part == digest, holder.c.digest == whole, is_kept(holder))


def _old(blob: FromClause, untouched_since: datetime | None) -> list[ColumnElement[bool]]:
    if untouched_since is None:
        return []
    return [func.coalesce(blob.c.touched_at, blob.c.created_at) <= untouched_since]
