"""The command's listings: runs named by numbers, times with a zone, pages, directories, sums."""

from __future__ import annotations

import json
import re

import pytest
from trees import write

STAMP = re.compile(r"\b\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d)?(\S*)( \S+)?")


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
    out = numbered(*command)[1]
    stamps = list(STAMP.finditer(out))
    assert stamps
    for stamp in stamps:
        assert stamp[2] == "Z" or stamp[3] == " UTC", stamp[0]


class TestLs:
    def test_pages_orders_and_patterns(self, numbered):
        listed = [line.split()[-1] for line in numbered("ls", "--run", "1")[1].splitlines()]
        assert listed == ["a.txt", "data/b.csv"]
        by_size = numbered("ls", "--run", "1", "--order-by", "-size", "--limit", "1")[1]
        assert by_size.split()[-1] == "data/b.csv"
        rest = numbered("ls", "--run", "1", "--after", "a.txt")[1]
        assert [line.split()[-1] for line in rest.splitlines()] == ["data/b.csv"]
        found = numbered("ls", "--run", "1", "--glob", "**/*.csv")[1]
        assert [line.split()[-1] for line in found.splitlines()] == ["data/b.csv"]

    def test_one_directory(self, numbered):
        out = numbered("ls", "--run", "1", "--dir", ".")[1]
        assert [line.split()[-1] for line in out.splitlines()] == ["a.txt", "data/"]
        assert "1 file" in out.splitlines()[1]
        out = numbered("ls", "--run", "1", "--dir", "data")[1]
        assert out.split()[-1] == "data/b.csv"
        code, _, err = numbered("ls", "--run", "1", "--dir", "date")
        assert code == 4
        assert "'date/'" in err

    def test_a_directory_takes_no_filters(self, numbered):
        for option in (("--agent", "x"), ("--glob", "*"), ("--order-by", "size"), ("--final",)):
            code, _, err = numbered("ls", "--run", "1", "--dir", ".", *option)
            assert code == 2
            assert option[0] in err

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
        assert re.search(r"data +agent-1 +2 files +5 B", out)
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
        assert re.search(r"^- +7 files +18 B", nodes)

    def test_a_run_shows_its_work_directory(self, numbered, tmp_path):
        assert str(tmp_path / "1") in numbered("stats")[1]

    def test_files_without_a_label_are_shown_by_a_dash(self, numbered):
        assert re.search(r"files_by_agent +- 1", numbered("stats", "--run", "1@2")[1])
