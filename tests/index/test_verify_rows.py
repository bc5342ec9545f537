"""Inconsistent rows are found, in a number of statements that does not depend on the rows."""

from __future__ import annotations

import json

import pytest
from damage import (
    FIRST,
    HARMFUL,
    SECOND,
    assert_pristine,
    execute,
    fill,
    held,
    marked,
    mutate,
)
from events import statements
from places import EACH_INDEX, objects_of, on, places
from trees import write

from cas.digest import Digest
from cas.errors import CasError
from index import ArtifactStore
from index.errors import ArtifactIndexError

pytestmark = pytest.mark.usefixtures("equal_chunks")

place = places(EACH_INDEX)

LARGE = Digest.of(FIRST["large"])
RAW = Digest.of(FIRST["raw"])
TEXT = Digest.of(FIRST["text"])
CHUNK = Digest.of(FIRST["large"][: 1 << 20])

RUNS = {
    "missing-version": (
        "UPDATE cas_files SET version = 3 WHERE path = 'raw' AND version = 2",
        "broken-versions",
    ),
    "overlapping-versions": (
        "UPDATE cas_files SET end_snapshot = 3 WHERE path = 'raw' AND version = 1",
        "broken-versions",
    ),
    "version-of-no-snapshot": (
        "UPDATE cas_files SET first_snapshot = 7, appeared_in = 7 WHERE path = 'more'",
        "broken-versions",
    ),
    "appeared-later": (
        "UPDATE cas_files SET appeared_in = 2 WHERE path = 'text'",
        "broken-versions",
    ),
    "missing-snapshot": ("DELETE FROM cas_snapshots WHERE number = 1", "broken-snapshots"),
    "wrong-size": ("UPDATE cas_files SET size = size + 1 WHERE path = 'more'", "wrong-file-size"),
    "other-content": (
        "UPDATE cas_files SET digest = (SELECT digest FROM cas_files WHERE path = 'text')"
        " WHERE path = 'more'",
        "wrong-file-size",
    ),
    "no-record": (
        "INSERT INTO cas_records (run_id, position, digest)"
        " SELECT id, 99, (SELECT digest FROM cas_files WHERE path = 'text') FROM cas_runs",
        "broken-records",
    ),
}
WRONG_PLACES = {
    "offset": ("pack_offset = pack_offset + 1", "damaged-bytes"),
    "negative-offset": ("pack_offset = -1", "bad-location"),
    "offset-outside": ("pack_offset = 1000000000", "bad-location"),
    "stored-size": ("stored_size = stored_size - 1", "damaged-bytes"),
    "size": ("size = size + 1", "damaged-bytes"),
    "huge-size": ("size = 1000000000", "bad-location"),
    "codec": ("codec = 0", "bad-location"),
    "unknown-codec": ("codec = 9", "bad-location"),
    "pack": (
        "pack_id = (SELECT max(id) FROM cas_packs)",
        "damaged-bytes",
    ),
}


@pytest.fixture
def filled(place, tmp_path):
    return fill(place, tmp_path)


