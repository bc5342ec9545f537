"""What tests of garbage collection share: a clock, hooks, and queries below the API."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import UTC, datetime, timedelta

from events import at_lookups
from places import objects_of, packs_of
from sqlalchemy import event, text

from cas.digest import Digest
from cas.packs.pack import EntryKind, read_footer
from index.journal.encoding import decode_record
from index.journal.entries import DeletionEntry

NOW = timedelta(0)
HOUR = timedelta(hours=1)


class Clock:
    """A clock that only the test moves."""

    def __init__(self):
        self.now = datetime(2026, 5, 1, tzinfo=UTC)

    def __call__(self):
        return self.now

    def go(self, span):
        self.now += span


def collect(store, *, grace=NOW, **options):
    """Plan and execute a collection."""
    return store.plan_gc(grace=grace, **options).execute()


def scalar(store, sql):
    with store.context.database.reading() as connection:
        return connection.scalar(text(sql))


def rows(store, sql):
    with store.context.database.reading() as connection:
        return [tuple(row) for row in connection.execute(text(sql))]


def change(store, sql):
    with store.context.database.writing() as connection:
        connection.execute(text(sql))


OF_RECORDS = """(SELECT digest FROM cas_records
    UNION SELECT digest FROM cas_released WHERE path IS NULL)"""
"""Digests of journal records: those that are kept, and those of deleted runs."""

CONTENTS = f"FROM cas_blobs WHERE digest NOT IN {OF_RECORDS}"
"""Blobs with content: files, and chunks and chunk lists of large files."""


def contents(store, condition="1 = 1"):
    """Return the blobs that are not journal records."""
    return {bytes(digest) for (digest,) in rows(store, f"SELECT digest {CONTENTS} AND {condition}")}


def condemned(store):
    """Return how many content blobs are condemned."""
    return len(contents(store, "condemned_at IS NOT NULL"))


def swept_by(store, **options):
    """Collect; return how many content blobs were deleted. All others were journal records."""
    everything, before = all_blobs(store), contents(store)
    report = collect(store, **options)
    gone = everything - all_blobs(store)
    assert report.swept.blobs == len(gone)
    return len(gone & before)


def all_blobs(store):
    return {bytes(digest) for (digest,) in rows(store, "SELECT digest FROM cas_blobs")}


def kinds(plan):
    """Return how many blobs a plan lists, by fate and kind."""
    return Counter((blob.fate, blob.kind) for blob in plan.iter_blobs())


def tables_of(store):
    """Return the number of rows for content in each table, without those for journal records.

    A pack counts unless it is live and has only journal records.
    """
    names = ("blob_chunks", "chunk_lists", "released")
    found = {name: scalar(store, f"SELECT count(*) FROM cas_{name}") for name in names}  # noqa: S608
    used = "SELECT pack_id FROM cas_blobs WHERE pack_id IS NOT NULL AND digest"
    packs = f"""SELECT count(*) FROM cas_packs WHERE NOT (state = 'live'
        AND id IN ({used} IN {OF_RECORDS}) AND id NOT IN ({used} NOT IN {OF_RECORDS}))"""  # noqa: S608
    return found | {"contents": len(contents(store)), "packs": scalar(store, packs)}


def entries_of(objects, name):
    """Return the entries in the footer of a pack."""
    data = objects.read(name)
    return read_footer(name, len(data), lambda at, size: data[at : at + size])


def content_packs(objects):
    """Return the names of the packs that do not only have journal records."""
    return [
        name
        for name in packs_of(objects)
        if any(entry.kind is not EntryKind.RECORD for entry in entries_of(objects, name))
    ]


def check_only_tombstones(store, objects, runs):
    """Check that index and storage have nothing but the records of that many deleted runs."""
    loose = rows(store, "SELECT digest FROM cas_records WHERE run_id IS NULL")
    found = [decode_record(store.context.blobs.read(Digest(bytes(digest)))) for (digest,) in loose]
    assert {type(entry) for entry in found} <= {DeletionEntry}
    assert sum(len(entry.runs) for entry in found) == runs
    assert all_blobs(store) == {bytes(digest) for (digest,) in loose}
    assert set(tables_of(store).values()) == {0}
    left = [entry for name in packs_of(objects) for entry in entries_of(objects, name)]
    assert {bytes(entry.digest) for entry in left} == all_blobs(store)
    assert {entry.kind for entry in left} <= {EntryKind.RECORD}


def check_sound(store, place):
    """Check that every reference can be read, and that every needed pack is in storage."""
    for (digest,) in rows(store, "SELECT DISTINCT digest FROM cas_records"):
        decode_record(store.context.blobs.read(Digest(bytes(digest))))
    for summary in store.runs():
        run = store.session(summary.session).run(summary.run)
        for version in run.files():
            assert len(run.read_bytes(version.path)) == version.size
    there = {name.rpartition("/")[2].removesuffix(".pack") for name in packs_of(objects_of(place))}
    needed = rows(store, "SELECT DISTINCT name FROM cas_packs JOIN cas_blobs ON pack_id = id")
    assert {bytes(name).hex() for (name,) in needed} <= there


def during(store, word, action, *, threaded=True):
    """Do something once, in another thread, after a statement that contains `word`."""
    done = []

    def act(statement):
        if word in statement and not done:
            done.append(statement)
            thread = threading.Thread(target=action)
            thread.start()
            if threaded:
                thread.join()
            else:
                done.append(thread)

    engine = store.context.database.engine
    event.listen(engine, "after_cursor_execute", lambda *passed: act(passed[2]))
    at_lookups(store, after=act)
    return done


def before_commit_of_packs(
    store, action, *, noted_by="INSERT INTO cas_packs", step="UPDATE cas_packs"
):
    """Do something once, after a scan published its packs and before its commit writes.

    In general: between a transaction with the statement `noted_by` and the next one that writes. On
    PostgreSQL, where BEGIN does not show whether a transaction writes, before its statement `step`.
    """
    done = []
    noted = []
    is_server = store.context.database.is_server
    next_step = step if is_server else "BEGIN IMMEDIATE"

    def look(_connection, _cursor, statement, *_):
        if statement.startswith(noted_by):
            noted.append(statement)
        elif noted and not done and statement.startswith(next_step):
            done.append(statement)
            thread = threading.Thread(target=action)
            thread.start()
            thread.join()

    event.listen(store.context.database.engine, "before_cursor_execute", look)
    return done
