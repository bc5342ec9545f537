"""Hypothesis draws the same examples in every run, whatever ran before."""

from __future__ import annotations

import importlib.util
import sys

import hypothesis
from hypothesis import strategies as st


def drawn():
    found = []

    @hypothesis.settings(max_examples=200, database=None, derandomize=True)
    @hypothesis.given(st.integers(), st.binary(), st.text())
    def draw(number, data, text):
        found.append((number, data, text))

    draw()
    return found


def test_only_the_nightly_profile_draws_at_random():
    for name, repeatable in (("default", True), ("nightly", False)):
        profile = hypothesis.settings.get_profile(name)
        assert profile.derandomize is repeatable
        assert not (repeatable and profile.database)


def test_a_module_that_is_loaded_changes_no_example(tmp_path, monkeypatch):
    """Otherwise the examples would depend on the tests that the same worker ran before."""
    before = drawn()
    source = tmp_path.parent.parent / "constants.py"
    source.write_text(f"VALUES = {[*range(10**6, 10**6 + 500)]}")
    spec = importlib.util.spec_from_file_location("constants_of_a_test", source)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    assert drawn() == before
