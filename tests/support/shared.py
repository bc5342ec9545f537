"""What the stores of one test process share, because making it takes longer than most tests.

The tests open thousands of stores. A process that a test starts shares nothing.
"""

from __future__ import annotations

import asyncio
import os

import fsspec.asyn
from aiobotocore.session import AioSession
from sqlalchemy import Engine, event
from sqlalchemy.util import LRUCache

from index.db import schema


class Compilations(LRUCache):
    """Compiled statements for all databases of a kind, not for one engine.

    A key begins with the dialect, of which each engine has its own.
    """

    def get(self, key, default=None):
        return super().get(_of_any_engine(key), default)

    def __setitem__(self, key, value):
        super().__setitem__(_of_any_engine(key), value)


def _of_any_engine(key):
    dialect, *statement = key
    return type(dialect), dialect.server_version_info, *statement


def share_compilations():
    """Let all engines that this process makes from now on compile each statement once."""
    compilations = Compilations(5000)
    initialize = Engine.__init__

    def initialize_sharing(self, *args, **options):
        initialize(self, *args, **options)
        self._compiled_cache = compilations

    Engine.__init__ = initialize_sharing


def share_migrations():
    """Let a new database run the statements that made the first one of its kind.

    Alembic takes 40 ms to find and compile them. Each database runs all of them, as before.
    """
    migrate, told = schema._migrate, {}

    def migrate_sharing(connection, revision):
        key = (connection.dialect.name, connection.dialect.server_version_info, revision)
        if schema._current(connection) is not None:
            migrate(connection, revision)
        elif key in told:
            for statement, parameters in told[key]:
                connection.exec_driver_sql(statement, parameters)
        else:
            told[key] = _statements_of(connection, lambda: migrate(connection, revision))

    migrate_sharing.alone = migrate
    schema._migrate = migrate_sharing


def _statements_of(connection, call):
    """Call something; return the statements that it ran on a connection, with their parameters."""
    seen = []

    def note(_connection, _cursor, statement, parameters, *_):
        seen.append((statement, parameters))

    event.listen(connection, "before_cursor_execute", note)
    try:
        call()
    finally:
        event.remove(connection, "before_cursor_execute", note)
    return seen


class SharedClients(AioSession):
    """A session that makes one client of a service. It stays open with its connections.

    Clients of other endpoints, such as a proxy with faults in between, are new and closed as usual.
    So are those of a forked process, in which the threads of the shared ones are missing.
    """

    def __init__(self, endpoint):
        super().__init__()
        self._endpoint = endpoint
        self._process = os.getpid()
        self._made = {}

    def create_client(self, *args, config, **options):
        if options.get("endpoint_url") != self._endpoint or os.getpid() != self._process:
            return super().create_client(*args, config=config, **options)
        told = (args, tuple(sorted(options.items())), repr(config._user_provided_options))
        if told not in self._made:
            self._made[told] = _Kept(super().create_client(*args, config=config, **options))
        return self._made[told]

    def close(self):
        for kept in self._made.values():
            fsspec.asyn.sync(fsspec.asyn.get_loop(), kept.close)


class _Kept:
    """A client that is made when it is first entered, and left at the end."""

    def __init__(self, creator):
        self._creator = creator
        self._client = None

    async def __aenter__(self):
        # Filesystems enter it one after the other or at once, all in fsspec's loop.
        if self._client is None:
            self._client = asyncio.ensure_future(self._creator.__aenter__())
        return await self._client

    async def __aexit__(self, *error):
        """Leave it open: others use it."""

    async def close(self):
        if self._client is not None:
            await self._creator.__aexit__(None, None, None)
