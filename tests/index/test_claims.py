"""Storage belongs to one index: to another, its packs would be orphans."""

from __future__ import annotations

import json
import threading
from contextlib import closing

import pytest
from garbage import collect
from lost import lose_index
from places import CORNERS, everywhere, objects_of, on, packs_of

from cas.backends.memory import MemoryBackend
from cas.errors import StorageAccessError, UnsupportedFormatError
from cas.store import claim_storage, find_owner
from index import ArtifactStore, recover
from index.errors import IndexLostError, StorageClaimedError


@pytest.fixture(params=CORNERS)
def nowhere(request, stores, tmp_path):
    """Where two indexes and the storage for one of them can be."""
    made = stores.nowhere(request.param, embedded=False)
    other = {**made, "index": f"sqlite:///{tmp_path / 'other.db'}"}
    yield made, other
    stores.drop(made)


def test_a_second_index_is_refused_before_anything_is_recorded(nowhere):
    first, second = nowhere
    ArtifactStore.open(**first).close()
    with pytest.raises(StorageClaimedError, match="give this one other storage"):
        ArtifactStore.open(**second)
    with ArtifactStore.open(**first) as store:
        store.session("s").run("r").put("f", b"1")
    with pytest.raises(IndexLostError, match="open it with the index that it belongs to"):
        ArtifactStore.open(**second)


def test_an_index_that_was_refused_can_have_other_storage(nowhere, tmp_path):
    first, second = nowhere
    ArtifactStore.open(**first).close()
    with pytest.raises(StorageClaimedError):
        ArtifactStore.open(**second)
    with ArtifactStore.open(index=second["index"], blobs=tmp_path / "own") as store:
        assert store.session("s").run("r").put("f", b"1").version == 1


def test_one_of_two_indexes_that_begin_at_once_gets_the_storage(nowhere):
    outcomes = []
    begin = threading.Barrier(2)

    def open_one(place):
        begin.wait()
        try:
            ArtifactStore.open(**place).close()
        except StorageClaimedError:
            outcomes.append("refused")
        else:
            outcomes.append("opened")

    threads = [threading.Thread(target=open_one, args=(place,)) for place in nowhere]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["opened", "refused"]


def test_many_processes_that_begin_with_one_index_all_get_the_storage(nowhere):
    first, _ = nowhere
    errors = []

    def open_one():
        try:
            ArtifactStore.open(**first).close()
        except Exception as error:  # noqa: BLE001 - shown by the assertion
            errors.append(error)

    threads = [threading.Thread(target=open_one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


@everywhere
def test_a_recovered_index_takes_the_storage_from_the_one_that_was_lost(place, objects):
    with ArtifactStore.open(**place) as store:
        store.session("s").run("r").put("f", b"1")
    before = objects.read("index.json")
    lose_index(place)
    assert recover(**place, dry_run=True).is_whole
    assert objects.read("index.json") == before
    assert recover(**place).is_whole
    assert objects.read("index.json") != before
    with ArtifactStore.open(**place, create=False) as store:
        assert store.session("s").run("r").read_bytes("f") == b"1"


@on(index="sqlite", blobs="local", because="its index is a file that can come back")
def test_an_index_that_comes_back_after_a_recovery_is_refused(place, tmp_path):
    root = place["root"]
    with ArtifactStore.open(root) as store:
        store.session("s").run("r").put("f", b"1")
    (root / "index.db").rename(tmp_path / "old.db")
    old = {"index": f"sqlite:///{tmp_path / 'old.db'}", "blobs": root}
    recover(root)
    with pytest.raises(StorageClaimedError):
        ArtifactStore.open(**old)
    with ArtifactStore.open(root) as store:
        assert store.session("s").run("r").read_bytes("f") == b"1"


@on(index="sqlite", blobs="local", because="what decides is in storage")
def test_orphans_stay_when_the_storage_has_gone_to_another_index(place):
    root = place["root"]
    with ArtifactStore.open(root) as store:
        store.session("s").run("r").put("f", b"1")
        with closing(ArtifactStore.open(root)) as late:
            claim_storage(store.context.blobs.backend, "another", replace=True)
            kept = packs_of(objects_of(place))
            with pytest.raises(StorageClaimedError):
                collect(late, remove_orphans=True)
        assert packs_of(objects_of(place)) == kept
        collect(store)  # all else does not depend on it


def test_a_copy_of_index_and_storage_is_a_store_of_its_own(stores, place, tmp_path):
    with ArtifactStore.open(**place) as store:
        store.session("s").run("r").put("f", b"1")
    copy = stores.copy(place, tmp_path / "copy")
    for each in (copy, place):
        with ArtifactStore.open(**each, create=False) as store:
            assert store.session("s").run("r").read_bytes("f") == b"1"
    stores.drop(copy)


def test_storage_whose_claim_was_lost_is_claimed_again(place, objects):
    before = objects.read("index.json")
    objects.remove("index.json")
    ArtifactStore.open(**place, create=False).close()
    assert objects.read("index.json") == before
    assert set(json.loads(before)) == {"index_id"}


@on(index="sqlite", blobs="local", because="the directory is one that nobody may write to")
def test_a_lost_claim_keeps_nobody_from_reading(place, monkeypatch):
    with ArtifactStore.open(**place) as store:
        store.session("s").run("r").put("f", b"1")
    (place["root"] / "index.json").unlink()

    def refuse(_backend, name, _data):
        raise StorageAccessError(name, "read only")

    monkeypatch.setattr("cas.backends.local.LocalBackend.create", refuse)
    with ArtifactStore.open(**place, create=False) as store:
        assert store.session("s").run("r").read_bytes("f") == b"1"


def test_a_claim_holds_until_it_is_replaced():
    backend = MemoryBackend()
    assert find_owner(backend) is None
    assert claim_storage(backend, "a")
    assert claim_storage(backend, "a")
    assert not claim_storage(backend, "b")
    assert find_owner(backend) == "a"
    assert claim_storage(backend, "b", replace=True)
    assert not claim_storage(backend, "a")


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b"\xff"])
def test_a_claim_that_cannot_be_read_gets_one_sentence(text):
    backend = MemoryBackend()
    backend.create("index.json", text)
    with pytest.raises(UnsupportedFormatError, match=r"index\.json of the store"):
        find_owner(backend)
