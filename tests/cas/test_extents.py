from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cas.cache.extents import Extent, Extents
from cas.digest import Digest

PACK = Digest.of(b"pack")
BOUNDS = st.tuples(st.integers(0, 30), st.integers(1, 12)).map(lambda b: (b[0], b[0] + b[1]))


def is_covered(bounds, start, size):
    return any(low <= start and start + size <= high for low, high in bounds)


@given(st.lists(BOUNDS), st.lists(BOUNDS), st.lists(st.integers(0, 20)))
def test_what_is_found_covers_what_was_asked_for_and_is_found_if_anything_does(
    listed, added, dropped
):
    extents = Extents(PACK, listed)
    for bounds in added:
        extents.add(*bounds)
    there = set(listed) | set(added)
    for number in dropped:
        if number < len(there):
            gone = sorted(there)[number]
            # Extents inside a dropped one are forgotten, too. That costs one fetch.
            if not is_covered(there - {gone}, gone[0], gone[1] - gone[0]):
                there -= {b for b in there if gone[0] <= b[0] and b[1] <= gone[1]}
                extents.drop(Extent(PACK, *gone))
    for start in range(45):
        for size in (0, 1, 3, 8):
            found = extents.find(start, size)
            assert (found is not None) == is_covered(there, start, size)
            if found is not None:
                assert found.pack == PACK
                assert (found.start, found.stop) in there
                assert is_covered([(found.start, found.stop)], start, size)
