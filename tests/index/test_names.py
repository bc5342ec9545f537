from __future__ import annotations

import pytest

from index.domain.names import check_id, check_path
from index.errors import InvalidNameError, UnsafePathError


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "empty"),
        ("x" * 300, "300 characters"),
        ("a/b", "'/'"),
        ("..", "relative path"),
        ("../x", "'/'"),
        ("a..b", "relative path"),
        (".", "relative path"),
        ("a\0b", "control"),
        ("a\nb", "control"),
        ("a\udcffb", "undecodable"),
        (7, "not a string"),
    ],
)
def test_an_id_that_cannot_be_one_gets_one_sentence(value, reason):
    with pytest.raises(InvalidNameError, match=reason) as caught:
        check_id("run", value)
    assert "can't be the run id" in str(caught.value)
    assert len(str(caught.value)) < 160


@pytest.mark.parametrize("value", ["r", "run-1", "x" * 255, "Läufe 3", "a.b", "%41", "'; DROP"])
def test_any_other_id_is_taken_as_it_is(value):
    assert check_id("run", value) == value


@pytest.mark.parametrize(
    ("path", "clean"),
    [("a", "a"), ("./a//b/", "a/b"), ("a b\n", "a b\n"), ("...", "..."), ("a\udcff", "a\udcff")],
)
def test_a_path_has_one_spelling(path, clean):
    assert check_path(path) == clean


def test_a_path_is_plain_text_whatever_it_was_given_as():
    class Shouted(str):
        __slots__ = ()

        def __format__(self, spec):
            return self.upper()

    assert type(check_path(Shouted("data"))) is str
    assert f"{check_path(Shouted('data'))}/a" == "data/a"


@pytest.mark.parametrize(
    "path", ["", ".", "./", "/a", "..", "a/../b", "a\0b", "a\ud800", "x/" * 2049]
)
def test_a_path_that_leaves_the_run_is_refused(path):
    with pytest.raises(UnsafePathError, match="is refused"):
        check_path(path)
