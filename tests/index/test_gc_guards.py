"""What each step of a collection refuses, even if the steps before it let it pass."""

from __future__ import annotations

import os
from datetime import timedelta

import pytest
from garbage import change, check_sound, collect, rows, scalar
from trees import write

from cas.digest import Digest
from index import ArtifactStore
from index.db.queries import liveness, packs

pytestmark = pytest.mark.usefixtures("equal_chunks")

MIB = 1 << 20
CONDEMNED = "SELECT digest FROM cas_blobs WHERE condemned_at IS NOT NULL"


@pytest.mark.parametrize("content", [b"1" * 300, b"2" * (2 * MIB)], ids=["small", "large"])
def test_what_is_referred_to_is_unmarked_though_it_is_condemned(store, run, place, content):
    run.put("f", content)
    store.session("s").run("gone").put("g", b"garbage")
    store.session("s").run("gone").delete()
    change(store, "UPDATE cas_blobs SET condemned_at = '2026-01-01 00:00:00'")
    kept, garbage = Digest.of(content), Digest.of(b"garbage")
    with store.context.database.writing() as connection:
        swept = liveness.sweep(connection, sorted([kept, garbage]), None)
    assert (swept.blobs, swept.unmarked) == (1, 1)
    assert (bytes(kept),) not in [(bytes(digest),) for (digest,) in rows(store, CONDEMNED)]
    check_sound(store, place)


def test_the_name_of_a_pack_that_somebody_has_recorded_is_not_buried(store, run):
    run.put("f", b"1" * 300)
    ((name,),) = rows(store, "SELECT name FROM cas_packs")
    nobodys = Digest.of(b"nobody's")
    now = store.context.clock()
    with store.context.database.writing() as connection:
        assert not packs.bury(connection, Digest(name), now)
        assert packs.bury(connection, nobodys, now)
        assert packs.bury(connection, nobodys, now)  # by another collection


def test_the_chunks_of_what_is_referred_to_are_not_condemned(store, run):
    run.put("f", bytes(range(256)) * (12 << 10))
    assert scalar(store, "SELECT count(*) FROM cas_blob_chunks") == 3
    assert collect(store, grace=timedelta(microseconds=1)).condemned.blobs == 0


def test_a_reader_whose_pack_is_gone_looks_where_the_bytes_are_now(store, place, work, monkeypatch):
    live = os.urandom(9000)
    write(work, {"live": live, "dead": os.urandom(60_000)})
    session = store.session("s")
    session.run("deleted").track(work)
    session.run("kept").put("live", live)
    session.run("deleted").delete()
    backend, moved = store.context.blobs.backend, []
    read = backend.read

    def read_late(*args):
        if not moved:
            with ArtifactStore.open(**place) as other:
                moved.append(collect(other))
        return read(*args)

    monkeypatch.setattr(backend, "read", read_late)
    assert session.run("kept").read_bytes("live") == live
    assert moved[0].packs_compacted > 0
