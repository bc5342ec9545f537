"""What listings of a run read, and when: the size of a run shows in what is read, not before."""

from __future__ import annotations

import json
from operator import itemgetter

import click
import pytest
from events import statements
from places import EACH_INDEX, places
from trees import write

from index import ArtifactStore
from index.cli.output import print_json, print_json_list
from index.cli.tables import Column, show
from index.db.queries import listings
from index.domain.snapshots import assemble
from index.errors import UnknownRunError, UnknownSnapshotError

place = places(EACH_INDEX)


@pytest.fixture
def run(store, work):
    """Files that were added, changed, removed, brought back, moved by a rewind and by a put."""
    run = store.session("s").run("r")
    write(work, {f"f{n}": b"%d" % n for n in range(6)})
    run.track(work, agent="a")
    write(work, {"f1": b"changed", "new": b"new"})
    (work / "f2").unlink()
    run.track(work, agent="b")
    run.put("f2", b"back")
    run.remove("f3")
    run.rewind(1)
    run.put_many([("f1", b"again"), ("x", b"x")])
    return run


def eagerly(run):
    """Return the run's snapshots with changes from all its versions."""
    versions = [version for path in paths_of(run) for version in run.history(path)]
    return assemble(run.snapshots(), versions)


def paths_of(run):
    return {v.path for s in run.snapshots() for v in run.files(at=s)}


def touching_files(seen):
    return [text for text in seen if "cas_files" in text]


class TestSnapshots:
    def test_are_listed_without_a_look_at_the_files(self, store, run):
        with statements(store) as seen:
            assert [s.number for s in run.snapshots()] == [1, 2, 3, 4, 5, 6]
        assert not touching_files(seen)

    def test_have_the_changes_of_each(self, run):
        for found, expected in zip(run.snapshots(), eagerly(run), strict=True):
            assert found.to_dict() == expected.to_dict()

    def test_read_one_alone_and_then_all_others_together(self, store, run):
        found = run.snapshots()
        with statements(store) as seen:
            assert [v.path for v in found[1].added] == ["new"]
        assert len(touching_files(seen)) == 1
        assert "first_snapshot =" in touching_files(seen)[0]
        with statements(store) as seen:
            assert [len(s.added) for s in found] == [len(s.added) for s in eagerly(run)]
            assert [s.changed for s in found] == [s.changed for s in eagerly(run)]
        assert len([t for t in touching_files(seen) if "first_snapshot =" in t]) == 0

    def test_count_their_changes_without_building_versions(self, store, run):
        found = run.snapshots()
        with statements(store) as seen:
            counts = [(len(s.lazy_added), len(s.lazy_changed), len(s.lazy_removed)) for s in found]
        assert len(touching_files(seen)) == 3
        assert not any("cas_files.meta" in text for text in seen)
        assert counts == [(len(s.added), len(s.changed), len(s.removed)) for s in eagerly(run)]
        assert counts == [(len(s.added), len(s.changed), len(s.removed)) for s in found]

    def test_come_in_pages_that_joined_are_all(self, run):
        joined, first = (), None
        while page := run.snapshots(limit=4, before=first):
            joined = (*page, *joined)
            first = page[0]
        assert [s.to_dict() for s in joined] == [s.to_dict() for s in run.snapshots()]
        assert [s.number for s in run.snapshots(limit=2, before=4)] == [2, 3]
        assert run.snapshots(limit=0) == run.snapshots(before=1) == ()

    def test_of_a_page_read_only_their_own_changes(self, store, run):
        expected = {s.number: s for s in eagerly(run)}
        with statements(store) as seen:
            found = run.snapshots(limit=2, before=5)
            counts = [(len(s.lazy_added), len(s.lazy_changed), len(s.lazy_removed)) for s in found]
            changes = [s.to_dict() for s in found]
        assert [s.number for s in found] == [3, 4]
        assert changes == [expected[s.number].to_dict() for s in found]
        assert counts == [(len(s.added), len(s.changed), len(s.removed)) for s in found]
        asked = touching_files(seen)
        assert len(asked) == 5  # three counts, the first one's changes, and those of both
        assert all("first_snapshot" in text or "end_snapshot" in text for text in asked)

    def test_are_chosen_by_all_that_is_given_of_their_provenance(self, run):
        labels = {"agent": "a", "phase": "p", "node_id": "n", "step_id": "s", "event_id": "e"}
        run.put("y", b"1", **labels)
        run.put("y", b"2", agent="b", phase="p")
        assert [s.number for s in run.snapshots(agent="a")] == [1, 7]
        assert [s.number for s in run.snapshots(agent="b")] == [2, 8]
        assert [s.number for s in run.snapshots(phase="p", limit=1)] == [8]
        for name, value in labels.items():
            assert 7 in [s.number for s in run.snapshots(**{name: value})]
            assert 1 not in [s.number for s in run.snapshots(**{**labels, name: "other"})]
        chosen = run.snapshots(agent="b")
        assert [s.to_dict() for s in chosen] == [eagerly(run)[n - 1].to_dict() for n in (2, 8)]
        assert [len(s.lazy_changed) for s in chosen] == [1, 1]

    def test_before_a_tag_or_one_of_them_are_listed_too(self, run):
        run.tag("good", at=3)
        assert [s.number for s in run.snapshots(before="good")] == [1, 2]
        with pytest.raises(UnknownSnapshotError):
            run.snapshots(before=99)
        with pytest.raises(ValueError, match="limit is a number of snapshots"):
            run.snapshots(limit=-1)

    def test_with_gaps_are_named_one_by_one_or_all_between_them(self, run, monkeypatch):
        run.put("y", b"1", agent="a")
        for few in (500, 1):
            monkeypatch.setattr("index.db.queries.states._FEW", few)
            found = run.snapshots(agent="a")
            assert [s.number for s in found] == [1, 7]
            assert [len(s.lazy_added) for s in found] == [6, 1]
            assert [[v.path for v in s.added] for s in found[1:]] == [["y"]]
            assert [len(s.added) for s in found] == [6, 1]

    def test_one_that_was_found_counts_its_own(self, run):
        found = run.find_snapshot(agent="b")
        assert repr(found) == repr(eagerly(run)[1])

    def test_of_a_run_that_was_deleted_have_no_changes_to_read(self, store, run):
        found = run.snapshots()
        run.delete()
        with pytest.raises(UnknownRunError):
            found[0].added  # noqa: B018
        run.put("other", b"other")  # a new run of that name
        with pytest.raises(UnknownRunError):
            len(found[1].lazy_added)


