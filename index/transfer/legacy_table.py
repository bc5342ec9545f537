"""Reading the `files` table of the trackers that this library replaces. The table is only read.

The columns are those of the specification's model (stage 4, "File Tracking Overhaul", task 4.1).
All but ``id``, ``run_id`` and ``file_path`` may be missing.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import MetaData, Table, create_engine, event, select, type_coerce
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchTableError
from sqlalchemy.types import NullType

from index.db.engines import any_url, said_by, shown_url
from index.domain.names import MAX_ROW_ID
from index.errors import LegacyTableError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

    from sqlalchemy import URL
    from sqlalchemy.engine import Connection, Engine

__all__ = ["LegacyRow", "read_runs"]

_TABLE: Final = "files"
_REQUIRED: Final = frozenset(("id", "run_id", "file_path"))
_BATCH: Final = 2_000
"""Rows fetched at a time."""


class LegacyRow(NamedTuple):
    """A row of the old table; None for missing values."""

    id: Any
    run_id: Any
    session_id: Any
    file_path: Any
    file_type: str | None
    size_bytes: int | None
    content_hash: str | None
    """SHA-256, hexadecimal."""
    priority: str | None
    is_final_output: bool | None
    workflow_phase: str | None
    generating_agent: str | None
    generating_code_hash: str | None
    node_id: Any
    step_id: Any
    event_id: Any
    created_at: datetime | None
    others: Mapping[str, Any]
    """All other columns, as far as JSON can hold them."""


def read_runs(url: str | URL) -> Generator[tuple[tuple[Any, Any], list[LegacyRow]]]:
    """Yield ``((session id, run id), rows)`` for each run, rows oldest first.

    One run is in memory at a time. Closing the generator ends the reading.

    Raises
    ------
    LegacyTableError
        When the database can't be read or has no such table.
    """
    with _reading(url) as (connection, name):
        try:
            # The tables it refers to may be missing, and are not needed.
            table = Table(_TABLE, MetaData(), autoload_with=connection, resolve_fks=False)
        except NoSuchTableError:
            raise LegacyTableError(name, "it has no table 'files'") from None
        missing = sorted(_REQUIRED - set(table.c.keys()))
        if missing:
            raise LegacyTableError(name, f"its table 'files' has no column {missing[0]!r}")
        order = ("session_id", "run_id", "created_at", "id")
        # Driver values: a value that a type can't convert would end the reading.
        raw = (type_coerce(column, NullType()).label(column.name) for column in table.c)
        statement = select(*raw).order_by(
            *(table.c[column] for column in order if column in table.c)
        )
        with connection.execution_options(yield_per=_BATCH).execute(statement) as rows:
            made = (_row(dict(values)) for values in rows.mappings())
            for key, group in groupby(made, key=lambda row: (row.session_id, row.run_id)):
                yield key, list(group)


def _row(values: dict[str, Any]) -> LegacyRow:
    fields = {name: values.pop(name, None) for name in LegacyRow._fields}
    fields["created_at"] = _moment(fields["created_at"])
    fields["size_bytes"] = _size(fields["size_bytes"])
    for name in ("file_type", "content_hash", "priority"):
        fields[name] = _text(fields[name])
    fields["others"] = {
        name: value if isinstance(value, (str, int, list, dict)) else str(value)
        for name, value in values.items()
        if value is not None and not isinstance(value, (bytes, memoryview))
    }
    return LegacyRow(**fields)


@contextmanager
def _reading(url: str | URL) -> Iterator[tuple[Connection, str]]:
    try:
        parsed = any_url(url)
        engine = create_engine(parsed)
    except ImportError as error:
        reason = f"its driver is missing ({error}); for PostgreSQL, pip install 'runcas[postgres]'"
        raise LegacyTableError("URL", reason) from None
    except ArgumentError as error:
        # The part that could not be parsed may hold a password.
        raise LegacyTableError("URL", str(error).splitlines()[0]) from None
    name = shown_url(parsed)
    file = parsed.database if parsed.get_backend_name() == "sqlite" else None
    if file and file != ":memory:" and not file.startswith("file:") and not Path(file).exists():
        raise LegacyTableError(name, "there is no such file")  # SQLite would create it
    event.listen(engine, "connect", _refuse_writes(engine))
    try:
        with engine.connect() as connection:
            yield connection, name
    except DBAPIError as error:
        raise LegacyTableError(name, said_by(error, parsed)) from error
    finally:
        engine.dispose()


def _refuse_writes(engine: Engine) -> Any:  # noqa: ANN401 - SQLAlchemy's listener
    """Return a listener that makes each connection read-only."""
    setting = {
        "sqlite": "PRAGMA query_only=ON",
        "postgresql": "SET default_transaction_read_only = on",
    }.get(engine.dialect.name)

    def listener(connection: Any, _record: object) -> None:  # noqa: ANN401 - any driver's
        if setting is not None:
            cursor = connection.cursor()
            cursor.execute(setting)
            cursor.close()

    return listener


def _moment(value: datetime | str | None) -> datetime | None:
    """Return a time with its zone. One without a zone is UTC, which the old model stored."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        return None
    if not isinstance(moment, datetime):
        return None
    try:
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except OverflowError:  # beyond the year 9999 in UTC
        return None


def _size(value: Any) -> int | None:  # noqa: ANN401 - any driver's
    """Return a number of bytes; None for what is none."""
    try:
        return min(max(int(value), 0), MAX_ROW_ID)
    except (TypeError, ValueError, OverflowError):
        return None


def _text(value: object) -> str | None:
    return None if value is None or isinstance(value, (bytes, memoryview)) else str(value)
