"""Queries on the present files of a run, for a commit to compare with and to continue."""

from __future__ import annotations

from difflib import get_close_matches
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import func, select

from index.db import tables
from index.db.bulk import batches, driver_rows
from index.db.column_types import decode_path, encode_path
from index.domain.annotations import FileKind
from index.domain.names import ancestors
from index.domain.provenance import Provenance
from index.domain.run_state import KnownFile

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from sqlalchemy.engine import Connection

__all__ = [
    "Before",
    "count_current",
    "list_similar",
    "load_concerned",
    "load_current",
    "load_newest",
]

_KNOWN: Final = KnownFile._fields[:-1]
"""The columns of a `KnownFile`; its last field is the provenance."""

_PATH: Final = _KNOWN.index("path")
_LABELS: Final = len(_KNOWN)
"""The place of the first label of the provenance in a row."""

_SELECTED: Final = select(
    *(tables.files.c[name] for name in _KNOWN),
    *(tables.files.c[name] for name in tables.PROVENANCE_COLUMNS.values()),
).where(tables.files.c.end_snapshot.is_(None))

_SIMILAR: Final = 500
"""Names that are compared with one that does not exist."""

_SHOWN: Final = 3
"""Names that are proposed in its place."""


class Before(NamedTuple):
    """The last version of a path, current or not. The next one continues it."""

    version: int
    appeared_in: int
    kind: FileKind


def load_current(connection: Connection, run_id: int) -> list[KnownFile]:
    """Return the current version of every path of a run."""
    statement = _SELECTED.where(tables.files.c.run_id == run_id)
    return _known(
        (*row[:_PATH], decode_path(row[_PATH]), *row[_PATH + 1 :]) if "\\" in row[_PATH] else row
        for row in driver_rows(connection, statement)
    )


def count_current(connection: Connection, run_id: int) -> int:
    """Return the number of current versions of a run."""
    columns = tables.files.c
    current = (columns.run_id == run_id, columns.end_snapshot.is_(None))
    return connection.scalar(select(func.count()).select_from(tables.files).where(*current)) or 0


def load_concerned(connection: Connection, run_id: int, paths: Collection[str]) -> list[KnownFile]:
    """Return the current versions of paths, and of files that can't exist beside them.

    A path can't be a file and a directory: files at the parent directories of a path are in its
    way, and so are files below it.
    """
    columns = tables.files.c
    places = sorted({place for path in paths for place in (path, *ancestors(path))})
    found = list(
        chain.from_iterable(
            _known(
                connection.execute(
                    _SELECTED.where(columns.run_id == run_id, columns.path.in_(batch))
                )
            )
            for batch in batches(places)
        )
    )
    here = {known.path for known in found}
    new = sorted(encode_path(path) for path in set(paths) - here)
    below = {
        file_id for batch in batches(new) for file_id in _list_below(connection, run_id, batch)
    }
    for batch in batches(sorted(below - {known.id for known in found})):
        found += _known(connection.execute(_SELECTED.where(columns.id.in_(batch))))
    return found


def _known(rows: Iterable[Sequence[Any]]) -> list[KnownFile]:
    provenances: dict[Sequence[str | None], Provenance] = {}
    found = []
    for row in rows:
        labels = row[_LABELS:]
        provenance = provenances.get(labels)
        if provenance is None:
            provenance = Provenance(**dict(zip(tables.PROVENANCE_COLUMNS, labels, strict=True)))
            provenances[labels] = provenance
        found.append(KnownFile._make((*row[:_LABELS], provenance)))
    return found


def _list_below(connection: Connection, run_id: int, paths: Sequence[str]) -> list[int]:
    """Return the ids of current versions below paths, which are given as stored.

    One range of an index for each path: "0" comes after "/", so "a0" comes after all of "a/…".
    """
    ranges = [(f"{path}/", f"{path}0") for path in paths]
    if connection.dialect.name == "postgresql":
        lows, highs = zip(*ranges, strict=True)
        found = connection.exec_driver_sql(
            "SELECT f.id FROM unnest(%(lows)s::text[], %(highs)s::text[]) AS w (low, high)"
            " JOIN cas_files AS f"
            ' ON f.path >= w.low COLLATE "C" AND f.path < w.high COLLATE "C"'
            " WHERE f.run_id = %(run_id)s AND f.end_snapshot IS NULL",
            {"lows": list(lows), "highs": list(highs), "run_id": run_id},
        )
    else:
        marks = ", ".join(["(?, ?)"] * len(ranges))
        statement = (
            f"WITH w (low, high) AS (VALUES {marks})"  # noqa: S608 - marks for parameters
            " SELECT f.id FROM w CROSS JOIN cas_files AS f"
            " WHERE f.run_id = ? AND f.end_snapshot IS NULL"
            " AND f.path >= w.low AND f.path < w.high"
        )
        found = connection.exec_driver_sql(statement, (*chain.from_iterable(ranges), run_id))
    return [int(row[0]) for row in found]


def load_newest(
    connection: Connection, run_id: int, current: Sequence[int], others: Sequence[str]
) -> dict[str, Before]:
    """Return the last versions of paths, without those that have none.

    Parameters
    ----------
    current
        Ids of current versions.
    others
        Paths without a current version.
    """
    columns = tables.files.c
    kind = (columns[name] for name in FileKind._fields)
    statement = select(columns.path, columns.version, columns.appeared_in, *kind)
    newest: dict[str, Before] = {}
    for batch in batches(current):
        newest.update(_befores(connection.execute(statement.where(columns.id.in_(batch)))))
    for paths in batches(others):
        last = (
            select(columns.path, func.max(columns.version).label("version"))
            .where(columns.run_id == run_id, columns.path.in_(paths))
            .group_by(columns.path)
            .subquery()
        )
        found = statement.join(
            last, (columns.path == last.c.path) & (columns.version == last.c.version)
        ).where(columns.run_id == run_id)
        newest.update(_befores(connection.execute(found)))
    return newest


def _befores(rows: Iterable[Sequence[Any]]) -> dict[str, Before]:
    return {row[0]: Before(row[1], row[2], FileKind(*row[3:])) for row in rows}


def list_similar(connection: Connection, run_id: int, path: str) -> tuple[str, ...]:
    """Return at most three current paths that the caller may mean by one that has no file.

    These are files below it, files of the same name elsewhere, and names in its directory that are
    nearly the same.
    """
    columns = tables.files.c
    directory, slash, name = path.rpartition("/")
    beside = (columns.path > f"{directory}/", columns.path < f"{directory}0") if slash else ()
    groups = (
        (columns.path > f"{path}/", columns.path < f"{path}0"),
        (columns.path.endswith(f"/{name}", autoescape=True),),
        beside,
    )
    below, namesakes, others = (
        connection.scalars(
            select(columns.path)
            .where(columns.run_id == run_id, columns.end_snapshot.is_(None), *conditions)
            .order_by(columns.path)
            .limit(_SIMILAR)
        ).all()
        for conditions in groups
    )
    near = get_close_matches(path, others, _SHOWN)
    return tuple(dict.fromkeys([*below, *namesakes, *near]))[:_SHOWN]
