"""Listing a run: pages, orders, patterns, directories, and the run as a mapping of paths."""

from __future__ import annotations

import fnmatch
import itertools
from pathlib import PurePath

import pytest
from events import statements
from hypothesis import assume, given
from hypothesis import strategies as st
from places import EACH_INDEX, on_one, places
from trees import write

from index import Snapshot
from index.api import run_files
from index.domain.listing import compile_glob
from index.errors import (
    InvalidNameError,
    UnknownFileError,
    UnknownRunError,
    UnknownSnapshotError,
    UnsafePathError,
)

place = places(EACH_INDEX)

ODD = b"data/caf\xe9\\x.csv".decode("utf-8", "surrogateescape")
FILES = {
    "plan.md": b"a plan",
    "data/a.csv": b"1,2\n" * 9,
    "data/b.csv": b"",
    "data/deep/c.csv": b"3",
    "data-old/a.csv": b"44",
    ODD: b"55555",
    "plots/\U0001f600.png": b"666",
    "Data/a.CSV": b"7",
}


@pytest.fixture
def filled(run, work):
    """A run of two scans; the second adds two files and changes one."""
    late = ("plan.md", "Data/a.CSV")
    write(work, {path: data for path, data in FILES.items() if path not in late})
    write(work, {"plan.md": b"an older plan"})
    run.track(work, agent="planner", node_id="n1")
    write(work, {path: FILES[path] for path in late})
    run.track(work, agent="engineer", node_id="n2")
    return run


@pytest.fixture
def small_pages(monkeypatch):
    monkeypatch.setattr(run_files, "_PAGE", 3)


def paths(versions):
    return [version.path for version in versions]


def in_bytes(path):
    return path.encode("utf-8", "surrogateescape")


class TestPages:
    @pytest.mark.parametrize("order", ["appearance", "path", "size", "created_at"])
    @pytest.mark.parametrize("minus", ["", "-"])
    def test_pages_join_up_to_the_whole_listing(self, filled, order, minus):
        whole = filled.files(order_by=minus + order)
        assert len(whole) == len(FILES)
        for after in (lambda page: page[-1], lambda page: page[-1].path):
            found, last = [], None
            while page := filled.files(order_by=minus + order, limit=3, after=last):
                found += page
                last = after(page)
            assert found == list(whole)

    def test_orders_are_what_they_are_called(self, filled):
        assert paths(filled.files(order_by="path")) == sorted(FILES, key=in_bytes)
        assert paths(filled.files(order_by="-path")) == sorted(FILES, key=in_bytes, reverse=True)
        sizes = [version.size for version in filled.files(order_by="-size")]
        assert sizes == sorted(map(len, FILES.values()), reverse=True)
        assert paths(filled.files())[-1] == "Data/a.CSV"  # it came last
        assert paths(filled.files(order_by="-appearance"))[0] == "Data/a.CSV"
        newest = {"plan.md", "Data/a.CSV"}
        assert set(paths(filled.files(order_by="-created_at", limit=2))) == newest

    def test_a_page_begins_after_a_file_that_changed_or_went_since(self, filled, work):
        first = filled.files(order_by="size", limit=3)
        before = paths(filled.files(order_by="size"))
        write(work, {first[-1].path: b"much larger than before" * 9})
        filled.track(work)
        after = paths(filled.files(order_by="size", after=first[-1]))
        assert after[: len(before) - 3] == before[3:]
        (work / "plan.md").unlink()
        filled.track(work)
        assert paths(filled.files(order_by="path", after="plan.md")) == ["plots/\U0001f600.png"]
        assert paths(filled.files(after="plan.md"))  # its place is known from its history

    def test_a_limit_of_none_and_of_nothing(self, filled):
        assert filled.files(limit=0) == ()
        assert list(filled.iter_files(limit=0)) == []
        assert len(filled.files(limit=10_000)) == len(FILES)
        assert len(filled.files(limit=1 << 63)) == len(FILES)

    @on_one(because="arguments are checked before the index is read")
    @pytest.mark.parametrize(
        ("arguments", "error", "words"),
        [
            ({"limit": "3"}, TypeError, "number of files"),
            ({"limit": True}, TypeError, "number of files"),
            ({"limit": -1}, ValueError, "from 0 on"),
            ({"order_by": "name"}, ValueError, "appearance, path, size"),
            ({"order_by": None}, ValueError, "appearance, path, size"),
            ({"glob": b"*"}, TypeError, "data/\\*\\*/\\*.csv"),
            ({"glob": ""}, ValueError, "relative to the work directory"),
            ({"glob": "/etc/*"}, ValueError, "relative to the work directory"),
            ({"glob": "./data/*"}, ValueError, "relative to the work directory"),
            ({"glob": "data/../*"}, ValueError, "relative to the work directory"),
            ({"glob": "a\0*"}, ValueError, "relative to the work directory"),
            ({"prefix": 5}, TypeError, "a path is text"),
            ({"prefix": b""}, TypeError, "a path is text"),
            ({"prefix": "a\0"}, UnsafePathError, "NUL"),
            ({"file_type": 5}, TypeError, "file_type is text"),
            ({"priority": ["a"]}, TypeError, "priority is text"),
            ({"file_type": "a\0"}, InvalidNameError, "undecodable"),
            ({"is_final_output": "no"}, TypeError, "True, False, or None"),
            ({"is_final_output": 1}, TypeError, "True, False, or None"),
            ({"after": 3}, TypeError, "a path is text"),
            ({"after": b"a"}, TypeError, "a path is text"),
            ({"after": "../a"}, UnsafePathError, "'..'"),
            ({"after": "Data/b.CSV"}, UnknownFileError, "the closest"),
            ({"at": 9}, UnknownSnapshotError, "1 to 2"),
        ],
    )
    def test_what_cannot_be_listed_says_what_was_expected(self, filled, arguments, error, words):
        for listing in (filled.files, filled.iter_files):
            with pytest.raises(error, match=words):
                list(listing(**{"order_by": "size", **arguments}))


