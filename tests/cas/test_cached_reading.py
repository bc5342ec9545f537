"""Reading blobs with a cache: the requests to storage, and the bytes that readers get."""

from __future__ import annotations

import errno
import os
import random
import tracemalloc

import pytest
from cached import CachedStore, kept
from faults import FaultyCalls

from cas.digest import Digest
from cas.errors import BlobNotFoundError, DigestMismatchError

MIB = 1 << 20


@pytest.fixture
def store(tmp_path):
    return CachedStore(tmp_path / "cache")


def blobs_of(seed, count, size):
    draw = random.Random(seed)
    return [draw.randbytes(size) for _ in range(count)]


def read_all(store, digests):
    return {digest: bytes(data) for digest, data in store.blobs.read_many(digests)}


def by_digest(blobs):
    return {Digest.of(blob): blob for blob in blobs}


class TestAWarmCache:
    def test_small_blobs_are_fetched_once_in_few_requests(self, store):
        blobs = [*blobs_of(1, 3_000, 4_000), b"", b"text " * 100]
        digests = store.write(*blobs)
        assert read_all(store, digests) == by_digest(blobs)
        assert len(store.asked()) == 2  # 12 MB, 8 MiB a request
        assert len(kept(store.root)) == 2
        store.open()
        assert read_all(store, digests) == by_digest(blobs)
        assert [store.blobs.read(digest) for digest in digests] == blobs
        assert store.asked() == []

    def test_a_single_blob_is_fetched_once(self, store):
        digest, other = store.write(b"one", b"another")
        for _ in range(3):
            assert store.blobs.read(digest) == b"one"
        assert len(store.asked()) == 1
        assert store.blobs.read(other) == b"another"
        assert len(store.asked()) == 1

    def test_an_empty_blob_is_never_asked_for(self, store):
        (digest,) = store.write(b"")
        assert store.blobs.read(digest) == b""
        assert read_all(store, [digest]) == {digest: b""}
        assert store.asked() == []

    def test_a_large_blob_is_fetched_once_however_it_is_read(self, store):
        (data,) = blobs_of(2, 1, 20 * MIB + 5)
        (digest,) = store.write(data)
        assert b"".join(store.blobs.iter_pieces(digest)) == data
        assert len(store.asked()) == 3
        store.open()
        assert store.blobs.read(digest) == data
        assert store.blobs.read_range(digest, 7 * MIB, 100) == data[7 * MIB : 7 * MIB + 100]
        with store.blobs.open(digest) as stream:
            assert stream.read() == data
        assert store.asked() == []

    def test_a_range_fetches_its_chunks_and_nothing_else_and_keeps_them(self, store):
        (data,) = blobs_of(3, 1, 20 * MIB)
        (digest,) = store.write(data)
        start = 9 * MIB - 50
        for _ in range(2):
            assert store.blobs.read_range(digest, start, 100) == data[start : start + 100]
        assert sum(size for _, size in store.asked()) == 2 * MIB
        assert store.blobs.read_range(digest, 9 * MIB + 7, 9) == data[9 * MIB + 7 : 9 * MIB + 16]
        assert store.asked() == []

    def test_stores_with_the_same_packs_share_what_is_kept(self, store):
        digests = store.write(*blobs_of(4, 50, 1_000))
        read_all(store, digests)
        store.asked()
        again = CachedStore(store.root)
        again.backend, again.catalog = store.backend, store.catalog
        again.open()
        assert len(read_all(again, digests)) == 50
        assert again.asked() == []

    def test_what_was_written_here_is_fetched_when_it_is_first_read(self, store):
        (digest,) = store.write(b"mine")
        assert kept(store.root) == []
        store.blobs.read(digest)
        assert len(store.asked()) == 1