@pytest.mark.parametrize("name", RUNS)
def test_a_history_that_cannot_be_is_found(place, filled, name):
    statement, kind = RUNS[name]
    with ArtifactStore.open(**place) as store:
        assert execute(store, statement) >= 1
        report = store.verify(depth="index")
        assert {str(found) for found in report.counts} == {kind}
        fault = report.faults[0]
        assert (fault.touches[0].session, fault.touches[0].run) == ("s", "r")
        assert marked(store) == 0


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ("UPDATE cas_run_tags SET name = '../x' WHERE name = 'best'", "it has up to 64 letters"),
        ("UPDATE cas_run_tags SET name = 'v7' WHERE name = 'best'", "it reads as the number"),
        (
            "UPDATE cas_run_tags SET position = 9 WHERE name = 'best' AND position = 2",
            "its 2 moves have numbers from 1 to 9",
        ),
        (
            "DELETE FROM cas_run_tags WHERE name = 'best' AND position = 1",
            "its 1 moves have numbers from 2 to 2",
        ),
        (
            "UPDATE cas_run_tags SET run_id = (SELECT id FROM cas_runs WHERE name = 'foreign')"
            " WHERE name = 'best'",
            "2 of its moves are to runs that its session does not have",
        ),
        (
            "UPDATE cas_run_tags SET run_id = 999 WHERE name = 'best' AND position = 1",
            "1 of its moves are to runs that its session does not have",
        ),
        ("UPDATE cas_run_tags SET session_id = 999", "its session has no row"),
    ],
)
def test_a_tag_of_runs_that_cannot_be_is_found(place, change, detail):
    with ArtifactStore.open(**place) as store:
        session = store.session("s")
        for name in ("a", "b"):
            session.run(name).put("f", b"f")
            session.tag_run("best", name)
        session.tag_run("gone", "b")
        session.run("b").delete(force=True)
        session.tag_run("removed", "a")
        session.untag_run("removed")
        store.session("t").run("foreign").put("f", b"f")
        assert store.verify(depth="index").is_sound
        assert execute(store, change) >= 1
        report = store.verify(depth="index")
        assert {*report.counts} == {"broken-run-tags"}
        assert any(detail in fault.detail for fault in report.faults), report.faults


@on(index="sqlite", blobs="local", because="rows are rows; the statements are tested above")
@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ("frame_start = 1", "bad-location"),  # where another blob is
        ("frame_start = frame_size - size + 1", "bad-location"),
        ("frame_start = -1", "bad-location"),
        ("frame_size = frame_size + 1", "damaged-bytes"),
        ("frame_size = 10000000", "bad-location"),
        ("frame_size = -1", "bad-location"),
        ("codec = 0", "bad-location"),
        ("frame_start = 0, frame_size = 0", "damaged-bytes"),
    ],
)
def test_a_blob_that_is_elsewhere_in_its_frame_is_found_and_repaired(place, filled, change, kind):
    digest = Digest.of(SECOND["more"])
    with ArtifactStore.open(**place) as store:
        statement = f"UPDATE cas_blobs SET {change} WHERE digest = :d AND frame_size > 0"  # noqa: S608
        assert execute(store, statement, d=digest) == 1
        assert kind in {str(found) for found in store.verify(depth="packs").counts}
        assert marked(store) >= 1
        with pytest.raises((CasError, ArtifactIndexError)):
            store.session("s").run("r").read_bytes("more")
        assert store.repair().is_complete
    assert_pristine(place, filled)


@on(index="sqlite", blobs="local", because="rows are rows; the statements are tested above")
@pytest.mark.parametrize("name", WRONG_PLACES)
def test_a_blob_that_is_not_where_its_row_says_is_found_and_repaired_without_a_source(
    place, filled, name
):
    change, kind = WRONG_PLACES[name]
    with ArtifactStore.open(**place) as store:
        size = len(FIRST["text"])
        statement = f"UPDATE cas_blobs SET {change} WHERE digest = :d"  # noqa: S608
        assert execute(store, statement, d=TEXT) == 1
        report = store.verify(depth="packs")
        assert kind in {str(found) for found in report.counts}
        assert marked(store) == 1
        with pytest.raises((CasError, ArtifactIndexError)):
            store.session("s").run("r").read_bytes("text")
        if "size" in name and "stored" not in name:
            # Only the pack's footer still has the right size.
            execute(store, "UPDATE cas_blobs SET size = :n WHERE digest = :d", n=size, d=TEXT)
        assert store.repair().is_complete
    assert_pristine(place, filled)


def test_a_blob_in_a_pack_that_is_not_live_is_found_and_carried_out(place, filled, tmp_path):
    with ArtifactStore.open(**place) as store:
        execute(
            store, "UPDATE cas_packs SET state = 'dead' WHERE id = (SELECT min(id) FROM cas_packs)"
        )
        report = store.verify(depth="index")
        assert {str(found) for found in report.counts} == {"bad-location"}
        assert store.repair().is_complete
    assert_pristine(place, filled)


