"""Tables of rows by digest, few and many."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cas.catalog import Location, Places
from cas.digest import Digest
from cas.digest_table import DigestTable

starts = st.sampled_from([b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff"]) | st.binary(
    min_size=4, max_size=4
)
"""Beginnings of digests. Those with the same one want the same slot."""
digests = st.builds(lambda start, rest: start + rest, starts, st.binary(min_size=28, max_size=28))


@pytest.fixture(params=["few", "many"], autouse=True)
def size(request):
    """Whether all rows are few, or many from the first ones on, in a table that grows often."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "many":
            patch.setattr("cas.digest_table._FEW", 3)
            patch.setattr("cas.digest_table._BITS", 3)
            patch.setattr("cas.digest_table._SLOTS_AT_ONCE", 2)
        yield request.param


@given(parts=st.lists(st.lists(st.tuples(digests, st.integers(0, 255)), max_size=20), max_size=10))
def test_a_table_has_the_first_row_of_each_digest_in_order(parts):
    table, expected = DigestTable("B"), {}
    for rows in parts:
        new = [expected.setdefault(row[0], row) for row in rows if row[0] not in expected]
        assert table.add_new(rows) == new
        assert len(table) == len(expected)
    assert list(table) == sorted(expected.values())
    assert all(table.find(digest) == row for digest, row in expected.items())


@given(there=st.sets(digests, max_size=40), others=st.sets(digests, max_size=20))
def test_a_table_tells_which_digests_are_missing(there, others):
    table = DigestTable("")
    table.add_new((digest,) for digest in there)
    asked = sorted(there | others)
    assert list(table.missing(asked)) == [digest for digest in asked if digest not in there]
    assert all(table.find(digest) is None for digest in others - there)


def test_a_digest_at_the_seam_of_two_rows_is_not_there():
    table = DigestTable("")
    rows = [(bytes([n]) * 16 + bytes([n + 1]) * 16,) for n in range(100)]
    table.add_new(rows)
    assert list(table.missing([rows[0][0][16:] + rows[1][0][:16]])) != []


def test_places_are_those_of_each_pack():
    packs = [Digest(bytes([n]) * 32) for n in (9, 8)]
    expected = {
        Digest.of(b"%d" % n): Location(packs[n % 2], n, 2 * n, 3 * n, 1, 4 * n, 5 * n)
        for n in range(40)
    }
    places = Places()
    for pack in packs:
        places.add(pack, ((d, *at[1:]) for d, at in expected.items() if at.pack == pack))
    assert places.packs == packs
    assert dict(places) == expected
    assert list(places) == sorted(expected)
    assert packs[0] not in places
    with pytest.raises(KeyError):
        places[packs[0]]
