"""Reads of a few bytes of chunks that were verified before: what they fetch, and still verify."""

from __future__ import annotations

import random
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st
from large_blobs import KIB, MIB, Stored

from cas import pieces as pieces_module
from cas.cache.cache import PackCache
from cas.digest import Digest
from cas.errors import DigestMismatchError
from cas.packs.pack import pack_object_name
from cas.pieces import PIECE_SIZE, PieceDigests
from cas.reader import BlobReader

COUNT = 24
ORDER = (*range(0, COUNT, 2), *range(1, COUNT, 2))
"""All chunks, none after the one before it: that would be sequential."""


def visit(stream, stored, number, *, at=100 * KIB, size=4 * KIB):
    """Read a few bytes of a chunk, and compare them."""
    place = number * MIB + at
    stream.seek(place)
    assert stream.read(size) == stored.data[place : place + size]


@pytest.fixture
def stored():
    """A blob of more chunks than a stream keeps."""
    return Stored([MIB] * COUNT)


@pytest.fixture
def known(stored):
    """A stream of it that has visited every chunk, but does not keep the first ones any more."""
    stream = stored.open()
    for number in ORDER:
        visit(stream, stored, number)
    stored.requests.clear()
    return stream


def test_a_read_in_a_chunk_that_was_verified_before_fetches_its_pieces(stored, known):
    for number in (3, 6, 4, 8):
        visit(known, stored, number, at=300 * KIB + 5)
    assert stored.requests == [2 * PIECE_SIZE] * 4


def test_a_read_within_one_piece_fetches_that_piece(stored):
    stream = stored.open().detach()
    for number in ORDER:
        stream.seek(number * MIB + 5)
        stream.read(1)
    stored.requests.clear()
    stream.seek(3 * MIB + PIECE_SIZE)
    assert stream.read(PIECE_SIZE) == stored.data[3 * MIB + PIECE_SIZE :][:PIECE_SIZE]
    assert stored.requests == [PIECE_SIZE]


def test_the_end_of_a_chunk_is_read_as_any_other_part():
    stored = Stored([MIB + 777] * COUNT)
    with stored.open() as stream:
        for number in ORDER:
            stream.seek(number * (MIB + 777) + 5)
            stream.read(5)
        stored.requests.clear()
        end = 4 * (MIB + 777)
        stream.seek(end - 700)
        assert stream.read(700) == stored.data[end - 700 : end]
    assert stored.requests == [777]


def test_another_stream_of_the_same_reader_knows_them_too(stored, known):
    with stored.open() as other:
        visit(other, stored, 5)
    assert stored.requests == [2 * PIECE_SIZE]
    stored.reader = BlobReader(stored.backend, stored.catalog)
    stored.requests.clear()
    with stored.open() as other:
        visit(other, stored, 5)
    assert stored.requests == [MIB]


def test_a_second_read_in_a_chunk_fetches_all_of_it(stored, known):
    for at in (200, 700, 20, 900):
        visit(known, stored, 5, at=at * KIB)
    assert stored.requests == [2 * PIECE_SIZE, MIB]


def test_reads_that_go_on_fetch_whole_chunks(stored, known):
    known.seek(2 * MIB + 1)
    for at in range(2 * MIB + 1, 9 * MIB, 4 * KIB):
        assert known.read(4 * KIB) == stored.data[at : at + 4 * KIB]
    assert len(stored.requests) < 8
    assert sum(stored.requests) < 16 * MIB


def test_a_read_of_most_of_a_chunk_fetches_it_once(stored, known):
    visit(known, stored, 6, at=5, size=700 * KIB)
    assert stored.requests == [MIB]


def test_a_damaged_piece_is_not_returned(stored, known):
    stored.damage(7)
    known.seek(7 * MIB)
    with pytest.raises(DigestMismatchError):
        known.read(10)
    visit(known, stored, 8)


def test_a_pack_that_ends_early_is_damage(stored, known):
    place = stored.catalog.placements[stored.blob.chunks[7]]
    name = pack_object_name(place.pack)
    stored.backend.objects[name] = stored.backend.objects[name][: place.offset + 300 * KIB]
    visit(known, stored, 7, at=100 * KIB)
    visit(known, stored, 2)
    for at in (299 * KIB, 500 * KIB):
        known.seek(7 * MIB + at)
        with pytest.raises(DigestMismatchError):
            known.read(4 * KIB)


def test_a_chunk_that_was_moved_is_read_at_its_new_place(stored, known):
    chunk = stored.blob.chunks[7]
    place = stored.catalog.placements[chunk]
    old, new = pack_object_name(place.pack), Digest.of(b"new")
    stored.backend.objects[pack_object_name(new)] = stored.backend.objects.pop(old)
    for digest in stored.blob.chunks:
        moved = stored.catalog.placements[digest]._replace(pack=new)
        stored.catalog.placements[digest] = moved
    visit(known, stored, 7)


