"""Reading the `files` table of the trackers that this library replaces. Nothing is written to it.

Columns are those of the specification's model (stage 4, "File Tracking Overhaul", task 4.1); all
but ``id``, ``run_id`` and ``file_path`` may be missing.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import MetaData, Table, create_engine, event, make_url, select
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchTableError

from index.errors import LegacyTableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import URL
    from sqlalchemy.engine import Connection, Engine

__all__ = ["LegacyRow", "read_runs"]

_TABLE: Final = "files"
_REQUIRED: Final = frozenset(("id", "run_id", "file_path"))
_BATCH: Final = 2_000
"""Rows fetched at a time."""


class LegacyRow(NamedTuple):
    """A row of the old table; None is what it doesn't tell."""

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
    node_id: Any
    step_id: Any
    event_id: Any
    created_at: datetime | None


def read_runs(url: str | URL) -> Iterator[tuple[tuple[Any, Any], list[LegacyRow]]]:
    """Yield ``((session id, run id), rows)`` of each run, rows oldest first, one run in memory.

    Raises
    ------
    LegacyTableError
        When the database can't be read or has no such table.
    """
    with _reading(url) as (connection, name):
        try:
            table = Table(_TABLE, MetaData(), autoload_with=connection)
        except NoSuchTableError:
            raise LegacyTableError(name, "it has no table 'files'") from None
        missing = sorted(_REQUIRED - set(table.c.keys()))
        if missing:
            raise LegacyTableError(name, f"its table 'files' has no column {missing[0]!r}")
        there = [column for column in LegacyRow._fields if column in table.c]
        order = ("session_id", "run_id", "created_at", "id")
        statement = select(*(table.c[column] for column in there)).order_by(
            *(table.c[column] for column in order if column in table.c)
        )
        rows = connection.execution_options(yield_per=_BATCH).execute(statement)
        empty = dict.fromkeys(LegacyRow._fields)
        made = (LegacyRow(**{**empty, **dict(zip(there, row, strict=True))}) for row in rows)
        for key, group in groupby(made, key=lambda row: (row.session_id, row.run_id)):
            yield key, [row._replace(created_at=_aware(row.created_at)) for row in group]


@contextmanager
def _reading(url: str | URL) -> Iterator[tuple[Connection, str]]:
    try:
        parsed = make_url(url)
        engine = create_engine(parsed)
    except (ArgumentError, ImportError) as error:
        # Whatever could not be parsed may hold a password.
        raise LegacyTableError("URL", str(error).splitlines()[0]) from None
    name = parsed.render_as_string(hide_password=True)
    event.listen(engine, "connect", _refuse_writes(engine))
    try:
        with engine.connect() as connection:
            yield connection, name
    except DBAPIError as error:
        raise LegacyTableError(name, str(error.orig)) from error
    finally:
        engine.dispose()


def _refuse_writes(engine: Engine) -> Any:  # noqa: ANN401 - SQLAlchemy's listener
    """Return a listener that makes each connection one that can only read."""
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


def _aware(moment: datetime | None) -> datetime | None:
    """Return a time with its zone; one without is UTC, which is what the old model stored."""
    if moment is None or moment.tzinfo is not None:
        return moment
    return moment.replace(tzinfo=UTC)
