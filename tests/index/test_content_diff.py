"""What differs in the content of two versions: lines, columns of tables, or a word for the rest."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import on_one
from trees import write

from cas.digest import Digest
from index.domain import content_diff, line_diff
from index.domain.line_diff import Matcher, split_lines, unified
from index.domain.table_diff import compare_tables
from index.errors import UnknownDigestError, UnknownFileError


def patched(before, hunks):
    """Apply a unified diff to lines, and check that it fits."""
    lines, done, position = [], before, 0
    for number, line in enumerate(hunks):
        if line.startswith("@@"):
            found = re.fullmatch(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@", line)
            start = int(found[1]) - (found[2] != "0")
            lines += done[position:start]
            position = start
            assert len(lines) == int(found[3]) - (found[4] != "0")
            continue
        if line.startswith("\\"):
            continue
        ends = number + 1 < len(hunks) and hunks[number + 1].startswith("\\")
        text = line[1:] if ends else f"{line[1:]}\n"
        if line[0] != "+":
            assert done[position] == text
            position += 1
        if line[0] != "-":
            lines.append(text)
    return lines + done[position:]


TEXTS = st.lists(st.sampled_from(["a\n", "b\n", "c\n", "\n", "d\r\n", "\u2028\n"]), max_size=30)


class TestLines:
    @pytest.mark.parametrize("steps", [0, 20, 1_000_000])
    @given(before=TEXTS, after=TEXTS, ending=st.sampled_from(["", "end"]))
    def test_a_diff_leads_from_one_text_to_the_other(self, steps, before, after, ending):
        old, new = "".join(before), "".join(after) + ending
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(line_diff, "_STEPS", steps)
            hunks = [*unified(split_lines(old), split_lines(new))]
        assert "".join(patched(split_lines(old), hunks)) == new
        assert bool(hunks) == (old != new)

    def test_only_a_newline_ends_a_line(self):
        assert split_lines("a\rb\x0bc\u2028d\n\ne") == ["a\rb\x0bc\u2028d\n", "\n", "e"]
        assert split_lines("") == []

    def test_a_missing_last_newline_is_told(self):
        assert [*unified(["a\n", "b"], ["a\n", "b\n"])] == [
            "@@ -1,2 +1,2 @@", " a", "-b", "\\ No newline at end of file", "+b",
        ]  # fmt: skip

    def test_the_work_is_bounded_and_the_ends_are_matched_all_the_same(self, monkeypatch):
        looked = []
        original = line_diff.SequenceMatcher.find_longest_match

        def counted(self, *arguments):
            looked.append(arguments)
            return original(self, *arguments)

        monkeypatch.setattr(line_diff.SequenceMatcher, "find_longest_match", counted)
        monkeypatch.setattr(line_diff, "_STEPS", 100)
        old = [f"{n % 50}\n" for n in range(150)]
        new = ["first\n", *old[1:80], "middle\n", *old[80:]]
        assert Matcher(old, new).get_matching_blocks()[-2].size == 70
        assert looked == []


def table(*rows):
    return "".join(f"{row}\n" for row in rows)


class TestTables:
    def test_rows_with_a_key_are_matched_in_any_order(self):
        found = compare_tables(
            "t.csv",
            table("id,score,name", "a,1,x", "b,2,y", "c,3,z"),
            table("id,name,score,new", "c,z,3,1", "a,x,1.5,1", "d,w,9,1", "b,Y,-2,1"),
        )
        assert (found.rows_before, found.rows_after, found.key) == (3, 4, "id")
        assert (found.rows_added, found.rows_removed, found.rows_changed) == (1, 0, 2)
        assert (found.columns_added, found.columns_removed) == (("new",), ())
        assert [(c.name, c.cells, c.largest_change) for c in found.columns] == [
            ("score", 2, 4.0),
            ("name", 1, None),
        ]

    def test_rows_without_a_key_are_matched_by_their_order(self):
        found = compare_tables(
            "t.csv",
            table("x,y", "1,1", "1,2", "1,3", "1,4"),
            table("x,y", "0,0", "1,1", "1,2.5", "1,3", "1,4"),
        )
        assert found.key is None
        assert (found.rows_added, found.rows_removed, found.rows_changed) == (1, 0, 1)
        assert [(c.name, c.cells, c.largest_change) for c in found.columns] == [("y", 1, 0.5)]

    def test_a_first_column_of_results_is_no_key(self):
        old = table("loss,step", *(f"0.{n},{n}" for n in range(100, 140)))
        new = table("loss,step", *(f"0.{n},{n - 100}" for n in range(200, 240)))
        assert compare_tables("t.csv", old, new).key is None

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("t.csv", "id;a\nx;1\ny;2\n"),
            ("t.csv", '\ufeffid,a\r\nx,"1"\r\ny,2\r\n'),
            ("t.tsv", "id\ta\nx\t1\ny\t2\n\n"),
        ],
    )
    def test_other_separators_quotes_and_line_ends(self, name, text):
        found = compare_tables(name, text, text.replace("2", "5"))
        assert (found.key, found.rows_changed, found.columns[0].largest_change) == ("id", 1, 3.0)

    def test_rows_and_columns_that_only_changed_places_are_told(self):
        before = "id,v,w\na,1,4\nb,2,5\nc,3,6\n"
        rows = compare_tables("t.csv", before, "id,v,w\nc,3,6\na,1,4\nb,2,5\n")
        assert (rows.rows_changed, rows.rows_reordered, rows.columns_reordered) == (0, True, False)
        columns = compare_tables("t.csv", before, "id,w,v\na,4,1\nb,5,2\nc,6,3\n")
        assert (columns.rows_reordered, columns.columns_reordered) == (False, True)
        inserted = compare_tables("t.csv", before, "id,new,v,w\nz,,0,0\na,,1,4\nc,,3,6\n")
        assert (inserted.rows_reordered, inserted.columns_reordered) == (False, False)

    @pytest.mark.parametrize(
        "text", ["", "\n", "words\nmore\n", "a,a\n1,2\n", "a,b\n1,2,3\n", "a,b\n" + "x" * 200_000]
    )
    def test_what_is_no_table_is_none(self, text):
        assert compare_tables("t.csv", text, table("a,b", "1,2")) is None

    def test_numbers_that_are_none_do_not_count(self):
        old, new = table("k,v", "a,nan", "b,1", "c,inf"), table("k,v", "a,1", "b,1e400", "c,2")
        (column,) = compare_tables("t.csv", old, new).columns
        assert (column.cells, column.largest_change) == (3, None)


MANY = table("id,v", *(f"{n},{n}" for n in range(100)))
BEFORE = {
    "text.md": b"one\ntwo\nthree\n",
    "gone": b"gone\n",
    "plot.png": b"\x89PNG\0old",
    "latin": "caf\u00e9".encode("latin-1"),
    "rows.csv": MANY.encode(),
    "few.csv": b"id,v\na,1\nb,2\n",
    "large": b"x" * (content_diff.MAX_TEXT + 1),
    "same": b"same",
    'a "b\\ \u00e9\n': b"1\n",
    "with space": b"1\n",
}
AFTER = {
    **BEFORE,
    "text.md": b"one\n2\nthree\n",
    "plot.png": b"\x89PNG\0new!",
    "latin": b"cafe",
    "rows.csv": MANY.replace(",", ",1").replace("1v", "v").encode(),
    "few.csv": b"id,v\na,1\nb,3\n",
    "large": b"y" * (content_diff.MAX_TEXT + 1),
    "new": b"new",
    'a "b\\ \u00e9\n': b"2\n",
    "with space": b"2\n",
}
del AFTER["gone"]
DIGEST = Digest.of(AFTER["plot.png"])


@pytest.fixture
def history(run, work):
    write(work, BEFORE)
    (work / "file-link").symlink_to("same")
    (work / "link").symlink_to("one")
    run.track(work)
    (work / "gone").unlink()
    for name in ("file-link", "link"):
        (work / name).unlink()
    write(work, {**AFTER, "file-link": b"same"})
    (work / "link").symlink_to("two")
    run.track(work)
    return run


class TestVersions:
    @pytest.fixture
    def compared(self, history, store):
        session = store.session("session-1")
        found = [session.compare(*pair) for pair in history.diff(1, 2).pairs]
        assert [each.path for each in found] == sorted(each.path for each in found)
        return {each.path: each for each in found}

    def test_each_has_its_kind(self, compared):
        assert {path: each.kind for path, each in compared.items()} == {
            "text.md": "text", "gone": "text", "new": "text", "link": "text", "few.csv": "text",
            'a "b\\ \u00e9\n': "text", "with space": "text",
            "plot.png": "binary", "latin": "binary", "rows.csv": "table", "large": "large",
            "file-link": "link",
        }  # fmt: skip

    def test_text_is_as_git_has_it(self, compared):
        assert compared["text.md"].text == (
            "--- a/text.md\n+++ b/text.md\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n"
        )
        assert compared["gone"].text == "--- a/gone\n+++ /dev/null\n@@ -1 +0,0 @@\n-gone\n"
        assert compared["new"].lines[:4] == ("--- /dev/null", "+++ b/new", "@@ -0,0 +1 @@", "+new")
        assert compared["with space"].lines[0] == "--- a/with space\t"
        assert compared['a "b\\ \u00e9\n'].lines[0] == '--- "a/a \\042b\\134 \\303\\251\\012"'
        assert "-one" in compared["link"].lines
        counts = {path: (each.lines_added, each.lines_removed) for path, each in compared.items()}
        assert (counts["text.md"], counts["gone"], counts["plot.png"]) == (
            (1, 1), (0, 1), (None, None),
        )  # fmt: skip

    def test_a_table_has_its_columns(self, compared):
        found = compared["rows.csv"].table
        assert (found.rows_changed, found.columns[0].name) == (100, "v")

    def test_json_has_all_of_it(self, compared):
        for each in compared.values():
            told = json.loads(json.dumps(each.to_dict()))
            assert (told["path"], told["kind"]) == (each.path, each.kind)
            assert told["lines"] == list(each.lines)

    def test_a_large_file_is_not_read(self, history, store, monkeypatch):
        session = store.session("session-1")
        monkeypatch.setattr("index.reading.comparing.read_version", None)
        (pair,) = history.diff(1, 2, paths=["large"]).pairs
        assert session.compare(*pair).kind == "large"

    @on_one(because="the versions are compared in memory")
    def test_a_larger_table_is_compared_by_columns_alone(self, run, store):
        rows = "".join(f"{n},{n}\n" for n in range(150_000))
        for values in (rows, rows.replace("9,", "8,")):
            run.put("t.csv", f"a,b\n{values}".encode())
        found = store.session("session-1").compare(*run.diff(1, 2).pairs[0])
        assert found.before.size > content_diff.MAX_TEXT
        assert found.kind == "table"
        (first, second) = (replace(each, path="t.txt") for each in (found.before, found.after))
        assert store.session("session-1").compare(first, second).kind == "large"

    def test_versions_of_other_sessions_are_unknown(self, history, store):
        version = history.file("text.md")
        with pytest.raises(UnknownDigestError):
            store.session("other").compare(None, version)
        with pytest.raises(UnknownDigestError):
            store.session("session-1").compare(replace(version, digest=Digest.of(b"?")), version)
        with pytest.raises(ValueError, match="compare two versions"):
            store.session("session-1").compare(None, None)
        lost = store.session("session-1").compare(replace(version, digest=None), version)
        assert lost.kind == "unknown"


class TestPaths:
    def test_a_diff_is_of_some_files_and_directories(self, run, work):
        write(work, {"data/a": b"1", "data/b": b"1", "database": b"1", "c": b"1"})
        run.track(work)
        write(work, {"data/a": b"2", "database": b"2", "c": b"2", "data/new": b"2"})
        run.track(work)
        (work / "data/new").unlink()
        run.track(work)
        found = run.diff(1, 2, paths=["data/", "c"])
        assert [pair[1].path for pair in found.pairs] == ["c", "data/a", "data/new"]
        assert [version.path for version in found.identical] == ["data/b"]
        assert [v.path for v in run.diff(2, 3, paths=["data/new"]).removed] == ["data/new"]
        with pytest.raises(UnknownFileError, match=r"'date'.*'data'"):
            run.diff(1, 2, paths=["c", "date"])
        assert [row["change"] for row in run.diff(1, 2).rows] == [
            "changed", "changed", "added", "changed",
        ]  # fmt: skip


class TestCommand:
    @pytest.fixture
    def tracked(self, cas, tmp_path):
        write(tmp_path / "work", {path: BEFORE[path] for path in ("text.md", "rows.csv", "gone")})
        assert cas("track", "work")[0] == 0
        (tmp_path / "work/gone").unlink()
        write(tmp_path / "work", {p: AFTER[p] for p in ("text.md", "rows.csv", "plot.png")})
        assert cas("track", "work")[0] == 0
        return cas

    def test_without_a_state_it_shows_what_the_newest_snapshot_changed(self, tracked):
        assert tracked("diff")[1] == tracked("diff", "1", "2")[1]
        assert tracked("diff", "text.md")[1] == (
            "~ text.md  14 B -> 12 B\n0 added, 0 removed, 1 changed, 0 identical\n"
        )

    def test_text_shows_lines_columns_and_a_word_for_the_rest(self, tracked):
        out = tracked("diff", "--text")[1]
        assert out.splitlines()[:7] == [
            "--- a/gone", "+++ /dev/null", "@@ -1 +0,0 @@", "-gone",
            f"+ plot.png: binary files differ, nothing -> 9 B {str(DIGEST)[:12]}",
            "~ rows.csv: table of 100 rows, 100 before: 0 added, 0 removed, 100 changed (by id)",
            "  ~ v: 100 cells, by at most 100",
        ]  # fmt: skip
        assert tracked("diff", "1", "2", "--text", "text.md")[1].endswith("-two\n+2\n three\n")
        assert tracked("diff", "--text", "--full", "plot.png")[1] == (
            f"+ plot.png: binary files differ, nothing -> 9 B {DIGEST}\n"
        )

    def test_stat_counts_lines(self, tracked):
        assert [line.split("\t") for line in tracked("diff", "--stat")[1].splitlines()] == [
            ["0", "1", "text", "gone"],
            ["", "", "binary", "plot.png"],
            ["", "", "table", "rows.csv"],
            ["1", "1", "text", "text.md"],
        ]

    def test_json_in_one_document_or_a_line_each(self, tracked):
        lines = [json.loads(line) for line in tracked("diff", "--jsonl")[1].splitlines()]
        assert [(line["change"], line["path"]) for line in lines] == [
            ("removed", "gone"), ("added", "plot.png"), ("changed", "rows.csv"),
            ("changed", "text.md"),
        ]  # fmt: skip
        assert json.loads(tracked("diff", "--json")[1])["identical"] == 0
        told = json.loads(tracked("diff", "--text", "--json")[1])
        assert told == [json.loads(x) for x in tracked("diff", "--text", "--jsonl")[1].splitlines()]
        assert [each["kind"] for each in told] == ["text", "binary", "table", "text"]
        by = [json.loads(x) for x in tracked("diff", "--by", "type", "--jsonl")[1].splitlines()]
        assert {each["type"] for each in by} >= {"data"}

    def test_full_has_whole_digests(self, tracked):
        assert str(Digest.of(AFTER["text.md"])) in tracked("diff", "--full")[1]

    def test_a_word_is_a_run_or_else_a_path(self, tracked, tmp_path):
        assert tracked("fork", "gone", "--run", "work", "--at", "1")[0] == 0
        run = ("--run", "work")
        assert "~ text.md" in tracked("diff", "1", "work@", *run)[1]
        assert tracked("diff", "1", "gone", *run)[1] == (
            "0 added, 0 removed, 0 changed, 3 identical\n"
        )
        only = "- gone  5 B\n0 added, 1 removed, 0 changed, 0 identical\n"
        assert tracked("diff", "1", "./gone", *run)[1] == only
        assert tracked("diff", "work@1", "work", "gone", *run)[1] == only
        assert tracked("diff", "gone", "work", "gone")[1] == only
        code, _, err = tracked("diff", "gnoe", *run)
        assert code == 4
        assert "no run of that name, either" in err
        for arguments in (("1", "2", "gnoe"), ("data/none",)):
            code, _, err = tracked("diff", *arguments, *run)
            assert (code, "either" in err) == (4, False)

    def test_options_that_exclude_each_other(self, tracked):
        assert tracked("diff", "--text", "--stat")[0] == 2
        assert tracked("diff", "--text", "--by", "agent")[0] == 2


class TestCat:
    @pytest.fixture
    def tracked(self, cas, tmp_path):
        for data in (b"1\n", b"2\n"):
            write(tmp_path / "work", {"a": data, "b": b"b" + data})
            assert cas("track", "work")[0] == 0
        return cas

    def test_several_files_come_one_after_the_other(self, tracked):
        assert tracked("cat", "b", "a@1", "a")[1] == "b2\n1\n2\n"
        assert tracked("cat", "a", "b", "--at", "1")[1] == "1\nb1\n"

    @pytest.mark.parametrize("last", ["missing", "a@9", "../x"])
    def test_an_unknown_one_is_named_before_anything_is_printed(self, tracked, last):
        code, out, err = tracked("cat", "a", last)
        assert code in (2, 4)
        assert out == ""
        assert last.split("@")[0] in err
