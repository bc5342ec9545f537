"""Queries on the inputs of runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import (
    BigInteger,
    Text,
    delete,
    func,
    insert,
    literal,
    or_,
    select,
    true,
    tuple_,
    type_coerce,
)

from index.db import tables
from index.db.bulk import bind_rows, insert_rows
from index.domain.inputs import Input, NewInput
from index.domain.names import storable
from index.domain.results import make_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from cas.digest import Digest
    from index.db.queries.files import Condition
    from index.domain.provenance import Provenance

__all__ = [
    "COLUMNS",
    "append",
    "copy",
    "count",
    "find_known",
    "insert_whole",
    "iter_references",
    "iter_rows",
    "list_inputs",
    "make_input",
    "remove",
]

COLUMNS: Final = tuple(
    column.name for column in tables.inputs.c if column.name not in ("id", "run_id")
)
"""Columns that are the same in every index; the position first."""

INPUT_FIELDS: Final = tuple(
    tables.inputs.c[tables.PROVENANCE_COLUMNS.get(name, name)]
    for name in Input.__dataclass_fields__
    if name not in ("session", "run")
)
"""The columns of an `Input` besides the names of its session and run."""

make_input: Final = make_of(Input)

_PAGE: Final = 5_000
"""Rows read at once, about 3 MB."""


def append(
    connection: Connection,
    run_id: int,
    new: Sequence[NewInput],
    *,
    snapshot: int,
    provenance: Provenance,
    now: datetime,
) -> None:
    """Insert inputs of a run whose next revision is claimed, but for those that it has already."""
    known = {NewInput.of(each) for each in find_known(connection, run_id, new, provenance)}
    missing = [each for each in dict.fromkeys(new) if each not in known]
    if not missing:
        return
    shared = {
        "snapshot": snapshot,
        "is_copy": False,
        "created_at": now,
        **{column: getattr(provenance, name) for name, column in tables.PROVENANCE_COLUMNS.items()},
    }
    first = count(connection, run_id) + 1
    rows = [
        {"run_id": run_id, "position": position, **each._asdict(), **shared}
        for position, each in enumerate(missing, first)
    ]
    connection.execute(insert(tables.inputs), rows)


def count(connection: Connection, run_id: int) -> int:
    """Return the number of inputs of a run, which is the position of the newest."""
    newest = select(func.coalesce(func.max(tables.inputs.c.position), 0))
    return int(connection.scalars(newest.where(tables.inputs.c.run_id == run_id)).one())


def find_known(
    connection: Connection,
    run_id: int,
    wanted: Iterable[NewInput],
    provenance: Provenance,
    session: str = "",
    run: str = "",
) -> list[Input]:
    """Return those inputs of a run, noted with this very provenance, that are among `wanted`."""
    wanted = frozenset(wanted)
    digests = sorted({each.digest for each in wanted})
    same = [
        tables.inputs.c[column].is_not_distinct_from(getattr(provenance, name))
        for name, column in tables.PROVENANCE_COLUMNS.items()
    ]
    found: list[Input] = []
    for at in range(0, len(digests), _PAGE):
        condition = tables.inputs.c.digest.in_(digests[at : at + _PAGE])
        found += list_inputs(connection, run_id, session, run, condition, *same)
    return [each for each in found if NewInput.of(each) in wanted]


def list_inputs(
    connection: Connection,
    run_id: int,
    session: str,
    run: str,
    *conditions: Condition,
    after: int = 0,
    limit: int | None = None,
) -> list[Input]:
    """Return inputs of a run, in the order in which they were noted.

    Parameters
    ----------
    after
        The position of the last input before.
    """
    columns = tables.inputs.c
    begin = columns.position > literal(storable(after), BigInteger())
    rows = connection.execute(
        select(*INPUT_FIELDS)
        .where(columns.run_id == run_id, begin, *conditions)
        .order_by(columns.position)
        .limit(limit)
    )
    return [make_input(session, run, *row) for row in rows]


def iter_rows(
    connection: Connection, run_id: int, *, after: int = 0, until: int | None = None
) -> Iterator[list[tuple[Any, ...]]]:
    """Yield pages of the inputs of a run, by `COLUMNS`, in the order of positions.

    Paths are as stored.
    """
    columns = tables.inputs.c
    plain = {"path": type_coerce(columns.path, Text())}
    while True:
        rows = connection.execute(
            select(*(plain.get(name, columns[name]) for name in COLUMNS))
            .where(
                columns.run_id == run_id,
                columns.position > after,
                true() if until is None else columns.position <= until,
            )
            .order_by(columns.position)
            .limit(_PAGE)
        ).all()
        if rows:
            yield [tuple(row) for row in rows]
            after = rows[-1][0]
        if len(rows) < _PAGE:
            return


def iter_references(connection: Connection) -> Iterator[tuple[str, Digest]]:
    """Yield what runs of any session have read outside of the store: each URI with each digest."""
    columns = tables.inputs.c
    after: tuple[str, Digest] | None = None
    while True:
        rows = connection.execute(
            select(columns.uri, columns.digest)
            .where(
                columns.uri.is_not(None),
                true() if after is None else tuple_(columns.uri, columns.digest) > tuple_(*after),
            )
            .distinct()
            .order_by(columns.uri, columns.digest)
            .limit(_PAGE)
        ).all()
        for row in rows:
            yield row[0], row[1]
        if len(rows) < _PAGE:
            return
        after = rows[-1][0], rows[-1][1]


def insert_whole(connection: Connection, run_id: int, rows: Sequence[Sequence[Any]]) -> None:
    """Insert inputs that `iter_rows` returned for another index or run."""
    bound = bind_rows(connection, tables.inputs, COLUMNS, rows)
    insert_rows(connection, tables.inputs, COLUMNS, bound, shared={"run_id": run_id})


def remove(connection: Connection, run_id: int) -> None:
    """Remove the inputs of a run, before those of another index take their place."""
    connection.execute(delete(tables.inputs).where(tables.inputs.c.run_id == run_id))


def copy(connection: Connection, source: int, target: int, snapshot: int) -> None:
    """Copy the inputs of a run to a new fork of it: those that its files may be made from.

    Those noted after the snapshot belong to what comes next, unless it is the newest one.
    """
    columns = tables.inputs.c
    newest = (
        select(func.coalesce(func.max(tables.snapshots.c.number), 0))
        .where(tables.snapshots.c.run_id == source)
        .scalar_subquery()
    )
    values: dict[str, Any] = {name: columns[name] for name in COLUMNS}
    values |= {"run_id": literal(target), "is_copy": true()}
    before = or_(columns.snapshot < snapshot, newest <= snapshot)
    chosen = select(*values.values()).where(columns.run_id == source, before)
    connection.execute(insert(tables.inputs).from_select(list(values), chosen))
