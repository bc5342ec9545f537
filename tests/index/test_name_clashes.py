"""Which paths some filesystem takes for one name, whatever the one below the tests does."""

from __future__ import annotations

import pytest

from index.errors import NameClashError
from index.reading.name_clashes import possible_clashes

PAIRS = {
    "a": "A",
    "stra\u00dfe": "STRASSE",
    "\ufb01le": "FILE",
    "x./a": "X/a",
    "dir /a": "dir/A",
    "a\u200db": "ab",
    "caf\u00e9": "cafe\u0301",
}


@pytest.mark.parametrize("one", PAIRS)
@pytest.mark.parametrize("other", PAIRS.values())
def test_they_are_found_by_the_rules_of_several_filesystems(one, other):
    found = list(possible_clashes([one, other, "more"]))
    assert found == ([(one, other)] if PAIRS[one] == other else [])


def test_a_directory_clashes_with_a_file_and_not_with_a_directory():
    assert list(possible_clashes(["Data/a", "data/b"])) == []
    assert list(possible_clashes(["Data", "data/sub/b"])) == [("Data", "data/")]
    assert list(possible_clashes(["x/Data", "x/data/sub/b"])) == [("x/Data", "x/data/")]


def test_names_that_look_alike_are_told_apart():
    text = str(NameClashError("caf\u00e9", "cafe\u0301"))
    assert text.startswith(r"'caf\xe9' and 'cafe\u0301' are one name")
