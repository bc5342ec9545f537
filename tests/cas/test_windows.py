"""Small blobs on remote storage: which requests fetch them with neighbours, and what is kept."""

from __future__ import annotations

import itertools
import multiprocessing
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from cached import CachedStore, kept
from hypothesis import given
from hypothesis import strategies as st
from large_blobs import KIB, MIB

import cas.windows as windows_module
from cas.backends.memory import MemoryBackend
from cas.catalog import MemoryCatalog
from cas.chunker import CHUNK_SIZE, Chunker
from cas.digest import Digest
from cas.errors import (
    BlobNotFoundError,
    DigestMismatchError,
    TransientBackendError,
    UnreadableObjectError,
)
from cas.packs.pack import pack_object_name
from cas.reader import BlobReader
from cas.writer import BatchWriter

SECONDS = 30


class Storage(MemoryBackend):
    """Counts the bytes of each request. `before` is called with its range, and may raise."""

    def __init__(self, window=256 * KIB, span=8 * MIB):
        super().__init__()
        self.window_size, self.span_size = window, span
        self.requests = []
        self.before = lambda _start, _size: None

    def read(self, name, start=0, size=None):
        self.before(start, size)
        data = super().read(name, start, size)
        self.requests.append(len(data))
        return data


class Stored:
    """Blobs that do not compress, in order, in one pack if that has room."""

    def __init__(self, sizes, **sizes_of_requests):
        draw = random.Random(1)
        self.blobs = [draw.randbytes(size) for size in sizes]
        self.backend, self.catalog = Storage(**sizes_of_requests), MemoryCatalog()
        with BatchWriter(self.backend, self.catalog, Chunker(CHUNK_SIZE)) as batch:
            self.digests = [batch.add(blob) for blob in self.blobs]
            self.catalog.record(batch.finish())
        self.places = [self.catalog.placements[digest] for digest in self.digests]
        self.pack = next(iter(self.backend.objects))
        self.open()

    def open(self):
        self.reader = BlobReader(self.backend, self.catalog)
        self.backend.requests.clear()

    def read(self, number):
        assert self.reader.read(self.digests[number]) == self.blobs[number]

    def read_by_threads(self, numbers):
        with ThreadPoolExecutor(10) as threads:
            list(threads.map(self.read, numbers))

    def kept(self):
        return [window.data.result() for window in self.reader._windows._windows]

    def change(self, number):
        """Change a byte of a blob in storage; the blob is in the first pack."""
        data = bytearray(self.backend.objects[self.pack])
        data[self.places[number].offset] ^= 1
        self.backend.objects[self.pack] = bytes(data)


def wait_until(holds):
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.fixture
def stored():
    return Stored([4 * KIB] * 1000)


@pytest.fixture
def small():
    """Ten blobs to a window; windows of at most sixteen blocks."""
    return Stored([100] * 2000, window=KIB, span=16 * KIB)


