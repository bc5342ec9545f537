"""Statements for few rows by key: compiled once, and run without SQLAlchemy's layers around them.

SQLite finds a file and its place in 6 µs. With a statement that SQLAlchemy builds, and runs in a
transaction, that took 300 µs; with one that is compiled before, still 70 µs.
"""

from __future__ import annotations

from collections import deque
from itertools import count
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from index.db.sqlite import READ_ONLY

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from sqlalchemy import Select
    from sqlalchemy.engine import Dialect, Engine

__all__ = ["Compiled", "Lookup", "LookupConnection"]

_FEW: Final = 16
"""Lookups that use the pool. Another connection takes as long as what it saves in 50 of them."""


class Compiled(NamedTuple):
    """A lookup for one kind of database."""

    text: str
    parameters: Sequence[tuple[str, Callable[[Any], Any] | None]]
    """Names, with what converts their values. Positional ones are in order, with repetitions."""
    constants: Mapping[str, Any]
    is_positional: bool
    columns: Sequence[Callable[[Any], Any] | None]

    def bind(self, values: Mapping[str, Any]) -> Any:  # noqa: ANN401 - what the driver takes
        """Return the parameters with the driver's types."""
        values = {**self.constants, **values}
        bound = [
            (name, values[name] if process is None else process(values[name]))
            for name, process in self.parameters
        ]
        return tuple(value for _, value in bound) if self.is_positional else dict(bound)

    def convert(self, rows: Iterable[Sequence[Any]]) -> list[tuple[Any, ...]]:
        """Return the driver's rows with the values of the columns' types."""
        return [
            tuple(
                [
                    value if process is None else process(value)
                    for value, process in zip(row, self.columns, strict=True)
                ]
            )
            for row in rows
        ]


class Lookup:
    """A SELECT of few rows by key, for `Database.lookup`. Safe for use by several threads."""

    def __init__(self, statement: Select[Any]) -> None:
        """Take a statement whose parameters are each a `bindparam`."""
        self._statement: Final = statement
        self._compiled: Final[dict[str, Compiled]] = {}

    def compiled(self, dialect: Dialect) -> Compiled:
        """Return the statement for a kind of database."""
        found = self._compiled.get(dialect.name)
        if found is None:
            found = self._compiled[dialect.name] = self._compile(dialect)
        return found

    def _compile(self, dialect: Dialect) -> Compiled:
        made = self._statement.compile(dialect=dialect)
        binds = {name: bind for bind, name in made.bind_names.items()}
        names = made.positiontup if made.positional else binds
        return Compiled(
            made.string,
            [
                (name, binds[name].type.dialect_impl(dialect).bind_processor(dialect))
                for name in names or ()
            ],
            made.params,
            made.positional,
            [
                column.type.dialect_impl(dialect).result_processor(dialect, None)
                for column in self._statement.selected_columns
            ],
        )


class LookupConnection:
    """The connection to SQLite for lookups. Safe for use by several threads.

    To lend a connection and take it back, the pool needs twice the time of a lookup. So after some
    lookups, one connection stays apart from the pool, for whichever thread is first.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._done = count()
        self._apart: deque[sqlite3.Connection] = deque()
        self._is_closed = False

    def execute(self, statement: str, parameters: Sequence[object]) -> Sequence[Any] | None:
        """Return the rows of a statement; None if the file can only be read.

        Raises errors of sqlite3, or of SQLAlchemy if there is no connection.
        """
        try:
            driver = self._apart.pop()
        except IndexError:
            return self._execute_pooled(statement, parameters)
        try:
            rows = list(driver.execute(statement, parameters))
        except BaseException:
            driver.close()
            raise
        self._set_apart(driver)
        return rows

    def _execute_pooled(self, statement: str, parameters: Sequence[Any]) -> Sequence[Any] | None:
        pooled = self._engine.raw_connection()
        driver: Any = pooled.driver_connection
        is_ours = False
        try:
            if READ_ONLY in pooled.info:
                return None
            rows = list(driver.execute(statement, parameters))
            if next(self._done) >= _FEW and not self._apart:
                pooled.detach()
                is_ours = True
        finally:
            if not is_ours:
                pooled.close()
        if is_ours:
            self._set_apart(driver)
        return rows

    def _set_apart(self, driver: sqlite3.Connection) -> None:
        if self._apart:
            driver.close()
            return
        self._apart.append(driver)
        if self._is_closed:  # meanwhile
            self.close()

    def close(self) -> None:
        """Close the connection, and keep none from now on. Idempotent."""
        self._is_closed = True
        while self._apart:
            self._apart.pop().close()
