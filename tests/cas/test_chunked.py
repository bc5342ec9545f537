"""Streams of large blobs: which chunks a read fetches, what is kept, and that all is verified."""

from __future__ import annotations

import multiprocessing
import random
import subprocess
import sys
import threading
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from large_blobs import KIB, MIB, Stored

import cas.chunked as chunked_module
from cas.errors import BackendError, DigestMismatchError
from cas.spans import SPAN_SIZE

SECONDS = 30


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
    st.sampled_from([1, 3]),
)
def test_any_seeks_and_reads_return_what_a_file_would(sizes, steps, at_once):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunked_module, "SPAN_SIZE", 12)
        stored = Stored(sizes)
        stored.backend.span_size, stored.backend.reads_at_once = 12, at_once
        with stored.reader.open(stored.blob.digest).detach() as stream:
            for place, size in steps:
                stream.seek(place)
                expected = stored.data[place:] if size < 0 else stored.data[place : place + size]
                found = b"" if size else stream.read(0)
                while len(found) < len(expected):
                    found += stream.read(size if size < 0 else size - len(found))
                assert found == expected


class TestSeveralRequestsAtOnce:
    """Sequential reads from storage where each request takes a while."""

    @pytest.fixture
    def remote(self):
        stored = Stored([MIB] * 96)
        stored.backend.reads_at_once = 4
        return stored

    @pytest.fixture
    def most(self, remote):
        """The largest number of requests in flight; each waits a little for others to come."""
        read, flying, most = remote.backend.read, [], [0]
        met = threading.Event()

        def waiting(*place):
            flying.append(place)
            most[0] = max(most[0], len(flying))
            if len(flying) == 4:
                met.set()
            if threading.current_thread().name == "cas-read":
                met.wait(SECONDS)
            flying.pop()
            return read(*place)

        remote.backend.read = waiting
        return most

    @pytest.mark.parametrize("way", ["blocks", "rest", "pieces"])
    def test_are_sent_whichever_way_it_is_read(self, remote, most, way):
        with remote.open() as stream:
            if way == "blocks":
                whole = b"".join(iter(lambda: stream.read(100 * KIB), b""))
            elif way == "rest":
                whole = stream.read(10) + stream.read()
            else:
                whole = b"".join(remote.reader.iter_pieces(remote.blob.digest))
        assert whole == remote.data
        assert most == [4]
        assert sum(remote.requests) == len(whole)

    def test_hold_a_bounded_part_in_memory(self, remote):
        tracemalloc.start()
        try:
            with remote.open() as stream:
                for at in range(0, len(remote.data), MIB):
                    assert stream.read(MIB) == remote.data[at : at + MIB]
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        # Five that are read or in flight, one whose chunks are kept, and what is read from it.
        assert peak < 7 * SPAN_SIZE

    def test_leave_no_thread_once_the_stream_is_closed(self, remote):
        with remote.open() as stream:
            stream.readinto(bytearray(20 * MIB))
            assert reading_threads()
        assert not reading_threads()

    def test_leave_no_thread_once_the_reads_go_elsewhere(self, remote):
        with remote.open() as stream:
            for start in (0, 50 * MIB):
                stream.seek(start)
                assert stream.read(20 * MIB) == remote.data[start : start + 20 * MIB]
                assert reading_threads()
                stream.seek(90 * MIB)
                assert stream.read(10) == remote.data[90 * MIB :][:10]
                assert not reading_threads()

    @pytest.mark.parametrize("error", [KeyboardInterrupt(), BackendError("s3://b", "refused")])
    def test_end_with_an_error_and_can_begin_anew(self, remote, error):
        read = remote.backend.read
        with remote.open() as stream:
            stream.readinto(bytearray(20 * MIB))

            def failing(*_place):
                raise error

            remote.backend.read = failing
            with pytest.raises(type(error)):
                stream.readinto(bytearray(76 * MIB))
            assert not reading_threads()
            remote.backend.read = read
            at = stream.tell()
            assert stream.read() == remote.data[at:]

    def test_return_no_damaged_chunk(self, remote):
        remote.damage(60)
        with remote.open() as stream:
            assert stream.read(60 * MIB) == remote.data[: 60 * MIB]
            for _ in range(2):
                with pytest.raises(DigestMismatchError):
                    stream.read(10)
            assert not reading_threads()

    def test_are_not_waited_for_in_a_forked_process(self, remote):
        with remote.open() as stream:
            stream.readinto(bytearray(20 * MIB))

            def go_on():
                assert stream.read() == remote.data[20 * MIB :]
                stream.close()

            child = multiprocessing.get_context("fork").Process(target=go_on)
            child.start()
            child.join(SECONDS)
            assert child.exitcode == 0
            assert stream.read(MIB) == remote.data[20 * MIB :][:MIB]

    def test_do_not_keep_a_process_that_leaves_a_stream_open(self):
        code = f"""
import sys
sys.path[:] = {sys.path}
from large_blobs import MIB, Stored
stored = Stored([MIB] * 64)
stored.backend.reads_at_once = 4
stream = stored.open()
assert stream.readinto(bytearray(20 * MIB)) == 20 * MIB
"""
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, timeout=2 * SECONDS, check=False
        )
        assert (done.returncode, done.stderr) == (0, b"")

    def test_are_not_sent_where_a_request_takes_no_time(self, remote):
        remote.backend.reads_at_once = 1
        with remote.open() as stream:
            stream.readinto(bytearray(90 * MIB))
            assert not reading_threads()


def reading_threads():
    return [thread for thread in threading.enumerate() if thread.name == "cas-read"]


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
