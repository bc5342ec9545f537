"""What is recorded, restored and verified where no thread starts is the same as with threads."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from datetime import timedelta

import pytest
from places import as_json
from trees import contents, read, write

from index import ArtifactStore, DAGTracker
from index.db.catalog import SqlCatalog

MIB = 1 << 20


@pytest.fixture
def files():
    """Small and large files, that are more than a few packs of 4 MiB."""
    small = {f"small/{n}": os.urandom(1000 + n) for n in range(300)}
    return {**small, **{f"large/{n}": os.urandom(3 * MIB + n) for n in range(5)}, "empty": b""}


@pytest.fixture
def none_starts(monkeypatch):
    """Refuse the threads of the library, as Python does when it ends."""
    original = threading.Thread.start
    refused = []

    def start(thread):
        if thread.name.startswith("cas-"):
            refused.append(thread.name)
            raise RuntimeError("can't create new thread at interpreter shutdown")
        original(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    monkeypatch.setattr("cas.packs.packer.PACK_SIZE", 4 * MIB)
    return refused


def test_everything_works_on_the_calling_thread(store, run, work, tmp_path, files, none_starts):
    write(work, files)
    snapshot = run.track(work)
    assert (len(snapshot.added), snapshot.skipped) == (len(files), ())
    run.put("put", b"put")
    assert contents(run) == {**files, "put": b"put"}
    run.restore(tmp_path / "out")
    assert read(tmp_path / "out") == {**files, "put": b"put"}
    assert store.verify(depth="bytes").faults == ()
    (work / "large" / "0").unlink()
    run.track(work)
    store.session("session-1").run("other").put("a", b"a")
    run.delete()
    report = store.plan_gc(grace=timedelta(0)).execute()
    assert report.bytes_deleted > 0
    assert contents(store.session("session-1").run("other")) == {"a": b"a"}
    expected = {"cas-pack", "cas-compress", "cas-hash", "cas-read", "cas-restore", "cas-verify"}
    assert expected <= set(none_starts)


def test_async_twins_run_on_the_calling_thread(store, work, none_starts):
    write(work, {"a": b"1"})
    tracker = DAGTracker(store, "s", "r")

    async def go():
        outcome = await tracker.track_files_in_work_dir_async(work, "n")
        await tracker.run.put_async("b", b"2")
        return outcome, await tracker.run.read_bytes_async("b")

    outcome, data = asyncio.run(go())
    assert (outcome.error, outcome.files_tracked, data) == (None, 1, b"2")


def test_an_error_of_storage_ends_the_batch(store, run, work, files, none_starts, monkeypatch):
    def fail(_catalog, _sealed):
        raise OSError(5, "broken")

    write(work, files)
    monkeypatch.setattr(SqlCatalog, "register_pack", fail)
    with pytest.raises(OSError, match="broken"):
        run.track(work)
    monkeypatch.undo()
    run.track(work)
    assert contents(run) == files


LATE = """
import asyncio, atexit, json, os, sys, threading
from pathlib import Path
from index import ArtifactStore, DAGTracker

store, base = ArtifactStore.open(**json.loads(sys.argv[1])), Path(sys.argv[2])

def everything(where):
    work = base / where
    work.mkdir()
    (work / "small").write_bytes(where.encode())
    (work / "large").write_bytes(where.encode() * (1 << 20))
    tracker = DAGTracker(store, "s", where, raise_errors=True)
    assert tracker.track_files_in_work_dir(work).files_tracked == 2
    assert asyncio.run(tracker.run.put_async("put", b"put")).path == "put"
    assert tracker.run.restore(base / f"{where}-out").written == 3
    assert store.verify(depth="bytes").faults == ()
    store.plan_gc().execute()
    print(where, flush=True)

def worker():
    threading.main_thread().join()
    everything("thread")

atexit.register(everything, "exit handler")
threading.Thread(target=worker).start()
"""


def test_a_local_store_opens_after_the_main_thread_has_ended(tmp_path):
    code = """
import sys, threading
def late():
    threading.main_thread().join()
    from index import ArtifactStore
    with ArtifactStore.open(sys.argv[1]) as store:
        print(store.session("s").run("r").put("a", b"a").size)
threading.Thread(target=late).start()
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "store")],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert (done.stdout, done.stderr) == ("1\n", "")


def test_a_thread_goes_on_after_the_main_thread_and_so_do_exit_handlers(place, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", LATE, as_json(place), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert (done.stdout.split("\n"), done.stderr) == (["thread", "exit handler", ""], "")
    with ArtifactStore.open(**place) as store:
        for where in ("thread", "exit handler"):
            run = store.session("s").run(where)
            assert run.read_bytes("large") == where.encode() * MIB
