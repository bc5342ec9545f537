from __future__ import annotations

import io
import json
import os
import random
import signal
import threading
from contextlib import suppress
from itertools import pairwise

import pytest
from chunkers import EqualChunks, chunks_of
from hypothesis import given, settings
from hypothesis import strategies as st

from cas import BlobStore, Digest
from cas.backends.memory import MemoryBackend
from cas.catalog import ChunkedBlob, MemoryCatalog
from cas.errors import (
    BackendError,
    BlobNotFoundError,
    DigestMismatchError,
    ObjectNotFoundError,
    UnsupportedFormatError,
)
from cas.packs.chunk_list import decode_chunk_list
from cas.packs.pack import EntryKind, pack_object_name, read_footer
from cas.packs.packer import PACK_SIZE
from cas.store import open_settings

MIB = 1 << 20


class Setting:
    """A blob store in memory. With small chunks, small blobs are large blobs."""

    def __init__(self, chunk_size=None):
        self.backend = MemoryBackend()
        self.catalog = MemoryCatalog()
        settings = open_settings(self.backend, create=True)
        self.store = BlobStore(self.backend, self.catalog, settings)
        if chunk_size:
            self.store.chunker = EqualChunks(chunk_size)

    def write(self, *blobs):
        with self.store.batch() as batch:
            digests = [batch.add_pieces([blob])[0] for blob in blobs]
            written = batch.finish()
        self.catalog.record(written)
        return digests, written


@pytest.fixture
def setting():
    return Setting()


@pytest.fixture
def tiny():
    return Setting(chunk_size=4)


@settings(max_examples=30)
@given(st.lists(st.binary(max_size=40), max_size=12))
def test_what_was_written_reads_back_in_every_way(blobs):
    tiny = Setting(chunk_size=4)
    digests, _ = tiny.write(*blobs)
    for blob, digest in zip(blobs, digests, strict=True):
        assert digest == Digest.of(blob)
        assert tiny.store.read(digest) == blob
        assert b"".join(tiny.store.iter_pieces(digest)) == blob
        with tiny.store.open(digest) as stream:
            assert stream.read() == blob


def test_equal_blobs_are_stored_once_in_a_batch_and_across_batches(setting):
    digests, first = setting.write(b"same" * 100, b"same" * 100, b"other")
    _, second = setting.write(b"same" * 100)
    assert digests[0] == digests[1]
    assert len(first.blobs) == 2
    assert second.packs == ()
    assert second.bytes_stored == 0


def test_a_batch_of_many_small_blobs_is_one_pack(setting):
    digests, written = setting.write(*(b"%d" % n for n in range(3000)))
    assert len(written.packs) == 1
    assert written.packs[0].entries == 3000
    found = dict(setting.store.read_many(digests))
    assert found[digests[2999]] == b"2999"


def test_neighbours_are_read_in_one_request(setting, monkeypatch):
    digests, _ = setting.write(*(b"%d" % n for n in range(3000)))
    reads = []
    original = setting.backend.read
    monkeypatch.setattr(setting.backend, "read", lambda *a: reads.append(a) or original(*a))
    assert len(dict(setting.store.read_many(digests))) == 3000
    assert len(reads) == 1


def test_a_large_blob_is_read_in_few_requests_and_in_its_own_order(monkeypatch):
    setting = Setting(chunk_size=MIB)
    chunks = [random.Random(n).randbytes(MIB) for n in range(5)]
    blob = b"".join(chunks[n] for n in (0, 1, 2, 3, 4, 2, 0, 1)) + b"tail"
    (digest,), _ = setting.write(blob)
    reads = []
    original = setting.backend.read
    monkeypatch.setattr(setting.backend, "read", lambda *a: reads.append(a) or original(*a))
    assert b"".join(setting.store.iter_pieces(digest)) == blob
    assert len(reads) == 2  # chunks 0 to 4, which include the repeated 2, 0 and 1; the tail


def test_reading_many_passes_over_large_blobs_and_repeats(tiny):
    digests, _ = tiny.write(b"abc", b"a large one")
    assert [d for d, _ in tiny.store.read_many([*digests, digests[0]])] == [digests[0]]