class TestStreaming:
    def test_it_yields_what_files_returns_in_pages_by_path(self, filled, store, small_pages):
        with statements(store) as seen:
            found = list(filled.iter_files())
        assert found == list(filled.files(order_by="path"))
        pages = [text for text in seen if "ORDER BY cas_files.path" in text]
        assert len(pages) == len(FILES) // 3 + 1
        assert all("LIMIT" in text for text in pages)

    @pytest.mark.parametrize("order", ["path", "-size", "appearance"])
    def test_filters_patterns_limits_and_orders_go_together(self, filled, small_pages, order):
        arguments = {"glob": "**/*.csv", "agent": "planner", "order_by": order}
        whole = filled.files(**arguments)
        assert {v.path for v in whole} == {p for p in FILES if p.endswith(".csv")}
        assert list(filled.iter_files(**arguments)) == list(whole)
        for limit in range(len(whole) + 2):
            assert list(filled.iter_files(**arguments, limit=limit)) == list(whole[:limit])
            assert filled.files(**arguments, limit=limit) == whole[:limit]

    def test_it_shows_one_state_while_others_record(self, filled, small_pages, work):
        before = filled.files(order_by="path")
        found = []
        for number, version in enumerate(filled.iter_files()):
            found.append(version)
            write(work, {f"aaa{number}": b"new", "plots/\U0001f600.png": b"%d" % number})
            (work / "plan.md").unlink(missing_ok=True)
            filled.track(work)
        assert [(v.path, v.version) for v in found] == [(v.path, v.version) for v in before]

    def test_it_ends_with_an_error_if_the_run_is_deleted(self, filled, small_pages, work):
        going = filled.iter_files()
        next(going)
        filled.delete()
        with pytest.raises(UnknownRunError):
            list(going)
        filled.track(work)
        going = filled.iter_files()
        next(going)
        filled.delete()
        filled.put("another", b"run of that name")
        with pytest.raises(UnknownRunError):
            list(going)

    def test_it_holds_no_transaction_between_items(self, filled, store, small_pages):
        going = filled.iter_files()
        next(going)
        assert store.context.database.engine.pool.checkedout() == 0

    def test_an_older_snapshot_can_be_streamed(self, filled, small_pages):
        first = filled.snapshots()[0]
        assert isinstance(first, Snapshot)
        for at in (1, first):
            assert list(filled.iter_files(at=at)) == list(filled.files(at=1, order_by="path"))
        assert filled.file("plan.md", at=1).size == len(b"an older plan")


