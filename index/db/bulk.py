"""Reading and inserting many rows at the speed of the driver.

On SQLite, SQLAlchemy's Core inserts 90,000 to 120,000 rows a second from a list of dicts. The
driver's own ``executemany`` inserts 150,000 to 300,000 from tuples. Statements that take fifty rows
and leave out columns that are null in all of them double that: 20,000 files and their blobs took
0.30 s one by one, and 0.15 s this way. Values have the driver's own types; SQLAlchemy's bind
processors convert the few that don't.

On PostgreSQL one statement takes each column as an array. Tracking 20,000 files takes 2.8 s this
way, and 3.8 s with psycopg's ``executemany``. COPY would need a temporary table for rows that may
exist already.
"""

from __future__ import annotations

from itertools import chain, islice, repeat
from string import Formatter
from typing import TYPE_CHECKING, Any

from sqlalchemy import ARRAY, Boolean, any_, bindparam, text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from sqlalchemy import Column, ColumnElement, Select, Table
    from sqlalchemy.dialects import postgresql, sqlite
    from sqlalchemy.engine import Connection, CursorResult
    from sqlalchemy.sql.compiler import SQLCompiler

__all__ = [
    "allocate_ids",
    "batches",
    "bind_rows",
    "bound",
    "dialect_insert",
    "driver_rows",
    "filled",
    "insert_rows",
    "one_of",
    "run_over",
    "typed_columns",
]

BATCH_SIZE = 1_000
"""Values in one IN list: far below SQLite's 32,766 variables and PostgreSQL's 65,535."""


_VALUES_AT_ONCE = 1_000
"""Values in one INSERT on SQLite: some fifty rows. More gain nothing."""

_ROWS_AT_ONCE = 2_000
"""Rows prepared at once for SQLite, some megabytes."""

_ROWS_OF_ARRAYS = 10_000
"""Rows of one statement on PostgreSQL."""


