"""A large index: the number of statements grows with batches; writers wait for one batch."""

from __future__ import annotations

import os
import threading
import time

import pytest
from events import statements
from garbage import NOW, collect, contents, scalar

from index.db import tables
from index.db.bulk import insert_rows
from index.db.queries.blobs import PLACE_NAMES
from index.maintenance.gc.plan import plan_gc
from index.maintenance.gc.settings import GcOptions, GcSettings

BLOBS = 30_000


@pytest.fixture
def crowded(store):
    """An index of many unreferenced blobs, in packs without objects."""
    store.session("s").run("r").put("f", b"needed" * 100)
    with store.context.database.writing() as connection:
        now = store.context.clock()
        names = [os.urandom(32) for _ in range(BLOBS // 1000)]
        first = scalar(store, "SELECT max(id) FROM cas_packs") + 1
        insert_rows(
            connection,
            tables.packs,
            ("id", "name", "size", "state"),
            [(first + n, name, 10_000, "live") for n, name in enumerate(names)],
            shared={"created_at": now},
        )
        insert_rows(
            connection,
            tables.blobs,
            ("digest", *PLACE_NAMES),
            [(os.urandom(32), first + n // 1000, n, 10, 10, 0, 0, 0) for n in range(BLOBS)],
            shared={"created_at": now},
        )
    return store


@pytest.mark.slow
@pytest.mark.parametrize("place", ["sqlite-local", "postgresql-local"], indirect=True)
def test_statements_grow_with_batches_only(crowded):
    with statements(crowded) as planned:
        plan = plan_gc(crowded.context, GcOptions(GcSettings(grace=NOW, rest=0)))
    assert plan.swept.blobs == BLOBS
    assert len(planned) < 30
    with statements(crowded) as seen:
        report = plan.execute()
    assert report.swept.blobs == BLOBS
    assert len(seen) < 12 * BLOBS / 1000
    assert len(contents(crowded)) == 1
    assert crowded.session("s").run("r").read_bytes("f") == b"needed" * 100


@pytest.mark.slow
@pytest.mark.parametrize("place", ["sqlite-local"], indirect=True)
def test_a_writer_waits_for_one_batch_at_most(crowded):
    """SQLite has one writer at a time; a batch is a thirtieth of this collection."""
    run = crowded.session("s").run("r")
    waits = []
    collecting = threading.Thread(target=collect, args=(crowded,))
    started = time.perf_counter()
    collecting.start()
    while collecting.is_alive():
        before = time.perf_counter()
        run.put("f", os.urandom(8))
        waits.append(time.perf_counter() - before)
    collecting.join()
    taken = time.perf_counter() - started
    assert len(waits) >= 10
    assert max(waits) < max(0.3 * taken, 1.5)
