"""Kept counts of the file versions of a run, so that statistics need not read every version.

`tables.counts` has a row for all versions of a run with the same labels. Every function that
inserts, ends or labels versions keeps them right, in the transaction that does so. That transaction
holds the run's row, so no other one changes the counts of this run meanwhile.
"""

from __future__ import annotations

import json
from collections import defaultdict
from contextlib import contextmanager
from itertools import islice, repeat
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from sqlalchemy import delete, func, literal, select, update

from cas.digest import Digest
from cas.digest_table import DigestTable
from index.db import tables
from index.db.bulk import BATCH_SIZE, batches, run_over

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from sqlalchemy import ColumnElement
    from sqlalchemy.engine import Connection

    from index.domain.changes import NewRow
    from index.domain.provenance import Provenance

__all__ = [
    "COUNTED",
    "Distinct",
    "add_copied",
    "add_ended",
    "add_whole",
    "count_again",
    "counting",
    "counting_new",
    "let_go",
]

_KEY: Final = tuple(
    tables.files.c[name]
    for name in (
        *("run_id", "file_type", "priority", "is_final_output"),
        *tables.PROVENANCE_COLUMNS.values(),
    )
)
_NUMBERS: Final = ("files", "bytes", "versions", "version_bytes", "distinct_bytes")
COUNTED: Final = ", ".join(column.name for column in (*_KEY, tables.files.c.size))
"""The columns of a version that decide where it is counted, and its size, for a statement."""

_ADD: Final = (
    f"INSERT INTO cas_counts (labels, {', '.join(c.name for c in _KEY)}, {', '.join(_NUMBERS)})"  # noqa: S608 - names of our own columns
    " VALUES ({marks}) ON CONFLICT (run_id, labels) DO UPDATE SET "
    + ", ".join(f"{name} = cas_counts.{name} + excluded.{name}" for name in _NUMBERS)
)
"""A text: each commit runs it, and to build it anew took a quarter of a small commit."""

_ROWS_AT_ONCE: Final = 2_000
"""New versions whose contents are looked up at once."""

_Counts: TypeAlias = "Mapping[tuple[Any, ...], Sequence[int]]"
"""Values of `_NUMBERS`, by those of `_KEY`."""


@contextmanager
def counting(connection: Connection, ids: Sequence[int]) -> Iterator[None]:
    """Keep the counts right over statements that update the versions with these ids."""
    before = _count_by_id(connection, ids)
    yield
    changes = defaultdict(_nothing, _count_by_id(connection, ids))
    for key, count in before.items():
        changes[key] = [now - old for now, old in zip(changes[key], count, strict=True)]
    _add(connection, changes)


def counting_new(
    connection: Connection, run_id: int, rows: Iterable[NewRow], provenance: Provenance
) -> Iterator[NewRow]:
    """Yield the rows of new current versions of a run, and count them after the last one."""
    counts: defaultdict[tuple[str, str, bool], list[int]] = defaultdict(lambda: [0, 0])
    distinct = Distinct(connection, run_id)
    begun = iter(rows)
    while part := list(islice(begun, _ROWS_AT_ONCE)):
        for _, _, seen, kind, _ in part:
            count = counts[kind[:3]]
            count[0] += 1
            count[1] += seen[2]
        distinct.add([seen[1:3] for _, _, seen, _, _ in part])
        yield from part
    labels = [getattr(provenance, name) for name in tables.PROVENANCE_COLUMNS]
    made = {(run_id, *kind, *labels): [*count, *count, 0] for kind, count in counts.items()}
    _add(connection, made, distinct.bytes)


def add_whole(
    connection: Connection,
    run_id: int,
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    distinct_bytes: int,
) -> None:
    """Count new versions of a run, given by values of `columns`; a column left out is null."""
    given = dict(zip(columns, zip(*rows, strict=True), strict=False))
    null = repeat(None)
    labels = zip(*(given.get(column.name, null) for column in _KEY[1:]), strict=False)
    counts: defaultdict[tuple[Any, ...], list[int]] = defaultdict(_nothing)
    ends = given.get("end_snapshot", null)
    for label, size, end in zip(labels, given.get("size", ()), ends, strict=False):
        count = counts[label]
        if end is None:
            count[0] += 1
            count[1] += size
        count[2] += 1
        count[3] += size
    _add(
        connection,
        {
            (run_id, file_type, priority, bool(is_final), *made_by): count
            for (file_type, priority, is_final, *made_by), count in counts.items()
        },
        distinct_bytes,
    )


def add_copied(connection: Connection, ids: Sequence[int]) -> None:
    """Count new current versions of a run that are copies of its versions with these ids."""
    copied = _count_by_id(connection, ids)
    _add(connection, {key: [*count[2:4], *count[2:4], 0] for key, count in copied.items()})