def test_a_place_that_a_row_names_wrongly_is_not_believed(stored, known):
    """The digests belong to the chunk, even if a later stream finds it somewhere else."""
    first, second = (stored.catalog.placements[stored.blob.chunks[n]] for n in (3, 4))
    stored.catalog.placements[stored.blob.chunks[3]] = second
    with stored.open() as stream:
        stream.seek(3 * MIB + 5)
        with pytest.raises(DigestMismatchError):
            stream.read(10)
    stored.catalog.placements[stored.blob.chunks[3]] = first._replace(offset=-5)
    with stored.open() as stream:
        stream.seek(3 * MIB + 5)
        with pytest.raises(DigestMismatchError):
            stream.read(10)


def test_compressed_chunks_are_read_whole():
    stored = Stored([100])
    stored.chunks = [(b"%d " % n) * (MIB // 3) for n in range(COUNT)]
    stored.store()
    for _ in range(2):
        with stored.open() as stream:
            for number in ORDER:
                place = sum(map(len, stored.chunks[:number])) + 5000
                stream.seek(place)
                assert stream.read(10) == stored.data[place : place + 10]
    assert len(stored.requests) == 2 * COUNT


def test_the_digest_of_the_whole_is_checked_after_parts_were_read(stored):
    first, second, *rest = stored.blob.chunks
    wrong = stored.blob._replace(chunks=(second, first, *rest))
    stored.catalog.placements[stored.blob.digest] = wrong
    with stored.open() as stream:
        for _ in range(2):
            for number in (*ORDER[1:12], *ORDER[13:]):
                visit(stream, stored, number)
        assert PIECE_SIZE * 2 in stored.requests
        stream.seek(0)
        with pytest.raises(DigestMismatchError, match="list of 24 chunks"):
            while stream.read(MIB):
                pass


class TestWithACache:
    @pytest.fixture
    def cached(self, stored, tmp_path):
        cache = PackCache(tmp_path / "cache")
        stored.reader = BlobReader(stored.backend, stored.catalog, cache)
        with stored.open() as stream:
            for number in ORDER:
                visit(stream, stored, number)
        stored.requests.clear()
        return tmp_path / "cache"

    def test_pieces_come_from_the_cache(self, stored, cached):
        with stored.open() as stream:
            visit(stream, stored, 3)
        assert not stored.requests

    def test_pieces_that_are_damaged_there_are_fetched_again(self, stored, cached):
        for file in cached.rglob("*-*"):
            if file.is_file():
                file.write_bytes(bytes(file.stat().st_size))
        with stored.open() as stream:
            visit(stream, stored, 3)
        assert stored.requests == [MIB]


class TestPieceDigests:
    @given(st.integers(1, 90), st.data())
    def test_any_part_is_returned_as_it_was_and_no_other(self, size, data):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pieces_module, "PIECE_SIZE", 16)
            chunk = random.Random(size).randbytes(size)
            known = PieceDigests()
            known.note(Digest.of(chunk), chunk)
            start = data.draw(st.integers(0, size - 1))
            part = range(start, data.draw(st.integers(start + 1, size)))
            asked = []

            def read(start, stop):
                asked.append(range(start, stop))
                return chunk[start:stop]

            assert known.read(Digest.of(chunk), part, read) == chunk[part.start : part.stop]
            (fetched,) = asked
            assert len(fetched) < len(part) + 2 * 16
            flipped = bytearray(chunk)
            flipped[data.draw(st.integers(fetched.start, min(fetched.stop, size) - 1))] ^= 1
            found = known.read(Digest.of(chunk), part, lambda a, b: bytes(flipped[a:b]))
            assert found is None

    def test_what_is_not_noted_is_not_asked_for(self):
        assert PieceDigests().read(Digest.of(b"x"), range(1), pytest.fail) is None

    def test_they_have_a_bound_and_forget_what_was_used_longest_ago(self, monkeypatch):
        monkeypatch.setattr(pieces_module, "_MOST_BYTES", 32 * 10)
        known = PieceDigests()
        chunks = [bytes([n]) * 2 * PIECE_SIZE for n in range(7)]
        for chunk in chunks[:5]:
            known.note(Digest.of(chunk), chunk)
        assert known.read(Digest.of(chunks[0]), range(1), lambda a, b: chunks[0][a:b]) == b"\0"
        for chunk in chunks[5:]:
            known.note(Digest.of(chunk), chunk)
        left = [
            n
            for n, chunk in enumerate(chunks)
            if known.read(Digest.of(chunk), range(1), lambda a, b, chunk=chunk: chunk[a:b])
        ]
        assert left == [0, 3, 4, 5, 6]
        assert known._size == sum(map(len, known._known.values())) == 32 * 10

    def test_threads_may_share_them(self, monkeypatch):
        monkeypatch.setattr(pieces_module, "_MOST_BYTES", 32 * 10)
        known = PieceDigests()
        chunks = [bytes([n]) * PIECE_SIZE for n in range(30)]
        wrong = []

        def work(seed):
            source = random.Random(seed)
            for chunk in source.choices(chunks, k=500):
                known.note(Digest.of(chunk), chunk)
                part = known.read(Digest.of(chunk), range(9), lambda a, b, chunk=chunk: chunk[a:b])
                if part not in (None, chunk[:9]):
                    wrong.append(part)

        threads = [Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        assert known._size == sum(map(len, known._known.values())) <= 32 * 10
