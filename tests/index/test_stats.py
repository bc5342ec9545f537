"""Statistics of runs, sessions and the store: what they count, after whatever was done."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import prometheus_client.openmetrics.parser as openmetrics
import prometheus_client.parser as older
import pytest
from counted import assert_counted
from places import EACH_INDEX, places
from trees import write

import cas
import index.db.queries.counts
from index import ArtifactStore
from index.commit.write import load_state

place = places(EACH_INDEX)


def contents_of(stats):
    return stats.files, stats.bytes, stats.versions, stats.version_bytes, stats.distinct_bytes


def test_equal_contents_are_counted_once_among_the_distinct_bytes(run):
    run.put("a", b"12345")
    run.put("b", b"12345")
    assert contents_of(run.stats()) == (2, 10, 2, 10, 5)
    run.put("a", b"123")
    run.put("a", b"12345")
    assert contents_of(run.stats()) == (2, 10, 4, 18, 8)
    run.remove("b")
    assert contents_of(run.stats()) == (1, 5, 4, 18, 8)


def test_contents_that_only_another_run_holds_are_new_to_a_run(store):
    store.session("s").run("one").put("a", b"12345")
    run = store.session("s").run("two")
    run.put("a", b"12345")
    assert run.stats().distinct_bytes == 5


def test_equal_contents_in_one_scan_are_counted_once(run, work, monkeypatch):
    """Also where they are looked up in parts."""
    monkeypatch.setattr(index.db.queries.counts, "_ROWS_AT_ONCE", 2)
    write(work, {"a": b"1", "b": b"22", "c": b"1", "d": b"22", "e": b"", "f": b"333"})
    run.track(work)
    assert run.stats().distinct_bytes == 6
    write(work, {"g": b"333", "h": b"4444", "i": b"4444"})
    run.track(work)
    assert run.stats().distinct_bytes == 10


def test_labels_that_change_move_their_files(store, run, work):
    write(work, {"a.csv": b"1", "b.csv": b"22"})
    run.track(work, node_id="n")
    run.track(work, node_id="n", agent="engineer", phase="control")
    run.annotate("a.csv", is_final_output=True, file_type="figure")
    stats = run.stats()
    assert stats.files_by_agent == {"engineer": 2}
    assert stats.files_by_phase == {"control": 2}
    assert stats.files_by_type == {"data": 1, "figure": 1}
    assert stats.final_outputs == 1
    assert [group.labels["agent"] for group in run.stats_by("agent")] == ["engineer"]
    assert_counted(store)


def test_forks_and_rewinds_are_counted(store, run):
    run.put("a", b"1", agent="x")
    run.put("a", b"22", agent="y")
    run.put("b", b"333")
    run.rewind(1)
    assert contents_of(run.stats()) == (1, 1, 4, 7, 6)
    assert run.stats().files_by_agent == {"x": 1}
    fork = run.fork("copy", at=2)
    assert contents_of(fork.stats()) == (1, 2, 2, 3, 3)
    assert fork.stats().files_by_agent == {"y": 1}
    assert_counted(store)


def test_a_deleted_run_is_counted_no_more(store, run):
    run.put("a", b"1")
    run.delete()
    stats = store.stats()
    assert (stats.versions, stats.version_bytes) == (0, 0)
    assert_counted(store)


@pytest.mark.parametrize("way", ["track", "put"])
def test_a_commit_that_fails_counts_nothing(store, run, work, monkeypatch, way):
    run.put("a", b"1")
    before = run.stats()

    def fail(*_arguments, **_options):
        raise RuntimeError("the commit fails at its end")

    monkeypatch.setattr("index.commit.write._Attempt._removed_versions", fail)
    write(work, {"a": b"22", "b": b"333"})
    with pytest.raises(RuntimeError, match="at its end"):
        run.track(work) if way == "track" else run.put("b", b"333")
    assert run.stats() == before


def test_two_stores_that_write_to_one_run_count_all_of_it(place, store, run):
    with ArtifactStore.open(**place) as other:
        again = other.session("session-1").run("run-1")
        for number in range(4):
            (run if number % 2 else again).put(f"f{number}", b"x" * number)
        assert contents_of(run.stats()) == contents_of(again.stats()) == (4, 6, 4, 6, 6)


def test_a_scan_makes_no_state_until_the_next_one_needs_it(store, run, work):
    """For a large run it takes as much memory as the scan itself."""
    write(work, {"a": b"1"})
    run.track(work)
    state = store.context.states.get(run.key.session, run.key.run)
    assert callable(state.made)
    assert state.find("a").version == 1
    assert not callable(state.made)
    with store.context.database.reading() as connection:
        read = load_state(connection, run.key)
    assert {known.path for known in state} == {known.path for known in read}


class TestMetrics:
    """The text that `cas stats --prometheus` prints."""

    def test_the_official_parser_reads_each_number_with_type_unit_and_help(self, store, place):
        store.session("s").run("r").put("a", b"12345")
        store.back_up()
        stats = store.stats()
        families = {found.name: found for found in openmetrics.text_string_to_metric_families(
            stats.to_openmetrics()
        )}  # fmt: skip
        assert {found.type for found in families.values()} == {"gauge"}
        assert all(found.documentation.endswith(".") for found in families.values())
        for name, found in families.items():
            assert found.unit == name.rpartition("_")[2] * name.endswith(("_bytes", "_seconds"))
        values = {name: found.samples[0].value for name, found in families.items()}
        assert values["runcas_runs"] == 1
        assert values["runcas_file_version_bytes"] == 5
        assert values["runcas_stored_bytes"] == stats.stored_bytes
        assert values["runcas_backup_timestamp_seconds"] == stats.backed_up_at.timestamp()
        assert values["runcas_verified_timestamp_seconds"] == stats.unverified_since.timestamp()
        assert "runcas_condemned_timestamp_seconds" not in families
        labels = families["runcas_build_info"].samples[0].labels
        assert labels == {"version": cas.__version__, "store_id": stats.store_id,
                          "blobs": stats.blobs_at}  # fmt: skip

    def test_a_collector_of_the_older_format_reads_the_same_numbers(self, store):
        text = store.stats().to_openmetrics()
        old = {found.name: found.samples for found in older.text_string_to_metric_families(text)}
        new = openmetrics.text_string_to_metric_families(text)
        assert {found.name: found.samples for found in new} == old

    def test_characters_of_a_place_are_escaped(self, store):
        place = 'a "b" \\ c\nd'
        text = replace(store.stats(), blobs_at=place).to_openmetrics()
        (info,) = [
            found.samples[0]
            for found in openmetrics.text_string_to_metric_families(text)
            if found.name == "runcas_build_info"
        ]
        assert info.labels["blobs"] == place

    def test_what_waits_has_its_time(self, store, place):
        store.session("s").run("r").put("a", b"12345")
        store.session("s").run("r").delete()
        with ArtifactStore.open(**place, clock=lambda: datetime.now(UTC) + timedelta(days=2)) as at:
            at.plan_gc().execute()
        stats = store.stats()
        assert stats.condemned_since > datetime.now(UTC) + timedelta(days=1)
        assert f"runcas_condemned_timestamp_seconds {stats.condemned_since.timestamp()}\n" in (
            stats.to_openmetrics()
        )

    def test_the_command_prints_it_and_refuses_what_does_not_go_with_it(self, cas, store_root):
        where = ("--store", store_root, "stats", "--prometheus")
        code, out, _ = cas(*where)
        assert (code, out[-6:]) == (0, "# EOF\n")
        for option in (["--json"], ["--run", "r"], ["--session", "s"], ["--by", "agent"]):
            assert cas(*where, *option)[0] == 2