class TestGlob:
    @on_one(because="paths are matched in Python, after the prefix")
    @pytest.mark.parametrize(
        ("pattern", "expected"),
        [
            ("*.md", {"plan.md"}),
            ("**/*.md", {"plan.md"}),
            ("data/*", {"data/a.csv", "data/b.csv", ODD}),
            ("data/**", {"data/a.csv", "data/b.csv", "data/deep/c.csv", ODD}),
            ("data/**/c.csv", {"data/deep/c.csv"}),
            ("data/**/a.csv", {"data/a.csv"}),
            ("*/a.csv", {"data/a.csv", "data-old/a.csv"}),
            ("data/[!b-z].csv", {"data/a.csv"}),
            ("data/?.csv", {"data/a.csv", "data/b.csv"}),
            ("data*/**", {p for p in FILES if p.startswith("data")}),
            ("plan.md", {"plan.md"}),
            ("**", set(FILES)),
            ("data[/-]a.csv", set()),
            ("data[!x]a.csv", set()),
            ("nothing/*", set()),
        ],
    )
    def test_patterns_are_those_of_a_shell_and_heed_case(self, filled, pattern, expected):
        assert set(paths(filled.files(glob=pattern))) == expected

    @pytest.mark.parametrize(
        ("pattern", "path"),
        [
            ("*a" * 9 + "*b", "a" * 250),
            ("**/" * 20 + "zz", "a/" * 60 + "a"),
            ("**/a/" * 20 + "zz", "a/" * 100 + "a"),
        ],
    )
    def test_a_hostile_pattern_ends(self, pattern, path):
        matches = compile_glob(pattern).fullmatch
        assert not matches(path)
        assert matches(f"{path}b" if pattern.endswith("b") else f"{path}/zz")

    def test_several_stars_for_directories_find_any_place(self):
        matches = compile_glob("a/**/b/**/**/c/*.csv").fullmatch
        assert matches("a/b/c/.csv")
        assert matches("a/x/b/b/c/c/x.csv")
        assert not matches("a/x/b/c/x/x.csv")
        assert not matches("a/c/b/x.csv")

    def test_a_pattern_and_a_prefix_both_hold(self, filled):
        assert paths(filled.files(glob="**/*.csv", prefix="data/d")) == ["data/deep/c.csv"]

    @given(st.text("ab*?[]!-^\\.", min_size=1, max_size=8), st.text("ab-]^\\.!", max_size=5))
    def test_in_one_directory_they_match_what_fnmatch_matches(self, pattern, name):
        assume(pattern not in (".", ".."))
        expected = fnmatch.fnmatchcase(name, pattern) and (pattern != "**" or bool(name))
        assert bool(compile_glob(pattern).fullmatch(name)) == expected


class TestPrefix:
    @pytest.mark.parametrize(
        "prefix",
        ["d", "data", "data/", "data-", "Data", "plots/\U0001f600", ODD[:-4], "\U0010ffff"],
    )
    def test_it_finds_what_begins_with_it_and_nothing_else(self, filled, prefix):
        filled.put("data\U0010ffff", b"next to data")
        filled.put("d%ta/x", b"%")
        everything = set(paths(filled.files()))
        expected = {path for path in everything if path.startswith(prefix)}
        assert set(paths(filled.files(prefix=prefix))) == expected

    @given(st.lists(st.text("a\ud7ff\ue000\U0010ffff\\", min_size=1, max_size=3), max_size=3))
    def test_the_next_text_is_the_least_that_does_not_begin_so(self, texts):
        from index.db.queries.listings import has_prefix

        for text in texts:
            conditions = [each.right.value for each in has_prefix(text)]
            stored = text.replace("\\", "\\\\")
            assert conditions[0] == stored
            if len(conditions) == 1:
                assert set(stored) == {"\U0010ffff"}
            else:
                assert conditions[1] > stored + "\U0010ffff" * 9
                assert conditions[1].encode() > (stored + "\U0010ffff" * 9).encode()