def batches(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Yield `values` in parts that fit one IN list."""
    for start in range(0, len(values), BATCH_SIZE):
        yield values[start : start + BATCH_SIZE]


def dialect_insert(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """Return an INSERT with the dialect's ON CONFLICT, without importing the other dialect."""
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as postgresql_insert

        return postgresql_insert(table)
    from sqlalchemy.dialects.sqlite import insert as sqlite_insert

    return sqlite_insert(table)


class one_of(FunctionElement[bool]):  # noqa: N801 - SQLAlchemy names functions so
    """The condition that a column has one of the values of a parameter, a sequence.

    On PostgreSQL the parameter is one array: to write and read a list of a thousand parameters
    takes longer than to find what has them.
    """

    inherit_cache = True
    type = Boolean()

    def __init__(self, column: ColumnElement[Any], name: str) -> None:
        super().__init__(column, bindparam(name, expanding=True, type_=column.type))

    def self_group(self, against: object = None) -> one_of:
        """Return it as it is: a function on SQLite would be compared with 1, and use no index."""
        return self


@compiles(one_of)
def _one_in_list(element: one_of, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401
    column, values = element.clauses
    return compiler.process(column.in_(values), **options)


@compiles(one_of, "postgresql")
def _one_in_array(element: one_of, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401
    column, values = element.clauses
    array = bindparam(values.key, type_=ARRAY(column.type))
    return compiler.process(column == any_(array), **options)


def filled(
    connection: Connection, values: Sequence[Any], count: int | None = None
) -> Sequence[Any]:
    """Return at most `BATCH_SIZE` values, on SQLite the last one repeated up to a power of two.

    So there are few texts of a statement with an IN list, and the driver keeps them prepared.
    PostgreSQL takes an array as it is, and plans by its length.

    Parameters
    ----------
    count
        How many there are in the longest of some lists that are made alike.
    """
    if not values or connection.dialect.name == "postgresql":
        return values
    wanted = min(1 << ((count or len(values)) - 1).bit_length(), BATCH_SIZE)
    return [*values, *repeat(values[-1], wanted - len(values))]


def driver_rows(connection: Connection, statement: Select[Any]) -> Sequence[Sequence[Any]]:
    """Return the rows of a SELECT with the driver's values, without type conversion.

    Use it for tens of thousands of rows, for which conversion and `Row` objects take longer than
    the query. The statement's own parameters must have the driver's types.
    """
    compiled = statement.compile(
        dialect=connection.dialect, compile_kwargs={"render_postcompile": True}
    )
    values = compiled.construct_params()
    parameters: Any = values
    if compiled.positional:
        parameters = tuple(values[name] for name in compiled.positiontup or ())
    return connection.exec_driver_sql(compiled.string, parameters).all()


def typed_columns(connection: Connection, statement: Select[Any]) -> Sequence[Sequence[Any]]:
    """Return the columns of the rows of a SELECT, with the types of its columns.

    For many rows. Whole columns are converted at once, and most need no conversion.
    """
    dialect = connection.dialect
    columns: list[Sequence[Any]] = list(zip(*driver_rows(connection, statement), strict=True))
    for place, selected in enumerate(statement.selected_columns if columns else ()):
        process = selected.type.dialect_impl(dialect).result_processor(dialect, None)
        if process is not None:
            columns[place] = list(map(process, columns[place]))
    return columns


def run_over(
    connection: Connection,
    statement: str,
    column: Column[Any],
    values: Sequence[Any],
    *,
    extra: Mapping[str, object] | None = None,
) -> CursorResult[Any]:
    """Run a statement over at most `BATCH_SIZE` values of a column.

    SQLAlchemy takes longer to compile an IN list than the database takes to search it. SQLite also
    takes longer to parse one, unless its driver has that exact text in its cache. So the text
    depends only on the number of values, and on SQLite there are only eleven such numbers.

    Parameters
    ----------
    statement
        A constant, with ``{wanted}`` for "is one of the values" and names of `extra` in braces.
    values
        At least one, with the driver's types.
    extra
        More values by name, with the driver's types.
    """
    extra = extra or {}
    if connection.dialect.name == "postgresql":
        wanted = f"= ANY(%(wanted)s::{_type_name(connection, column)}[])"
        marks = {name: f"%({name})s" for name in extra}
        parameters: Any = {"wanted": list(values), **extra}
        return connection.exec_driver_sql(statement.format(wanted=wanted, **marks), parameters)
    given = filled(connection, values)
    count = len(given)
    wanted = f"IN ({', '.join(repeat('?', count))})"
    marks = dict.fromkeys(extra, "?")
    fields = [name for _, name, _, _ in Formatter().parse(statement) if name]
    parts = (given if name == "wanted" else (extra[name],) for name in fields)
    parameters = tuple(chain.from_iterable(parts))
    return connection.exec_driver_sql(statement.format(wanted=wanted, **marks), parameters)


def insert_rows(
    connection: Connection,
    table: Table,
    columns: Sequence[str],
    rows: Iterable[tuple[Any, ...]],
    *,
    shared: Mapping[str, Any] | None = None,
    ignore_conflicts: bool = False,
) -> int:
    """Insert `rows` with few statements; return the number inserted.

    The rows are read in parts, so they need not all fit in memory.

    Parameters
    ----------
    columns
        The columns of the values in each row, in order. Paths are already encoded.
    shared
        Columns with one value for all rows. Where it is None, the column's default must be NULL.
    ignore_conflicts
        Skip rows whose key exists.
    """
    insert, at_once = _insert_tuples, _ROWS_AT_ONCE
    if connection.dialect.name == "postgresql":
        insert, at_once = _insert_arrays, _ROWS_OF_ARRAYS
    begun = iter(rows)
    inserted = 0
    while part := list(islice(begun, at_once)):
        inserted += insert(connection, table, columns, part, shared or {}, ignore_conflicts)
    return inserted


def _insert_tuples(
    connection: Connection,
    table: Table,
    columns: Sequence[str],
    rows: Sequence[tuple[Any, ...]],
    shared: Mapping[str, Any],
    ignore_conflicts: bool,  # noqa: FBT001 - as in its caller
) -> int:
    """Insert rows with statements that take about fifty of them at once."""
    constants = {name: value for name, value in shared.items() if value is not None}
    tail = tuple(bound(connection, table, constants).values())
    preparer = connection.dialect.identifier_preparer
    names = ", ".join(preparer.quote(name) for name in (*columns, *constants))
    one = f"({', '.join('?' * (len(columns) + len(tail)))})"

    def statement(count: int) -> str:
        values = ", ".join([one] * count)
        conflicts = " ON CONFLICT DO NOTHING" if ignore_conflicts else ""
        return (
            f"INSERT INTO {preparer.format_table(table)} ({names})"  # noqa: S608 - our own tables
            f" VALUES {values}{conflicts}"
        )

    def flat(part: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
        return tuple(chain.from_iterable(row + tail for row in part))

    at_once = max(1, _VALUES_AT_ONCE // (len(columns) + len(tail)))
    rest = len(rows) % at_once
    inserted = 0
    if rest:
        inserted += connection.exec_driver_sql(statement(rest), flat(rows[:rest])).rowcount
    if whole := [flat(rows[at : at + at_once]) for at in range(rest, len(rows), at_once)]:
        inserted += connection.exec_driver_sql(statement(at_once), whole).rowcount
    return inserted


def bind_rows(
    connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[Sequence[Any]]
) -> list[tuple[Any, ...]]:
    """Return rows in the form that `insert_rows` takes. Paths are already encoded."""
    dialect = connection.dialect
    bound: list[Sequence[Any]] = list(zip(*rows, strict=True))
    for place, name in enumerate(columns if bound else ()):
        process = table.c[name].type.dialect_impl(dialect).bind_processor(dialect)
        if process is not None and name != "path":
            bound[place] = [value if value is None else process(value) for value in bound[place]]
    return list(zip(*bound, strict=True))


def _insert_arrays(
    connection: Connection,
    table: Table,
    columns: Sequence[str],
    rows: Sequence[tuple[Any, ...]],
    shared: Mapping[str, Any],
    ignore_conflicts: bool,  # noqa: FBT001 - as in its caller
) -> int:
    """Insert rows with one statement that takes each column as an array, and constants once."""
    preparer = connection.dialect.identifier_preparer
    names = [preparer.quote(name) for name in columns]
    arrays = ", ".join(f"%({name})s::{_type_name(connection, table.c[name])}[]" for name in columns)
    constants = [f"%({name})s::{_type_name(connection, table.c[name])}" for name in shared]
    statement = (
        f"INSERT INTO {preparer.format_table(table)}"  # noqa: S608 - names of our own tables
        f" ({', '.join([*names, *map(preparer.quote, shared)])})"
        f" SELECT {', '.join([*(f'r.{name}' for name in names), *constants])}"
        f" FROM unnest({arrays}) AS r ({', '.join(names)})"
    )
    if ignore_conflicts:
        statement += " ON CONFLICT DO NOTHING"
    values = map(list, zip(*rows, strict=True))
    parameters = dict(zip(columns, values, strict=True)) | bound(connection, table, shared)
    return connection.exec_driver_sql(statement, parameters).rowcount


def bound(connection: Connection, table: Table, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with the driver's types."""
    dialect = connection.dialect
    converted = {}
    for name, value in values.items():
        process = table.c[name].type.dialect_impl(dialect).bind_processor(dialect)
        converted[name] = process(value) if process else value
    return converted


def _type_name(connection: Connection, column: Column[Any]) -> str:
    return column.type.compile(dialect=connection.dialect).partition(" COLLATE")[0]


def allocate_ids(connection: Connection, table: Table, count: int) -> Sequence[int]:
    """Return `count` new ids of `table`, which no other row had or will get.

    The caller is in a write transaction, and inserts rows with these ids. On SQLite they ascend,
    and the row with the last of them marks all as used; on a server their order says nothing.
    """
    if count == 0:
        return ()
    if connection.dialect.name == "postgresql":
        sequence = text(
            "SELECT nextval(pg_get_serial_sequence(:name, 'id')) FROM generate_series(1, :count)"
        )
        return list(connection.scalars(sequence, {"name": table.name, "count": count}))
    # AUTOINCREMENT stores the highest id ever used; BEGIN IMMEDIATE keeps other writers out.
    used = connection.scalar(
        text("SELECT seq FROM sqlite_sequence WHERE name = :name"), {"name": table.name}
    )
    first = (used or 0) + 1
    return range(first, first + count)
