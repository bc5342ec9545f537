"""Which blobs anything refers to, and taking away those that nothing does.

What keeps a blob: a file version, a record, a backup; and a large blob that is itself kept, for its
chunks and for its list of them. Every statement here looks at a bounded range of digests, or a
bounded number of them. No row is waited for: a writer that has one locked needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from sqlalchemy import and_, delete, exists, func, or_, select, update

from index.db import tables

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
    "list_candidates",
    "pardon",
    "sweep",
]

FIRST: Final = b""
LAST: Final = b"\xff" * 33
"""Before and after every digest."""

_blobs: Final = tables.blobs.c
_DIRECT: Final = (
    tables.files.c.digest,
    tables.records.c.digest,
    tables.backups.c.digest,
    tables.backups.c.record,
)
"""What refers to a blob for its own sake."""

_PARTS: Final = (
    (tables.blob_chunks.c.chunk, tables.blob_chunks.c.blob),
    (tables.chunk_lists.c.list, tables.chunk_lists.c.blob),
)
"""What refers to a blob for the sake of a large one, and to which."""


class Candidate(NamedTuple):
    """A blob that is condemned, or would be."""

    digest: Digest
    size: int
    pack_id: int | None
    """None for a large blob, whose bytes are its chunks'."""
    stored_size: int
    condemned_at: datetime | None
    is_needed: bool
    session: str | None
    """Who had it, as far as that is known: session, run, path and agent."""
    run: str | None
    path: str | None
    agent: str | None


class Swept(NamedTuple):
    """What one batch came to."""

    blobs: int = 0
    stored_size: int = 0
    pardoned: int = 0


def find_bound(
    connection: Connection, after: bytes, size: int, *, only_large: bool = False
) -> bytes | None:
    """Return the last digest of a range of `size` blobs after one; None if that is all of them."""
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
    """Return the blobs of a range that are condemned, or that can be, in order of digest.

    Parameters
    ----------
    untouched_since
        Only what nobody has used since can be condemned; None for anything.
    """
    needed = ~_unneeded(_blobs.digest, untouched_since, after, until)
    names = tables.released.c
    statement = (
        select(
            _blobs.digest,
            _blobs.size,
            _blobs.pack_id,
            func.coalesce(_blobs.stored_size, 0),
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
    # Two statements: for both at once a database asks for the references of every row twice.
    # The expression keeps SQLite from sorting all that is condemned for each range.
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
    """Condemn those that are not, and that are still as unneeded as they were; return them."""
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


def sweep(connection: Connection, digests: Sequence[bytes], condemned_by: datetime | None) -> Swept:
    """Delete those that were condemned and are still unneeded; pardon what is needed again.

    A large blob takes the rows of its chunks with it, but not the chunks.

    Parameters
    ----------
    condemned_by
        Only what was condemned by then is swept; None for all, condemned or not.
    """
    due: list[ColumnElement[bool]] = [_blobs.digest.in_(digests)]
    if condemned_by is not None:
        due.append(_blobs.condemned_at <= condemned_by)
    # Whoever adds a reference holds a lock on the row until it commits; what is locked here gets no
    # new one. The look for references is another statement, which sees all that was committed.
    locked = connection.scalars(
        select(_blobs.digest).where(*due).with_for_update(skip_locked=True)
    ).all()
    if not locked:
        return Swept()
    gone = connection.execute(
        select(_blobs.digest, func.coalesce(_blobs.stored_size, 0)).where(
            _blobs.digest.in_(locked), *(~exists().where(to == _blobs.digest) for to in _DIRECT),
            *(~exists().where(part == _blobs.digest) for part, _ in _PARTS),
        )
    ).all()  # fmt: skip
    if gone:
        connection.execute(
            delete(tables.blobs).where(_blobs.digest.in_([digest for digest, _ in gone]))
        )
    kept = set(locked).difference(digest for digest, _ in gone)
    pardoned = pardon(connection, sorted(kept)) if kept else 0
    return Swept(len(gone), sum(size for _, size in gone), pardoned)


def pardon(connection: Connection, digests: Sequence[bytes]) -> int:
    """Take back from the condemned what is needed again; return how many."""
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


def _unneeded(
    digest: ColumnElement[Digest],
    untouched_since: datetime | None,
    after: bytes | None = None,
    until: bytes | None = None,
) -> ColumnElement[bool]:
    """Return the condition that nothing keeps a blob.

    A large one keeps its parts if it is referred to for its own sake, or is too young to be
    condemned. The range of digests, if given, is repeated where they are looked for: a database
    that compares two sorted lists then reads a part of the other one only.
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
    """Yield the conditions that a blob is a part of a large one that is kept."""
    for part, whole in _PARTS:
        holder = tables.blobs.alias()
        yield exists().where(part == digest, holder.c.digest == whole, is_kept(holder))


def _old(blob: FromClause, untouched_since: datetime | None) -> list[ColumnElement[bool]]:
    if untouched_since is None:
        return []
    return [func.coalesce(blob.c.touched_at, blob.c.created_at) <= untouched_since]
