"""Lookups of a single file or blob. They take the database: each is a transaction of its own."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import BigInteger, and_, bindparam, or_, select

from cas.catalog import Location
from index.db import tables
from index.db.lookup import Lookup
from index.db.queries.blobs import PLACE
from index.db.queries.files import VERSION_FIELDS
from index.domain.snapshots import FileVersion

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Select

    from cas.digest import Digest
    from index.db.database import Database
    from index.db.queries.files import Condition
    from index.domain.names import RunKey

__all__ = ["PlacedFile", "find_file", "find_in_session", "find_placed", "locate_one"]


class PlacedFile(NamedTuple):
    """What a reader of a file version needs."""

    path: str
    version: int
    digest: Digest | None
    """None for a version without bytes."""
    size: int
    location: Location | None
    """None for a large blob, which has many, and for one without a row."""


_PLACE = (tables.packs.c.name, *PLACE)


def find_file(
    database: Database, key: RunKey, path: str, version: int | None = None, at: int | None = None
) -> FileVersion | None:
    """Return a file of a run: its current version, or that of a number or a snapshot.

    None if there is no such run, snapshot, path or version.
    """
    found = _find(database, _file, key, path, version, at)
    return FileVersion(found[0], key.session, key.run, *found[1:]) if found else None


def find_placed(
    database: Database, key: RunKey, path: str, version: int | None = None, at: int | None = None
) -> PlacedFile | None:
    """Return the bytes' place of the file that `find_file` would return."""
    found = _find(database, _placed, key, path, version, at)
    if found is None:
        return None
    number, digest, size, *place = found
    location = None if place[0] is None else Location._make(place)
    return PlacedFile(path, number, digest, size, location)


def find_in_session(
    database: Database, session: str, *, file_id: int | None = None, digest: Digest | None = None
) -> FileVersion | None:
    """Return a version of a session, by its id, or any that holds a digest."""
    name, value = ("digest", digest) if file_id is None else ("id", file_id)
    found = database.lookup(_in_session(name), session=session, value=value)
    return FileVersion(*found[0]) if found else None


def locate_one(database: Database, digest: Digest) -> Location | None:
    """Return the place of a blob of one entry; None for any other blob."""
    found = database.lookup(_located(), digest=digest)
    return Location._make(found[0]) if found else None


def _find(
    database: Database,
    lookup: Callable[[str | None], Lookup],
    key: RunKey,
    path: str,
    version: int | None,
    at: int | None,
) -> Sequence[Any] | None:
    wanted = {"version": version} if version is not None else {} if at is None else {"at": at}
    found = database.lookup(
        lookup(next(iter(wanted), None)), session=key.session, run=key.run, path=path, **wanted
    )
    return found[0] if found else None


@cache
def _file(wanted: str | None) -> Lookup:
    return _in_run(select(tables.files.c.id, *VERSION_FIELDS).select_from(tables.files), wanted)


@cache
def _placed(wanted: str | None) -> Lookup:
    statement = (
        select(tables.files.c.version, tables.files.c.digest, tables.files.c.size, *_PLACE)
        .select_from(tables.files)
        .outerjoin(tables.blobs, tables.blobs.c.digest == tables.files.c.digest)
        .outerjoin(tables.packs, tables.packs.c.id == tables.blobs.c.pack_id)
    )
    return _in_run(statement, wanted)


def _in_run(statement: Select[Any], wanted: str | None) -> Lookup:
    """Return a lookup of a path: of its current version, or by ``"version"`` or ``"at"``."""
    files, snapshots = tables.files.c, tables.snapshots.c
    condition: Condition = files.end_snapshot.is_(None)
    if wanted == "version":
        condition = files.version == bindparam("version", type_=BigInteger())
    elif wanted == "at":
        at = bindparam("at", type_=BigInteger())
        in_run = (snapshots.run_id == tables.runs.c.id, snapshots.number >= at)
        condition = and_(
            files.first_snapshot <= at,
            or_(condition, files.end_snapshot > at),
            select(snapshots.id).where(*in_run).exists(),
        )
    return Lookup(
        statement.join(tables.runs, tables.runs.c.id == files.run_id)
        .join(tables.sessions, tables.sessions.c.id == tables.runs.c.session_id)
        .where(
            tables.sessions.c.name == bindparam("session"),
            tables.runs.c.name == bindparam("run"),
            files.path == bindparam("path"),
            condition,
        )
    )


@cache
def _in_session(name: str) -> Lookup:
    return Lookup(
        select(tables.files.c.id, tables.sessions.c.name, tables.runs.c.name, *VERSION_FIELDS)
        .join(tables.runs, tables.runs.c.id == tables.files.c.run_id)
        .join(tables.sessions, tables.sessions.c.id == tables.runs.c.session_id)
        .where(
            tables.sessions.c.name == bindparam("session"),
            tables.files.c[name] == bindparam("value"),
        )
        .order_by(tables.files.c.id)
        .limit(1)
    )


@cache
def _located() -> Lookup:
    return Lookup(
        select(*_PLACE)
        .select_from(tables.blobs)
        .join(tables.packs, tables.packs.c.id == tables.blobs.c.pack_id)
        .where(tables.blobs.c.digest == bindparam("digest"))
    )
