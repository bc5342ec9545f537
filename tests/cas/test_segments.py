"""Several threads read and hash a large blob, with the same result as one thread."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import wait
from contextlib import closing
from functools import partial
from itertools import count
from types import SimpleNamespace

import pytest
from chunkers import EqualChunks
from hypothesis import given
from hypothesis import strategies as st

from cas.backends.memory import MemoryBackend
from cas.catalog import MemoryCatalog
from cas.digest import Digest, Hasher
from cas.segments import SegmentHasher, segments_of_file, segments_of_pieces
from cas.store import BlobStore, StoreSettings
from cas.threads import Threads

CHUNK = 4
STRETCHES = 8
SECONDS = 30


def cut(data):
    return [data[n : n + CHUNK] for n in range(0, len(data), CHUNK)]


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Make segments of two chunks."""
    monkeypatch.setattr("cas.segments._SEGMENT", 2 * CHUNK)


def segment(read, *, is_last=False):
    """Return a segment of one chunk; the blob also ends where it is shorter."""

    def get(_position, begun):
        data = read()
        return bytes(begun) + data, is_last or len(data) < CHUNK

    return get


def hash_all(segments, size=CHUNK):
    """Return digests and chunks in order, and the hash of the whole."""
    hasher, whole = SegmentHasher(), Hasher()
    try:
        with closing(hasher.hash(segments, whole, EqualChunks(size))) as hashed:
            return [chunk for segment in hashed for chunk in segment.chunks], whole
    finally:
        hasher.close()
        hasher._threads.shutdown(wait=True)  # so that all that any thread hashes is in the whole


def store_of(catalog):
    """Return a store in memory that cuts at every fourth byte."""
    settings = StoreSettings(1, "blake3-256", "fastcdc", CHUNK, "", "")
    store = BlobStore(MemoryBackend(), catalog, settings)
    store.chunker = EqualChunks(CHUNK)
    return store


def expected(data):
    return [(Digest.of(chunk), chunk) for chunk in cut(data)]


@pytest.fixture
def opened(tmp_path):
    """Return a function that opens a file with these bytes for reading."""
    fds = []

    def make(data):
        (tmp_path / "file").write_bytes(data)
        fds.append(os.open(tmp_path / "file", os.O_RDONLY))
        return fds[-1]

    yield make
    for fd in fds:
        os.close(fd)


