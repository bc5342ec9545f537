"""The command's listings: runs named by numbers, times with a zone, pages, directories, sums."""

from __future__ import annotations

import json
import re
import time

import pytest
from trees import write

STAMP = re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(\S*)")


@pytest.fixture
def numbered(cas, tmp_path):
    """Three runs whose ids are numbers, and one whose id looks like a run at a snapshot."""
    for number in ("1", "2", "3"):
        write(tmp_path / number, {"a.txt": number.encode(), "data/b.csv": b"same"})
        assert cas("track", tmp_path / number, "--agent", f"agent-{number}")[0] == 0
    (tmp_path / "odd").write_bytes(b"odd")
    assert cas("put", tmp_path / "odd", "--as", "a.txt", "--run", "1@2")[0] == 0
    return cas


class TestDiff:
    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (("1@", "2@"), "~ a.txt"),
            (("1@1", "2@1"), "~ a.txt"),
            (("1@", "2@1"), "~ a.txt"),
            (("1@", "1@"), "0 added, 0 removed, 0 changed, 2 identical"),
            (("1@2@", "1@"), "+ data/b.csv"),
            (("1@2@1", "1@2@"), "0 added, 0 removed, 0 changed, 1 identical"),
            (("0", "1", "--run", "1"), "+ a.txt"),
            (("0", "--run", "2"), "+ a.txt"),
        ],
    )
    def test_a_run_can_be_named_whatever_its_id(self, numbered, arguments, expected):
        code, out, err = numbered("diff", *arguments)
        assert code == 0, err
        assert expected in out

    def test_a_number_alone_is_a_snapshot(self, numbered):
        code, _, err = numbered("diff", "1", "2", "--run", "1")
        assert code == 4
        assert "no snapshot 2" in err

    def test_the_help_tells_of_it(self, cas):
        assert "cas diff 1@ 2@" in cas("diff", "--help")[1]


@pytest.mark.parametrize(
    "command",
    [
        ("log", "a.txt", "--run", "1"),
        ("snapshots", "--run", "1"),
        ("who", "data/b.csv"),
        ("verify", "--depth", "bytes"),
    ],
)
def test_times_have_a_zone_in_every_listing(numbered, monkeypatch, command):
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    out = numbered(*command)[1]
    stamps = list(STAMP.finditer(out))
    assert stamps
    for stamp in stamps:
        assert stamp[2] in ("+00:00", "-0500", "-0400"), stamp[0]


class TestLs:
    def test_pages_orders_and_patterns(self, numbered):
        listed = [line.split()[-1] for line in numbered("ls", "-R", "--run", "1")[1].splitlines()]
        assert listed == ["a.txt", "data/b.csv"]
        by_size = numbered("ls", "--run", "1", "--order-by", "-size", "--limit", "1")[1]
        assert by_size.split()[-1] == "data/b.csv"
        rest = numbered("ls", "-R", "--run", "1", "--after", "a.txt")[1]
        assert [line.split()[-1] for line in rest.splitlines()] == ["data/b.csv"]
        found = numbered("ls", "--run", "1", "--glob", "**/*.csv")[1]
        assert [line.split()[-1] for line in found.splitlines()] == ["data/b.csv"]

    def test_one_directory(self, numbered):
        for top in ((), (".",)):
            out = numbered("ls", "--run", "1", *top)[1]
            assert [line.split()[-1] for line in out.splitlines()] == ["a.txt", "data/"]
        assert out.splitlines()[1].split("\t")[:2] == ["4", "1"]
        for below in (("data",), ("data/",), ("data", "-R"), ("data", "--glob", "**/*.csv")):
            assert numbered("ls", "--run", "1", *below)[1].split()[-1] == "data/b.csv"
        for recursive in ((), ("-R",)):
            code, _, err = numbered("ls", "--run", "1", "date", *recursive)
            assert code == 4
            assert "'date/'" in err

    def test_a_file(self, numbered):
        for path in ("a.txt", "data/b.csv"):
            assert numbered("ls", "--run", "1", path)[1].split()[-1] == path

    def test_what_selects_or_orders_files_lists_those_below_too(self, numbered):
        for option in (("--agent", "agent-1"), ("--glob", "**/*"), ("--order-by", "size")):
            listed = numbered("ls", "--run", "1", *option)[1].splitlines()
            assert {line.split()[-1] for line in listed} == {"a.txt", "data/b.csv"}

    @pytest.mark.parametrize(
        ("option", "value"), [("--order-by", "name"), ("--limit", "x"), ("--limit", "-1")]
    )
    def test_what_it_cannot_do_is_a_usage_error(self, numbered, option, value):
        assert numbered("ls", "--run", "1", option, value)[0] == 2

    def test_a_mistyped_path_names_the_closest(self, numbered):
        for command in ("log", "cat"):
            code, _, err = numbered(command, "data/b.cvs", "--run", "1")
            assert code == 4
            assert "the closest is 'data/b.csv'" in err


class TestStats:
    def test_bytes_by_any_labels(self, numbered):
        out = numbered("stats", "--by", "type", "--by", "agent", "--run", "1")[1]
        assert re.search(r"data\tagent-1\t2\t5\t2\n", out)
        found = json.loads(numbered("stats", "--by", "run", "--json")[1])
        assert [(group["run"], group["files"], group["bytes"]) for group in found] == [
            ("1", 2, 5),
            ("1@2", 1, 3),
            ("2", 2, 5),
            ("3", 2, 5),
        ]
        found = json.loads(numbered("stats", "--by", "session", "--json")[1])
        assert [group["bytes"] for group in found] == [18]
        nodes = numbered("stats", "--by", "node", "--session", "default")[1]
        assert re.search(r"^\t7\t18\t7\n", nodes)

    def test_a_run_shows_its_work_directory(self, numbered, tmp_path):
        assert str(tmp_path / "1") in numbered("runs")[1]

    def test_files_without_a_label_are_shown_by_a_dash(self, numbered):
        assert re.search(r"files_by_agent\t- 1", numbered("stats", "--run", "1@2")[1])
