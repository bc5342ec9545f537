"""Every mutation still applies. The whole check takes minutes and is not run here."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def load_table():
    file = Path(__file__).with_name("table.py")
    spec = importlib.util.spec_from_file_location("mutation_table", file)
    table = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(table)
    return table.MUTATIONS


MUTATIONS = load_table()


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mutation_applies_in_one_place_and_names_tests_that_there_are(mutation):
    text = (ROOT / mutation.file).read_text()
    assert text.count(mutation.old) == 1
    ast.parse(text.replace(mutation.old, mutation.new))
    assert mutation.tests
    for test in mutation.tests:
        file, *names = test.split("::")
        code = (ROOT / file).read_text()
        assert all(f"def {name}(" in code or f"class {name}" in code for name in names), test


def test_mutations_are_told_apart():
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS)