CHUNKS = {
    "one-missing": "DELETE FROM cas_blob_chunks WHERE position = 1",
    "last-missing": "DELETE FROM cas_blob_chunks WHERE position = 2",
    "all-missing": "DELETE FROM cas_blob_chunks",
    "another": (
        "UPDATE cas_blob_chunks SET chunk = (SELECT max(digest) FROM cas_blobs WHERE size < 5000)"
        " WHERE position = 1"
    ),
    "swapped": (
        "UPDATE cas_blob_chunks SET chunk = (SELECT chunk FROM cas_blob_chunks WHERE"
        " position = 0) WHERE position = 1"
    ),
}


@pytest.mark.parametrize("name", CHUNKS)
def test_chunks_in_disorder_are_found_and_repaired_from_the_list_in_storage(place, filled, name):
    with ArtifactStore.open(**place) as store:
        assert execute(store, CHUNKS[name]) >= 1
        report = store.verify(depth="bytes")
        assert {str(found) for found in report.counts} == {"broken-chunks"}
        assert [fault.digest for fault in report.faults] == [LARGE]
        assert {holder.path for holder in report.faults[0].touches} == {"large"}
        with (
            pytest.raises(Exception, match=str(LARGE)),
            store.session("s").run("r").open("large") as stream,
        ):
            stream.read(10)
        assert store.repair().is_complete
    assert_pristine(place, filled)


def test_a_large_blob_without_its_list_gets_one(place, filled):
    with ArtifactStore.open(**place) as store:
        execute(store, "DELETE FROM cas_chunk_lists")
        report = store.verify(depth="bytes")
        assert (report.is_sound, report.without_list) == (True, 1)
        assert store.repair().lists == 1
        assert store.verify(depth="bytes").without_list == 0
        execute(store, "DELETE FROM cas_blob_chunks")
        assert not store.verify(depth="bytes").is_sound
        assert store.repair().is_complete
    assert_pristine(place, filled)


def test_a_list_of_another_blob_is_found_and_repaired(place, filled):
    with ArtifactStore.open(**place) as store:
        execute(store, "UPDATE cas_chunk_lists SET list = :other", other=TEXT)
        assert {str(k) for k in store.verify(depth="bytes").counts} == {"broken-list"}
        assert store.verify(depth="index").without_list == 1
        assert store.repair().lists == 1
    assert_pristine(place, filled)


@pytest.mark.parametrize("digest", [RAW, CHUNK], ids=["file", "chunk"])
def test_a_blob_without_a_row_is_found_and_repaired_by_tracking(place, filled, digest, tmp_path):
    with ArtifactStore.open(**place) as store:
        assert execute(store, "DELETE FROM cas_blobs WHERE digest = :d", d=digest) == 1
        counts = {str(found) for found in store.verify(depth="index").counts}
        assert counts == ({"missing-blob"} if digest == RAW else {"broken-chunks"})
        store.session("other").run("r").track(tmp_path / "then")
        store.repair()
        assert store.verify(depth="bytes").is_sound
        assert held(store) == filled


def test_orphans_pending_and_dead_packs_are_told_apart_and_no_fault(place, objects, filled):
    objects.write(f"packs/ab/{'ab' * 32}.pack", b"orphan")
    with ArtifactStore.open(**place) as store:
        for number, state in enumerate(("pending", "dead", "dead")):
            execute(
                store,
                "INSERT INTO cas_packs (name, size, state, created_at)"
                " VALUES (:n, 100, :s, '2026-01-01 00:00:00')",
                n=bytes([number]) * 32,
                s=state,
            )
        report = store.verify(depth="bytes")
        assert report.is_sound
        assert (report.pending, report.dead, report.orphan_count) == (1, 2, 1)
        assert report.orphans == (f"packs/ab/{'ab' * 32}.pack",)
        assert report.orphan_bytes == 6