def test_equal_labels_of_many_versions_are_one_object(run):
    first, second, *_ = run.files(agent="a")
    assert first.agent is second.agent
    assert first.file_type is second.file_type


@pytest.mark.parametrize("ways", [(), ("--json",), ("--order-by", "-path"), ("--glob", "**")])
def test_ls_reads_a_run_page_by_page_and_prints_as_it_reads(cas, store_root, ways, monkeypatch):
    monkeypatch.setattr("index.api.run_files._PAGE", 10)
    monkeypatch.setattr("index.cli.output._ROWS_AT_ONCE", 10)
    with ArtifactStore.open(store_root) as store:
        store.session("default").run("r").put_many([(f"f{n:03}", b"%d" % n) for n in range(55)])
    printed, read = [], []
    list_page, echo = listings.list_page, click.echo

    def counted(*arguments, **options):
        read.append(len(printed))
        return list_page(*arguments, **options)

    def printing(text, **how):
        printed.append(text)
        echo(text, **how)

    monkeypatch.setattr(listings, "list_page", counted)
    monkeypatch.setattr("index.cli.output.click.echo", printing)
    code, out, _ = cas("--store", store_root, "ls", "-R", *ways)
    assert code == 0
    assert len(read) == 6
    assert read == sorted(set(read))  # each page is printed before the next is read
    if ways == ("--json",):
        names = [file["path"] for file in json.loads(out)]
    else:
        names = [line.split()[-1] for line in out.splitlines()]
    assert sorted(names) == [f"f{n:03}" for n in range(55)]


@pytest.mark.parametrize("count", [0, 1, 3, 4, 7])
def test_a_list_in_json_is_the_same_text_however_it_is_printed(count, capsys, monkeypatch):
    monkeypatch.setattr("index.cli.output._ROWS_AT_ONCE", 3)
    values = [
        {"n": n, "text": 'a\n"b', "inner": [1, {"x": None}], "none": []} for n in range(count)
    ]
    print_json(values)
    whole = capsys.readouterr().out
    print_json_list(iter(values))
    assert capsys.readouterr().out == whole


def test_a_column_gets_wider_where_a_later_row_needs_it(capsys, monkeypatch):
    monkeypatch.setattr("index.cli.output._ROWS_AT_ONCE", 2)
    monkeypatch.setattr("index.cli.tables.is_for_people", lambda: True)
    columns = [Column("name", itemgetter(0), rank=0), Column("x", itemgetter(1), rank=0)]
    show(iter([("a", "x"), ("bbbbb", "x"), ("cccccc", "x"), ("d", "x")]), columns, None)
    lines = ["NAME   X", "a      x", "bbbbb  x", "cccccc  x", "d       x"]
    assert click.unstyle(capsys.readouterr().out).splitlines() == lines
    show(iter(()), columns, None)
    assert capsys.readouterr().out == ""
