"""Expressions of a search as they are read: their limits, and what is said of those that fail."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from places import EACH_INDEX, places

from index.cli.find import find
from index.domain.expressions import COLUMNS, Comparison, Either, Every, read_expression
from index.errors import InvalidExpressionError

place = places(EACH_INDEX)

NOW = datetime(2026, 5, 31, tzinfo=UTC)


def read(text):
    return read_expression(text, NOW)


def test_and_binds_closer_than_or_and_not_closest():
    one, two, three = (Comparison("version", (), "=", (number,)) for number in (1, 2, 3))
    not_one = Comparison("version", (), "=", (1,), is_negated=True)
    assert read("version = 1 or version = 2 and version = 3") == Either((one, Every((two, three))))
    assert read("not version = 1 and version = 2") == Every((not_one, two))
    assert read("not not version = 1") == one
    assert read("not (version != 1 or version = 2)") == Every(
        (one, Comparison("version", (), "=", (2,), is_negated=True))
    )


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("meta", ()),
        ("meta.a", ("a",)),
        ("meta.and.or.in", ("and", "or", "in")),
        ('meta."a.b"."it""s"', ("a.b", 'it"s')),
        ("meta.'it''s'[0][12]", ("it's", 0, 12)),
        ("meta . a [ 1 ]", ("a", 1)),
        (f"meta[{10**30}]", (2**31 - 1,)),
    ],
)
def test_keys_lead_into_notes(text, keys):
    assert read(f"{text} is null") == Comparison("meta", keys, "null", ())


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("size = 10MB", 10_000_000),
        ("size = 10 KiB", 10_240),
        ("size = 1.5k", 1_536),
        ("size = 0", 0),
        (f"size = {10**30}", 2**63 - 1),
        ("version = -1", -1),
        ("meta = 1e-3", 0.001),
        ("meta = -2.50", -2.5),
        ("meta = 2 GB", 2e9),
        ("meta = TRUE", True),
        ("meta = 'true'", "true"),
        ("created = 2d", datetime(2026, 5, 29, tzinfo=UTC)),
        ("created = 2026-05-01T00:00:00Z", datetime(2026, 5, 1, tzinfo=UTC)),
        ("created = '2026-05-01 02:00+02:00'", datetime(2026, 5, 1, tzinfo=UTC)),
        ("agent = 'it''s \"x\"'", 'it\'s "x"'),
        ('agent = "C:\\new"', "C:\\new"),
    ],
)
def test_values_are_read_by_the_column(text, value):
    assert read(text).values == (value,)
    assert type(read(text).values[0]) is type(value)


WRONG = [
    ("", 1, "a column is missing"),
    ("agnt = 'a'", 1, "'agnt' is no column; the closest is 'agent'"),
    ("zzz = 'a'", 1, "'zzz' is no column; there are path, name, type"),
    ("size", 5, "a comparison of size is missing"),
    ("size >", 7, "a value of size is missing"),
    ("size > 'big'", 8, "write it as 10 MB"),
    ("size > 3 bananas", 10, "join comparisons by and, or"),
    ("size ~ 3", 8, "~ compares with a pattern"),
    ("version = 1.5", 11, "whole number"),
    ("agent = engineer", 9, "put text in quotes"),
    ("agent = 'engineer", 9, "close its quote"),
    ("agent = null", 9, "write is null"),
    ("agent is", 9, "'null' is missing"),
    ("agent not 'a'", 11, "'in' is missing"),
    ("agent in 'a'", 10, "'(' is missing"),
    ("agent in ('a' 'b')", 15, "')' is missing"),
    ("agent in ()", 11, "a value of agent is missing"),
    ("meta.a in (1, 'a')", 15, "values of several kinds"),
    ("meta.a > true", 10, "has no order"),
    ("meta.a-b > 1", 7, "in quotes"),
    ("meta. > 1", 7, "a key is missing"),
    ("meta[-1] = 1", 6, "a key is missing"),
    ("meta.a = 1e999", 10, "too large"),
    ("meta.a = 2d", 10, "not a size"),
    ("tag > 'a'", 7, "no order"),
    ("final = 1", 9, "true or false"),
    ("status = 'finishd'", 10, "no status is 'finishd'; the closest is 'finished'"),
    ("created > tomorrow", 11, "2d (two days ago)"),
    ("created > 2026-99-99", 11, "2d (two days ago)"),
    ("name ~ 'a/*'", 8, "a name has no slash"),
    ("path ~ '/etc/*'", 8, "relative"),
    ("(final", 7, "')' is missing"),
    ("final)", 6, "')' is too much"),
    ("final final", 7, "join comparisons by and, or"),
    ("final and", 10, "a column is missing"),
    ("and", 1, "a column is missing"),
    ("1 = 1", 1, "a column is missing"),
    ("size > 1; DROP TABLE cas_files", 9, "means nothing here"),
    ("agent = 'a\0'", 11, "no text in a store"),
    ("agent = '\udcff'", 9, "no text in a store"),
    ("meta.'\udcff' = 1", 6, "no text in a store"),
    ("path = '\ud800'", 9, "no text in a store"),
    ("path = '\udd00'", 9, "no text in a store"),
    ("(" * 33 + "final" + ")" * 33, 33, "more than 32 deep"),
    ("not " * 40 + "final", 129, "more than 32 deep"),
    ("final or " * 500 + "final", 4097, "longer than 4,096 characters"),
]


@pytest.mark.parametrize(("text", "position", "reason"), WRONG)
def test_what_can_not_be_read_is_an_error_with_its_place(text, position, reason):
    with pytest.raises(InvalidExpressionError, match=re.escape(reason)) as caught:
        read(text)
    assert caught.value.position == position
    assert f"at character {position}, " in str(caught.value)
    assert len(str(caught.value)) < 500


def test_an_expression_that_is_no_text_is_a_type_error(session):
    with pytest.raises(TypeError, match="where is an expression"):
        session.search(7)


@pytest.fixture
def session(store):
    run = store.session("s").run("r")
    run.put("a", b"1", meta={"a": 1})
    run.tag("y")
    return store.session("s")


def test_the_largest_expressions_are_searched_for(session):
    deepest = "not (" * 16 + "meta.a = 1 or tag = 'x'" + ")" * 16
    many = ", ".join(str(number) for number in range(700))
    for text in (
        deepest,
        f"version in ({many})",
        " and ".join(["meta.a = 1"] * 270),
        " or ".join(["name ~ '[b-z]*'"] * 200 + ["version = 1"]),
        " or ".join(["tag = 'x'"] * 200 + ["run = 'r'"]),
        " and ".join(["tag = 'y'"] * 290),
        *(f"path !~ '{each * (4_000 // len(each))}b'" for each in ("*a", "**/", "[!a]*", "a/*/")),
        *(f"run !~ '{each * (4_000 // len(each))}b'" for each in ("*a", "[!a]*", "*?")),
    ):
        assert [version.path for version in session.search(text)] == ["a"], text


PIECES = (
    *COLUMNS,
    *(
        "and",
        "or",
        "not",
        "in",
        "is",
        "null",
        "true",
        "(",
        ")",
        "[0]",
        ",",
        ".",
        "=",
        "!=",
        "<",
        "~",
    ),
    *(
        "'a'",
        '"a*"',
        "'",
        "1",
        "2d",
        "10 MB",
        "-1.5e3",
        "2026-05-31",
        "%",
        ";",
        "--",
        "\\",
        "\0",
        "é",
    ),
)


def test_any_text_is_an_expression_or_a_clear_error(session):
    @given(st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=12).map(" ".join))
    @example("meta.a = '); DROP TABLE cas_files; --'")
    @example("name ~ '[[:alpha:]]' or name ~ '\\d(?i)***=.{9999}'")
    @example("path ~ '**/**/**/**/**/**/**/**/**/*a*b*c*d*e*f*g*h*i*j*k'")
    def check(text):
        with suppress(InvalidExpressionError):  # and no other
            list(session.search(text))
        assert len([*session.find()]) == 1

    check()


def test_the_help_and_the_page_name_every_column():
    page = (Path(__file__).parents[2] / "docs" / "searching.md").read_text()
    listed = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert listed == list(COLUMNS)
    text = find.get_help(click.Context(find))
    for name in COLUMNS:
        assert re.search(rf"\b{name}\b", text)