@given(st.binary(max_size=100))
def test_pieces_come_back_in_order_with_their_digests_and_that_of_the_whole(data):
    chunks, whole = hash_all(segments_of_pieces(cut(data)))
    assert chunks == expected(data)
    assert (whole.digest(), whole.size) == (Digest.of(data), len(data))


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1, 2 * CHUNK, 100, 1001])
def test_so_does_a_file_wherever_its_position_is(opened, size):
    data = os.urandom(size)
    fd = opened(data)
    os.lseek(fd, size // 2, os.SEEK_SET)
    chunks, whole = hash_all(segments_of_file(fd, size, EqualChunks(CHUNK)))
    assert chunks == expected(data)
    assert whole.digest() == Digest.of(data)


@given(st.integers(0, 100))
def test_a_file_that_is_shorter_than_it_was_ends_where_it_ends(there):
    data = bytes(range(100))
    fd = os.memfd_create("file")
    try:
        os.write(fd, data[:there])
        chunks, whole = hash_all(segments_of_file(fd, len(data), EqualChunks(CHUNK)))
    finally:
        os.close(fd)
    assert chunks == expected(data[:there])
    assert whole.digest() == Digest.of(data[:there])


def test_what_grows_back_after_the_end_was_met_is_not_taken():
    parts = [b"aaaa", b"bb", b"cccc", b"dddd"]
    chunks, whole = hash_all(segment(partial(bytes, part)) for part in parts)
    assert [chunk for _, chunk in chunks] == [b"aaaa", b"bb"]
    assert whole.digest() == Digest.of(b"aaaabb")


def test_the_whole_is_what_its_chunks_are_though_the_file_changes_while_it_is_read(
    opened, monkeypatch
):
    """The beginning of a chunk is read again."""
    fd = opened(bytes(50))
    original = os.pread
    reads = count()
    monkeypatch.setattr(
        os, "pread", lambda fd, size, at: bytes([next(reads)]) * len(original(fd, size, at))
    )
    chunks, whole = hash_all(segments_of_file(fd, 50, EqualChunks(CHUNK)))
    assert next(reads) > 5
    assert whole.digest() == Digest.of(b"".join(chunk for _, chunk in chunks))


@pytest.mark.parametrize("failing", range(STRETCHES))
def test_an_error_of_reading_is_raised_where_its_stretch_would_come(failing):
    hasher, whole = SegmentHasher(), Hasher()
    error = OSError(5, "Input/output error")

    def reading(number):
        def get():
            if number == failing:
                raise error
            return b"%04d" % number

        return get

    came = []
    segments = [segment(reading(number)) for number in range(STRETCHES)]
    with pytest.raises(OSError, match="Input/output") as caught:
        for hashed in hasher.hash(segments, whole, EqualChunks(CHUNK)):
            came.extend(chunk for _, chunk in hashed.chunks)
    hasher.close()
    assert caught.value is error
    # The last chunk of a segment might go on.
    assert came == [b"%04d" % number for number in range(failing - 1)]


def test_once_it_is_closed_nothing_reads_any_more():
    began, going_on = threading.Event(), threading.Event()
    ended = []

    def slow():
        began.set()
        assert going_on.wait(SECONDS)
        ended.append(True)
        return b"2222"

    def late():
        raise AssertionError("read after the caller gave up")

    hasher = SegmentHasher()
    segments = [segment(lambda: b"1111"), segment(slow), segment(slow), segment(late)]
    hashed = hasher.hash(segments, Hasher(), EqualChunks(CHUNK))
    assert next(hashed).chunks == []  # its chunk may go on
    assert began.wait(SECONDS)
    timer = threading.Timer(0.2, going_on.set)
    timer.start()
    hashed.close()
    done = len(ended)
    assert done >= 1
    timer.join()
    hasher.close()
    assert len(ended) == done


@pytest.mark.parametrize("number", [1, 2, 3])
def test_nor_where_it_was_interrupted_while_a_stretch_was_handed_over(monkeypatch, number):
    began, closed = threading.Event(), []
    late = []
    original = Threads.submit
    handed = []

    def submit(*args):
        future = original(*args)
        handed.append(future)
        if len(handed) == number:
            began.wait(SECONDS)
            raise KeyboardInterrupt
        return future

    def slow():
        began.set()
        time.sleep(0.1)
        late.extend(closed)
        return b"1111"

    monkeypatch.setattr(Threads, "submit", submit)
    hasher = SegmentHasher()
    with pytest.raises(KeyboardInterrupt):
        list(hasher.hash((segment(slow) for _ in range(9)), Hasher(), EqualChunks(CHUNK)))
    closed.append(True)
    hasher.close()
    wait(handed)
    assert not late


def test_few_stretches_are_read_ahead_of_the_caller():
    read = []

    def reading(number):
        def get():
            read.append(number)
            return b"%04d" % number

        return get

    hasher = SegmentHasher()
    segments = (segment(reading(n)) for n in range(100))
    with closing(hasher.hash(segments, Hasher(), EqualChunks(CHUNK))) as all_:
        for number in range(50):
            next(all_)
            assert len(read) <= number + 4
    hasher.close()


def test_pieces_are_taken_on_the_calling_thread(monkeypatch):
    threads = set()

    def pieces():
        for number in range(20):
            threads.add(threading.current_thread())
            yield b"%04d" % number

    store = store_of(MemoryCatalog())
    with store.batch() as batch:
        batch.add_pieces(pieces())
        batch.finish()
    assert threads == {threading.current_thread()}


@pytest.mark.parametrize("there", [0, 1, CHUNK, CHUNK + 1, 50])
def test_a_file_of_a_batch_is_stored_as_far_as_it_goes(opened, there):
    data = os.urandom(there)
    catalog = MemoryCatalog()
    store = store_of(catalog)
    with store.batch() as batch:
        assert batch.add_file(opened(data), 50) == (Digest.of(data), there)
        catalog.record(batch.finish())
    assert store.read(Digest.of(data)) == data
    assert len(catalog.packs) == 1


def test_a_file_of_unknown_size_is_read_to_its_end(opened, monkeypatch):
    monkeypatch.setattr("os.fstat", lambda fd: SimpleNamespace(st_size=0))
    for length in (0, 1, CHUNK, CHUNK + 1, 2 * CHUNK, 50):
        data = os.urandom(length)
        with store_of(MemoryCatalog()).batch() as batch:
            assert batch.add_file(opened(data), 0) == (Digest.of(data), length)
            batch.finish()


def test_the_holes_of_a_file_are_zeros_and_are_not_read(tmp_path, monkeypatch):
    page = 1 << 16  # no filesystem has larger ones in use
    with (tmp_path / "sparse").open("w+b") as file:
        file.seek(4 * page)
        file.write(b"x" * page)
        file.truncate(9 * page + 5)
        fd = file.fileno()
        data = (tmp_path / "sparse").read_bytes()
        read = []
        original = os.pread
        monkeypatch.setattr(os, "pread", lambda *call: (read.append(call[2]), original(*call))[1])
        monkeypatch.setattr("cas.segments._SEGMENT", page)
        chunks, whole = hash_all(segments_of_file(fd, len(data), EqualChunks(page)), page)
        assert read == [3 * page, 4 * page]  # each with the page after it
        assert b"".join(chunk for _, chunk in chunks) == data
        assert whole.digest() == Digest.of(data)


@pytest.mark.parametrize("there", [0, 10, (3 << 16) + 10, 8 << 16])
def test_a_hole_ends_where_the_file_is_cut_off_meanwhile(tmp_path, monkeypatch, there):
    page = 1 << 16
    monkeypatch.setattr("cas.segments._SEGMENT", page)
    with (tmp_path / "sparse").open("w+b") as file:
        file.truncate(8 * page)
        segments = segments_of_file(file.fileno(), 8 * page, EqualChunks(page))
        file.truncate(there)
        chunks, whole = hash_all(segments, page)
        assert b"".join(chunk for _, chunk in chunks) == bytes(there)
        assert whole.digest() == Digest.of(bytes(there))


class Chunked:
    """A store of small chunks that looks for an existing copy of every large file."""

    def __init__(self):
        self.catalog = MemoryCatalog()
        self.store = store_of(self.catalog)

    def add(self, fd, size):
        with self.store.batch() as batch:
            told = batch.add_file(fd, size)
            written = batch.finish()
        self.catalog.record(written)
        return told, written


@pytest.fixture
def chunked(monkeypatch):
    monkeypatch.setattr("cas.writer._RECOGNISED_FROM", 2 * CHUNK)
    return Chunked()


@pytest.fixture
def passes(monkeypatch):
    """For each pass over a large file, record whether its chunks were hashed."""
    noted = []
    original = SegmentHasher.hash

    def watched(self, segments, whole, chunker):
        noted.append(chunker is not None)
        return original(self, segments, whole, chunker)

    monkeypatch.setattr(SegmentHasher, "hash", watched)
    return noted


def test_a_large_file_that_is_stored_is_hashed_once(chunked, opened, passes):
    data = os.urandom(50)
    fd = opened(data)
    first, _ = chunked.add(fd, len(data))
    again, written = chunked.add(fd, len(data))
    assert first == again == (Digest.of(data), len(data))
    assert (written.packs, written.chunked) == ((), ())
    assert passes == [True, False]


def test_a_file_that_is_cut_off_while_it_is_looked_at_is_stored_as_it_is_then(
    chunked, opened, monkeypatch
):
    data = os.urandom(50)
    fd = opened(data)
    original = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, size, at: original(fd, size, at)[: max(7 - at, 0)])
    told, _ = chunked.add(fd, len(data))
    assert told == (Digest.of(data[:7]), 7)


