from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects import sqlite

from index.db.column_types import UtcDateTime, decode_path, encode_path

NAMES = st.binary(min_size=1).map(os.fsdecode)


@given(NAMES)
def test_any_name_that_a_filesystem_can_hold_comes_back_exactly(name):
    stored = encode_path(name)
    assert decode_path(stored) == name
    stored.encode("utf-8")  # every database accepts it


@given(NAMES, NAMES)
def test_two_names_are_never_stored_as_one(one, other):
    assert (encode_path(one) == encode_path(other)) == (one == other)


@given(NAMES, NAMES)
def test_a_prefix_stays_a_prefix(one, other):
    assert encode_path(one + other).startswith(encode_path(one))


def test_ordinary_names_are_stored_as_they_are():
    assert encode_path("data/größe 1.csv") == "data/größe 1.csv"
    assert encode_path("a\udcffb\\c") == r"a\xffb\\c"


def test_times_are_kept_in_utc_and_naive_ones_refused():
    kind, dialect = UtcDateTime(), sqlite.dialect()
    noon = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    bound = kind.process_bind_param(noon, dialect)
    read = kind.result_processor(dialect, None)
    for stored in (bound, bound.isoformat(sep=" "), noon):
        assert read(stored) == datetime(2026, 1, 1, 10, tzinfo=UTC)
    assert read(None) is None
    with pytest.raises(ValueError, match="no time zone"):
        kind.process_bind_param(datetime(2026, 1, 1), dialect)  # noqa: DTZ001