def add_ended(connection: Connection, versions: Iterable[Sequence[Any]]) -> None:
    """Count versions as past that were current, given by the driver's values of `COUNTED`."""
    counts: defaultdict[tuple[Any, ...], list[int]] = defaultdict(_nothing)
    for row in versions:
        run_id, file_type, priority, is_final, *labels, size = row
        count = counts[(run_id, file_type, priority, bool(is_final), *labels)]
        count[0] -= 1
        count[1] -= size
    _add(connection, counts)


def let_go(connection: Connection, run_id: int, distinct_bytes: int) -> None:
    """Count the bytes of contents that a run no longer has; only their sum is read."""
    kept, mine = tables.counts.c, tables.counts.c.run_id == run_id
    any_labels = select(kept.labels).where(mine).order_by(kept.labels).limit(1).scalar_subquery()
    if distinct_bytes:
        connection.execute(
            update(tables.counts)
            .where(mine, kept.labels == any_labels)
            .values(distinct_bytes=kept.distinct_bytes - distinct_bytes)
        )


def count_again(connection: Connection, run_id: int) -> None:
    """Count all versions of a run anew."""
    connection.execute(delete(tables.counts).where(tables.counts.c.run_id == run_id))
    mine = tables.files.c.run_id == run_id
    first = select(func.min(tables.files.c.id)).where(mine, tables.files.c.digest.is_not(None))
    is_first = tables.files.c.id.in_(first.group_by(tables.files.c.digest))
    _add(connection, _count(connection, mine, func.sum(tables.files.c.size).filter(is_first)))


class Distinct:
    """The bytes of contents that a run is about to hold for the first time."""

    def __init__(self, connection: Connection, run_id: int) -> None:
        self._connection = connection
        self._run_id = run_id
        self._seen = DigestTable("")
        self._is_empty: bool | None = None
        self.bytes = 0

    def add(self, contents: Iterable[tuple[bytes, int]]) -> None:
        """Add contents of versions that the run does not have yet."""
        sizes = dict(contents)
        fresh = {digest: sizes[digest] for (digest,) in self._seen.add_new((d,) for d in sizes)}
        self.bytes += sum(fresh.values())
        if self._is_empty is None and len(fresh) > BATCH_SIZE:  # worth a query
            mine = select(tables.counts.c.run_id).where(tables.counts.c.run_id == self._run_id)
            self._is_empty = self._connection.scalar(mine.limit(1)) is None
        if self._is_empty:
            return
        for batch in batches(list(fresh)):
            held = run_over(
                self._connection,
                "SELECT DISTINCT digest FROM cas_files WHERE run_id = {run_id} AND digest {wanted}",
                tables.files.c.digest,
                batch,
                extra={"run_id": self._run_id},
            )
            self.bytes -= sum(fresh[digest] for (digest,) in held)


def _nothing() -> list[int]:
    return [0] * len(_NUMBERS)


def _count_by_id(connection: Connection, ids: Sequence[int]) -> _Counts:
    total: defaultdict[tuple[Any, ...], list[int]] = defaultdict(_nothing)
    for batch in batches(ids):
        found = _count(connection, tables.files.c.id.in_(batch), literal(0))
        for key, count in found.items():
            total[key] = [*map(sum, zip(total[key], count, strict=True))]
    return total


def _count(
    connection: Connection, condition: ColumnElement[bool], distinct_bytes: ColumnElement[int]
) -> _Counts:
    size, current = tables.files.c.size, tables.files.c.end_snapshot.is_(None)
    rows = connection.execute(
        select(
            *_KEY,
            func.count().filter(current),
            func.coalesce(func.sum(size).filter(current), 0),
            func.count(),
            func.sum(size),
            func.coalesce(distinct_bytes, 0),
        )
        .where(condition)
        .group_by(*_KEY)
    )
    return {tuple(row[: len(_KEY)]): [*map(int, row[len(_KEY) :])] for row in rows}


def _add(connection: Connection, counts: _Counts, distinct_bytes: int = 0) -> None:
    """Add to the counts; the bytes of new contents to any of them, as only their sum is read."""
    rows = [
        (Digest.of(json.dumps(key).encode()), *key, *count)
        for key, count in counts.items()
        if any(count)
    ]
    if rows:
        *first, bytes_before = rows[0]
        rows[0] = (*first, bytes_before + distinct_bytes)
        mark = "%s" if connection.dialect.name == "postgresql" else "?"
        marks = ", ".join([mark] * len(rows[0]))
        connection.exec_driver_sql(_ADD.format(marks=marks), rows)