def test_a_new_file_is_read_once(chunked, opened, passes):
    chunked.add(opened(os.urandom(50)), 50)
    chunked.add(opened(os.urandom(50)), 50)
    assert passes == [True, True]


@pytest.mark.parametrize("changed", [b"other inside", b""])
def test_what_has_the_ends_of_a_stored_file_and_is_another_is_stored(
    chunked, opened, passes, changed
):
    ends = os.urandom(CHUNK), os.urandom(CHUNK)
    for inside in (b"some inside!", changed):
        data = inside.join(ends)
        (digest, size), _ = chunked.add(opened(data), len(data))
        assert (digest, size) == (Digest.of(data), len(data))
        assert chunked.store.read(digest) == data
    assert passes == [True, False, True]


def test_a_stored_file_that_lost_a_chunk_gets_it_back(chunked, opened):
    data = os.urandom(50)
    fd = opened(data)
    chunked.add(fd, len(data))
    lost = Digest.of(data[2 * CHUNK : 3 * CHUNK])
    del chunked.catalog.placements[lost]
    (digest, _), written = chunked.add(fd, len(data))
    assert lost in written.blobs
    assert chunked.store.read(digest) == data


def test_a_file_that_shrinks_to_a_stored_one_has_its_size(chunked, opened, monkeypatch, tmp_path):
    data = os.urandom(8 * CHUNK)
    half = data[: 4 * CHUNK]
    chunked.add(opened(data), len(data))
    chunked.add(opened(half), len(half))
    fd = opened(data)
    original = SegmentHasher.hash

    def shrinking(self, *args, **kwargs):
        os.truncate(path, len(half))
        return original(self, *args, **kwargs)

    path = tmp_path / "file"
    monkeypatch.setattr(SegmentHasher, "hash", shrinking)
    told, _ = chunked.add(fd, len(data))
    assert told == (Digest.of(half), len(half))
