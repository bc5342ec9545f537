"""Stores of every schema that was released are refused with the command, and go on after it."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from garbage import collect
from lost import lose_index
from old_formats import KEPT, OLDEST, check_bytes, expected_of, index_of, old_store, told_of
from places import CORNERS, objects_of, packs_of
from trees import packs_in, write

from cas.digest import Digest
from index import ArtifactStore, recover
from index.db import schema
from index.db.database import Database
from index.errors import SchemaOutOfDateError

EXPECTED = expected_of(OLDEST)


@pytest.fixture(params=CORNERS)
def place(request, stores, tmp_path):
    made = old_store(stores, request.param, tmp_path / "old")
    yield made
    stores.drop(made)


def upgrade(place):
    database = Database(index_of(place))
    schema.upgrade(database)
    database.close()


@pytest.fixture
def upgraded(place):
    upgrade(place)
    return place


def test_it_is_refused_with_the_exact_command(place):
    with pytest.raises(SchemaOutOfDateError) as refused:
        ArtifactStore.open(**place)
    database = Database(index_of(place))
    assert f"has schema {OLDEST}, this release works with {schema.HEAD}" in str(refused.value)
    assert str(refused.value).endswith(f"run `cas --index {database.url} db upgrade`")
    assert schema.current(database) == OLDEST
    database.close()


def test_the_command_refuses_it_and_the_command_that_it_names_brings_it_up(stores, tmp_path, cas):
    root = old_store(stores, "sqlite-local", tmp_path)["root"]
    code, out, err = cas("--store", root, "ls", "--session", "session-1", "--run", "run-1")
    assert (code, out) == (6, "")
    assert err.count("\n") == 1
    named = err[err.index("`cas ") + 5 : err.rindex("`")].split()
    assert named[-2:] == ["db", "upgrade"]
    assert cas(*named)[0] == 0
    code, out, _ = cas("--store", root, "ls", "--session", "session-1", "--run", "run-1")
    assert code == 0
    assert "data/log.txt" in out
    assert cas("--store", root, "verify", "--depth", "bytes")[0] == 0


def test_every_version_of_every_run_reads_back(upgraded):
    with ArtifactStore.open(**upgraded, create=False) as store:
        assert told_of(store) == EXPECTED
        check_bytes(store, EXPECTED)
        assert store.verify(depth="bytes").is_sound


def test_garbage_collection_takes_what_a_deleted_run_left_and_keeps_all_else(upgraded):
    before = packs_of(objects_of(upgraded))
    with ArtifactStore.open(**upgraded, create=False) as store:
        report = collect(store, compact=False)
        assert (report.swept.blobs, report.packs_deleted, report.damaged) == (1, 1, ())
        assert set(packs_of(objects_of(upgraded))) < set(before)
        collect(store)
        assert told_of(store) == EXPECTED
        check_bytes(store, EXPECTED)
        assert store.verify(depth="bytes").is_sound


def test_tracking_goes_on(upgraded, work):
    write(work, {"planning/plan.md": b"a new plan", "new": b"new"})
    with ArtifactStore.open(**upgraded, create=False) as store:
        run = store.session("session-1").run("run-1")
        number = run.snapshots()[-1].number
        run.track(work, agent="later")
        told = told_of(store)["session-1", "run-1"]
        assert {row[:2] for row in EXPECTED["session-1", "run-1"]} < {row[:2] for row in told}
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
        return told_of(store)


def test_after_its_next_commit_a_run_outlives_the_index(upgraded):
    with ArtifactStore.open(**upgraded, create=False) as store:
        for session, run in EXPECTED:
            store.session(session).run(run).put("more", b"more", agent="later")
        before = told_of(store)
    assert recovered(upgraded) == before
    with ArtifactStore.open(**upgraded, create=False) as store:
        check_bytes(store, EXPECTED)


def test_a_run_that_nobody_committed_to_comes_back_from_a_copy_of_the_index(upgraded):
    with ArtifactStore.open(**upgraded, create=False) as store:
        store.back_up()
        store.session("session-2").run("run-1").put("more", b"more")
        before = told_of(store)
    assert recovered(upgraded) == before
    with ArtifactStore.open(**upgraded, create=False) as store:
        check_bytes(store, EXPECTED)


def downgrade(place, revision):
    from alembic import command

    database = Database(index_of(place))
    with database.writing() as connection:
        config = schema._config()
        config.attributes["connection"] = connection
        command.downgrade(config, revision)
    database.close()


@pytest.mark.parametrize("revision", ["0002", OLDEST])
def test_down_and_up_again_a_filled_index_keeps_what_the_older_schema_can_hold(
    upgraded, revision, work
):
    write(work, {"planning/plan.md": b"a new plan"})
    with ArtifactStore.open(**upgraded, create=False) as store:
        run = store.session("session-1").run("run-1")
        run.track(work, agent="later")
        run.fork("fork").put("big", b"big" * (1 << 20))
        store.back_up()
        gone = store.session("session-2").run("gone")
        gone.put("gone", b"of no use")
        gone.delete()
        before = told_of(store)
    downgrade(upgraded, revision)
    with pytest.raises(SchemaOutOfDateError):
        ArtifactStore.open(**upgraded, create=False)
    upgrade(upgraded)
    with ArtifactStore.open(**upgraded, create=False) as store:
        assert told_of(store) == before
        check_bytes(store, before)
        assert store.verify(depth="bytes").is_sound
        # What it could not hold, each run's next commit begins anew.
        for session, name in before:
            store.session(session).run(name).put("after", b"after")
        collect(store, remove_orphans=True)
        assert store.verify(depth="bytes").is_sound
        before = told_of(store)
        check_bytes(store, before)
    assert recovered(upgraded) == before


UNPACK = Path(__file__).parents[2] / "docs" / "unpack.py"


def unpack(*arguments):
    return subprocess.run(
        [sys.executable, UNPACK, *map(str, arguments)], capture_output=True, text=True, check=False
    )


def extracted(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_the_script_reads_old_packs_without_the_library(tmp_path):
    """All but the large files: the lists of their chunks are in the index of that schema alone."""
    packs = packs_in(KEPT / OLDEST / "store")
    assert unpack(*packs, "--to", tmp_path / "out").returncode == 0
    found = extracted(tmp_path / "out")
    assert all(str(Digest.of(data)) == name for name, data in found.items())
    small = {row[2] for rows in EXPECTED.values() for row in rows if row[3] <= 1 << 20}
    assert small <= found.keys()
    assert not (tmp_path / "out" / "records").exists()


@pytest.mark.parametrize("place", ["sqlite-local"], indirect=True)
def test_the_script_puts_large_files_of_new_packs_together_and_extracts_records(
    upgraded, tmp_path, work
):
    large = b"step,amplitude\n" * 200_000
    write(work, {"large": large, "more": large[:-5] + b"other"})
    root = upgraded["root"]
    with ArtifactStore.open(**upgraded, create=False) as store:
        store.session("session-1").run("run-1").track(work, agent="later")
    packs = packs_in(root)
    assert unpack(*packs, "--to", tmp_path / "out").returncode == 0
    found = extracted(tmp_path / "out")
    assert all(str(Digest.of(data)) == name for name, data in found.items())
    assert {large, large[:-5] + b"other"} <= set(found.values())
    records = [json.loads(file.read_text()) for file in (tmp_path / "out/records").glob("*.json")]
    assert {"history", "versions", "commit"} == {record["op"] for record in records}
    (commit,) = [record for record in records if record["op"] == "commit"]
    digests = base64.b64decode(commit["files"]["digests"])
    told = dict(zip(commit["files"]["paths"], range(0, len(digests), 32), strict=True))
    assert found[digests[told["large"] :][:32].hex()] == large


@pytest.mark.parametrize("place", ["sqlite-local"], indirect=True)
def test_the_script_says_which_large_file_it_lacks_chunks_of(upgraded, tmp_path):
    first = os.urandom(1 << 20)
    with ArtifactStore.open(**upgraded, create=False) as store:
        run = store.session("session-1").run("run-1")
        run.put("first", first)
        before = set(packs_in(upgraded["root"]))
        run.put("large", first + b"and more")
    (pack,) = set(packs_in(upgraded["root"])) - before
    outcome = unpack(pack, "--to", tmp_path / "out")
    assert outcome.returncode == 1
    digest = Digest.of(first + b"and more")
    assert outcome.stderr == f"large blob {digest}: 1 of its 2 chunks are in other packs\n"
    assert str(digest) not in extracted(tmp_path / "out")
