"""The protocol of garbage collection and writers, in every interleaving of its steps."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
from protocol_model import Size, Variant, check

FOLDER = Path(__file__).parents[1] / "docs" / "protocol"
READING = Size(writers=1, readers=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "size",
    [
        pytest.param(Size(packs=2), id="two-writers-two-collectors"),
        pytest.param(Size(writers=1, collectors=1, readers=1), id="one-of-each-three-packs"),
        pytest.param(Size(collectors=1, digests=2, packs=2), id="two-digests"),
    ],
)
def test_nothing_is_lost_in_any_interleaving(size):
    found = check(size)
    assert found.fault is None, found.steps
    assert found.states > 5_000


@pytest.mark.parametrize(
    "variant", [Variant.CALLERS_TRANSACTION, Variant.NO_CLEAR, Variant.FLAG_SWEEP]
)
def test_what_has_a_second_guard_is_safe_without_the_first(variant):
    assert check(Size(packs=2), frozenset({variant})).fault is None


WRONG = [
    ({Variant.NO_CLEAR, Variant.FLAG_SWEEP}, "is referenced and has no row", Size()),
    ({Variant.EARLIER_LOOK}, "is referenced and has no row", Size()),
    ({Variant.NO_RECHECK}, "is referenced and has no row", Size()),
    ({Variant.NO_PENDING}, "its object is gone", Size()),
    ({Variant.NO_PENDING_CHECK}, "its object is gone", Size()),
    ({Variant.ROWS_FIRST}, "its object is gone", Size()),
    ({Variant.OBJECT_FIRST}, "its object is gone", Size()),
    ({Variant.NAMES_RETURN}, "its object is gone", Size()),
    ({Variant.MOVE_UNCHECKED}, "its object is gone", Size()),
    ({Variant.DELETE_BEFORE_MOVE}, "its object is gone", Size()),
    ({Variant.ONE_LOOK}, "a reader gives up", READING),
    ({Variant.TWO_LOOKS}, "a reader gives up", READING),
]


@pytest.mark.parametrize(
    ("variants", "fault", "size"), WRONG, ids=["+".join(sorted(row[0])) for row in WRONG]
)
def test_each_wrong_variant_is_found_wrong(variants, fault, size):
    found = check(size, frozenset(variants))
    assert found.fault is not None
    assert fault in found.fault
    assert found.steps


def test_the_specification_knows_the_same_variants_and_no_others():
    text = (FOLDER / "protocol.pml").read_text()
    asked = set(re.findall(r"^#if(?:n?def| !?defined\()\s*(\w+)", text, flags=re.MULTILINE))
    asked |= set(re.findall(r"defined\((\w+)\)", text))
    sizes = {"WRITERS", "COLLECTORS", "READERS", "DIGESTS", "PACKS"}
    assert asked - sizes - {"STRICT", "NO_CRASHES", "UNREGISTERED"} == {str(v) for v in Variant}
    ran = (FOLDER / "README.md").read_text().partition("## Results")[2]
    assert all(variant in ran for variant in Variant)


def test_the_recorded_results_are_of_the_specification_as_it_is():
    recorded = (FOLDER / "README.md").read_text().partition("## Results")[2]
    assert hashlib.sha256((FOLDER / "protocol.pml").read_bytes()).hexdigest() in recorded
