"""Queries that drop the bytes of past versions, and find those that a rule lets go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import and_, bindparam, select, tuple_, update

from index.db import tables
from index.db.bulk import batches, dialect_insert
from index.db.queries import counts, holds, tags
from index.domain.drops import dropped_as
from index.domain.names import storable
from index.domain.units import long_before
from index.errors import UnknownFileError, VersionKeptError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from cas.digest import Digest
    from index.domain.drops import Drop
    from index.domain.names import RunKey
    from index.domain.retention import VersionRule
    from index.domain.tags import Tag

__all__ = ["PastVersion", "check", "drop", "is_tagged", "list_past"]


class PastVersion(NamedTuple):
    """A version as a drop needs it."""

    id: int
    run: str
    path: str
    version: int
    digest: Digest | None
    size: int
    agent: str | None
    first_snapshot: int
    end_snapshot: int | None
    run_id: int


_FIELDS: Final = (
    tables.files.c.id,
    tables.runs.c.name,
    *(tables.files.c[name] for name in ("path", "version", "digest", "size", "generating_agent")),
    *(tables.files.c[name] for name in ("first_snapshot", "end_snapshot", "run_id")),
)


def list_past(
    connection: Connection, session: str, rule: VersionRule, now: datetime
) -> Iterator[PastVersion]:
    """Yield the past versions of a session that a rule lets go, by run, path and version."""
    columns, ended = tables.files.c, tables.snapshots.c
    statement = (
        select(*_FIELDS)
        .join(tables.runs, tables.runs.c.id == columns.run_id)
        .join(tables.sessions, tables.sessions.c.id == tables.runs.c.session_id)
        .where(
            tables.sessions.c.name == session,
            columns.end_snapshot.is_not(None),
            columns.digest.is_not(None),
        )
        .order_by(tables.runs.c.name, columns.path, columns.version)
    )
    if rule.file_type is not None:
        statement = statement.where(columns.file_type == rule.file_type)
    if rule.larger_than is not None:
        statement = statement.where(columns.size > storable(rule.larger_than))
    if rule.older_than is not None:
        at_its_end = and_(ended.run_id == columns.run_id, ended.number == columns.end_snapshot)
        statement = statement.join(tables.snapshots, at_its_end).where(
            ended.created_at < long_before(now, rule.older_than)
        )
    return (PastVersion(*row) for row in connection.execute(statement))


def is_tagged(version: PastVersion, named: Sequence[Tag]) -> Tag | None:
    """Return one of the tags of its run that names a version, or a state that it is part of."""
    for tag in named:
        if tag.path is not None:
            if (tag.path, tag.version) == (version.path, version.version):
                return tag
        elif tag.snapshot is None or (
            version.first_snapshot <= tag.snapshot
            and (version.end_snapshot is None or version.end_snapshot > tag.snapshot)
        ):
            return tag
    return None


def check(connection: Connection, key: RunKey, run_id: int, drops: Sequence[Drop]) -> None:
    """Raise if one of these versions must stay, in the transaction that holds the run's row.

    Raises
    ------
    HeldError, UnknownFileError, VersionKeptError
        When it is held, does not exist, is current or tagged, or has no bytes.
    """
    holds.check(connection, key.session, [run_id])
    found = {(each.path, each.version): each for each in _find(connection, run_id, drops)}
    named = tags.list_tags(connection, key.session, key.run)
    for path, number, _ in drops:
        version = found.get((path, number))
        if version is None:
            raise UnknownFileError(key.run, path, number)
        if version.end_snapshot is None:
            raise VersionKeptError(path, number, "it is current; replace or remove it first")
        if (tag := is_tagged(version, named)) is not None:
            what = "it" if tag.path else "what it is part of"
            raise VersionKeptError(
                path, number, f"the tag {tag.name!r} names {what}; remove the tag first"
            )
        if version.digest is None:
            raise VersionKeptError(path, number, "it has no bytes")


def drop(
    connection: Connection, run_id: int, drops: Sequence[Drop], agent: str | None, now: datetime
) -> None:
    """Let the bytes of versions go; they may be without any already."""
    wanted = {(each.path, each.version): each for each in drops}
    versions = [each for each in _find(connection, run_id, drops) if each.digest is not None]
    changed = update(tables.files).where(tables.files.c.id == bindparam("dropped_id"))
    rows = [
        {
            "dropped_id": each.id,
            "what": dropped_as(each.digest, wanted[each.path, each.version], agent, now),
        }
        for each in versions
        if each.digest is not None
    ]
    if not rows:
        return
    connection.execute(changed.values(digest=None, signature=None, dropped=bindparam("what")), rows)
    sizes = {each.digest: each.size for each in versions if each.digest is not None}
    held = set(_still_held(connection, sorted(sizes), tables.files.c.run_id == run_id))
    counts.let_go(connection, run_id, sum(size for d, size in sizes.items() if d not in held))
    _note_released(connection, versions)


def _find(connection: Connection, run_id: int, drops: Sequence[Drop]) -> Iterator[PastVersion]:
    columns = tables.files.c
    for batch in batches([(each.path, each.version) for each in drops]):
        rows = connection.execute(
            select(*_FIELDS)
            .join(tables.runs, tables.runs.c.id == columns.run_id)
            .where(columns.run_id == run_id, tuple_(columns.path, columns.version).in_(batch))
        )
        yield from (PastVersion(*row) for row in rows.all())


def _still_held(
    connection: Connection,
    digests: Sequence[Digest],
    *conditions: Any,  # noqa: ANN401 - of SQLAlchemy
) -> Iterator[Digest]:
    for batch in batches(digests):
        held = select(tables.files.c.digest).where(tables.files.c.digest.in_(batch), *conditions)
        yield from connection.scalars(held.distinct()).all()


def _note_released(connection: Connection, versions: Sequence[PastVersion]) -> None:
    """Note the last owner of contents that nothing refers to any more."""
    owners = {each.digest: each for each in reversed(versions) if each.digest is not None}
    held = set(_still_held(connection, sorted(owners)))
    session = (
        select(tables.sessions.c.name)
        .join(tables.runs, tables.runs.c.session_id == tables.sessions.c.id)
        .where(tables.runs.c.id == versions[0].run_id)
    )
    name = connection.scalar(session)
    rows = [
        {"digest": digest, "session": name, "run": each.run, "path": each.path,
         "agent": each.agent}
        for digest, each in owners.items()
        if digest not in held
    ]  # fmt: skip
    if rows:
        insert = dialect_insert(connection, tables.released)
        owner = {key: insert.excluded[key] for key in rows[0] if key != "digest"}
        connection.execute(
            insert.on_conflict_do_update(index_elements=["digest"], set_=owner), rows
        )
