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


class TestTheRunThatIsMeant:
    @pytest.fixture
    def inside(self, numbered, tmp_path, monkeypatch):
        def go(place):
            monkeypatch.chdir(tmp_path / place)
            return numbered

        return go

    @pytest.mark.parametrize("place", ["2", "2/data"])
    @pytest.mark.parametrize(
        "command",
        [("ls", "-R"), ("log", "a.txt"), ("snapshots",), ("show", "a.txt"), ("show", "@1"),
         ("cat", "a.txt"), ("diff", "0"), ("tag",), ("status",)],
        ids=" ".join,
    )  # fmt: skip
    def test_is_that_of_the_directory(self, inside, place, command):
        cas = inside(place)
        code, out, err = cas(*command)
        assert code == 0, err
        assert out == cas(*command, "--run", "2")[1]

    def test_is_the_innermost_one(self, inside):
        assert inside("2")("track", "data", "--run", "inner")[0] == 0
        assert inside("2/data")("ls", "-R")[1] == inside("2")("ls", "-R", "--run", "inner")[1]

    def test_is_asked_for_where_it_is_none_or_several(self, inside):
        code, _, err = inside(".")("ls")
        assert (code, "name the run with --run; the newest are: 1, 2, 3, 1@2" in err) == (2, True)
        assert inside("2")("track", ".", "--run", "again")[0] == 0
        code, _, err = inside("2")("ls")
        assert (code, "the newest are: 2, again" in err) == (2, True)


class TestWhereAFileIsPut:
    def test_a_file_in_the_directory_of_the_run_has_the_path_of_a_scan(
        self, cas, tmp_path, monkeypatch
    ):
        write(tmp_path / "work", {"data/a.csv": b"1"})
        (tmp_path / "link").symlink_to(tmp_path / "work" / "data")
        assert cas("track", "work")[0] == 0
        names = ("work/data/a.csv", tmp_path / "work/data/a.csv", "link/a.csv")
        for number, name in enumerate((*names, "link/../data/a.csv"), start=2):
            write(tmp_path / "work", {"data/a.csv": b"%d" % number})
            assert cas("put", name)[1].startswith(f"data/a.csv version {number} ")
        monkeypatch.chdir(tmp_path / "work" / "data")
        write(tmp_path / "work", {"data/a.csv": b"last"})
        assert cas("put", "a.csv")[1].startswith("data/a.csv version 6 ")

    def test_another_file_keeps_the_path_that_was_typed(self, cas, tmp_path):
        write(tmp_path, {"work/a": b"1", "elsewhere/b": b"2"})
        assert cas("track", "work")[0] == 0
        assert cas("put", "elsewhere/b")[1].startswith("elsewhere/b version 1")
        assert cas("put", tmp_path / "elsewhere" / "b")[1].startswith("b version 1")
        assert cas("put", "work/a", "--run", "new")[1].startswith("work/a version 1")


def test_show_has_a_line_for_each_note(cas, tmp_path):
    write(tmp_path / "work", {"a": b"1"})
    assert cas("run", "--dir", "work", "--run", "r", "echo", "hello")[0] == 0
    lines = cas("show", "@2", "--run", "r")[1].splitlines()
    assert "notes.command\techo hello" in lines
    assert f"notes.directory\t{tmp_path}" in lines


def test_a_session_has_its_numbers_by_run(numbered):
    lines = numbered("stats", "--session", "default")[1].splitlines()
    assert [line.split("\t")[0] for line in lines] == ["1", "1@2", "2", "3"]
