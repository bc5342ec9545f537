"""Lineage over runs: what was made from what, and what to make again."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import EACH_INDEX, places
from plans import plans
from trees import write

from cas.digest import Digest
from index import ArtifactStore, Reference, provenance
from index.db import bulk
from index.errors import (
    BytesNotKeptError,
    UnknownFileError,
    UnknownNameError,
    UnknownRunError,
    UnknownSessionError,
)

place = places(EACH_INDEX)


@pytest.fixture
def session(store):
    return store.session("session-1")


def named(version):
    return f"{version.run}:{version.path}@{version.version}"


def shape(lineage):
    """Return the edges of a lineage with readable names."""
    names = {f"v{v.id}": named(v) for v in lineage.versions}
    names |= {
        a.id: f"{a.run}/{a.node_id}" + (f"/{a.event_id}" if a.event_id else "")
        for a in lineage.activities
    }
    names |= {f"i{n}": each.uri or f"gone {each.path}" for n, each in enumerate(lineage.others)}
    return {(edge.kind, names[edge.start], names[edge.end]) for edge in lineage.edges}


def paths(lineage):
    return [named(version) for version in lineage.versions]


def step(run, node, inputs, outputs, **who):
    """Record that a node read some inputs, and then made files."""
    run.use(*inputs, node_id=node, **who)
    return run.put_many(list(outputs.items()), node_id=node, **who)


@pytest.fixture
def figure(session):
    """A table made in one run, and a figure made from it in another."""
    one, two = session.run("one"), session.run("two")
    one.put("raw.csv", b"raw", node_id="load", agent="loader")
    (table,) = step(one, "clean", ["raw.csv"], {"table.csv": b"table"}, agent="cleaner")
    (made,) = step(two, "plot", [table], {"figure.png": b"figure"}, agent="plotter")
    return made


class TestUpstream:
    def test_it_goes_over_runs_to_the_sources(self, session, figure):
        found = session.lineage(figure)
        assert shape(found) == {
            ("made", "two:figure.png@1", "two/plot"),
            ("used", "two/plot", "one:table.csv@1"),
            ("made", "one:table.csv@1", "one/clean"),
            ("used", "one/clean", "one:raw.csv@1"),
            ("made", "one:raw.csv@1", "one/load"),
        }
        assert found.complete
        assert [(a.node_id, a.agents) for a in found.activities] == [
            ("plot", ("plotter",)),
            ("clean", ("cleaner",)),
            ("load", ("loader",)),
        ]
        assert session.lineage("figure.png") == session.lineage("figure.png", run="two") == found

    def test_each_step_used_carries_how_it_was_noted(self, session, figure):
        used = [edge.input for edge in session.lineage(figure).edges if edge.kind == "used"]
        assert [(i.run, i.source_run, i.path, i.agent) for i in used] == [
            ("two", "one", "table.csv", "plotter"),
            ("one", None, "raw.csv", "cleaner"),
        ]

    def test_a_path_means_its_present_version_however_it_is_written(self, session):
        run = session.run("one")
        for content in (b"1", b"2"):
            run.put("d/out", content)
        for written in ("d/out", "./d/out", "d//out", "d/./out", Path("d/out")):
            assert paths(session.lineage(written)) == ["one:d/out@2"]

    def test_only_what_was_read_before_counts(self, session):
        run = session.run("one")
        run.put_many([("a", b"a"), ("b", b"b")])
        (made,) = step(run, "n", ["a"], {"out": b"1"})
        run.use("b", node_id="n")
        assert paths(session.lineage(made)) == ["one:out@1", "one:a@1"]

    def test_another_node_or_step_has_its_own_inputs(self, session):
        run = session.run("one")
        run.put_many([("a", b"a"), ("b", b"b"), ("c", b"c")])
        run.use("a", node_id="n", step_id="1")
        run.use("b", node_id="n", step_id="2")
        run.use("c", node_id="m", step_id="1")
        run.put("out", b"1", node_id="n", step_id="1")
        assert paths(session.lineage("out")) == ["one:out@1", "one:a@1"]

    def test_an_attempt_has_the_inputs_of_its_event_and_those_without_one(self, session):
        run = session.run("one")
        run.put_many([("a", b"a"), ("b", b"b"), ("c", b"c")])
        run.use("a", node_id="n", event_id="first")
        run.use("b", node_id="n", event_id="second")
        run.use("c", node_id="n")
        run.put("out", b"1", node_id="n", event_id="second")
        found = session.lineage("out")
        assert paths(found) == ["one:out@1", "one:b@1", "one:c@1"]
        assert [a.event_id for a in found.activities if a.node_id == "n"] == ["second"]

    def test_a_later_attempt_reads_the_later_version(self, session):
        run = session.run("one")
        run.put("a", b"1")
        step(run, "n", ["a"], {"out": b"of 1"})
        run.put("a", b"2")
        step(run, "n", ["a"], {"out": b"of 2"})
        assert paths(session.lineage(run.file("out", version=1))) == ["one:out@1", "one:a@1"]
        assert paths(session.lineage(run["out"])) == ["one:out@2", "one:a@2"]

    def test_two_versions_of_one_path_that_were_read_together_both_count(self, session):
        run = session.run("one")
        run.put("a", b"1")
        run.put("a", b"2")
        step(run, "compare", [run.file("a", version=1), run["a"]], {"out": b"differ"})
        assert paths(session.lineage("out")) == ["one:out@1", "one:a@1", "one:a@2"]

    def test_an_input_known_by_its_bytes_is_what_was_first_made_with_them(self, session, figure):
        run = session.run("three")
        step(run, "report", [figure.digest], {"report.md": b"report"})
        assert "two:figure.png@1" in paths(session.lineage("report.md"))

    def test_a_copied_input_leads_to_where_its_bytes_were_first_made(self, session, figure):
        run = session.run("three")
        run.put("inputs/figure.png", b"figure")  # as an upload, by nobody
        step(run, "report", ["inputs/figure.png"], {"report.md": b"report"})
        found = session.lineage("report.md")
        assert ("same", "three:inputs/figure.png@1", "two:figure.png@1") in shape(found)
        assert "one:raw.csv@1" in paths(found)

    def test_empty_files_are_equal_to_nothing(self, session):
        session.run("one").put("__init__.py", b"", node_id="a")
        run = session.run("two")
        run.put("__init__.py", b"")
        step(run, "n", ["__init__.py"], {"out": b"1"})
        found = session.lineage("out")
        assert paths(found) == ["two:out@1", "two:__init__.py@1"]

    def test_a_fork_leads_to_where_its_files_were_made(self, session, figure):
        fork = session.run("two").fork("fork")
        step(fork, "crop", ["figure.png"], {"small.png": b"small"})
        found = shape(session.lineage("small.png"))
        assert ("same", "fork:figure.png@1", "two:figure.png@1") in found
        assert ("used", "two/plot", "one:table.csv@1") in found
        assert not any("fork/plot" in name for edge in found for name in edge)

    def test_a_fork_stays_complete_when_its_parent_is_deleted(self, session, figure):
        session.run("two").fork("fork")
        session.run("two").delete()
        found = shape(session.lineage("figure.png"))
        assert ("used", "fork/plot", "one:table.csv@1") in found
        down = session.lineage("raw.csv", direction="down")
        assert "fork:figure.png@1" in paths(down)

    def test_outside_bytes_are_sources(self, session):
        run = session.run("one")
        step(run, "load", [Reference("s3://b/raw", digest=Digest.of(b"r"))], {"raw": b"raw"})
        assert ("used", "one/load", "s3://b/raw") in shape(session.lineage("raw"))

    def test_outside_bytes_stay_sources_when_a_copy_is_kept(self, session, tmp_path):
        raw = tmp_path / "raw.csv"
        raw.write_bytes(b"raw")
        run = session.run("one")
        run.use(raw, keep_as="raw", node_id="load")
        run.put("table", b"table", node_id="load")
        for path in ("raw", "table"):
            assert ("used", "one/load", raw.as_uri()) in shape(session.lineage(path))
        assert session.lineage("raw", direction="down").edges == ()
        run.put("raw", b"new")
        assert [named(s.version) for s in session.stale()] == ["one:table@1"]

    def test_outside_bytes_that_a_run_has_made_lead_to_it(self, session, figure):
        run = session.run("three")
        step(run, "load", [Reference("s3://b/f", digest=figure.digest)], {"again": b"a"})
        assert "one:raw.csv@1" in paths(session.lineage("again"))

    def test_a_deleted_input_is_shown_as_gone(self, session, figure):
        session.run("one").delete()
        found = session.lineage(figure)
        assert ("used", "two/plot", "gone table.csv") in shape(found)
        assert found.complete

    def test_a_run_made_again_is_not_taken_for_the_one_of_its_name(self, session):
        (old,) = session.run("one").put_many([("table", b"old")])
        step(session.run("two"), "plot", [old], {"figure": b"figure"})
        session.run("one").delete()
        (new,) = session.run("one").put_many([("table", b"new")])
        run = session.run("three")
        figure = session.run("two").file("figure")
        step(run, "join", [new, figure], {"page": b"page"})
        found = shape(session.lineage("page"))
        assert ("used", "three/join", "one:table@1") in found
        assert ("used", "two/plot", "gone table") in found

    def test_more_nodes_than_one_statement_takes_are_all_followed(self, session, monkeypatch):
        monkeypatch.setattr(bulk, "BATCH_SIZE", 4)
        parts = [f"part/{number}" for number in range(11)]
        run = session.run("one")
        run.put("raw", b"raw")
        for part in parts:
            step(run, f"make {part}", ["raw"], {part: part.encode()})
        step(run, "join", parts, {"whole": b"whole"})
        found = session.lineage("whole")
        assert {*paths(found)} == {f"one:{path}@1" for path in ["raw", "whole", *parts]}
        down = session.lineage("raw", direction="down")
        assert {*shape(found)} - {*shape(down)} == {("made", "one:raw@1", "one/None")}

    def test_a_scan_that_records_its_own_input_is_no_circle(self, session, work):
        run = session.run("one")
        write(work, {"raw": b"raw", "clean": b"clean"})
        run.track(work, node_id="n", inputs=["raw"])
        assert paths(session.lineage("clean")) == ["one:clean@1", "one:raw@1"]
        assert paths(session.lineage("raw")) == ["one:raw@1"]
        assert paths(session.lineage("raw", direction="down")) == ["one:raw@1", "one:clean@1"]

    def test_circles_of_bytes_end(self, session):
        run = session.run("one")
        run.put("a", b"A")
        step(run, "there", ["a"], {"b": b"B"})
        step(run, "back", ["b"], {"c": b"A"})
        step(run, "there again", ["c"], {"d": b"B"})
        for direction in ("up", "down", "both"):
            for path in "abcd":
                assert session.lineage(path, direction=direction).complete


class TestDownstream:
    def test_it_goes_to_all_that_was_made_from_the_bytes(self, session, figure):
        found = session.lineage("raw.csv", direction="down")
        assert paths(found) == ["one:raw.csv@1", "one:table.csv@1", "two:figure.png@1"]
        assert ("used", "one/clean", "one:raw.csv@1") in shape(found)

    def test_who_read_and_made_nothing_is_shown(self, session, figure):
        session.run("three").use(figure, node_id="look", agent="reader")
        found = session.lineage("figure.png", direction="down")
        assert shape(found) == {("used", "three/look", "two:figure.png@1")}
        assert [(a.run, a.agents) for a in found.activities] == [("three", ("reader",))]

    def test_both_directions_are_one_graph(self, session, figure):
        found = session.lineage("table.csv", direction="both")
        assert set(paths(found)) == {"one:table.csv@1", "one:raw.csv@1", "two:figure.png@1"}


class TestBounds:
    @pytest.fixture
    def chain(self, session):
        run = session.run("one")
        run.put("f0", b"0")
        for n in range(1, 8):
            step(run, f"n{n}", [f"f{n - 1}"], {f"f{n}": b"%d" % n})
        return run

    def test_a_depth_counts_versions_from_one_to_the_next(self, session, chain):
        found = session.lineage("f7", depth=2)
        assert paths(found) == ["one:f7@1", "one:f6@1", "one:f5@1"]
        assert not found.complete
        assert paths(session.lineage("f7", depth=0)) == ["one:f7@1"]
        assert paths(session.lineage("f0", depth=1, direction="down")) == ["one:f0@1", "one:f1@1"]

    def test_a_limit_ends_it_and_says_so(self, session, chain):
        found = session.lineage("f7", limit=3)
        assert len(found.versions) == 3
        assert not found.complete

    def test_a_node_that_read_more_than_the_limit_is_not_read_whole(self, session, chain):
        chain.put_many([(f"g{n}", b"g%d" % n) for n in range(20)])
        step(chain, "many", [f"g{n}" for n in range(20)], {"out": b"o"})
        assert not session.lineage("out", limit=10).complete
        assert len(session.lineage("out", limit=50).versions) == 21

    def test_copies_in_a_fork_do_not_use_up_the_limit(self, session, chain):
        chain.put_many([(f"g{n}", b"g%d" % n) for n in range(20)])
        step(chain, "many", [f"g{n}" for n in range(20)], {"out": b"o"})
        fork = session.run("one").fork("fork")
        step(fork, "many", ["f0"], {"again": b"a"})
        found = session.lineage("again", run="fork", limit=10)
        assert ("used", "fork/many", "fork:f0@1") in shape(found)

    def test_an_index_answers_each_step(self, store, session, figure):
        copy = session.run("one").fork("fork").file("table.csv")

        def walk():
            session.lineage(figure, direction="both")
            session.lineage(copy, direction="both")

        if not store.context.database.is_server:  # which reads tables of a few rows whole
            told = "\n".join(plans(store, walk))
            assert "SCAN cas_" not in told
            assert "ix_cas_files_made_by (run_id=? AND node_id=?)" in told
            assert "ix_cas_inputs_run_id_node_id (run_id=? AND node_id=?)" in told

    def test_a_long_chain_is_no_deep_recursion(self, session):
        run = session.run("one")
        run.put("f0", b"0")
        for n in range(1, 60):
            step(run, f"n{n}", [f"f{n - 1}"], {f"f{n}": b"%d" % n})
        assert len(session.lineage("f59").versions) == 60


class TestWhatCannotBeAskedFor:
    def test_errors_say_what_is_unknown(self, session, figure):
        with pytest.raises(UnknownNameError):
            session.lineage("none.png")
        with pytest.raises(UnknownFileError):
            session.lineage("none.png", run="two")
        with pytest.raises(UnknownRunError):
            session.lineage("figure.png", run="none")
        with pytest.raises(ValueError, match="direction is one of"):
            session.lineage("figure.png", direction="sideways")

    def test_nothing_of_another_session_shows(self, store, session, figure):
        other = store.session("session-2")
        with pytest.raises(UnknownFileError):
            other.lineage(figure)
        with pytest.raises(UnknownNameError):
            other.lineage("figure.png")
        run = other.run("one")
        run.put("raw.csv", b"raw", node_id="load")
        step(run, "mine", ["raw.csv"], {"mine": b"figure"})
        assert paths(other.lineage("mine")) == ["one:mine@1", "one:raw.csv@1"]
        assert "mine" not in str(session.lineage("raw.csv", direction="down"))
        assert other.stale() == ()


class TestStale:
    def test_what_was_made_from_an_older_version_is_listed_also_through_others(
        self, session, figure
    ):
        assert session.stale() == ()
        session.run("one").put("raw.csv", b"new")
        found = session.stale()
        assert [(named(s.version), named(s.used), named(s.newer)) for s in found] == [
            ("one:table.csv@1", "one:raw.csv@1", "one:raw.csv@2"),
            ("two:figure.png@1", "one:raw.csv@1", "one:raw.csv@2"),
        ]
        assert session.stale("raw.csv") == session.stale("raw.csv", run="one") == found
        assert session.stale("table.csv") == session.stale("table.csv", run="one") == ()

    def test_a_name_that_was_never_written_is_an_error(self, store, session, figure):
        with pytest.raises(UnknownSessionError):
            store.session("session-3").stale()
        with pytest.raises(UnknownRunError):
            session.stale(run="three")
        with pytest.raises(UnknownFileError):
            session.stale("raw.csv", run="two")
        with pytest.raises(UnknownNameError):
            session.stale("none.csv")

    def test_a_limit_may_be_any_number(self, session, figure):
        assert session.stale(limit=10**30) == ()
        assert session.lineage("figure.png", depth=10**30, limit=10**30).complete

    def test_it_is_no_longer_listed_once_it_is_made_again(self, session):
        run = session.run("one")
        run.put("raw", b"1")
        step(run, "clean", ["raw"], {"clean": b"of 1"})
        step(run, "plot", ["clean"], {"plot": b"plot of 1"})
        run.put("raw", b"2")
        assert [s.version.path for s in session.stale()] == ["clean", "plot"]
        step(run, "clean", ["raw"], {"clean": b"of 2"})
        assert [(s.version.path, s.used.path) for s in session.stale("clean")] == [
            ("plot", "clean")
        ]
        step(run, "plot", ["clean"], {"plot": b"plot of 2"})
        assert session.stale() == ()

    def test_another_file_with_the_same_bytes_is_no_cause(self, session):
        one, two = session.run("one"), session.run("two")
        for run in (one, two):
            run.put("other", b"1")
            run.put("raw", b"1")
            step(run, "clean", ["raw"], {"clean": b"of 1 in " + run.id.encode()})
        for number, run in enumerate((one, two)):
            run.put("raw", b"2 %d" % number)
            expected = [(f"{each}:clean@1", f"{each}:raw@1") for each in ("one", "two")]
            found = [(named(s.version), named(s.used)) for s in session.stale()]
            assert found == expected[: number + 1]
            assert session.stale("raw", run=run.id) == session.stale()[-1:]
            assert session.stale("other") == ()

    def test_a_file_whose_step_left_its_bytes_as_they_were_is_listed(self, session):
        run = session.run("one")
        run.put("raw", b"1", node_id="load")
        step(run, "tidy", ["raw"], {"table": b"1"})
        step(run, "plot", ["table"], {"plot": b"plot of 1"})
        expected = ["one:raw@1", "one:table@1", "one:plot@1"]
        assert paths(session.lineage("raw", direction="down")) == expected
        assert paths(session.lineage("plot")) == expected[::-1]
        run.put("raw", b"2")
        assert [s.version.path for s in session.stale()] == ["plot", "table"]

    def test_what_read_the_edited_file_is_not_listed_for_the_one_before(self, session):
        run = session.run("one")
        run.put("raw", b"1")
        step(run, "plot", ["raw"], {"plot": b"of 1"})
        step(run, "fix", ["raw"], {"raw": b"2"})
        assert [s.version.path for s in session.stale()] == ["plot"]
        step(run, "plot", ["raw"], {"plot": b"of 2"})
        assert session.stale() == ()
        run.fork("fork")
        assert session.stale() == ()

    def test_bytes_that_were_read_without_a_name_are_those_of_each_file_that_has_them(
        self, session
    ):
        run = session.run("one")
        run.put_many([("raw", b"1"), ("table", b"1")])
        step(run, "plot", [Digest.of(b"1")], {"plot": b"of 1"})
        for path in ("table", "raw"):
            run.put(path, b"2")
            assert [named(s.version) for s in session.stale(path)] == ["one:plot@1"]

    def test_a_file_that_a_node_edits_in_place_is_not_stale(self, session):
        run = session.run("one")
        run.put("raw", b"1")
        step(run, "edit", ["raw"], {"raw": b"2", "log": b"edited"})
        step(run, "clean", ["raw"], {"clean": b"of 2"})
        assert [s.version.path for s in session.stale()] == ["log"]

    def test_a_version_that_came_back_is_not_newer(self, session):
        run = session.run("one")
        run.put("raw", b"1")
        step(run, "clean", ["raw"], {"clean": b"of 1"})
        run.put("raw", b"2")
        run.put("raw", b"1")
        assert session.stale() == ()

    def test_a_fork_that_replaces_its_copy_of_an_input_is_stale_and_its_parent_is_not(
        self, session
    ):
        run = session.run("one")
        run.put("raw", b"1")
        step(run, "clean", ["raw"], {"clean": b"of 1"})
        fork = run.fork("fork")
        assert session.stale() == ()
        fork.put("raw", b"2")
        expected = [("fork:clean@1", "fork:raw@1", "fork:raw@2")]
        for delete in (lambda: None, run.delete):
            delete()
            found = session.stale()
            assert [(named(s.version), named(s.used), named(s.newer)) for s in found] == expected

    @pytest.mark.parametrize("forked", [False, True])
    def test_what_a_rewind_brought_back_is_judged_by_what_it_was_made_from(self, session, forked):
        run = session.run("one")
        for content in (b"1", b"2"):
            run.put("raw", content)
            step(run, "clean", ["raw"], {"clean": b"of " + content})
        run.rewind(2)
        assert session.stale() == ()
        if forked:
            run = run.fork("fork")
        run.put("raw", b"2")
        assert [named(s.version) for s in session.stale()] == [f"{run.id}:clean@3"]

    @pytest.mark.parametrize("whole", [False, True])
    def test_dropping_an_older_version_does_not_hide_what_was_made_from_it(
        self, session, figure, whole
    ):
        run = session.run("one")
        run.put("raw.csv", b"new")
        before = [(named(s.version), named(s.used), named(s.newer)) for s in session.stale()]
        run.drop("raw.csv", version=1, reason="large")
        found = session.stale() if whole else session.stale("raw.csv", run="one")
        assert [(named(s.version), named(s.used), named(s.newer)) for s in found] == before
        run.put("raw.csv", b"raw")
        assert session.stale() == ()


class TestDropped:
    """What was dropped is known by its name: it keeps its maker and what it was made from."""

    @pytest.fixture
    def dropped(self, session, figure):
        run = session.run("one")
        before = [
            shape(session.lineage(figure)),
            shape(session.lineage("raw.csv", direction="down")),
        ]
        for path in ("raw.csv", "table.csv"):
            run.put(path, b"another")
            run.drop(path, version=1, reason="large")
        return before

    def test_upstream_goes_through_it(self, session, figure, dropped):
        found = session.lineage(figure)
        assert shape(found) == dropped[0]
        assert found.others == ()

    def test_it_can_be_asked_for(self, session, dropped):
        raw = session.run("one").history("raw.csv")[0]
        assert raw.digest is None
        assert shape(session.lineage(raw, direction="down")) == dropped[1]
        assert shape(session.lineage(Digest.of(b"raw"), direction="down")) == dropped[1]

    def test_one_that_had_its_bytes_from_another_run_leads_there(self, session, figure):
        three = session.run("three")
        three.put("mine.csv", b"table")
        step(three, "plot", ["mine.csv"], {"other.png": b"other"})
        before = shape(session.lineage("other.png"))
        three.put("mine.csv", b"more")
        three.drop("mine.csv", version=1, reason="large")
        assert ("same", "three:mine.csv@1", "one:table.csv@1") in before
        assert shape(session.lineage("other.png")) == before

    def test_one_that_was_the_first_does_not_lead_to_a_later_one(self, session, figure, dropped):
        session.run("three").put("late.csv", b"table")
        assert shape(session.lineage(figure)) == dropped[0]


def test_bytes_that_are_gone_have_no_lineage(session, figure):
    from dataclasses import replace

    with pytest.raises(BytesNotKeptError, match="gone before it was adopted"):
        session.lineage(replace(figure, digest=None))


# A model: what each attempt has read, told step by step.

NODES = st.sampled_from(["a", "b", "c"])
FILES = st.sampled_from(["f", "g", "h", "k"])
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["one", "two"]),
        NODES,
        st.lists(FILES, max_size=2, unique=True),
        st.lists(FILES, min_size=1, max_size=2, unique=True),
    ),
    min_size=1,
    max_size=7,
)


@pytest.mark.parametrize("combination", EACH_INDEX)
@settings(max_examples=8)
@given(steps=STEPS)
def test_it_is_what_a_model_of_the_steps_says(stores, tmp_path_factory, combination, steps):
    made_at = stores.make(combination, tmp_path_factory.mktemp("model"))
    try:
        with ArtifactStore.open(**made_at) as store:
            session = store.session("s")
            newest = {}  # path -> (run, path, version), over both runs
            parents = {}
            for number, (run_id, node, reads, writes) in enumerate(steps):
                run = session.run(run_id)
                event = f"e{number}"
                read = [newest[path] for path in reads if path in newest]
                with provenance(node_id=node, event_id=event):
                    run.use(*(session.run(r).file(p, version=v) for r, p, v in read))
                    made = run.put_many([(p, b"%d %s" % (number, p.encode())) for p in writes])
                for version in made:
                    name = (run_id, version.path, version.version)
                    parents[name] = set(read)
                    newest[version.path] = name
            for name in parents:
                above, left = {name}, [name]
                while left:
                    new = parents[left.pop()] - above
                    above |= new
                    left += new
                start = session.run(name[0]).file(name[1], version=name[2])
                up = session.lineage(start)
                assert {(v.run, v.path, v.version) for v in up.versions} == above
                for other in above:
                    origin = session.run(other[0]).file(other[1], version=other[2])
                    down = session.lineage(origin, direction="down")
                    assert start.id in {v.id for v in down.versions}
    finally:
        stores.drop(made_at)
