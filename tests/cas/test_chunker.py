"""Where large blobs are cut, and what that depends on."""

from __future__ import annotations

import random
import struct
from itertools import accumulate, pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pyfastcdc.py.constants import GEAR

from cas.backends.memory import MemoryBackend
from cas.catalog import MemoryCatalog
from cas.chunker import CHUNK_SIZE, CHUNK_SIZES, Chunker, _cutter
from cas.digest import Digest
from cas.writer import BatchWriter

SMALL = CHUNK_SIZES[0]
"""The smallest chunk size: few bytes are many chunks."""

MASKS = {
    8: 0x0000001800035300,
    10: 0x0000590003530000,
    12: 0x0000D90103530000,
    14: 0x0000D90313530000,
}
"""The masks of the paper for chunks of 2 to the power of the key, on average."""

TABLE = Digest.parse("9af822d1e10df25d0157a43ccd0a73b56d1c1d0a5d77acb4e6e979522d0fe149")
"""The BLAKE3 of the paper's table: eight bytes for each value of a byte."""


def length_of_first(data, average):
    """Cut as the paper describes it, byte by byte; return the length of the first chunk."""
    bits = average.bit_length() - 1
    end = min(len(data), 4 * average)
    value = 0
    for at in range(average // 4, end - end % 2):  # it takes bytes by twos
        value = (2 * value + GEAR[data[at]]) % 2**64
        mask = MASKS[bits + 1] if at < min(average, end) // 2 * 2 else MASKS[bits - 1]
        if value & mask == 0:
            return at
    return end


def ends_of(data):
    """Return where a store of small chunks must cut: chunks grow from 64 times the size on."""
    ends = [0]
    while ends[-1] < len(data):
        average = SMALL if ends[-1] < 64 * SMALL else 4 * SMALL
        ends.append(ends[-1] + length_of_first(data[ends[-1] :], average))
    return ends


def cut(data, size=SMALL):
    return [bytes(chunk) for chunk in Chunker(size).cut(data, 0)]


def made(seed, size, kinds=256):
    return bytes(random.Random(seed).choices(range(kinds), k=size))


@given(
    st.integers(0, 99),
    st.integers(0, 60_000),
    st.sampled_from([1, 2, 7, 256]),
    st.integers(0, 9_000),
)
@example(1, 64 * SMALL + 1, 256, 0)
def test_it_cuts_where_the_paper_says(seed, size, kinds, zeros):
    data = made(seed, size, kinds)
    data = data[: size // 2] + bytes(zeros) + data[size // 2 :]
    assert [0, *accumulate(map(len, cut(data)))] == ends_of(data)


def test_its_table_is_that_of_the_paper():
    assert Digest.of(b"".join(struct.pack("<Q", each) for each in GEAR)) == TABLE


def test_a_store_will_cut_at_the_same_places_for_ever():
    """Other places would be no error, but everything that is large would be stored once more."""
    data = made(5, 5_000_000)
    chunks = cut(data, CHUNK_SIZE)
    assert b"".join(chunks) == data
    assert len(chunks) == 54
    assert list(accumulate(map(len, chunks[:3]))) == [89_379, 222_528, 329_225]
    digests = b"".join(map(Digest.of, chunks))
    assert str(Digest.of(digests)) == (
        "5dfe2495b095585ee4e910845a42949f2de63b7b42ae9a67989e50f3f94609b9"
    )


@given(st.binary(max_size=9_000), st.lists(st.integers(0, 9_000), max_size=9))
def test_it_is_no_matter_in_which_pieces_the_bytes_come(data, cuts):
    data *= 5
    ends = sorted({0, len(data), *(end for end in cuts if end < len(data))})
    pieces = [data[start:end] for start, end in pairwise(ends)]
    with BatchWriter(MemoryBackend(), MemoryCatalog(), Chunker(SMALL)) as batch:
        digest, _ = batch.add_pieces(pieces)
        chunked = {blob.digest: blob.chunks for blob in batch.finish().chunked}
    if len(data) > Chunker(SMALL).whole and len(cut(data)) > 1:
        assert chunked == {digest: tuple(map(Digest.of, cut(data)))}
    else:
        assert chunked == {}


@given(st.integers(0, 99), st.integers(0, 300_000), st.integers(0, 600), st.binary(max_size=600))
def test_a_change_anywhere_makes_few_new_chunks(seed, position, removed, inserted):
    before = made(seed, 300_000)
    after = before[:position] + inserted + before[position + removed :]
    assert len(set(cut(after)) - set(cut(before))) <= 12


@pytest.mark.parametrize("average", [SMALL << power for power in range(0, 14, 2)])
def test_zeros_are_cut_at_the_longest_chunk(average):
    """So that they need not be looked at byte by byte."""
    (first, *_) = _cutter(average).cut_buf(bytes(4 * average + 1))
    assert first.length == 4 * average


@pytest.mark.parametrize("kinds", [1, 3, 256])
def test_chunks_have_from_a_quarter_to_four_times_the_average_and_grow(kinds):
    data = made(3, 8 * 1024 * 1024, kinds)
    position = 0
    *chunks, _last = cut(data, 4096)
    averages = set()
    for chunk in chunks:
        average = Chunker(4096).longest(position) // 4
        assert average // 4 <= len(chunk) <= 4 * average
        averages.add(average)
        position += len(chunk)
    assert averages == {4096, 16384}
    assert Chunker(CHUNK_SIZE).longest(1 << 50) == 16 << 20