class TestAPartlyWarmCache:
    def test_what_is_cached_here_and_there_does_not_multiply_requests(self, store):
        blobs = blobs_of(5, 2_000, 4_000)
        digests = store.write(*blobs)
        for digest in digests[::20]:
            store.blobs.fetch(digest, store.catalog.placements[digest])
        store.asked()
        assert read_all(store, digests) == by_digest(blobs)
        assert len(store.asked()) == 1

    def test_only_what_is_missing_is_fetched(self, store):
        blobs = blobs_of(6, 6, 2 * MIB // 2)
        digests = store.write(*blobs)
        read_all(store, digests[:3])
        store.asked()
        assert read_all(store, digests) == by_digest(blobs)
        assert sum(size for _, size in store.asked()) == 3 * MIB

    def test_what_is_evicted_while_it_is_looked_for_is_fetched_together(self, store):
        blobs = blobs_of(7, 2_000, 1_000)
        digests = store.write(*blobs)
        read_all(store, digests)
        store.asked()
        reading = store.blobs.read_many(digests)
        for path in kept(store.root):
            path.unlink()
        assert {digest: bytes(data) for digest, data in reading} == by_digest(blobs)
        assert len(store.asked()) == 1

    def test_a_file_evicted_after_its_listing_was_read_is_fetched_together(self, store):
        blobs = blobs_of(7, 500, 1_000)
        digests = store.write(*blobs)
        read_all(store, digests)
        store.asked()

        def evicted(extent, start, stop):
            for path in kept(store.root):
                path.unlink()
            return type(store.cache).read(store.cache, extent, start, stop)

        store.cache.read = evicted
        assert read_all(store, digests) == by_digest(blobs)
        assert len(store.asked()) == 1


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


DAMAGE = {
    "first byte": lambda path: flip(path, 0),
    "middle": lambda path: flip(path, path.stat().st_size // 2),
    "last byte": lambda path: flip(path, -1),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),  # as a power cut leaves it
    "truncated": lambda path: os.truncate(path, path.stat().st_size // 2),
    "emptied": lambda path: os.truncate(path, 0),
    "deleted": os.unlink,
    "of somebody else": lambda path: path.write_bytes(os.urandom(path.stat().st_size)),
}


class TestDamage:
    @pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
    @pytest.mark.parametrize("kind", ["raw", "compressed"])
    def test_whatever_becomes_of_a_file_right_bytes_are_read_and_it_heals(
        self, store, damage, kind
    ):
        blobs = blobs_of(8, 400, 1_000)
        if kind == "compressed":
            blobs = [blob.hex().encode() * 3 for blob in blobs]
        digests = store.write(*blobs)
        read_all(store, digests)
        store.asked()
        store.open()
        (file,) = kept(store.root)
        damage(file)
        assert read_all(store, digests) == by_digest(blobs)
        assert len(store.asked()) == 1  # in one request, however many were damaged
        assert read_all(store, digests) == by_digest(blobs)
        assert store.asked() == []

    @pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
    def test_a_stream_and_single_reads_heal_too(self, store, damage):
        (data,) = blobs_of(9, 1, 3 * MIB)
        small, large = store.write(b"small " * 1_000, data)
        for _ in range(2):
            assert store.blobs.read(small) == b"small " * 1_000
            with store.blobs.open(large) as stream:
                assert stream.read() == data
            for file in kept(store.root):
                damage(file)
        store.asked()
        assert store.blobs.read(small) == b"small " * 1_000
        assert store.blobs.read_range(large, MIB, 5) == data[MIB : MIB + 5]
        assert store.asked()
        assert store.blobs.read(small) == b"small " * 1_000
        assert store.blobs.read_range(large, MIB, 5) == data[MIB : MIB + 5]
        assert store.asked() == []

    def test_the_content_of_another_pack_under_its_name_is_not_served(self, store):
        (one,) = store.write(b"1" * 1_000)
        (two,) = store.write(b"2" * 1_000)
        store.blobs.read(one)
        store.blobs.read(two)
        first, second = kept(store.root)
        data = first.read_bytes()
        first.write_bytes(second.read_bytes())
        second.write_bytes(data)
        assert store.blobs.read(one) == b"1" * 1_000
        assert store.blobs.read(two) == b"2" * 1_000

    def test_what_was_damaged_on_the_way_is_not_kept(self, store):
        blobs = blobs_of(10, 100, 1_000)
        digests = store.write(*blobs)
        original, damaged = store.backend.read, []

        def damaged_once(name, start=0, size=None):
            data = original(name, start, size)
            if not damaged:
                damaged.append(name)
                return data[:-1] + bytes([data[-1] ^ 1])
            return data

        store.backend.read = damaged_once
        assert read_all(store, digests) == by_digest(blobs)
        assert [path.stat().st_size for path in kept(store.root)] == [1_000]  # the one read again
        store.asked()
        assert read_all(store, digests) == by_digest(blobs)
        store.asked()
        assert read_all(store, digests) == by_digest(blobs)
        assert store.asked() == []

    def test_what_is_damaged_in_storage_is_an_error_and_not_kept(self, store):
        digest, other = store.write(*blobs_of(11, 2, 1_000))
        (name,) = (name for name in store.backend.objects if name.startswith("packs/"))
        data = bytearray(store.backend.objects[name])
        data[100] ^= 1
        store.backend.objects[name] = bytes(data)
        for _ in range(2):
            with pytest.raises(DigestMismatchError, match=str(digest)):
                store.blobs.read(digest)
            with pytest.raises(DigestMismatchError, match=str(digest)):
                read_all(store, [digest, other])
        assert kept(store.root) == []

    def test_a_pack_that_is_gone_is_an_error_even_if_the_cache_of_it_is_damaged(self, store):
        (digest,) = store.write(b"x" * 1_000)
        store.blobs.read(digest)
        for name in [name for name in store.backend.objects if name.startswith("packs/")]:
            store.backend.delete(name)
        assert store.blobs.read(digest) == b"x" * 1_000  # its bytes are still here
        (file,) = kept(store.root)
        flip(file, 5)
        for read in (store.blobs.read, lambda digest: read_all(store, [digest])):
            with pytest.raises(BlobNotFoundError):
                read(digest)

    def test_a_blob_that_compaction_moved_is_found_where_it_is_now(self, store):
        digest, _ = store.write(b"x" * 1_000, b"y")
        before = store.catalog.placements[digest]
        store.blobs.read(digest)
        del store.catalog.placements[digest]
        store.write(b"x" * 1_000)
        reading = store.blobs.read_located([(digest, before)])
        (file,) = kept(store.root)
        file.unlink()
        for name in list(store.backend.objects):
            if str(before.pack) in name:
                store.backend.delete(name)
        assert [bytes(data) for _, data in reading] == [b"x" * 1_000]
        assert store.blobs.read(digest) == b"x" * 1_000


@pytest.mark.parametrize("name", ["write", "rename", "open_read", "pread", "touch", "modified"])
def test_a_disk_that_fails_from_some_moment_on_changes_nothing_but_the_number_of_requests(
    tmp_path, name
):
    calls = FaultyCalls(error=OSError(errno.EIO, "I/O error"), dead=True, only=(name,))
    store = CachedStore(tmp_path / "cache", calls=calls)
    blobs = blobs_of(12, 100, 1_000)
    digests = store.write(*blobs)
    read_all(store, digests[:50])
    calls._fail_at = 0
    for _ in range(2):
        assert read_all(store, digests) == by_digest(blobs)
        assert [store.blobs.read(digest) for digest in digests] == blobs
    assert calls.fired


def test_a_cache_that_is_too_small_for_what_is_read_is_of_little_use_but_right(tmp_path):
    store = CachedStore(tmp_path / "cache", limit=3 * MIB)
    blobs = blobs_of(13, 40, MIB // 2)
    digests = store.write(*blobs)
    for _ in range(2):
        assert [store.blobs.read(digest) for digest in digests] == blobs
        assert read_all(store, digests) == by_digest(blobs)
    assert sum(path.stat().st_size for path in kept(store.root)) <= 3 * MIB


class TestStreaming:
    @pytest.fixture
    def large(self, store):
        (data,) = blobs_of(14, 1, 40 * MIB + 123)
        (digest,) = store.write(data)
        return digest, data

    def test_reading_on_fetches_more_and_more_at_once(self, store, large):
        digest, data = large
        with store.blobs.open(digest) as stream:
            read = bytearray()
            while piece := stream.read(100_000):
                read += piece
        assert read == data
        sizes = [size / MIB for _, size in store.asked()]
        assert sizes[:6] == [1, 1, 2, 4, 8, 8]
        assert len(sizes) == 9

    def test_a_read_across_the_end_of_a_chunk_fetches_two(self, store, large):
        digest, data = large
        with store.blobs.open(digest) as stream:
            stream.seek(5 * MIB - 10)
            assert stream.read(20) == data[5 * MIB - 10 : 5 * MIB + 10]
        assert [size for _, size in store.asked()] == [MIB] * 2

    def test_a_range_is_fetched_in_one_request(self, store, large):
        digest, data = large
        assert store.blobs.read_range(digest, 5 * MIB, 6 * MIB) == data[5 * MIB : 11 * MIB]
        assert store.asked() == [(32 + 5 * MIB, 6 * MIB)]
        assert store.blobs.read_range(digest, 40 * MIB + 100, 99) == data[-23:]
        assert store.blobs.read_range(digest, 41 * MIB, 99) == b""
        assert store.blobs.read_range(digest, 7, 0) == b""
        with pytest.raises(ValueError, match="before the start"):
            store.blobs.read_range(digest, -1, 5)

    def test_jumping_about_fetches_a_chunk_each_time(self, store, large):
        digest, data = large
        with store.blobs.open(digest) as stream:
            for start in (30 * MIB, 5 * MIB, 17 * MIB, 2 * MIB):
                stream.seek(start + 10)
                assert stream.read(20) == data[start + 10 : start + 30]
        assert [size for _, size in store.asked()] == [MIB] * 4

    def test_a_reader_that_jumps_and_reads_on_gets_ahead_again(self, store, large):
        digest, data = large
        with store.blobs.open(digest) as stream:
            stream.read(3 * MIB)
            store.asked()
            stream.seek(20 * MIB)
            for at in range(20, 28):
                assert stream.read(MIB) == data[at * MIB : (at + 1) * MIB]
        assert [size / MIB for _, size in store.asked()] == [1, 1, 2, 4]

    def test_a_large_read_fetches_all_that_it_needs_at_once(self, store, large):
        digest, data = large
        with store.blobs.open(digest) as stream:
            stream.seek(20 * MIB)
            assert stream.read(5 * MIB) == data[20 * MIB : 25 * MIB]
        assert [size / MIB for _, size in store.asked()] == [5]

    def test_what_is_held_is_bounded(self, tmp_path, large, store):
        digest, _ = large
        tracemalloc.start()
        try:
            with store.blobs.open(digest) as stream:
                while stream.read(MIB):
                    pass
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 22 * MIB  # not 40 MiB: a request of 8 MiB, and what is made of it

    def test_chunks_that_come_again_are_fetched_once_for_each_request(self, store):
        data = bytes(MIB) * 40
        (digest,) = store.write(data)
        with store.blobs.open(digest) as stream:
            assert stream.read() == data
        assert len(store.asked()) == 1  # one chunk of zeros; the others come from the cache
        store.open()
        assert store.blobs.read(digest) == data
        assert store.asked() == []


def test_memory_is_bounded_however_much_is_read_into_the_cache(tmp_path):
    store = CachedStore(tmp_path / "cache")
    digests = store.write(*blobs_of(15, 120, MIB // 2))
    tracemalloc.start()
    try:
        for _ in range(2):
            for _digest, _data in store.blobs.read_many(digests):
                pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 30 * MIB  # not 60 MiB
