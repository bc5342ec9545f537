"""Copies and what they are copies of, by what names a version in every index."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Text, select, type_coerce

from index import tables
from index.bulk import batches

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from sqlalchemy import Select
    from sqlalchemy.engine import Connection

    from cas.digest import Digest

__all__ = ["VersionName", "find_copies", "find_ids", "find_names", "has_copies", "other_runs"]


class VersionName(NamedTuple):
    """What a version is called in every index of its session, and that it is the same one."""

    run: str
    path: str
    """As the column has it."""
    version: int
    digest: Digest | None
    created_at: datetime


_path = type_coerce(tables.files.c.path, Text())


def _named(*columns: Any) -> Select[Any]:  # noqa: ANN401 - columns of any type
    name = tables.files.c
    return select(
        *columns, tables.runs.c.name, _path, name.version, name.digest, name.created_at
    ).join(tables.runs, tables.runs.c.id == name.run_id)


def has_copies(connection: Connection, session: str) -> bool:
    """Whether any version of a session is a copy."""
    found = connection.scalar(
        select(tables.files.c.id)
        .join(tables.runs, tables.runs.c.id == tables.files.c.run_id)
        .join(tables.sessions, tables.sessions.c.id == tables.runs.c.session_id)
        .where(tables.sessions.c.name == session, tables.files.c.origin_id.is_not(None))
        .limit(1)
    )
    return found is not None


def other_runs(connection: Connection, session_id: int, run_id: int) -> set[str]:
    """Return the names of a session's runs but one."""
    statement = select(tables.runs.c.name).where(
        tables.runs.c.session_id == session_id, tables.runs.c.id != run_id
    )
    return set(connection.scalars(statement))


def find_names(connection: Connection, ids: Iterable[int]) -> dict[int, VersionName]:
    """Return what versions are called, without those that are gone."""
    found: dict[int, VersionName] = {}
    for batch in batches(sorted(ids)):
        rows = connection.execute(_named(tables.files.c.id).where(tables.files.c.id.in_(batch)))
        found.update((row[0], VersionName(*row[1:])) for row in rows)
    return found


def find_copies(
    connection: Connection, origins: Iterable[int]
) -> Iterator[tuple[int, VersionName]]:
    """Yield the copies of versions: which of them it is a copy of, and what it is called."""
    origin = tables.files.c.origin_id
    for batch in batches(sorted(origins)):
        for row in connection.execute(_named(origin).where(origin.in_(batch))).all():
            yield row[0], VersionName(*row[1:])


def find_ids(
    connection: Connection, session_id: int, names: Iterable[VersionName]
) -> dict[VersionName, tuple[int, int | None]]:
    """Return id and origin of versions, without those that are not there or are others."""
    paths: defaultdict[str, set[str]] = defaultdict(set)
    wanted = set(names)
    for name in wanted:
        paths[name.run].add(name.path)
    found: dict[VersionName, tuple[int, int | None]] = {}
    for run, asked in paths.items():
        run_id = connection.scalar(
            select(tables.runs.c.id).where(
                tables.runs.c.session_id == session_id, tables.runs.c.name == run
            )
        )
        for batch in batches(sorted(asked)) if run_id is not None else ():
            rows = connection.execute(
                _named(tables.files.c.id, tables.files.c.origin_id).where(
                    tables.files.c.run_id == run_id, _path.in_(batch)
                )
            )
            for own, origin, *rest in rows:
                name = VersionName(*rest)
                if name in wanted:
                    found[name] = own, origin
    return found
