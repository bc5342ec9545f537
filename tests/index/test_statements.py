"""The number of statements does not depend on the number of files."""

from __future__ import annotations

import time

import pytest
from events import statements
from places import EACH_INDEX, places
from trees import write

from index import ArtifactStore

place = places(EACH_INDEX)


@pytest.fixture(autouse=True)
def aged(monkeypatch):
    """Let scans happen long after the files were written, so that signatures are trusted."""
    present = time.time_ns
    monkeypatch.setattr("index.commit.track.time.time_ns", lambda: present() + 3600 * 10**9)


def counted(store, run, work, **told):
    with statements(store) as seen:
        run.track(work, **told)
    return [s for s in seen if not s.startswith(("BEGIN", "PRAGMA"))]


@pytest.mark.parametrize("files", [10, 2500])
def test_a_rescan_in_the_same_process_takes_one_statement(store, run, work, files):
    write(work, {f"d{n % 7}/f{n}": b"%d" % n for n in range(files)})
    run.track(work)
    run.track(work)
    assert len(counted(store, run, work)) == 1


@pytest.mark.parametrize("files", [10, 2500])
def test_a_rescan_in_a_new_process_takes_two_statements(place, work, files):
    write(work, {f"d{n % 7}/f{n}": b"%d" % n for n in range(files)})
    with ArtifactStore.open(**place) as store:
        store.session("s").run("r").track(work)
    with ArtifactStore.open(**place) as store:
        assert len(counted(store, store.session("s").run("r"), work)) == 2


def test_a_change_costs_the_same_whatever_is_unchanged(store, work):
    costs = []
    for files in (10, 2500):
        run = store.session("s").run(f"r{files}")
        write(work, {f"f{n}": b"%d %d" % (n, files) for n in range(files)})
        run.track(work)
        run.track(work)
        write(work, {"f1": b"changed %d" % files, f"new{files}": b"new %d" % files})
        costs.append(len(counted(store, run, work)))
    assert costs[0] == costs[1]
    assert costs[0] < 20


def test_a_first_scan_takes_statements_by_the_thousand_files(store, run, work):
    write(work, {f"f{n}": b"%d" % n for n in range(2500)})
    assert len(counted(store, run, work)) < 30


def test_filling_provenance_takes_statements_by_the_thousand_files(store, run, work):
    write(work, {f"f{n}": b"%d" % n for n in range(2500)})
    run.track(work, node_id="n")
    run.track(work, node_id="n")
    assert len(counted(store, run, work, node_id="n", agent="a")) < 18


def test_restoring_takes_statements_by_the_thousand_files(store, run, work, tmp_path):
    write(work, {f"f{n}": b"%d" % n for n in range(2500)})
    run.track(work)
    with statements(store) as seen:
        run.restore(tmp_path / "out")
    assert len(seen) < 12


def test_statistics_read_no_versions(store, run, work):
    write(work, {f"f{n}": b"%d" % n for n in range(100)})
    run.track(work, agent="a")
    with statements(store) as seen:
        run.stats()
        run.stats_by("agent", "phase")
        store.session("session-1").stats_by("run")
        store.stats()
    assert seen
    assert not [statement for statement in seen if "cas_files" in statement]


def test_a_put_takes_as_many_statements_whatever_the_run_holds(store, work):
    costs = []
    for files in (10, 2500):
        run = store.session("s").run(f"r{files}")
        write(work, {f"f{n}": b"%d" % n for n in range(files)})
        run.track(work)
        with statements(store) as seen:
            run.put("f1", b"changed %d" % files)
        costs.append(len(seen))
    assert costs[0] == costs[1]
