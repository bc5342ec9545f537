"""Reading around bad blocks: all readable bytes, zeros for the rest, and the bad ranges."""

from __future__ import annotations

import random

import pytest
from faults import BadSectors
from hypothesis import given, settings
from hypothesis import strategies as st

from cas.backends.local import LocalBackend
from cas.errors import ObjectNotFoundError, UnreadableObjectError
from cas.packs.salvage import read_around

BLOCK = BadSectors.BLOCK
SIZE = 20 * BLOCK + 123
DATA = random.Random(1).randbytes(SIZE)


@pytest.fixture
def disk():
    return BadSectors()


@pytest.fixture
def backend(tmp_path, disk):
    backend = LocalBackend(tmp_path / "store", calls=disk)
    backend.create("object", DATA)
    return backend


def check(backend, disk, bad, start, size):
    disk.bad.clear()
    for number in bad:
        disk.damage(backend.path("object"), number * BLOCK)
    expected = bytearray(DATA)
    for number in bad:
        hole = slice(number * BLOCK, min((number + 1) * BLOCK, SIZE))
        expected[hole] = bytes(hole.stop - hole.start)
    data, holes = read_around(backend, "object", start, size)
    assert data == bytes(expected[start : start + size])
    missing = {offset for hole in holes for offset in hole}
    asked = range(start, min(start + size, SIZE))
    assert missing == {offset for offset in asked if offset // BLOCK in bad}
    assert [hole.start for hole in holes] == sorted(hole.start for hole in holes)


def test_what_is_not_in_a_bad_block_is_had(backend, disk):
    @settings(max_examples=60, deadline=None)
    @given(
        bad=st.sets(st.integers(0, SIZE // BLOCK), max_size=6),
        start=st.integers(0, SIZE + 10),
        size=st.integers(0, SIZE + BLOCK),
    )
    def holds(bad, start, size):
        check(backend, disk, bad, start, size)

    holds()


@pytest.mark.parametrize(
    "bad", [{0}, {20}, {0, 20}, set(range(21))], ids=["first", "last", "ends", "all"]
)
def test_the_ends_and_the_whole_of_an_object_may_be_bad(backend, disk, bad):
    check(backend, disk, bad, 0, SIZE)


def test_one_bad_block_costs_few_requests(backend, disk):
    disk.damage(backend.path("object"), 7 * BLOCK)
    read_around(backend, "object", 0, SIZE)
    assert 2 < disk.refused < 10


def test_a_plain_reader_is_told(backend, disk):
    disk.damage(backend.path("object"), 7 * BLOCK)
    with pytest.raises(UnreadableObjectError, match=r"object can't be read.*store.verify"):
        backend.read("object")
    assert backend.read("object", 8 * BLOCK) == DATA[8 * BLOCK :]


def test_an_object_that_is_missing_is_no_hole(backend):
    with pytest.raises(ObjectNotFoundError):
        read_around(backend, "other", 0, 10)
