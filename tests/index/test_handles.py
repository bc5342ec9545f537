"""Stores, sessions and runs are copied as themselves, and pickled as how to open their store."""

from __future__ import annotations

import copy
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from places import as_json, on

import cas
import index
from index import ArtifactStore, DAGTracker
from index.errors import StoreClosedError, StoreNotFoundError


@pytest.fixture
def place(place):
    """Return a place that another process can open."""
    return json.loads(as_json(place))


@pytest.fixture
def handles(store):
    session = store.session("s")
    run = session.run("r")
    run.put("a", b"a")
    return {"store": store, "session": session, "run": run}


def test_a_copy_of_a_handle_is_the_handle(handles, store):
    tracker = DAGTracker(store, "s", "r")
    for handle in (*handles.values(), tracker):
        assert copy.copy(handle) is handle
        assert copy.deepcopy({"state": [handle]})["state"][0] is handle


def test_in_its_own_process_a_pickled_handle_shares_the_open_store(handles, store):
    for handle in handles.values():
        again = pickle.loads(pickle.dumps(handle))
        assert type(again) is type(handle)
        assert again._context is store.context
    run = pickle.loads(pickle.dumps(handles["run"]))
    assert run == handles["run"]
    assert run.diff(handles["run"]).identical


OTHER = """
import pickle, sys
from index import ArtifactStore
handles = pickle.loads(sys.stdin.buffer.read())
contexts = {id(handle._context) for handle in handles.values()}
assert len(contexts) == 1, contexts
assert handles["store"].session("s").run("r") == handles["run"]
again = pickle.loads(pickle.dumps(handles["session"]))
assert again._context is handles["run"]._context
handles["run"].put("b", handles["run"].read_bytes("a") + b"b")
"""


def test_in_another_process_all_handles_share_one_store(handles, tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", OTHER],
        input=pickle.dumps(handles),
        cwd=tmp_path,
        capture_output=True,
        check=False,
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert handles["run"].read_bytes("b") == b"ab"


def put_its_name(run, name):
    run.put(name, name.encode())
    return id(run._context)


def test_a_pool_of_processes_works_on_a_run(handles):
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        opened = pool.starmap(put_its_name, [(handles["run"], name) for name in "xyz"])
    assert len(set(opened)) == 1
    assert [version.path for version in handles["run"].files()] == ["a", "x", "y", "z"]


@on(index="sqlite", because="the place is given by relative paths")
def test_a_place_given_by_relative_paths_is_found_from_elsewhere(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with ArtifactStore.open(index="sqlite:///relative.db", blobs="blobs") as store:
        store.session("s").run("r").put("a", b"a")
        pickled = pickle.dumps(store.session("s").run("r"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert pickle.loads(pickled).read_bytes("a") == b"a"


def test_a_closed_store_is_opened_again(handles, store):
    pickled = pickle.dumps(handles["run"])
    store.close()
    with pytest.raises(StoreClosedError):
        handles["run"].files()
    first, second = pickle.loads(pickled), pickle.loads(pickled)
    assert first.read_bytes("a") == b"a"
    assert first._context is second._context is not store.context
    close(first)


def close(handle):
    handle._context.database.close()
    handle._context.blobs.close()


def test_threads_that_unpickle_at_once_open_it_once(handles, store):
    pickled = pickle.dumps(handles["run"])
    store.close()
    start = threading.Barrier(4)

    def load():
        start.wait(30)
        return pickle.loads(pickled)

    with ThreadPoolExecutor(4) as pool:
        runs = [one.result() for one in [pool.submit(load) for _ in range(4)]]
    assert len({id(run._context) for run in runs}) == 1
    close(runs[0])


@on(index="sqlite", blobs="local", because="the store is a directory that can be removed")
def test_a_store_that_is_gone_is_not_created(place, tmp_path):
    with ArtifactStore.open(tmp_path / "store") as store:
        pickled = pickle.dumps(store)
    os.rename(tmp_path / "store", tmp_path / "moved")
    with pytest.raises(StoreNotFoundError):
        pickle.loads(pickled)
    assert not (tmp_path / "store").exists()


def test_options_of_the_store_go_along(place, tmp_path):
    cache = tmp_path / "cache"
    with ArtifactStore.open(**place, cache=cache, clock=_clock) as store:
        reopen = store.context.reopen
    assert reopen.keywords["storage_options"] == place.get("storage_options")
    assert (reopen.keywords["cache"], reopen.keywords["clock"]) == (cache, _clock)


def _clock():
    from datetime import UTC, datetime

    return datetime.now(UTC)


class TestWhatTheyLookLike:
    def test_each_says_what_it_is(self, handles, store):
        url = store.context.database.url
        assert repr(handles["run"]) == f"<Run 'r' of session 's' in {url}>"
        assert repr(handles["session"]) == f"<Session 's' in {url}>"
        expected = f"<ArtifactStore with index {url}, blobs {store.context.blobs.url}"
        assert repr(store) == f"{expected}>"
        store.close()
        assert repr(store) == f"{expected}, not open>"

    def test_a_snapshot_says_what_changed(self, run, work):
        for name in "abc":
            (work / name).write_bytes(b"1")
        assert repr(run.track(work)) == "<Snapshot 1: 3 added>"
        (work / "a").write_bytes(b"2")
        (work / "b").unlink()
        (work / "d").symlink_to("a")
        os.mkfifo(work / "fifo")
        snapshot = run.track(work)
        expected = "<Snapshot 2: 1 added, 1 changed, 1 removed, 1 unchanged, 1 skipped>"
        assert repr(snapshot) == expected
        assert snapshot.lazy_added._versions is None  # none was built to be counted
        assert "not made now" in repr(run.track(work))
        assert repr(run.snapshots()[0]) == "<Snapshot 1: 3 added>"

    def test_a_version_can_be_hashed_whatever_it_holds(self, run):
        run.put("a", b"a")
        run.put("b", b"b", meta={"rows": [1, {"x": 2}]})
        assert len({*run.files(), *run.files()}) == 2
        assert hash(run.stats()) == hash(run.stats())

    def test_reports_can_be_hashed(self, store, run):
        run.put("a", b"a")
        assert isinstance(hash(store.verify()), int)
        assert isinstance(hash(run.diff(0)), int)


class TestThePackages:
    @pytest.mark.parametrize("package", [cas, index])
    def test_dir_names_what_is_public(self, package):
        assert set(package.__all__) <= set(dir(package))
        assert all(hasattr(package, name) for name in package.__all__)
        with pytest.raises(AttributeError, match="no attribute 'missing'"):
            package.missing  # noqa: B018

    def test_both_have_the_version_of_the_distribution(self):
        from importlib.metadata import version

        assert cas.__version__ == index.__version__ == version("runcas")

    def test_dir_imports_nothing(self):
        code = "import index, sys; dir(index); print('sqlalchemy' in sys.modules)"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert done.stdout == "False\n"