def test_a_pack_is_sealed_at_its_size():
    setting = Setting(chunk_size=MIB)
    blobs = [os.urandom(MIB) for _ in range(PACK_SIZE // MIB + 2)]
    _, written = setting.write(*blobs)
    assert len(written.packs) == 2
    assert all(pack.size <= PACK_SIZE + 2 * MIB for pack in written.packs)


def test_chunks_that_two_large_blobs_share_are_stored_once(tiny):
    tiny.write(b"aaaabbbbcccc")
    digests, written = tiny.write(b"aaaabbbbccccdddd")
    assert len(written.blobs.keys() - set(written.chunk_lists.values())) == 1
    assert written.chunked == (
        ChunkedBlob(digests[0], 16, tuple(Digest.of(c * 4) for c in (b"a", b"b", b"c", b"d"))),
    )
    assert tiny.store.read(digests[0]) == b"aaaabbbbccccdddd"


def kinds_in(setting, pack):
    name = pack_object_name(pack.name)
    entries = read_footer(
        name, pack.size, lambda start, size: setting.backend.read(name, start, size)
    )
    return {entry.digest: entry.kind for entry in entries}


def test_the_chunks_of_a_large_blob_are_listed_in_a_pack_beside_them(tiny):
    digests, written = tiny.write(b"aaaabbbbcccc")
    (pack,) = written.packs
    kept = written.chunk_lists[digests[0]]
    assert kinds_in(tiny, pack)[kept] is EntryKind.CHUNK_LIST
    listed = decode_chunk_list(tiny.store.fetch(kept, written.blobs[kept]))
    assert (listed.blob,) == written.chunked
    assert listed.sizes == (4, 4, 4)
    _, again = tiny.write(b"aaaabbbbcccc")
    assert not again.packs  # nor is the list of a known blob


def test_a_record_is_an_entry_of_its_own_kind_even_if_its_bytes_are_known(tiny):
    tiny.write(b"rec")
    with tiny.store.batch() as batch:
        digest = batch.add_record(b"rec")
        written = batch.finish()
    (pack,) = written.packs
    assert kinds_in(tiny, pack) == {digest: EntryKind.RECORD}
    assert tiny.store.fetch(digest, written.blobs[digest]) == b"rec"


def test_a_blob_of_exactly_the_chunk_size_is_one_entry(tiny):
    digests, written = tiny.write(b"abcd")
    assert written.chunked == ()
    with tiny.store.batch() as batch:
        assert batch.add_pieces([b"abcd"]) == (digests[0], 4)
        assert batch.add_pieces([]) == (Digest.of(b""), 0)


@given(st.binary(min_size=1, max_size=40), st.lists(st.integers(1, 40)))
def test_pieces_may_have_any_size(data, cuts):
    tiny = Setting(chunk_size=4)
    ends = sorted({0, *(cut for cut in cuts if cut < len(data)), len(data)})
    with tiny.store.batch() as batch:
        told = batch.add_pieces(data[a:b] for a, b in pairwise(ends))
        written = batch.finish()
    assert told == (Digest.of(data), len(data))
    chunks = written.blobs.keys() - set(written.chunk_lists.values())
    assert {written.blobs[chunk].size for chunk in chunks} <= {4, len(data) % 4}


def test_what_is_known_to_be_stored_is_not_added(setting):
    with setting.store.batch() as batch:
        digest = batch.add(b"known", unless=bytes(Digest.of(b"known")))
        assert batch.finish().packs == ()
    assert digest == Digest.of(b"known")


@settings(max_examples=60)
@given(st.binary(min_size=5, max_size=60), st.data())
def test_a_range_of_a_large_blob_is_that_range(data, draw):
    tiny = Setting(chunk_size=4)
    (digest,), _ = tiny.write(data)
    start = draw.draw(st.integers(0, len(data) + 3))
    size = draw.draw(st.integers(0, len(data) + 3))
    assert tiny.store.read_range(digest, start, size) == data[start : start + size]
    with tiny.store.open(digest) as stream:
        stream.seek(-min(start, len(data)), io.SEEK_END)
        assert stream.read(size) == data[len(data) - min(start, len(data)) :][:size]
        with pytest.raises(ValueError, match="before the start"):
            stream.seek(-1)


def test_a_range_fetches_only_the_chunks_it_lies_in(monkeypatch):
    setting = Setting()
    data = random.Random(1).randbytes(5 * MIB)
    (digest,), _ = setting.write(data)
    fetched = []
    original = setting.backend.read
    monkeypatch.setattr(setting.backend, "read", lambda *a: fetched.append(a[2]) or original(*a))
    assert setting.store.read_range(digest, 2 * MIB + 5, 10) == data[2 * MIB + 5 :][:10]
    assert sum(fetched) in {len(chunk) for chunk in chunks_of(data)}


def test_an_unknown_digest_is_not_found(setting):
    unknown = Digest.of(b"never")
    for attempt in (
        lambda: setting.store.read(unknown),
        lambda: setting.store.open(unknown),
        lambda: list(setting.store.read_many([unknown])),
    ):
        with pytest.raises(BlobNotFoundError, match=str(unknown)):
            attempt()


def test_a_flipped_byte_anywhere_in_an_entry_is_never_served(setting):
    blobs = [b"compressible " * 40, os.urandom(300)]
    digests, written = setting.write(*blobs)
    name = pack_object_name(written.packs[0].name)
    whole = setting.backend.objects[name]
    for digest, blob in zip(digests, blobs, strict=True):
        place = written.blobs[digest]
        for position in range(place.offset, place.offset + place.stored_size):
            damaged = bytearray(whole)
            damaged[position] ^= 1
            setting.backend.objects[name] = bytes(damaged)
            with suppress(DigestMismatchError):
                assert setting.store.read(digest) == blob  # zstd does not use every bit
    setting.backend.objects[name] = whole
    assert setting.store.read(digests[1]) == blobs[1]


def test_a_truncated_pack_is_a_damaged_blob(setting):
    digests, written = setting.write(b"x" * 10, os.urandom(1000))
    name = pack_object_name(written.packs[0].name)
    setting.backend.objects[name] = setting.backend.objects[name][:500]
    with pytest.raises(DigestMismatchError, match=r"mend it with `store.repair\(DIR\)`"):
        setting.store.read(digests[1])
    with pytest.raises(DigestMismatchError):
        list(setting.store.read_many(digests))


def test_a_wrong_list_of_chunks_is_noticed_by_the_whole_digest(tiny):
    (digest,), _ = tiny.write(b"aaaabbbbcccc")
    good = tiny.catalog.placements[digest]
    swapped = ChunkedBlob(digest, 12, (good.chunks[1], good.chunks[0], good.chunks[2]))
    tiny.catalog.placements[digest] = swapped
    with pytest.raises(DigestMismatchError):
        tiny.store.read(digest)
    with tiny.store.open(digest) as stream, pytest.raises(DigestMismatchError):
        stream.read()


def test_a_list_of_chunks_that_lost_its_end_is_noticed(tiny):
    (digest,), _ = tiny.write(b"aaaabbbbcccc")
    tiny.catalog.placements[digest] = ChunkedBlob(
        digest, 12, tiny.catalog.placements[digest].chunks[:2]
    )
    with pytest.raises(DigestMismatchError):
        tiny.store.read(digest)
    with pytest.raises(DigestMismatchError):
        tiny.store.open(digest)


def test_a_process_that_is_forked_after_hashing_can_hash(setting):
    """BLAKE3's shared threads do not survive a fork; a worker that used them would hang."""
    data = os.urandom(3 * MIB)
    (digest,), _ = setting.write(data)
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        os._exit(0 if Setting().write(data)[0] == [digest] else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_blob_that_moved_to_another_pack_is_looked_up_again(setting):
    digests, written = setting.write(b"moved", b"also")
    old = pack_object_name(written.packs[0].name)
    stale = dict(setting.catalog.placements)
    setting.catalog.placements.clear()
    setting.write(b"moved", b"also")
    fresh = dict(setting.catalog.placements)
    del setting.backend.objects[old]
    for read in (setting.store.read, lambda d: dict(setting.store.read_many([d]))[d]):
        answers = iter([stale, fresh])
        setting.catalog.locate = lambda wanted, a=answers: {
            d: p for d, p in next(a).items() if d in wanted
        }
        assert read(digests[0]) == b"moved"


def test_a_blob_that_moves_as_often_as_it_is_looked_up_is_found_in_the_end(setting):
    places, stale = [], []
    for _ in range(4):
        setting.catalog.placements.clear()
        digests, written = setting.write(b"moves on and on")
        places.append(dict(setting.catalog.placements))
        stale.append(pack_object_name(written.packs[0].name))
    for old in stale[:-1]:
        del setting.backend.objects[old]
    for read in (setting.store.read, lambda d: dict(setting.store.read_many([d]))[d]):
        answers = iter(places)
        setting.catalog.locate = lambda _wanted, a=answers: next(a)
        assert read(digests[0]) == b"moves on and on"


def test_a_pack_that_is_gone_is_a_blob_not_found(setting):
    digests, _ = setting.write(b"gone")
    setting.backend.objects.clear()
    with pytest.raises(BlobNotFoundError):
        setting.store.read(digests[0])


class FailingBackend(MemoryBackend):
    """Fails at the n-th publish."""

    def __init__(self, fail_at):
        super().__init__()
        self.left = fail_at

    def stage(self):
        staged = super().stage()
        original = staged.publish

        def publish(name):
            if self.left == 0:
                raise BackendError(name, "broken")
            self.left -= 1
            original(name)

        staged.publish = publish
        return staged


@pytest.mark.parametrize("fail_at", [0, 1])
def test_a_failure_of_storage_reaches_the_caller_and_records_nothing(fail_at):
    setting = Setting()
    setting.backend = FailingBackend(fail_at)
    store = BlobStore(setting.backend, setting.catalog, setting.store.settings)
    threads = set(threading.enumerate())
    with store.batch() as batch, pytest.raises(BackendError, match="broken"):
        for _ in range(2 * PACK_SIZE // MIB):
            batch.add(os.urandom(MIB))
        batch.finish()
    assert len(setting.backend.objects) == fail_at
    _wait_for_threads(threads)


def test_an_abandoned_batch_publishes_nothing_and_stops_its_threads(setting):
    threads = set(threading.enumerate())
    before = set(setting.backend.objects)
    with pytest.raises(KeyboardInterrupt), setting.store.batch() as batch:
        for _ in range(20):
            batch.add(os.urandom(MIB))
        raise KeyboardInterrupt
    assert set(setting.backend.objects) == before
    _wait_for_threads(threads)


def _wait_for_threads(before):
    """Check that all threads that were started since end soon."""
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
    assert set(threading.enumerate()) <= before


def test_a_pack_is_registered_before_it_is_visible(setting):
    seen = []

    def register(pack):
        seen.append(pack_object_name(pack.name) in setting.backend.objects)

    setting.catalog.register_pack = register
    setting.write(b"one")
    assert seen == [False]


def test_settings_are_written_once_and_read_back():
    backend = MemoryBackend()
    first = open_settings(backend, create=True)
    assert open_settings(backend, create=True) == first
    assert open_settings(backend, create=False) == first
    stored = json.loads(backend.objects["cas.json"])
    assert stored["format_version"] == 1
    assert (stored["chunker"], stored["chunk_size"]) == ("fastcdc", 65536)


def test_settings_that_are_not_there_are_not_made_unasked():
    backend = MemoryBackend()
    with pytest.raises(ObjectNotFoundError):
        open_settings(backend, create=False)
    assert backend.objects == {}


@pytest.mark.parametrize(
    "text",
    [
        b'{"format_version": 2}',
        b"not json",
        b"[]",
        b"{}",
        b"\xff",
        b'{"format_version": 1, "hash": "sha1", "chunker": "fastcdc", "chunk_size": 1,'
        b' "store_id": "x", "created": "x"}',
        b'{"format_version": 1, "hash": "blake3-256", "chunker": "fixed", "chunk_size": 65536}',
        b'{"format_version": 1, "hash": "blake3-256", "chunker": "fastcdc", "store_id": "x",'
        b' "created": "x", "chunk_size": 999999999}',
        b'{"format_version": 1, "hash": "blake3-256", "chunker": "fastcdc", "store_id": "x",'
        b' "created": "x", "chunk_size": 65537}',
        b'{"format_version": 1, "hash": "blake3-256", "chunker": "fastcdc", "store_id": "x",'
        b' "created": "x", "chunk_size": "1"}',
    ],
)
def test_a_store_of_another_format_is_refused_with_the_way_out(text):
    backend = MemoryBackend()
    backend.create("cas.json", text)
    with pytest.raises(UnsupportedFormatError, match="pip install --upgrade runcas"):
        open_settings(backend, create=False)
    assert backend.objects["cas.json"] == text
