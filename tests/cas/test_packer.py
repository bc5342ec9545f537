"""Batches with several packs: the one with the records is last, and interrupts leave nothing.

A batch opens a second pack once it has filled one. The pack with records and chunk lists is
published after all others. However a batch is interrupted, no thread and no staged file stays.
"""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from cas.backends.memory import MemoryBackend
from cas.catalog import MemoryCatalog
from cas.digest import Digest
from cas.errors import BackendError
from cas.packs.pack import pack_object_name
from cas.store import BlobStore, StoreSettings
from cas.waiting import pause

MIB = 1 << 20
SECONDS = 30


class Backend(MemoryBackend):
    """Writes two objects at once, counts staged bytes, and delays or fails the writes of one."""

    writes_at_once = 2

    def __init__(self):
        super().__init__()
        self.staged = []
        self.discarded = 0
        self.written = threading.Condition()
        self.held = None
        self.fail = None

    def stage(self):
        staged = super().stage()
        number = len(self.staged)
        self.staged.append(0)
        original, discard = staged.write, staged.discard

        def write(data):
            if self.held is not None and number == self.held[0]:
                assert self.held[1].wait(SECONDS)
            if number == self.fail:
                raise BackendError(f"pack {number}", "broken")
            original(data)
            with self.written:
                self.staged[number] += len(data)
                self.written.notify_all()

        def count():
            self.discarded += 1
            discard()

        staged.write, staged.discard = write, count
        return staged

    def wait_until(self, condition):
        with self.written:
            assert self.written.wait_for(condition, SECONDS)


@pytest.fixture
def backend():
    return Backend()


@pytest.fixture
def catalog():
    return MemoryCatalog()


@pytest.fixture
def store(backend, catalog, monkeypatch):
    monkeypatch.setattr("cas.packs.packer.PACK_SIZE", 4 * MIB)
    settings = StoreSettings(1, "blake3-256", "fixed", MIB, "", "")
    return BlobStore(backend, catalog, settings)


def write(store, size):
    """Store that many MiB; return their digests and the written batch."""
    with store.batch() as batch:
        digests = [batch.add(os.urandom(MIB)) for _ in range(size)]
        written = batch.finish()
    return digests, written


def test_a_batch_that_fills_no_pack_leaves_one(store, backend):
    _, written = write(store, 3)
    assert (len(written.packs), len(backend.staged)) == (1, 1)


def test_every_blob_of_packs_written_side_by_side_is_where_it_is_said_to_be(store, catalog):
    digests, written = write(store, 80)
    assert written.blobs.keys() == set(digests)
    assert {place.pack for place in written.blobs.values()} == {pack.name for pack in written.packs}
    catalog.record(written)
    assert all(Digest.of(store.read(digest)) == digest for digest in digests)


def test_a_pack_goes_on_while_another_waits_for_its_disk(store, backend):
    backend.held = (1, threading.Event())
    with store.batch() as batch:
        for number in range(40):
            batch.add(os.urandom(MIB))
            if number == 30:
                # One of the two packs in the second place waits; later ones are still written.
                backend.wait_until(lambda: len(backend.staged) > 2 and backend.staged[2] > 0)
                backend.held[1].set()
        written = batch.finish()
    assert sum(pack.entries for pack in written.packs) == 40


@pytest.mark.parametrize("failing", range(4))
def test_an_error_in_any_pack_is_the_error_of_the_batch(store, backend, failing):
    backend.fail = failing
    with pytest.raises(BackendError, match=f"pack {failing}"):
        write(store, 60)
    assert backend.discarded == len(backend.staged)
    assert not any(thread.name.startswith("cas-pack") for thread in threading.enumerate())


@pytest.mark.parametrize("at_once", [1, 4])
@pytest.mark.parametrize("size", [1, 6, 7, 8, 60])
def test_records_and_lists_are_published_once_all_that_they_tell_of_is(
    store, backend, monkeypatch, at_once, size
):
    monkeypatch.setattr(Backend, "publishes_at_once", at_once)
    under_way, ended = set(), []
    original = backend.stage

    def stage():
        staged = original()
        publish = staged.publish

        def watched(name):
            beside = set(under_way)
            under_way.add(name)
            if not ended and not beside:
                time.sleep(0.3)  # the first one takes longest
            publish(name)
            under_way.discard(name)
            ended.append((name, beside))

        staged.publish = watched
        return staged

    backend.stage = stage
    with store.batch() as batch:
        batch.add_pieces(os.urandom(MIB) for _ in range(size))
        record = batch.add_record(b"record")
        written = batch.finish()
    last, beside = ended[-1]
    assert not beside
    assert last == pack_object_name(written.blobs[record].pack)
    told = {record, *written.chunk_lists.values()}
    assert {pack_object_name(written.blobs[digest].pack) for digest in told} == {last}


@pytest.mark.parametrize(("pack_size", "packs"), [(64, 1), (5, 6), (1, 30)])
def test_where_no_thread_starts_the_caller_writes_as_many_packs(
    store, backend, catalog, monkeypatch, pack_size, packs
):
    def none_starts(_thread):
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", none_starts)
    monkeypatch.setattr("cas.packs.packer.PACK_SIZE", pack_size * MIB)
    digests, written = write(store, 30)
    catalog.record(written)
    assert all(Digest.of(store.read(digest)) == digest for digest in digests)
    assert (len(written.packs), len(backend.staged)) == (packs, packs)
    backend.fail = len(backend.staged)
    with pytest.raises(BackendError, match="broken"):
        write(store, 30)
    assert backend.discarded == len(backend.staged)


@pytest.mark.parametrize("number", [1, 2, 3])  # the third thread writes the last pack
@pytest.mark.parametrize("begun", [False, True])
def test_ctrl_c_while_a_thread_starts_leaves_none_and_nothing_staged(
    store, backend, monkeypatch, number, begun
):
    original = threading.Thread.start
    starts = []

    def start(thread):
        if thread.name == "cas-pack":
            starts.append(thread)
            if len(starts) == number:
                if begun:
                    original(thread)
                raise KeyboardInterrupt
        original(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(KeyboardInterrupt):
        write(store, 61)
    for thread in threading.enumerate():
        if thread.name == "cas-pack":
            thread.join(SECONDS)  # a thread that had not started yet
    assert not any(thread.name == "cas-pack" for thread in threading.enumerate())
    assert backend.discarded >= len(backend.staged) - len(backend.objects)


@pytest.mark.parametrize("size", [1, 61])
def test_ctrl_c_while_a_pack_waits_for_the_catalog_leaves_none_and_nothing_staged(
    store, backend, catalog, monkeypatch, size
):
    waited_out = []

    def register(pack):
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        pause(SECONDS)
        waited_out.append(pack)

    monkeypatch.setattr(catalog, "register_pack", register)
    with pytest.raises(KeyboardInterrupt):
        write(store, size)
    assert not waited_out
    assert not any(
        thread.name in ("cas-pack", "cas-publish") and thread.is_alive()
        for thread in threading.enumerate()
    )
    assert backend.objects == {}
    assert backend.discarded >= len(backend.staged)


def test_a_batch_that_was_interrupted_so_does_not_finish(store, monkeypatch):
    original = threading.Thread.start

    def start(thread):
        if thread.name == "cas-pack":
            raise KeyboardInterrupt
        original(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    with store.batch() as batch:
        with pytest.raises(KeyboardInterrupt):
            for _ in range(20):
                batch.add(os.urandom(MIB))
        with pytest.raises(KeyboardInterrupt):
            batch.finish()
