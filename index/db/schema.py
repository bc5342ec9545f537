"""The revision of the schema: find it, check it, and upgrade it.

This is the only module that uses Alembic. It imports Alembic only to run a migration or to explain
an error: opening an index that is up to date costs one SELECT.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import inspect, text

from index.errors import IndexUnavailableError, SchemaOutOfDateError

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy.engine import Connection

    from index.db.database import Database

__all__ = ["HEAD", "check", "check_connection", "current", "upgrade"]

HEAD: Final = "0001"
"""The revision that this release works with; a test compares it with the migrations."""

VERSION_TABLE: Final = "cas_alembic_version"

_MIGRATION_LOCK: Final = 0x72756E636173
"""Key of the PostgreSQL advisory lock around a migration: 'runcas' in ASCII."""


_alembic: Final = threading.Lock()
"""Alembic keeps the migration in progress in module globals."""


def current(database: Database) -> str | None:
    """Return the revision of the database; None if it has none of our tables."""
    return database.read(_current)


def check(database: Database) -> None:
    """Check that the schema is the one that this release needs.

    Raises
    ------
    SchemaOutOfDateError
        When the schema is older, newer or missing. The message names the command to run.
    """
    database.read(lambda connection: check_connection(connection, database.url))


def check_connection(connection: Connection, url: str) -> None:
    """Check the schema as `check` does, on an open connection; errors name `url`."""
    found = _current(connection)
    if found != HEAD:
        newer = found is not None and found not in _known_revisions()
        raise SchemaOutOfDateError(url, found, HEAD, newer=newer)


def upgrade(database: Database, revision: str = HEAD) -> None:
    """Upgrade the schema to `revision` in one transaction. Idempotent; safe in many processes.

    Raises
    ------
    SchemaOutOfDateError
        When a newer release made the schema.
    """

    def work(connection: Connection) -> None:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
            _check_encoding(connection, database.url)
        found = _current(connection)
        if found == revision:
            return
        if found is not None and found not in _known_revisions():
            raise SchemaOutOfDateError(database.url, found, HEAD, newer=True)
        _migrate(connection, revision)

    database.write(work, is_repeatable=True)


def _check_encoding(connection: Connection, url: str) -> None:
    """Raise unless the database can hold any text. SQL_ASCII keeps what it is given."""
    encoding = str(connection.scalar(text("SELECT current_setting('server_encoding')")))
    if encoding not in ("UTF8", "SQL_ASCII"):
        reason = f"its encoding {encoding} can't hold every name; create it with ENCODING 'UTF8'"
        raise IndexUnavailableError(url, reason)


def _current(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found = connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))  # noqa: S608
    return None if found is None else str(found)


def _known_revisions() -> set[str]:
    from alembic.script import ScriptDirectory

    return {script.revision for script in ScriptDirectory(_environment()).walk_revisions()}


def _migrate(connection: Connection, revision: str) -> None:
    from alembic import command

    config = _config()
    config.attributes["connection"] = connection
    with _alembic:
        command.upgrade(config, revision)


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", _environment().replace("%", "%%"))
    return config


def _environment() -> str:
    """Return the directory of the migrations: in the wheel, or beside the packages."""
    package = Path(__file__).parents[1]
    for place in (package / "migrations", package.parent / "migrations"):
        if (place / "env.py").is_file():
            return str(place)
    raise FileNotFoundError(
        f"the migrations that belong to {package} are missing; reinstall runcas"
    )