class TestRequests:
    def test_the_first_read_in_a_pack_fetches_one_blob_alone(self, stored):
        for _ in range(3):
            stored.read(500)
        assert stored.backend.requests == [4 * KIB] * 3

    def test_blobs_in_order_are_fetched_in_few_requests_and_hardly_twice(self, stored):
        for number in range(1000):
            stored.read(number)
        assert len(stored.backend.requests) < 8
        assert sum(stored.backend.requests) < 1.1 * len(stored.backend.objects[stored.pack])

    @pytest.mark.parametrize(("shape", "size"), [((2000,), 16), ((40, 50), 32), ((10, 10, 20), 64)])
    def test_the_chunks_of_an_array_are_fetched_by_ten_threads_in_few_requests(self, shape, size):
        numbers = itertools.product(*map(range, shape))
        names = ["/".join(map(str, number)) for number in numbers]
        stored = Stored([size * KIB] * 2000)
        place = {name: number for number, name in enumerate(sorted(names))}
        stored.read_by_threads([place[name] for name in names])
        assert len(stored.backend.requests) < 40
        assert sum(stored.backend.requests) < 1.5 * sum(map(len, stored.blobs))

    def test_blobs_far_from_each_other_are_fetched_in_small_windows(self, small):
        for number in range(0, 2000, 20):
            small.read(number)
        assert len(small.backend.requests) == 100
        assert max(small.backend.requests) <= 2 * KIB  # for a blob in two blocks

    def test_random_reads_in_more_than_is_kept_fetch_small_windows_in_the_end(
        self, small, monkeypatch
    ):
        monkeypatch.setattr(windows_module, "_MOST_BYTES", 32 * KIB)
        source = random.Random(3)
        for _ in range(500):
            small.read(source.randrange(2000))
        small.backend.requests.clear()
        for _ in range(500):
            small.read(source.randrange(2000))
        assert sum(small.backend.requests) < 500 * 2 * KIB

    def test_the_end_of_a_pack_is_looked_for_once(self):
        stored = Stored([100] * 50)
        asked = []
        stored.backend.before = lambda start, size: asked.append(start + size)
        for number in range(50):
            stored.read(number)
            stored.reader._windows.forget(stored.places[number])
        length = len(stored.backend.objects[stored.pack])
        assert len([stop for stop in asked if stop > length]) == 1

    def test_large_blobs_are_fetched_without_neighbours(self):
        stored = Stored([300 * KIB] * 3)
        for number in (2, 0, 1):
            stored.read(number)
        assert stored.backend.requests == [300 * KIB] * 3

    def test_without_latency_each_blob_is_fetched_alone(self):
        stored = Stored([100] * 50, window=0)
        for number in range(50):
            stored.read(number)
        assert stored.backend.requests == [100] * 50

    def test_what_is_kept_has_a_bound(self, small, monkeypatch):
        monkeypatch.setattr(windows_module, "_MOST_BYTES", 40 * KIB)
        source = random.Random(4)
        for _ in range(300):
            small.read(source.randrange(2000))
            assert sum(map(len, small.kept())) <= 40 * KIB
        assert small.kept()
        blocks = {
            (window.pack, n) for window in small.reader._windows._windows for n in window.blocks
        }
        assert set(small.reader._windows._by_block) <= blocks


@given(
    st.lists(st.integers(0, 300), min_size=1, max_size=40),
    st.lists(st.integers(0, 39), max_size=60),
    st.sampled_from([64, 100, 1000]),
    st.booleans(),
)
def test_any_reads_in_any_order_return_what_was_stored(sizes, order, window, threads):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows_module, "_MOST_BYTES", 2000)
        stored = Stored(sizes, window=window, span=1000)
        numbers = [number % len(sizes) for number in order]
        if threads:
            stored.read_by_threads(numbers)
        for number in numbers:
            stored.read(number)


class TestThreads:
    def test_they_wait_for_one_request_for_the_same_window(self, stored):
        stored.read(0)
        started, go_on = threading.Event(), threading.Event()

        def before(_start, _size):
            started.set()
            assert go_on.wait(SECONDS)

        stored.backend.before = before
        stored.backend.requests.clear()
        with ThreadPoolExecutor(5) as threads:
            reads = [threads.submit(stored.read, 10)]
            assert started.wait(SECONDS)
            reads += [threads.submit(stored.read, number) for number in (11, 12, 13)]
            (window,) = stored.reader._windows._windows
            wait_until(lambda: window.served == 4 * 4 * KIB)
            go_on.set()
            for read in reads:
                read.result(SECONDS)
        assert len(stored.backend.requests) == 1

    def test_they_fetch_different_windows_at_the_same_time(self, stored):
        stored.read(0)
        met = threading.Barrier(2)
        stored.backend.before = lambda _start, _size: met.wait(SECONDS)
        with ThreadPoolExecutor(2) as threads:
            for read in [threads.submit(stored.read, number) for number in (200, 800)]:
                read.result(SECONDS)

    @pytest.mark.parametrize(
        "error", [TransientBackendError("s3://b", "slow"), KeyboardInterrupt()]
    )
    def test_a_request_that_fails_harms_only_its_own_thread(self, stored, error):
        stored.read(0)
        started, go_on = threading.Event(), threading.Event()

        def before(_start, size):
            if size > 4 * KIB and not started.is_set():
                started.set()
                assert go_on.wait(SECONDS)
                raise error

        stored.backend.before = before
        with ThreadPoolExecutor(5) as threads:
            first = threads.submit(stored.read, 10)
            assert started.wait(SECONDS)
            others = [threads.submit(stored.read, number) for number in (10, 11, 12)]
            (window,) = stored.reader._windows._windows
            wait_until(lambda: window.served == 4 * 4 * KIB)
            go_on.set()
            assert first.exception(SECONDS) is error
            for read in others:
                read.result(SECONDS)
        stored.backend.requests.clear()
        stored.read(10)
        stored.read(11)
        assert len(stored.backend.requests) == 1  # it is not remembered as a failure

    def test_a_request_that_never_ends_holds_nobody_for_ever(self, stored, monkeypatch):
        monkeypatch.setattr(windows_module, "_PATIENCE_S", 0.0)
        stored.read(0)
        stored.read(10)
        (window,) = stored.reader._windows._windows
        window.data = windows_module.Future()
        stored.read(11)
        stored.read(12)
        assert window not in stored.reader._windows._windows

    def test_a_forked_process_waits_for_no_thread_of_its_parent(self, stored):
        stored.read(0)
        stored.read(10)
        (window,) = stored.reader._windows._windows
        window.data = windows_module.Future()  # as if a thread was fetching it
        with stored.reader._windows._lock:
            child = multiprocessing.get_context("fork").Process(target=stored.read, args=(11,))
            child.start()
        child.join(SECONDS)
        assert child.exitcode == 0


