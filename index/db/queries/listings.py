"""Queries that list a run's files page by page, or one directory of them."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import Text, and_, case, func, or_, select, type_coerce

from index.db import tables
from index.db.bulk import batches
from index.db.column_types import decode_path, encode_path
from index.db.queries.files import VERSION_FIELDS, has_path, make_version, read_versions
from index.domain.names import ancestors, check_label

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from sqlalchemy import Column, ColumnElement, Table
    from sqlalchemy.engine import Connection

    from index.db.queries.files import Condition
    from index.domain.provenance import Provenance
    from index.domain.snapshots import FileVersion

__all__ = [
    "Name",
    "Position",
    "conditions_for",
    "count_files",
    "find_position",
    "has_prefix",
    "list_names",
    "list_near",
    "list_page",
    "list_paths",
]

_KEYS: Final[dict[str, Column[Any]]] = {
    "appearance": tables.files.c.appeared_in,
    "path": tables.files.c.path,
    "size": tables.files.c.size,
    "created_at": tables.files.c.created_at,
}
"""The first column of each order. The path is the second."""

_NEAR: Final = 500
"""Paths that are compared with one that does not exist."""

_NEAR_FOLDERS: Final = 3
"""Parent directories that are searched for such paths, besides the work directory."""


_LAST_POINT: Final = 0x10FFFF
_AFTER_SURROGATES: Final = 0xE000
"""Text in a database is UTF-8, which has no surrogates."""


class Position(NamedTuple):
    """The place of a file in an order."""

    key: Any
    path: str


class Name(NamedTuple):
    """A name in a directory, with the number and total size of the files at it or below."""

    name: str
    is_directory: bool
    files: int
    bytes: int


def conditions_for(
    *,
    provenance: Provenance,
    file_type: str | None = None,
    priority: str | None = None,
    is_final_output: bool | None = None,
    prefix: str | None = None,
    of: Table = tables.files,
) -> Iterator[Condition]:
    """Yield the conditions of a listing. An argument that is None adds no condition.

    Parameters
    ----------
    of
        Where the labels are; `tables.counts` has them, too, and no paths.
    """
    for name, column in tables.PROVENANCE_COLUMNS.items():
        if (value := getattr(provenance, name)) is not None:
            yield of.c[column] == value
    if file_type is not None:
        yield of.c.file_type == (file_type and check_label("file type", file_type))
    if priority is not None:
        yield of.c.priority == (priority and check_label("priority", priority))
    if is_final_output is not None:
        yield of.c.is_final_output.is_(is_final_output)
    yield from has_prefix(prefix or "")


def has_prefix(prefix: str) -> Iterator[Condition]:
    """Yield the conditions that a path begins with a text; none if the text is empty.

    A range, because an index can find it. LIKE ignores case, and % and _ are wildcards for it.
    """
    stored = encode_path(prefix)
    path = type_coerce(tables.files.c.path, Text())
    if stored:
        yield path >= stored
    for cut in range(len(stored), 0, -1):  # the next text that does not begin so
        point = ord(stored[cut - 1]) + 1
        if point <= _LAST_POINT:
            yield path < stored[: cut - 1] + chr(_AFTER_SURROGATES if point == 0xD800 else point)
            return


def list_page(
    connection: Connection,
    run_id: int,
    session: str,
    run: str,
    *conditions: Condition,
    order: tuple[str, bool],
    after: Position | None,
    limit: int | None,
) -> tuple[list[FileVersion], Position | None]:
    """Return file versions in an order, and the position of the last one.

    Parameters
    ----------
    conditions
        They must select at most one version of each path.
    order
        `index.domain.listing.check_order`.
    after
        The position after which the page begins.
    """
    key, path = _KEYS[order[0]], tables.files.c.path
    if after is not None:
        conditions = (*conditions, _is_after(after, *order))
    first = key.desc() if order[1] else key
    result = connection.execute(
        select(tables.files.c.id, *VERSION_FIELDS, key)
        .where(tables.files.c.run_id == run_id, *conditions)
        .order_by(*((first,) if key is path else (first, path)))
        .limit(limit)
    )
    versions, last = read_versions(result, session, run)
    return versions, None if last is None else Position(last[-1], versions[-1].path)


def _is_after(position: Position, name: str, is_descending: bool) -> Condition:  # noqa: FBT001
    key, path = _KEYS[name], tables.files.c.path
    beyond: Condition = key < position.key if is_descending else key > position.key
    if key is path:
        return beyond
    return or_(beyond, and_(key == position.key, path > position.path))


def find_position(
    connection: Connection, run_id: int, path: str, order: tuple[str, bool], *visible: Condition
) -> Position | None:
    """Return the position of a path: of its visible version, or else of its newest one."""
    is_visible = case((and_(*visible), 1), else_=0)
    found = connection.execute(
        select(_KEYS[order[0]], tables.files.c.path)
        .where(tables.files.c.run_id == run_id, has_path(path))
        .order_by(is_visible.desc(), tables.files.c.version.desc())
        .limit(1)
    ).first()
    return None if found is None else Position(*found)


def count_files(connection: Connection, run_id: int, *conditions: Condition) -> int:
    """Return the number of file versions of a run that fulfil all conditions."""
    statement = select(func.count()).where(tables.files.c.run_id == run_id, *conditions)
    return connection.scalar(statement) or 0


def list_names(
    connection: Connection,
    run_id: int,
    prefix: str,
    *conditions: Condition,
    after: str | None,
    limit: int | None,
) -> list[Name]:
    """Return the names directly below a directory in byte order.

    Parameters
    ----------
    prefix
        The path of the directory with a final slash; empty for the work directory.
    after
        The name after which the listing begins.
    """
    position = func.instr if connection.dialect.name == "sqlite" else func.strpos
    path = type_coerce(tables.files.c.path, Text())
    rest = func.substr(path, len(encode_path(prefix)) + 1)
    slash = position(rest, "/")
    # A subquery: PostgreSQL does not see that two expressions with parameters are the same.
    found = (
        select(
            case((slash > 0, func.substr(rest, 1, slash - 1)), else_=rest).label("name"),
            case((slash > 0, 1), else_=0).label("is_directory"),
            tables.files.c.size,
        )
        .where(tables.files.c.run_id == run_id, *conditions, *has_prefix(prefix))
        .subquery()
    )
    columns = found.c
    statement = (
        select(columns.name, columns.is_directory, func.count(), func.sum(columns.size))
        .group_by(columns.name, columns.is_directory)
        .order_by(columns.name, columns.is_directory)
        .limit(limit)
    )
    if after is not None:
        statement = statement.where(columns.name > encode_path(after))
    return [
        Name(decode_path(name), bool(is_directory), files, int(size))
        for name, is_directory, files, size in connection.execute(statement)
    ]


def list_paths(
    connection: Connection,
    run_id: int,
    session: str,
    run: str,
    paths: Sequence[str],
    *conditions: Condition,
) -> dict[str, FileVersion]:
    """Return the versions at some paths, by path."""
    found: dict[str, FileVersion] = {}
    for batch in batches(paths):
        rows = connection.execute(
            select(tables.files.c.id, *VERSION_FIELDS).where(
                tables.files.c.run_id == run_id, tables.files.c.path.in_(batch), *conditions
            )
        )
        versions = (make_version(row[0], session, run, *row[1:]) for row in rows)
        found.update((version.path, version) for version in versions)
    return found


def list_near(
    connection: Connection, run_id: int, path: str, *conditions: Condition
) -> Collection[str]:
    """Return paths that may be meant by one that does not exist: neighbours and namesakes."""
    neighbours: Sequence[str] = ()
    for folder in (*(f"{above}/" for above in islice(ancestors(path), _NEAR_FOLDERS)), ""):
        neighbours = _some_paths(connection, run_id, *has_prefix(folder), *conditions)
        if neighbours:
            break
    name = encode_path(path.rpartition("/")[2])
    raw = type_coerce(tables.files.c.path, Text())
    is_namesake = or_(raw == name, raw.endswith(f"/{name}", autoescape=True))
    return [*_some_paths(connection, run_id, is_namesake, *conditions), *neighbours]


def _some_paths(
    connection: Connection, run_id: int, *conditions: ColumnElement[bool]
) -> Sequence[str]:
    path = tables.files.c.path
    statement = select(path).where(tables.files.c.run_id == run_id, *conditions)
    return connection.scalars(statement.order_by(path).limit(_NEAR)).all()