class TestDirectories:
    def test_the_work_directory_has_files_and_directories_with_sizes(self, filled):
        found = filled.list_dir()
        assert [(e.name, e.is_directory, e.files, e.bytes) for e in found] == [
            ("Data", True, 1, 1),
            ("data", True, 4, 36 + 0 + 1 + 5),
            ("data-old", True, 1, 2),
            ("plan.md", False, 1, 6),
            ("plots", True, 1, 3),
        ]
        assert found[3].version == filled.file("plan.md")
        assert found[0].version is None
        assert filled.list_dir(".") == filled.list_dir("") == found

    @pytest.mark.parametrize("spelling", ["data", "data/", "./data"])
    def test_a_directory_below_it(self, filled, spelling):
        found = filled.list_dir(spelling)
        assert [(e.path, e.is_directory) for e in found] == [
            ("data/a.csv", False),
            ("data/b.csv", False),
            (ODD, False),
            ("data/deep", True),
        ]
        assert [e.version for e in found if e.version] == list(
            filled.files(glob="data/*", order_by="path")
        )

    def test_pages_and_snapshots(self, filled):
        whole = filled.list_dir()
        for after in (lambda entry: entry, lambda entry: entry.name, lambda entry: entry.path):
            found, last = [], None
            while page := filled.list_dir(limit=2, after=last):
                found += page
                last = after(page[-1])
            assert tuple(found) == whole
        assert [entry.name for entry in filled.list_dir(at=1)] == [
            "data", "data-old", "plan.md", "plots",
        ]  # fmt: skip
        first, *rest = filled.list_dir("data")
        for last in (first, first.version, first.path, first.name, PurePath(first.path)):
            assert filled.list_dir("data", after=last) == tuple(rest)
        assert filled.list_dir(at=0) == ()
        assert filled.list_dir("data", limit=0) == ()

    def test_what_is_no_directory_names_the_closest_paths(self, filled):
        with pytest.raises(UnknownFileError, match=r"'plan\.md/'; the closest is 'plan\.md'"):
            filled.list_dir("plan.md")
        with pytest.raises(UnknownFileError, match=r"'date/'; the closest .*'data'"):
            filled.list_dir("date")
        with pytest.raises(UnknownFileError):
            filled.list_dir("Data", at=1)
        with pytest.raises(UnsafePathError):
            filled.list_dir("../data")
        with pytest.raises(TypeError, match="limit"):
            filled.list_dir(limit="2")
        for wrong in (None, 5, b"data"):
            with pytest.raises(TypeError, match="a path is text"):
                filled.list_dir(wrong)
        with pytest.raises(TypeError, match="a path is text"):
            filled.list_dir(after=5)
        with pytest.raises(ValueError, match=r"an entry of 'data/', not 'plots/x'"):
            filled.list_dir("data", after="plots/x")

    def test_its_cost_does_not_grow_with_the_files(self, filled, store, work):
        with statements(store) as few:
            filled.list_dir()
        write(work, {f"data/more{number}": b"x" for number in range(50)})
        filled.track(work)
        with statements(store) as many:
            filled.list_dir()
        assert len(many) == len(few)


class TestMapping:
    def test_a_run_is_a_mapping_from_paths_to_versions(self, filled, work):
        assert filled["plan.md"] == filled.file("plan.md")
        assert "plan.md" in filled
        assert "./data//a.csv" in filled
        assert "plan" not in filled
        assert len(filled) == len(FILES)
        assert list(filled) == sorted(FILES, key=in_bytes)
        (work / "plan.md").unlink()
        filled.track(work)
        assert "plan.md" not in filled
        assert len(filled) == len(FILES) - 1
        with pytest.raises(UnknownFileError):
            filled["plan.md"]
        with pytest.raises(TypeError):
            7 in filled  # noqa: B015 - it raises
        with pytest.raises(UnsafePathError):
            "/etc/passwd" in filled  # noqa: B015 - it raises

    def test_a_handle_is_true_whatever_the_run_holds(self, run, store):
        with statements(store) as seen:
            assert run
        assert seen == []
        for look in (len, list, lambda run: "a" in run):
            with pytest.raises(UnknownRunError):
                look(run)