class TestDamage:
    @pytest.mark.parametrize("first", [3, 8])
    def test_of_one_blob_is_an_error_of_that_one_alone(self, stored, first):
        stored.change(5)
        for _ in range(2):
            for number in (first, *range(10)):
                if number == 5:
                    with pytest.raises(DigestMismatchError):
                        stored.read(5)
                else:
                    stored.read(number)

    def test_of_a_sector_is_an_error_of_the_blobs_in_it(self, stored):
        bad = stored.places[5].offset + 10

        def before(start, size):
            if start <= bad < start + size:
                raise UnreadableObjectError("disk", "a bad sector")

        stored.backend.before = before
        for number in (3, 0, 9, 4, 6):
            stored.read(number)
        with pytest.raises(DigestMismatchError):
            stored.read(5)

    def test_on_its_way_is_read_again_and_not_kept(self, stored):
        stored.read(0)
        whole = stored.backend.objects[stored.pack]
        stored.change(11)
        stored.read(10)
        stored.backend.objects[stored.pack] = whole
        stored.read(11)
        stored.read(11)
        assert all(data in whole for data in stored.kept())

    def test_of_a_pack_that_ends_early_is_an_error_of_what_lies_behind(self, stored):
        end = stored.places[100].offset + 10
        stored.backend.objects[stored.pack] = stored.backend.objects[stored.pack][:end]
        for _ in range(2):
            for number in (0, 99, 50):
                stored.read(number)
            for number in (100, 101, 999):
                with pytest.raises(DigestMismatchError):
                    stored.read(number)


class TestAPackThatHasGone:
    def test_is_no_error_if_its_blobs_have_moved(self, stored):
        stored.read(0)
        new = Digest.of(b"new")
        stored.backend.objects[pack_object_name(new)] = stored.backend.objects.pop(stored.pack)
        old = dict(stored.catalog.placements)
        for digest, place in old.items():
            stored.catalog.placements[digest] = place._replace(pack=new)
        for number in range(5, 15):
            digest = stored.digests[number]
            assert stored.reader.read(digest, old[digest]) == stored.blobs[number]

    def test_is_an_error_otherwise(self, stored):
        stored.read(0)
        del stored.backend.objects[stored.pack]
        for number in (5, 6):
            with pytest.raises(BlobNotFoundError):
                stored.read(number)


class TestWithACache:
    @pytest.fixture
    def blobs(self):
        draw = random.Random(5)
        return [draw.randbytes(4_000) for _ in range(500)]

    @pytest.fixture
    def store(self, tmp_path):
        return CachedStore(tmp_path / "cache")

    @pytest.fixture
    def digests(self, store, blobs):
        digests = store.write(*blobs)
        for number in (7, *reversed(range(500))):
            assert store.blobs.read(digests[number]) == blobs[number]
        assert len(store.asked()) < 10
        return digests

    def test_windows_are_kept_for_the_next_process(self, store, digests, blobs):
        store.open()
        assert [store.blobs.read(digest) for digest in digests] == blobs
        assert store.asked() == []
        assert len(kept(store.root)) < 10

    def test_what_is_damaged_there_is_fetched_again(self, store, digests, blobs):
        for file in kept(store.root):
            file.write_bytes(bytes(file.stat().st_size))
        store.open()
        assert [store.blobs.read(digest) for digest in digests] == blobs
        store.open()
        store.asked()
        assert [store.blobs.read(digest) for digest in digests] == blobs
        assert store.asked() == []
