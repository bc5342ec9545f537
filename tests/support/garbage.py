"""What the tests of garbage collection share: a clock, hooks, and looks below the API."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

from places import objects_of, packs_of
from sqlalchemy import event, text

NOW = timedelta(0)
HOUR = timedelta(hours=1)


ACROSS = ("sqlite-local", "postgresql-s3")
"""Each kind of index and each kind of blobs once, for what does not depend on the pairing."""


class Clock:
    """A clock that only the test moves."""

    def __init__(self):
        self.now = datetime(2026, 5, 1, tzinfo=UTC)

    def __call__(self):
        return self.now

    def go(self, span):
        self.now += span


def collect(store, *, grace=NOW, **options):
    """Plan and execute."""
    return store.plan_gc(grace=grace, **options).execute()


def scalar(store, sql):
    with store.services.database.reading() as connection:
        return connection.scalar(text(sql))


def rows(store, sql):
    with store.services.database.reading() as connection:
        return [tuple(row) for row in connection.execute(text(sql))]


def change(store, sql):
    with store.services.database.writing() as connection:
        connection.execute(text(sql))


def tables_of(store):
    """Return how many rows the tables of bytes have."""
    names = ("blobs", "blob_chunks", "chunk_lists", "packs", "released")
    return {name: scalar(store, f"SELECT count(*) FROM cas_{name}") for name in names}  # noqa: S608


def check_sound(store, place):
    """Every reference can be read, no row leads nowhere, and no pack is without a use."""
    for summary in store.runs():
        run = store.session(summary.session).run(summary.run)
        for version in run.files():
            assert len(run.read_bytes(version.path)) == version.size
    there = {name.rpartition("/")[2].removesuffix(".pack") for name in packs_of(objects_of(place))}
    needed = rows(store, "SELECT DISTINCT name FROM cas_packs JOIN cas_blobs ON pack_id = id")
    assert {bytes(name).hex() for (name,) in needed} <= there


def during(store, word, action, *, threaded=True):
    """Do something once, in another thread, when a statement with a word has been executed."""
    done = []

    def act(_connection, _cursor, statement, *_):
        if word in statement and not done:
            done.append(statement)
            thread = threading.Thread(target=action)
            thread.start()
            if threaded:
                thread.join()
            else:
                done.append(thread)

    event.listen(store.services.database.engine, "after_cursor_execute", act)
    return done


def before_commit_of_packs(
    store, action, *, noted_by="INSERT INTO cas_packs", step="UPDATE cas_packs"
):
    """Do something once, when a scan's packs are published and its commit has not written.

    Or, in general, between a transaction with one statement and the next one that writes; on
    PostgreSQL, where a transaction does not say so, before that one's statement `step`.
    """
    done = []
    noted = []
    is_server = store.services.database.is_server
    next_step = step if is_server else "BEGIN IMMEDIATE"

    def look(_connection, _cursor, statement, *_):
        if statement.startswith(noted_by):
            noted.append(statement)
        elif noted and not done and statement.startswith(next_step):
            done.append(statement)
            thread = threading.Thread(target=action)
            thread.start()
            thread.join()

    event.listen(store.services.database.engine, "before_cursor_execute", look)
    return done
