"""Streams of large blobs: which chunks a read fetches, what is kept, and that all is verified."""

from __future__ import annotations

import random
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from large_blobs import KIB, MIB, Stored

from cas.errors import DigestMismatchError
from cas.spans import SPAN_SIZE


@pytest.fixture
def uneven():
    """Chunks as a content-defined chunker makes them."""
    source = random.Random(2)
    return Stored([source.randrange(16 * KIB, 256 * KIB) for _ in range(100)])


def test_a_random_read_fetches_the_chunk_it_lies_in_and_no_more(uneven):
    source = random.Random(3)
    with uneven.open() as stream:
        for _ in range(200):
            at = source.randrange(len(uneven.data) - 4 * KIB)
            touched = [
                len(chunk)
                for chunk, end in zip(uneven.chunks, uneven.ends(), strict=True)
                if end > at and end - len(chunk) < at + 4 * KIB
            ]
            uneven.requests.clear()
            stream.seek(at)
            assert stream.read(4 * KIB) == uneven.data[at : at + 4 * KIB]
            assert len(uneven.requests) <= len(touched)
            assert sum(uneven.requests) <= sum(touched)


def test_a_read_in_a_chunk_that_was_used_lately_fetches_nothing(uneven):
    with uneven.open() as stream:
        stream.seek(5 * MIB)
        stream.read(10)
        stream.seek(2 * MIB)
        stream.read(10)
        uneven.requests.clear()
        for place in (5 * MIB, 2 * MIB) * 5:
            stream.seek(place)
            assert stream.read(10) == uneven.data[place : place + 10]
    assert not uneven.requests


def test_the_chunks_that_are_kept_have_a_bound():
    stored = Stored([MIB] * 20)
    stream = stored.open().detach()
    for number in random.Random(4).choices(range(20), k=100):
        stream.seek(number * MIB)
        assert stream.read(10) == stored.data[number * MIB :][:10]
        assert stream._size == sum(map(len, stream._kept.values())) <= SPAN_SIZE


@pytest.mark.parametrize("way", ["stream", "blob"])
def test_a_whole_large_blob_is_fetched_once_and_held_once(way):
    stored = Stored([MIB + n * 777 for n in range(64)])
    tracemalloc.start()
    try:
        if way == "stream":
            with stored.open() as stream:
                whole = stream.read()
        else:
            whole = stored.reader.read(stored.blob.digest)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert whole == stored.data
    assert type(whole) is bytes
    # Besides the result: at most two spans, each as stored and decoded.
    assert peak < len(whole) + 4 * SPAN_SIZE
    assert sum(stored.requests) == len(whole)
    assert len(stored.requests) < 20


def test_the_rest_of_a_large_blob_is_read_from_the_position_on(uneven):
    with uneven.open() as stream:
        stream.seek(3 * MIB + 5)
        assert stream.read(7) == uneven.data[3 * MIB + 5 :][:7]
        assert stream.read() == uneven.data[3 * MIB + 12 :]
        assert stream.read() == b""
        stream.seek(len(uneven.data) + 5)
        assert stream.read() == b""


def test_a_large_buffer_is_filled_and_each_chunk_fetched_once(uneven):
    buffer = bytearray(len(uneven.data) + 10)
    with uneven.open() as stream:
        assert stream.readinto(buffer) == len(uneven.data)
    assert buffer[:-10] == uneven.data
    assert sum(uneven.requests) == len(uneven.data)


@given(
    st.lists(st.integers(1, 9), min_size=2, max_size=12),
    st.lists(st.tuples(st.integers(0, 60), st.integers(-1, 30)), max_size=12),
)
def test_any_seeks_and_reads_return_what_a_file_would(sizes, steps):
    stored = Stored(sizes)
    with stored.open() as stream:
        for place, size in steps:
            stream.seek(place)
            expected = stored.data[place:] if size < 0 else stored.data[place : place + size]
            assert stream.read(size) == expected


class TestTheDigestOfTheWhole:
    @pytest.fixture
    def swapped(self):
        """A blob whose list has two chunks the wrong way round; each is intact."""
        stored = Stored([MIB] * 6)
        first, second, *rest = stored.blob.chunks
        stored.catalog.placements[stored.blob.digest] = stored.blob._replace(
            chunks=(second, first, *rest)
        )
        return stored

    def test_is_checked_before_the_last_bytes_are_returned(self, swapped):
        with swapped.open() as stream:
            assert len(stream.read(5 * MIB)) == 5 * MIB
            for _ in range(2):  # and not only once
                with pytest.raises(DigestMismatchError, match="list of 6 chunks"):
                    stream.read(10)

    def test_also_if_some_were_read_out_of_order_before(self, swapped):
        with swapped.open() as stream:
            for place in (5 * MIB, 2 * MIB):
                stream.seek(place)
                stream.read(10)
            stream.seek(0)
            with pytest.raises(DigestMismatchError, match="list of 6 chunks"):
                stream.read()


@pytest.mark.parametrize("number", [0, 50, 99])
def test_a_damaged_chunk_is_not_returned_however_it_is_read(uneven, number):
    uneven.damage(number)
    end = list(uneven.ends())[number]
    with uneven.open() as stream:
        for read in (stream.read, lambda: stream.readinto(bytearray(len(uneven.data)))):
            stream.seek(0)
            with pytest.raises(DigestMismatchError):
                read()
        stream.seek(end - 1)
        with pytest.raises(DigestMismatchError):
            stream.read(1)
