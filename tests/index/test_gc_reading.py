"""Reads succeed while a collection rewrites and deletes the pack."""

from __future__ import annotations

import os

import pytest
from garbage import NOW, collect, content_packs, contents, during
from places import objects_of
from trees import read, write

from cas.errors import BlobNotFoundError
from index import ArtifactStore

MIB = 1 << 20
BIG = os.urandom(12 * MIB + 77)
SMALL = {f"small{n}": os.urandom(3000 + n) for n in range(40)}


@pytest.fixture(params=[False, True], ids=["plain", "cached"])
def store(request, place, tmp_path):
    cache = {"cache": tmp_path / "cache"} if request.param and "storage_options" in place else {}
    with ArtifactStore.open(**place, **cache) as opened:
        yield opened


@pytest.fixture
def collector(place):
    with ArtifactStore.open(**place) as opened:
        yield opened


@pytest.fixture
def kept(store, work):
    """A run whose packs are all about to be rewritten."""
    write(work, {**SMALL, "big": BIG, "dead": os.urandom(14 * MIB)})
    deleted = store.session("s").run("deleted")
    deleted.track(work)
    kept = store.session("s").run("kept")
    (work / "dead").unlink()
    kept.track(work)
    deleted.delete()
    return kept


@pytest.fixture
def moved(place, collector):
    """Return a function that rewrites and deletes every pack with content, and checks it."""

    def move():
        objects = objects_of(place)
        before = set(content_packs(objects))
        report = collect(collector)
        assert report.packs_compacted == len(before)
        assert before.isdisjoint(content_packs(objects))

    return move


@pytest.mark.slow
def test_every_way_of_reading(store, kept, moved, tmp_path):
    """Each read begins before the packs move and ends after; streams have read a part before."""
    stream = kept.open("big")
    assert stream.read(3 * MIB) == BIG[: 3 * MIB]
    untouched = kept.open("big")
    digests = {version.path: version.digest for version in kept.files()}
    blobs = store.context.blobs
    pieces = blobs.iter_pieces(digests["big"])
    first = bytes(next(pieces))
    many = blobs.read_many([digest for path, digest in digests.items() if path != "big"])
    one = next(many)
    moved()
    assert stream.read() == BIG[3 * MIB :]
    stream.seek(-100, os.SEEK_END)
    assert stream.read() == BIG[-100:]
    untouched.seek(7 * MIB + 5)
    assert untouched.read(2 * MIB) == BIG[7 * MIB + 5 : 9 * MIB + 5]
    assert first + b"".join(pieces) == BIG
    found = dict([one, *many])
    assert {path: bytes(found[digests[path]]) for path in SMALL} == SMALL


@pytest.mark.parametrize("how", ["read", "range", "restore", "sync"])
def test_between_lookup_and_read(store, kept, moved, how, tmp_path):
    done = during(store, "cas_blobs.pack_offset", moved)
    digest = kept.file("big").digest
    if how == "read":
        assert kept.read_bytes("big") == BIG
    elif how == "range":
        data = store.context.blobs.read_range(digest, 5 * MIB - 3, 2 * MIB)
        assert data == BIG[5 * MIB - 3 : 7 * MIB - 3]
    elif how == "restore":
        kept.restore(tmp_path / "out")
        assert read(tmp_path / "out") == {**SMALL, "big": BIG}
    else:
        with ArtifactStore.open(tmp_path / "copy") as copy:
            assert not store.sync_to(copy).unsynced
            assert copy.session("s").run("kept").read_bytes("big") == BIG
    assert done


def test_a_blob_that_is_swept_between_lookup_and_read_is_not_found(store, kept, collector):
    digest = kept.file("small1").digest

    def sweep():
        kept.delete()
        collect(collector)

    during(store, "cas_blobs.pack_offset", sweep)
    with pytest.raises(BlobNotFoundError):
        store.context.blobs.read(digest)
    assert contents(store) == set()
    assert store.plan_gc(grace=NOW).swept.blobs == 0
