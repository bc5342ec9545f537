"""A store of release 0.1.0 opens, reads, verifies, tracks and restores.

`keep_store.py` wrote that store, `data/0001`. From 0.1.0 on it never changes: these tests keep it
readable, whatever a later release changes in the schema or the format.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from chunkers import chunks_of
from garbage import collect
from lost import lose_index
from old_formats import KEPT, OLDEST, check_bytes, expected_of, files_of, index_of, old_store
from places import CORNERS, objects_of, packs_of
from trees import packs_in, read, write

from cas.digest import Digest
from index import ArtifactStore, recover
from index.db import schema
from index.db.database import Database

EXPECTED = expected_of(OLDEST)


@pytest.fixture(params=CORNERS)
def place(request, stores, tmp_path):
    """The place of a copy of that store, after `cas db upgrade`."""
    made = old_store(stores, request.param, tmp_path / "old")
    database = Database(index_of(made))
    schema.upgrade(database)
    database.close()
    yield made
    stores.drop(made)


def bytes_of(run):
    """Return `{path: (digest, size)}` of what a run held at its last snapshot."""
    return {row[0]: row[2:4] for row in EXPECTED[run] if row[-1] is None}


def test_it_is_whole_and_every_version_of_every_run_reads_back(place):
    with ArtifactStore.open(**place, create=False) as store:
        assert files_of(store) == EXPECTED
        check_bytes(store, EXPECTED)
        assert store.verify(depth="bytes").is_sound


def test_the_command_reads_it(stores, tmp_path, cas):
    root = old_store(stores, "sqlite-local", tmp_path)["root"]
    assert cas("--store", root, "db", "upgrade")[0] == 0
    code, out, _ = cas("--store", root, "ls", "-R", "--session", "session-1", "--run", "run-1")
    assert code == 0
    assert "data/log.txt" in out
    assert cas("--store", root, "verify", "--depth", "bytes")[0] == 0


def test_its_runs_are_restored(place, tmp_path):
    with ArtifactStore.open(**place, create=False) as store:
        for session, name in EXPECTED:
            out = tmp_path / "out" / session / name
            store.session(session).run(name).restore(out)
            kept = bytes_of((session, name))
            if link := kept.pop("link", None):
                target = os.fsencode((out / "link").readlink())
                assert (str(Digest.of(target)), len(target)) == link
            assert {p: (str(Digest.of(d)), len(d)) for p, d in read(out).items()} == kept


def test_garbage_collection_takes_what_a_deleted_run_left_and_keeps_all_else(place):
    with ArtifactStore.open(**place, create=False) as store:
        before = packs_of(objects_of(place))
        report = collect(store, compact=False)
        assert (report.swept.blobs, report.packs_deleted, report.damaged) == (2, 1, ())
        assert set(packs_of(objects_of(place))) < set(before)
        collect(store)
        assert files_of(store) == EXPECTED
        check_bytes(store, EXPECTED)
        assert store.verify(depth="bytes").is_sound


def test_tracking_goes_on(place, work):
    write(work, {"planning/plan.md": b"a new plan", "new": b"new"})
    with ArtifactStore.open(**place, create=False) as store:
        run = store.session("session-1").run("run-1")
        number = run.snapshots()[-1].number
        run.track(work, agent="later")
        files = files_of(store)["session-1", "run-1"]
        assert {row[:2] for row in EXPECTED["session-1", "run-1"]} < {row[:2] for row in files}
        assert run.read_bytes("planning/plan.md") == b"a new plan"
        assert run.snapshots()[-1].number == number + 1
        check_bytes(store, EXPECTED)
        collect(store)
        check_bytes(store, EXPECTED)
        assert store.verify(depth="bytes").is_sound


def recovered(place):
    lose_index(place)
    assert recover(**place).lost == ()
    with ArtifactStore.open(**place, create=False) as store:
        assert store.verify(depth="bytes").is_sound
        check_bytes(store, EXPECTED)
        return files_of(store)


def test_its_index_is_rebuilt_from_its_storage(place):
    """From the backup of the index in it, and later journal records."""
    assert recovered(place) == EXPECTED


def test_its_index_is_rebuilt_after_further_commits(place):
    with ArtifactStore.open(**place, create=False) as store:
        for session, run in EXPECTED:
            store.session(session).run(run).put("more", b"more", agent="later")
        before = files_of(store)
    assert recovered(place) == before


UNPACK = Path(__file__).parents[2] / "docs" / "unpack.py"


def unpack(*arguments):
    return subprocess.run(
        [sys.executable, UNPACK, *map(str, arguments)], capture_output=True, text=True, check=False
    )


def extracted(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_the_script_reads_its_packs_without_the_library(tmp_path):
    packs = packs_in(KEPT / OLDEST / "store")
    assert unpack("--check", *packs).returncode == 0
    assert unpack(*packs, "--to", tmp_path / "out").returncode == 0
    found = extracted(tmp_path / "out")
    assert all(str(Digest.of(data)) == name for name, data in found.items())
    assert {row[2] for rows in EXPECTED.values() for row in rows} <= found.keys()


@pytest.mark.parametrize("place", ["sqlite-local"], indirect=True)
def test_the_script_puts_large_files_of_new_packs_together_and_extracts_records(
    place, tmp_path, work
):
    large = b"step,amplitude\n" * 200_000
    write(work, {"large": large, "more": large[:-5] + b"other"})
    root = place["root"]
    with ArtifactStore.open(**place, create=False) as store:
        store.session("session-1").run("run-1").track(work, agent="later")
    packs = packs_in(root)
    assert unpack(*packs, "--to", tmp_path / "out").returncode == 0
    found = extracted(tmp_path / "out")
    assert all(str(Digest.of(data)) == name for name, data in found.items())
    assert {large, large[:-5] + b"other"} <= set(found.values())
    records = [json.loads(file.read_text()) for file in (tmp_path / "out/records").glob("*.json")]
    (commit,) = [r for r in records if r.get("provenance", {}).get("agent") == "later"]
    digests = base64.b64decode(commit["files"]["digests"])
    files = dict(zip(commit["files"]["paths"], range(0, len(digests), 32), strict=True))
    assert found[digests[files["large"] :][:32].hex()] == large


@pytest.mark.parametrize("place", ["sqlite-local"], indirect=True)
def test_the_script_says_which_large_file_it_lacks_chunks_of(place, tmp_path):
    first = os.urandom(1 << 20)
    old, new = chunks_of(first), chunks_of(first + b"and more")
    with ArtifactStore.open(**place, create=False) as store:
        run = store.session("session-1").run("run-1")
        run.put("first", first)
        before = set(packs_in(place["root"]))
        run.put("large", first + b"and more")
    (pack,) = set(packs_in(place["root"])) - before
    outcome = unpack(pack, "--to", tmp_path / "out")
    assert outcome.returncode == 1
    digest = Digest.of(first + b"and more")
    assert outcome.stderr == (
        f"large blob {digest}: {len(set(old) & set(new))} of its {len(new)} chunks are in other"
        " packs\n"
    )
    assert str(digest) not in extracted(tmp_path / "out")