class TestUnknownPaths:
    @pytest.mark.parametrize(
        ("path", "closest"),
        [
            ("data/a.cvs", "data/a.csv"),
            ("c.csv", "data/deep/c.csv"),
            ("PLAN.MD", "plan.md"),
            ("data/deep/b.csv", "data/b.csv"),
        ],
    )
    def test_the_error_names_the_closest_ones(self, filled, path, closest):
        for look in (
            filled.file,
            filled.history,
            filled.read_bytes,
            filled.open,
            filled.__getitem__,
            lambda path: filled.restore("unused", paths=[path]),
        ):
            with pytest.raises(UnknownFileError) as raised:
                look(path)
            assert closest in raised.value.closest
            assert f"has no {path!r}; the closest" in str(raised.value)

    def test_only_paths_of_that_state_are_named(self, filled):
        with pytest.raises(UnknownFileError) as raised:
            filled.file("Data/b.CSV", at=1)
        assert "Data/a.CSV" not in raised.value.closest

    def test_where_nothing_is_close_it_says_how_to_look(self, filled):
        with pytest.raises(UnknownFileError, match=r"`run\.files\(\)` lists"):
            filled.file("zzzzzzzzzzzzzzzzzzz")
        with pytest.raises(UnknownFileError, match=r"'plan\.md'; version 2 is the newest"):
            filled.file("plan.md", version=9)
        with pytest.raises(UnknownFileError, match=r"'plan\.me'; the closest is 'plan\.md'"):
            filled.file("plan.me", version=1)

    def test_no_path_of_another_run_is_named(self, filled, store):
        store.session("session-2").run("run-1").put("secret.txt", b"x")
        other = store.session("session-1").run("run-2")
        other.put("public.txt", b"x")
        with pytest.raises(UnknownFileError) as raised:
            other.file("secret.txt")
        assert raised.value.closest in ((), ("public.txt",))


class TestFindSnapshot:
    def test_it_is_the_newest_one_that_matches(self, filled, work):
        one, two = filled.snapshots()
        assert filled.find_snapshot() == two
        assert filled.find_snapshot(node_id="n1") == one
        assert filled.find_snapshot(node_id="n1", agent="planner") == one
        assert filled.find_snapshot(node_id="n1", agent="engineer") is None
        assert filled.find_snapshot(phase="control") is None
        write(work, {"plan.md": b"a newer plan"})
        filled.track(work, agent="planner")
        assert filled.find_snapshot(agent="planner").number == 3

    def test_it_reads_versions_only_when_asked(self, filled, store):
        with statements(store) as seen:
            found = filled.find_snapshot(node_id="n2")
        assert not any("cas_files" in text for text in seen)
        (whole,) = [each for each in filled.snapshots() if each.number == found.number]
        assert whole.to_dict()["snapshot"] == found.number  # which reads its changes
        with statements(store) as seen:
            assert (found.added, found.changed) == (whole.added, whole.changed)
            assert found.removed == whole.removed
            assert len(found.lazy_added) == len(whole.lazy_added)
        assert len([text for text in seen if "cas_files" in text]) == 1
        assert found.to_dict() == whole.to_dict()


class TestStatisticsByLabel:
    def test_files_and_bytes_of_each_combination(self, filled, store):
        assert [
            (g.labels, g.files, g.bytes, g.versions, g.version_bytes)
            for g in filled.stats_by("agent")
        ] == [
            ({"agent": "engineer"}, 2, 7, 2, 7),
            ({"agent": "planner"}, 6, 47, 7, 60),
        ]
        other = store.session("session-2").run("run-9")
        other.put("x", b"12")
        other.put("y.png", b"3", agent="planner", is_final_output=True)
        found = store.stats_by("session", "file_type", "agent")
        assert sum(group.bytes for group in found) == 54 + 3
        assert ("session-2", "plot", "planner") in [tuple(g.labels.values()) for g in found]
        last = found[-1]
        assert last.to_dict()["session"] == "session-2"
        finals = store.session("session-2").stats_by("is_final_output", "run")
        assert [(g.to_dict()["is_final_output"], g.files) for g in finals] == [
            (False, 1),
            (True, 1),
        ]
        assert store.session("session-2").stats_by("agent")[-1].labels == {"agent": None}

    def test_what_it_cannot_count_by_is_named(self, filled, store):
        with pytest.raises(ValueError, match=r"by session, run, phase.*not by 'colour'"):
            filled.stats_by("colour")
        with pytest.raises(ValueError, match="name what to split"):
            store.stats_by()
        with pytest.raises(LookupError):
            store.session("nobody").stats_by("agent")
        with pytest.raises(UnknownRunError):
            store.session("session-1").run("nothing").stats_by("agent")


def test_the_owner_of_a_store_finds_a_run_in_any_session(store):
    for session, run in itertools.product(("a", "b"), ("run-1", "run-2")):
        store.session(session).run(run).put("f", b"x")
    found = store.find_runs("run-1")
    assert [(summary.session, summary.run) for summary in found] == [("a", "run-1"), ("b", "run-1")]
    assert store.find_runs("run-3") == []
    with pytest.raises(ValueError, match="run id"):
        store.find_runs("")
