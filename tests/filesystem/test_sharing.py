"""The filesystem in threads, in forked and spawned processes, and after pickling."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import fsspec
import pytest

from index import ArtifactStore, provenance
from index.filesystem import CasFileSystem

SECRET = "hunter2"  # noqa: S105


def read(fs):
    return fs.cat("s/r/a")


def write(fs, number):
    with provenance(agent=f"worker-{number}"):
        fs.pipe_file(f"s/r/{number}", b"%d" % number)
    return threading.get_ident()


def write_by_open(fs, url):
    with fs.open(url, "wb") as file:
        file.write(b"")


def write_in_transaction(fs, url):
    with fs.transaction:
        fs.pipe_file(url, b"")


WRITES = (
    write_by_open,
    write_in_transaction,
    lambda fs, url: fs.pipe_file(url, b""),
    lambda fs, url: fs.copy("s/r/child", url),
)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_read_and_write_through_a_pickled_filesystem(portable, run, method):
    fs = CasFileSystem(**portable)
    run.put("a", b"bytes")
    assert read(fs) == b"bytes"
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        assert list(pool.map(read, [fs] * 4)) == [b"bytes"] * 4
        list(pool.map(write, [fs] * 8, range(8)))
    assert {version.agent for version in run.files(glob="[0-7]")} == {
        f"worker-{number}" for number in range(8)
    }


def test_a_forked_process_uses_the_filesystem_of_its_parent(fs, run):
    run.put("a", b"bytes")
    assert read(fs) == b"bytes"
    process = multiprocessing.get_context("fork").Process(target=write, args=(fs, 1))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert fs.cat("s/r/1") == b"1"


def test_threads_have_filesystems_of_their_own_and_share_one_store(options, run):
    run.put("a", b"bytes")

    def look(_):
        fs = CasFileSystem(**options)
        return fs, fs.store, read(fs)

    together = threading.Barrier(4)

    def wait(number):
        together.wait()
        return look(number)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(wait, range(4)))
    assert {content for _, _, content in found} == {b"bytes"}
    assert len({id(store) for _, store, _ in found}) == 1
    assert len({id(fs) for fs, _, _ in found}) == 4


def test_a_transaction_of_one_thread_is_not_one_of_others(options, run):
    fs = CasFileSystem(**options)
    with fs.transaction:
        fs.pipe_file("s/r/mine", b"")
        with ThreadPoolExecutor(1) as pool:
            pool.submit(lambda: CasFileSystem(**options).pipe_file("s/r/other", b"")).result()
        assert list(run) == ["other"]
    assert list(run) == ["mine", "other"]


def test_a_filesystem_is_the_same_after_pickling(portable, run):
    fs = CasFileSystem(**portable)
    run.put("a", b"bytes")
    assert read(fs) == b"bytes"
    again = pickle.loads(pickle.dumps(fs))
    assert again == CasFileSystem(**fs.storage_options)  # which has no credentials
    assert again.store is fs.store
    assert CasFileSystem.from_json(fs.to_json()).cat("s/r/a") == b"bytes"


def test_what_a_pickled_filesystem_writes_has_the_scope_that_it_was_pickled_in(portable, run):
    fs = CasFileSystem(**portable)
    with provenance(agent="parent", phase="p"):
        pickled = pickle.dumps(fs)
    again = pickle.loads(pickled)
    with provenance(agent="child"):
        again.pipe_file("s/r/child", b"")
    assert (run["child"].agent, run["child"].phase) == ("child", "p")
    for number, write in enumerate(WRITES):
        write(again, f"s/r/{number}")
        assert run[f"{number}"].agent == "parent"
    again.rm("s/r/child")
    assert run.snapshots()[-1].provenance.agent == "parent"
    fs.pipe_file("s/r/plain", b"")
    assert run["plain"].agent is None
    said = CasFileSystem(**portable, provenance={"agent": "said"})
    said.pipe_file("s/r/said", b"")
    assert run["said"].agent == "said"


def test_a_store_that_was_found_is_pickled_as_where_it_is(tmp_path, monkeypatch):
    monkeypatch.delenv("CAS_STORE", raising=False)
    with ArtifactStore.open(tmp_path / ".cas") as store:
        store.session("s").run("r").put("a", b"here")
    monkeypatch.chdir(tmp_path)
    pickled = pickle.dumps(CasFileSystem())
    monkeypatch.chdir("/")
    assert pickle.loads(pickled).cat("s/r/a") == b"here"


def test_credentials_are_in_nothing_that_is_passed_on():
    fs = CasFileSystem(
        index=f"postgresql+psycopg://me:{SECRET}@localhost/db?password={SECRET}&sslmode=disable",
        blobs=f"s3://key:{SECRET}@bucket/prefix",
        storage_options={
            "key": "me",
            "secret": SECRET,
            "client_kwargs": {"aws_secret_access_key": SECRET, "region_name": "eu"},
            "hosts": [f"http://u:{SECRET}@host", {"token": SECRET}],
            "raw": f"http://u:{SECRET}@host".encode(),
            "connection": f"AccountName=x;AccountKey={SECRET}",
        },
    )
    shown = [
        fs.to_json(),
        repr(fs),
        str(fs),
        str(fs.storage_options),
        json.dumps(fs.to_dict()),
        repr(pickle.dumps(fs)),
        repr(pickle.loads(pickle.dumps(fs)).storage_options),
    ]
    for text in shown:
        assert SECRET not in text
    assert "postgresql+psycopg://me@localhost/db?sslmode=disable" in fs.to_json()
    assert "region_name" in fs.to_json()


def test_an_open_store_is_shared_after_pickling_without_credentials(place, portable, run):
    run.put("a", b"bytes")
    if "root" in place:
        root = place["root"]
        portable = {"index": f"sqlite:///{root}/index.db", "blobs": str(root)}
    fs = CasFileSystem(**portable)
    assert fs.cat("s/r/a") == b"bytes"
    assert pickle.loads(pickle.dumps(fs)).store is fs.store


def test_an_open_file_of_fsspec_is_pickled(portable, run):
    run.put("a", b"bytes")
    opened = pickle.loads(pickle.dumps(fsspec.open("cas://s/r/a", **portable)))
    with opened as file:
        assert file.read() == b"bytes"


def test_a_relative_store_is_that_of_the_directory_where_it_was_named(tmp_path, monkeypatch):
    for name in ("a", "b"):
        with ArtifactStore.open(tmp_path / name / ".cas") as store:
            store.session("s").run("r").put("x", name.encode())
    monkeypatch.chdir(tmp_path / "a")
    first = CasFileSystem(".cas", "s")
    pickled = pickle.dumps(first)
    monkeypatch.chdir(tmp_path / "b")
    assert CasFileSystem(".cas", "s").cat("s/r/x") == b"b"
    assert first.cat("s/r/x") == pickle.loads(pickled).cat("s/r/x") == b"a"
    assert CasFileSystem.from_json(first.to_json()).cat("s/r/x") == b"a"


@pytest.mark.parametrize("given", ["engineer", {"node": "n"}, {"agent": "a", "": "b"}])
def test_provenance_of_an_instance_that_makes_no_sense_is_refused(given):
    with pytest.raises(ValueError, match="provenance is a dict of phase, agent, node_id"):
        CasFileSystem(provenance=given, skip_instance_cache=True)
