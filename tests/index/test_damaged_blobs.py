"""A damaged blob counts as not stored. Storing its bytes again repairs it."""

from __future__ import annotations

import os

import pytest
from damage import execute
from sqlalchemy import text

from cas.digest import Digest
from index.db.catalog import SqlCatalog

pytestmark = pytest.mark.usefixtures("equal_chunks")

MIB = 1 << 20


@pytest.fixture
def damage(store):
    def mark():
        """Mark all blobs as damaged, and drop all chunk lists."""
        with store.context.database.writing() as connection:
            connection.execute(text("UPDATE cas_blobs SET damaged_at = '2026-01-01 00:00:00'"))
            connection.execute(text("DELETE FROM cas_chunk_lists"))
            connection.execute(text("DELETE FROM cas_blob_chunks"))

    return mark


def damaged(store):
    with store.context.database.reading() as connection:
        return connection.scalar(
            text("SELECT count(*) FROM cas_blobs WHERE damaged_at IS NOT NULL")
        )


@pytest.mark.parametrize("content", [b"small", b"large" * MIB])
def test_storing_the_same_bytes_again_mends_them(store, work, content, damage):
    first = store.session("s").run("one")
    first.put("f", content)
    damage()
    before = damaged(store)
    (work / "copy").write_bytes(content)
    snapshot = store.session("s").run("two").track(work)
    assert snapshot.bytes_stored > 0
    assert damaged(store) < before
    assert first.read_bytes("f") == content


def test_what_is_not_damaged_is_not_stored_again(store, work):
    store.session("s").run("one").put("f", b"same")
    digest = Digest.of(b"same")
    catalog = SqlCatalog(store.context.database, store.context.clock)
    before = catalog.locate([digest])
    (work / "copy").write_bytes(b"same")
    store.session("s").run("two").track(work)
    assert catalog.locate([digest]) == before


def test_tracking_a_large_file_again_mends_a_chunk_of_it(store, work, monkeypatch):
    monkeypatch.setattr("cas.writer._RECOGNISED_FROM", MIB)  # smaller files are not looked up
    data = os.urandom(4 * MIB)
    (work / "big").write_bytes(data)
    store.session("s").run("r").track(work)
    lost = bytes(Digest.of(data[MIB : 2 * MIB]))
    execute(
        store, "UPDATE cas_blobs SET damaged_at = created_at WHERE digest = :digest", digest=lost
    )
    assert damaged(store) == 1
    assert store.session("s").run("again").track(work).bytes_stored > MIB
    assert damaged(store) == 0
    assert store.session("s").run("third").track(work).bytes_stored == 0
    assert not store.verify(depth="bytes").faults