def test_statements_do_not_grow_with_the_rows(store, work):
    counts = []
    for files in (10, 1500):
        write(work, {f"f{n}": b"%d of %d" % (n, files) for n in range(files)})
        store.session("s").run(f"r{files}").track(work)
        for depth in ("index", "packs", "bytes"):
            with statements(store) as seen:
                assert store.verify(depth=depth).is_sound
            counts.append(len([s for s in seen if not s.startswith(("BEGIN", "PRAGMA"))]))
    assert counts[:3] == counts[3:]
    assert counts[0] < 25


def test_what_was_damaged_is_told_until_it_is_right_again(place, objects, filled):
    before = {name: objects.read(name) for name in objects.names() if name.endswith(".pack")}
    mutate(objects, HARMFUL["zstd"])
    with ArtifactStore.open(**place) as store:
        assert marked(store) == 0
        store.verify(depth="bytes")
        (fault,) = store.verify(depth="index").faults
        assert str(fault.kind) == "not-repaired"
        for name, data in before.items():
            objects.write(name, data)
        report = store.verify(depth="bytes")
        assert (report.is_sound, report.recovered, report.marked) == (True, 1, 0)
        assert store.verify(depth="index").is_sound


def test_a_report_is_told_as_json(cas, store_root, tmp_path):
    fill({"root": store_root}, tmp_path)
    assert cas("--store", store_root, "verify")[0] == 0
    mutate(objects_of({"root": store_root}), HARMFUL["zstd"])
    code, out, _ = cas("--store", store_root, "verify", "--depth", "bytes", "--json")
    report = json.loads(out)
    assert (code, report["is_sound"]) == (3, False)
    assert report["counts"] == {"damaged-bytes": 1}
    (fault,) = [found for found in report["faults"] if found["digest"]]
    assert fault["digest"] == str(TEXT)
    assert fault["touches"] == [
        {"session": "s", "run": "r", "path": "text", "version": 1, "agent": "planner"}
    ]
    code, out, _ = cas("--store", store_root, "verify")
    assert code == 3
    assert "not-repaired: blob" in out
    assert "touches s/r: text@1 by planner" in out
    assert "cas repair --from DIR" in out


def test_the_command_repairs_from_a_directory(cas, store_root, tmp_path):
    expected = fill({"root": store_root}, tmp_path)
    code, out, _ = cas("--store", store_root, "repair")
    assert (code, "cas repair --verify bytes" in out) == (0, True)
    mutate(objects_of({"root": store_root}), HARMFUL["zstd"])
    code, out, _ = cas("--store", store_root, "repair", "--verify", "bytes", "--json")
    assert (code, json.loads(out)["lost_count"]) == (3, 1)
    code, out, _ = cas("--store", store_root, "repair", "--from", tmp_path / "now", "--dry-run")
    assert (code, "1 could be repaired, 0 lost" in out) == (0, True)
    assert cas("--store", store_root, "verify")[0] == 3
    code, out, _ = cas("--store", store_root, "repair")
    assert code == 3
    assert "lost: blob" in out
    assert cas("--store", store_root, "cat", "text", "--session", "s")[0] == 3
    assert cas("--store", store_root, "repair", "--from", tmp_path / "nowhere")[0] == 2
    code, out, _ = cas("--store", store_root, "repair", "--from", tmp_path / "now")
    assert (code, "1 repaired, 0 lost" in out) == (0, True)
    assert SECOND["text"] == FIRST["text"]
    assert_pristine({"root": store_root}, expected)


@pytest.mark.parametrize(
    "arguments",
    [("--depth", "packs", "--max-bytes", "1GiB"), ("--depth", "all"), ("--max-bytes", "0")],
)
def test_a_verification_that_cannot_be_is_refused(cas, store_root, arguments):
    assert cas("--store", store_root, "verify", *arguments)[0] == 2


@pytest.mark.parametrize(
    "told", [{"depth": "packs", "max_bytes": 1}, {"max_bytes": 0}, {"depth": "x"}]
)
def test_a_budget_is_of_bytes_that_are_read(store, told):
    with pytest.raises(ValueError, match=r"bytes|Depth"):
        store.verify(**told)
