"""Copying runs between two stores, on any index."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import threading
from datetime import UTC, datetime, timedelta

import pytest
from events import statements
from garbage import collect
from histories import everything_of, histories, history_of, productions
from lost import lose_index
from sqlalchemy import event, func, select, text
from trees import contents, packs_in, write

import cas.shared_chunks
import index.db.queries.transfer
import index.transfer.delta
import index.transfer.sync
from cas.digest import Digest
from cas.writer import BatchWriter
from index import ArtifactStore, SyncOutcome, recover
from index.db.queries.counts import count_again
from index.errors import (
    SameStoreError,
    StoreClosedError,
    UnknownRunError,
    UnknownRunNameError,
    UnknownSessionError,
)

MIB = 1 << 20


@pytest.fixture(params=["sqlite-postgresql", "postgresql-sqlite"])
def places(request, stores, tmp_path):
    """Places of two stores with different ids, as arguments of `ArtifactStore.open`."""
    made = [
        stores.make(f"{kind}-local", tmp_path / name)
        for name, kind in zip(("ours", "theirs"), request.param.split("-"), strict=True)
    ]
    yield made
    for place in made:
        stores.drop(place)


@pytest.fixture
def source(places):
    with ArtifactStore.open(**places[0]) as opened:
        yield opened


@pytest.fixture
def destination(places):
    with ArtifactStore.open(**places[1]) as opened:
        yield opened


@pytest.fixture
def run(source):
    return source.session("s").run("r")


def outcomes(report):
    return {run.run: run.outcome.value for run in report.runs}


def rows(store):
    with store.context.database.reading() as connection:
        counted = {
            name: connection.scalar(select(func.count()).select_from(text(name)))
            for name in ("cas_runs", "cas_snapshots", "cas_files", "cas_blobs", "cas_blob_chunks")
        }
        # Two writers that store a large blob at once both write its list, and the first one counts.
        # Each store has its own journal records.
        unused = text(
            "SELECT count(*) FROM cas_blobs WHERE digest NOT IN"
            " (SELECT digest FROM cas_files WHERE digest IS NOT NULL"
            " UNION SELECT chunk FROM cas_blob_chunks UNION SELECT list FROM cas_chunk_lists)"
        )
        counted["cas_blobs"] -= connection.scalar(unused)
        return counted


@pytest.fixture
def grown(source, work):
    """A run with everything that a run can contain."""
    run = source.session("s").run("r")
    draw = random.Random(3)
    log = draw.randbytes(2 * MIB + 5)
    write(
        work,
        {
            "a": b"1",
            "data/b": b"2" * 500,
            "big": log,
            "gone": b"3",
            b"\xff\\x".decode("utf-8", "surrogateescape"): b"n",
        },
    )
    (work / "link").symlink_to("a")
    run.track(work, phase="planning", agent="planner", node_id="n1", scope=None)
    (work / "gone").unlink()
    write(work, {"a": b"11", "big": log + b"more" * MIB})
    run.track(work, node_id="n2", step_id="é", event_id="e", code_hash="c", scope=("data", "."))
    run.put("notes.json", b"{}", meta={"rows": [1, None, "\x00é"]}, is_final_output=True)
    run.rewind(1)
    run.track(work, agent="again")
    (work / "data" / "b").chmod(0o700)
    run.track(work, notes={"rows": [1, None, "\x00é"]}, status="running")
    run.set_status("failed", reason="no space is left")
    run.tag("best", at=1, agent="again")
    run.tag("best", path=b"\xff\\x".decode("utf-8", "surrogateescape"))
    run.tag("late")
    run.describe(parent="sweep", notes={"rate": [0.5, None, "\x00é"]})
    return run


def test_a_run_arrives_whole(source, destination, grown):
    report = source.sync_to(destination)
    assert outcomes(report) == {"r": "copied"}
    assert histories(destination) == histories(source)
    assert productions(destination) == productions(source)
    assert rows(destination) == rows(source)
    assert report.versions == rows(source)["cas_files"]
    with source.context.database.reading() as ours, destination.context.database.reading() as o:
        query = text(
            "SELECT path, version, seen_by, appeared_in, priority, meta FROM cas_files"
            " ORDER BY path, version"
        )
        told = [[(*row[:5], _json(row[5])) for row in c.execute(query)] for c in (ours, o)]
        assert told[0] == told[1]
        query = text("SELECT scope, skipped FROM cas_snapshots ORDER BY number")
        told = [[tuple(map(_json, row)) for row in c.execute(query)] for c in (ours, o)]
        assert told[0] == told[1]


def _json(value):
    return json.loads(value) if isinstance(value, str) else value


def test_signatures_stay_behind_so_that_the_other_host_hashes_once(
    source, destination, grown, work, tmp_path
):
    source.sync_to(destination)
    with destination.context.database.reading() as connection:
        assert connection.scalar(text("SELECT count(signature) FROM cas_files")) == 0
    copy = destination.session("s").run("r")
    copy.restore(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "a").write_bytes(b"another")
    snapshot = copy.track(tmp_path / "elsewhere")
    assert [v.path for v in snapshot.changed] == ["a"]
    assert [v.path for v in snapshot.removed] == []  # a put file was never seen on disk


def test_a_second_sync_reads_no_byte_and_writes_nothing(source, destination, grown, places):
    source.sync_to(destination)
    shutil.rmtree(_blobs(places[0]) / "packs")
    before = packs_in(_blobs(places[1]))
    with statements(destination) as seen:
        report = source.sync_to(destination)
    assert outcomes(report) == {"r": "unchanged"}
    assert (report.blobs, report.bytes_read, report.bytes_stored) == (0, 0, 0)
    assert packs_in(_blobs(places[1])) == before
    assert not [s for s in seen if s.startswith(("INSERT", "UPDATE", "DELETE"))]


def _blobs(place):
    return place.get("root") or place["blobs"]


def test_a_run_that_grew_brings_what_is_new_and_no_other_byte(
    source, destination, grown, places, work
):
    source.sync_to(destination)
    old = packs_in(_blobs(places[0]))
    write(work, {"a": b"newer", "data/c": b"c" * 1000})
    (work / "data" / "b").unlink()
    grown.track(work, agent="late")
    for pack in old:  # the destination's bytes are not read again
        pack.unlink()
    report = source.sync_to(destination)
    assert outcomes(report) == {"r": "updated"}
    assert (report.versions, report.blobs, report.bytes_read) == (2, 2, 1005)
    copy = destination.session("s").run("r")
    assert copy.read_bytes("data/c") == b"c" * 1000
    assert [v.end_snapshot for v in copy.history("data/b")] == [
        v.end_snapshot for v in grown.history("data/b")
    ]
    assert copy.snapshots() == grown.snapshots()


@pytest.mark.usefixtures("equal_chunks")
def test_of_a_large_file_only_new_chunks_are_read_and_sent(source, destination, work, run):
    draw = random.Random(4)
    states = [draw.randbytes(3 * MIB)]
    for _ in range(4):
        states.append(states[-1] + draw.randbytes(MIB))
    for state in states[:2]:
        write(work, {"log": state})
        run.track(work)
    report = source.sync_to(destination)
    assert (report.blobs, report.bytes_read) == (4, 4 * MIB)  # each chunk once, though both have it
    for state in states[2:]:
        write(work, {"log": state})
        run.track(work)
    assert source.plan_sync(destination).report.bytes_read == 3 * MIB
    report = source.sync_to(destination)
    assert (report.blobs, report.bytes_read) == (3, 3 * MIB)
    assert history_of(destination.session("s").run("r")) == history_of(run)


def cut_by(place, size):
    """Have a new store cut into chunks of another size."""
    ArtifactStore.open(**place).close()
    settings = place.get("root", place.get("blobs")) / "cas.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "chunk_size": size}))


def places_of(store):
    """Return how each blob is stored, by digest."""
    with store.context.database.reading() as connection:
        found = connection.execute(
            text("SELECT digest, stored_size, codec, frame_start, frame_size FROM cas_blobs")
        ).all()
    return {bytes(digest): tuple(rest) for digest, *rest in found}


def requests_of(store):
    """Return a list that start and size of all later reads of a store's packs are added to."""
    backend, made = store.context.blobs.backend, []
    original = backend.read

    def read(name, start=0, size=None):
        made.append((start, size))
        return original(name, start, size)

    backend.read = read
    return made


def test_blobs_travel_as_they_are_stored(source, destination, work, run, monkeypatch):
    write(work, {f"notes/{n}": b"iteration %d converged\n" % n * 90 for n in range(60)})
    run.track(work)
    write(work, {"large": random.Random(5).randbytes(3 * MIB), "log": b"step 1\n" * 90_000})
    run.track(work)

    before = places_of(source)
    source.sync_to(destination)
    there = places_of(destination)
    content = {digest: place for digest, place in there.items() if digest in before}
    assert len(content) > 80
    assert any(frame_size for *_, frame_size in content.values())
    assert content == {digest: before[digest] for digest in content}
    write(work, {f"notes/{n}": b"changed\n" for n in range(0, 60, 2)})
    run.track(work)
    forked = run.fork("other", at=1)
    for n in range(0, 60, 2):
        forked.remove(f"notes/{n}")
    source.sync_to(destination)
    assert histories(destination) == histories(source)


def test_a_frame_that_a_large_file_ends_in_travels_whole(source, destination, work, run):
    files = {f"{n:02}-large": b"%d " % n * 70_000 + os.urandom(150_000) for n in range(30)}
    files |= {
        f"{n:02}-{m}-small": b"%d of %d\n" % (m, n) * 300 for n in range(30) for m in range(9)
    }
    write(work, files)
    run.track(work)
    mixed = text(
        "SELECT count(*) FROM cas_blobs AS ends JOIN cas_blob_chunks ON chunk = ends.digest"
        " JOIN cas_blobs AS other ON (other.pack_id, other.pack_offset)"
        " = (ends.pack_id, ends.pack_offset) JOIN cas_files ON cas_files.digest = other.digest"
    )
    with source.context.database.reading() as connection:
        assert connection.scalar(mixed) > 50
    before = places_of(source)
    reads = requests_of(source)
    source.sync_to(destination)
    there = places_of(destination)
    assert {digest: there[digest] for digest in before.keys() & there.keys()} == {
        digest: place for digest, place in before.items() if digest in there
    }
    size = sum(len(data) for data in files.values())
    assert len(reads) <= size / (2 * MIB) + 3  # in the order in which they are stored
    assert contents(destination.session("s").run("r")) == contents(run)


def test_each_content_is_looked_up_once_at_the_destination(source, destination, work, run):
    write(work, {str(n): os.urandom(5_000) for n in range(1_500)})
    run.track(work)
    with statements(destination) as made:
        source.sync_to(destination)
    known = [each for each in made if each.startswith("SELECT digest FROM cas_blobs")]
    assert len(known) == 2  # a thousand at once, though the bytes come in parts


def test_stores_that_cut_differently_are_synced(places, work):
    data = random.Random(6).randbytes(3 * MIB)
    write(work, {"large": data, "small": data[:50_000]})
    cut_by(places[0], 4096)
    with ArtifactStore.open(**places[0]) as source, ArtifactStore.open(**places[1]) as destination:
        run = source.session("s").run("r")
        run.track(work)
        planned = source.plan_sync(destination).report
        report = source.sync_to(destination)
        assert report.blobs == planned.blobs > 200
        assert report.bytes_read == planned.bytes_read
        there = destination.session("s").run("r")
        assert contents(there) == contents(run)
        assert there.open("large").read(5) == data[:5]
        there.put("large", data + b"more")
        destination.sync_to(source)
        assert contents(run)["large"] == data + b"more"
        assert source.verify(depth="bytes").is_sound
        assert destination.verify(depth="bytes").is_sound


def test_of_two_cuts_of_one_file_that_come_at_once_one_is_kept_whole(places, work, monkeypatch):
    data = random.Random(7).randbytes(3 * MIB)
    write(work, {"large": data})
    cut_by(places[0], 1 << 20)
    with ArtifactStore.open(**places[0]) as source, ArtifactStore.open(**places[1]) as destination:
        source.session("s").run("r").track(work)
        original = BatchWriter.finish
        others = [lambda: source.sync_to(destination)]

        def finish(batch):
            written = original(batch)
            if others:
                others.pop()()
            return written

        monkeypatch.setattr(BatchWriter, "finish", finish)
        mine = destination.session("s").run("mine")
        mine.track(work)
        assert mine.read_bytes("large") == data
        assert destination.session("s").run("r").read_bytes("large") == data
        collect(destination)
        assert destination.verify(depth="bytes").is_sound
        assert mine.read_bytes("large") == data


def test_tracking_a_file_mends_what_another_store_has_cut(places, work):
    data = random.Random(8).randbytes(3 * MIB)
    write(work, {"large": data})
    cut_by(places[0], 4096)
    with ArtifactStore.open(**places[0]) as source, ArtifactStore.open(**places[1]) as destination:
        source.session("s").run("r").track(work)
        source.sync_to(destination)
        blobs = places[1].get("root", places[1].get("blobs"))
        for pack in (blobs / "packs").glob("*/*.pack"):
            pack.unlink()
        assert not destination.verify(depth="bytes").is_sound
        mine = destination.session("s").run("mine")
        mine.track(work)
        assert mine.read_bytes("large") == data
        assert destination.session("s").run("r").read_bytes("large") == data


@pytest.mark.usefixtures("equal_chunks")
def test_large_files_that_branch_are_hashed_from_where_they_part(source, destination, work, run):
    draw = random.Random(5)
    chunk = [draw.randbytes(MIB) for _ in range(6)]
    shapes = ["012", "0123", "0145", "01", "2", "34", "345", "3", "0000", "00", "000"]
    for number, shape in enumerate(shapes):
        write(work, {f"f{number}": b"".join(chunk[int(digit)] for digit in shape) + b"."})
    run.track(work)
    source.sync_to(destination)
    assert history_of(destination.session("s").run("r")) == history_of(run)


class TestInPlace:
    """Changes in place of existing versions."""

    def test_provenance_that_was_filled_in_later_is_filled_in(self, source, destination, run, work):
        write(work, {"a": b"1"})
        run.track(work, node_id="n")
        source.sync_to(destination)
        run.track(work, node_id="n", agent="engineer")
        assert outcomes(source.sync_to(destination)) == {"r": "updated"}
        assert histories(destination) == histories(source)

    def test_two_claims_for_one_version_are_a_conflict(self, source, destination, run, work):
        write(work, {"a": b"1"})
        run.track(work, node_id="n")
        source.sync_to(destination)
        run.track(work, node_id="n", agent="one")
        destination.session("s").run("r").track(work, node_id="n", agent="other")
        (told,) = source.sync_to(destination).runs
        assert told.outcome is SyncOutcome.CONFLICT
        assert "'other' there, and 'one' here" in told.reason
        assert destination.session("s").run("r").file("a").agent == "other"

    def test_what_the_destination_filled_in_stays(self, source, destination, run, work):
        write(work, {"a": b"1"})
        run.track(work, node_id="n")
        source.sync_to(destination)
        destination.session("s").run("r").track(work, node_id="n", agent="other")
        run.put("b", b"2")
        assert outcomes(source.sync_to(destination)) == {"r": "updated"}
        assert destination.session("s").run("r").file("a").agent == "other"

    def test_notes_and_modes_follow_the_source(self, source, destination, run, work):
        write(work, {"a": b"1"})
        run.track(work)
        source.sync_to(destination)
        run.put("a", b"1", meta=2**70 + 1, is_final_output=True, file_type="plan")
        (work / "a").chmod(0o755)
        run.track(work)
        assert outcomes(source.sync_to(destination)) == {"r": "updated"}
        assert histories(destination) == histories(source)

    def test_a_status_alone_follows_the_source(self, source, destination, run, work):
        write(work, {"a": b"1"})
        run.track(work, status="running")
        source.sync_to(destination)
        assert outcomes(source.sync_to(destination)) == {"r": "unchanged"}
        run.set_status("failed", reason="no space is left")
        assert outcomes(source.sync_to(destination)) == {"r": "updated"}
        assert destination.session("s").run("r").summary() == run.summary()

    def test_a_tag_alone_follows_the_source(self, source, destination, run, work):
        run.put("a", b"1")
        run.tag("best")
        source.sync_to(destination)
        copy = destination.session("s").run("r")
        assert copy.tags() == run.tags()
        run.put("a", b"2")
        source.sync_to(destination)
        run.tag("best")
        assert outcomes(source.sync_to(destination)) == {"r": "updated"}
        run.untag("best")
        assert outcomes(source.sync_to(destination)) == {"r": "updated"}
        assert (copy.tags(), copy.tag_history("best")) == ((), run.tag_history("best"))
        assert outcomes(source.sync_to(destination)) == {"r": "unchanged"}

    def test_of_tags_set_in_both_stores_those_of_the_later_change_stay(
        self, source, destination, run
    ):
        run.put("a", b"1")
        source.sync_to(destination)
        copy = destination.session("s").run("r")
        copy.tag("theirs")
        run.tag("ours")
        assert outcomes(source.sync_to(destination)) == {"r": "unchanged"}
        run.tag("later")
        assert outcomes(source.sync_to(destination)) == {"r": "updated"}
        assert copy.tags() == run.tags()

    def test_a_tag_of_what_is_not_there_is_not_copied(self, source, destination, run):
        run.put("a", b"1")
        run.tag("best")
        with source.context.database.writing() as connection:
            connection.execute(text("UPDATE cas_tags SET snapshot = 7"))
        assert outcomes(source.sync_to(destination)) == {"r": "damaged"}

    def test_a_status_that_the_destination_heard_later_stays(self, source, destination, run, work):
        write(work, {"a": b"1"})
        run.track(work, status="running")
        source.sync_to(destination)
        copy = destination.session("s").run("r")
        copy.set_status("finished")
        assert outcomes(source.sync_to(destination)) == {"r": "unchanged"}
        assert copy.summary().status == "finished"
        assert outcomes(destination.sync_to(source)) == {"r": "updated"}
        assert run.summary() == copy.summary()

    def test_a_note_that_is_only_written_otherwise_follows_the_source(
        self, source, destination, run
    ):
        run.put("a", b"1", meta={"n": 1})
        for value in (1.0, True, 0, -0.0):
            source.sync_to(destination)
            run.annotate("a", meta={"n": value})
            assert outcomes(source.sync_to(destination)) == {"r": "updated"}
            copy = destination.session("s").run("r").file("a")
            assert json.dumps(copy.meta) == json.dumps({"n": value})

    @pytest.mark.parametrize("back", [False, True])
    def test_each_store_learns_which_scans_of_the_other_saw_a_file(
        self, source, destination, run, work, back
    ):
        write(work, {"d/f": b"1"})
        run.put("d/f", b"1")
        source.sync_to(destination)
        run.track(work)
        copy = destination.session("s").run("r")
        copy.track(work / "d", prefix="d")
        here, there = (destination, source) if back else (source, destination)
        assert outcomes(here.sync_to(there)) == {"r": "updated"}
        (work / "d/f").unlink()
        left = there.session("s").run("r")
        left.fork("f")
        assert [v.path for v in left.track(work).removed] == ["d/f"]
        fork = there.session("s").run("f")
        assert [v.path for v in fork.track(work / "d", prefix="d").removed] == ["d/f"]


class TestConflicts:
    """Runs of the same name with two histories."""

    def test_what_both_stores_recorded_into_is_left_alone_and_the_others_go_on(
        self, source, destination, run
    ):
        run.put("a", b"1")
        source.sync_to(destination)
        run.put("a", b"mine")
        destination.session("s").run("r").put("a", b"theirs")
        source.session("s").run("other").put("b", b"2")
        before = history_of(destination.session("s").run("r"))
        report = source.sync_to(destination)
        assert outcomes(report) == {"r": "conflict", "other": "copied"}
        assert "snapshot 2 differs there; fork it under another id" in (
            report.of(SyncOutcome.CONFLICT)[0].reason
        )
        assert history_of(destination.session("s").run("r")) == before

    def test_the_way_out_that_the_message_names_works(self, source, destination, run):
        run.put("a", b"1")
        source.sync_to(destination)
        run.put("a", b"mine", agent="me")
        destination.session("s").run("r").put("a", b"theirs")
        run.fork("r-mine")
        assert outcomes(source.sync_to(destination, runs=["r-mine"])) == {"r-mine": "copied"}
        fork = destination.session("s").run("r-mine")
        assert fork.read_bytes("a") == b"mine"
        session = destination.session("s")
        assert [v.run for v in session.producers(Digest.of(b"1"))] == ["r"]
        assert [v.run for v in session.producers(Digest.of(b"mine"))] == ["r-mine"]
        # The destination has only a part of the parent run, under its name.
        assert [s.forked_from for s in session.runs() if s.run == "r-mine"] == [None]

    def test_a_run_that_was_deleted_and_made_again_is_another_one(self, source, destination, run):
        run.put("a", b"1")
        source.sync_to(destination)
        run.delete()
        run.put("a", b"1")
        assert outcomes(source.sync_to(destination)) == {"r": "conflict"}

    def test_a_deleted_run_stays_at_the_destination(self, source, destination, run):
        run.put("a", b"1")
        source.sync_to(destination)
        run.delete()
        source.session("s").run("next").put("b", b"2")
        assert outcomes(source.sync_to(destination)) == {"next": "copied"}
        assert destination.session("s").run("r").read_bytes("a") == b"1"

    def test_a_destination_that_went_on_is_left_alone(self, source, destination, run):
        run.put("a", b"1")
        source.sync_to(destination)
        copy = destination.session("s").run("r")
        copy.put("a", b"2")
        before = history_of(copy)
        report = source.sync_to(destination)
        assert outcomes(report) == {"r": "ahead"}
        assert not report.unsynced
        assert history_of(copy) == before
        assert outcomes(destination.sync_to(source)) == {"r": "updated"}
        assert histories(destination) == histories(source)

    @pytest.mark.parametrize("at", [0, 1])
    def test_forks_that_two_stores_made_of_one_run_alike_are_one(
        self, source, destination, run, at
    ):
        run.put("a", b"1")
        source.sync_to(destination)
        for store in (source, destination):
            store.session("s").run("r").fork("f", at=at)
        assert outcomes(source.sync_to(destination)) == {"r": "unchanged", "f": "unchanged"}

    def test_forks_at_different_snapshots_are_two(self, source, destination, run):
        run.put("a", b"1")
        source.sync_to(destination)
        run.fork("f", at=0)
        destination.session("s").run("r").fork("f", at=1)
        assert outcomes(source.sync_to(destination))["f"] == "conflict"


class TestTrees:
    """Forks, and copies that know their originals."""

    @pytest.fixture
    def tree(self, source):
        session = source.session("s")
        root = session.run("root")
        root.put("a", b"1", agent="first")
        root.put("a", b"2", agent="second")
        root.put("b", b"3", agent="third")
        root.rewind(1)
        root.fork("child", at=3).put("c", b"4", agent="fourth")
        session.run("child").fork("grandchild").put("a", b"1", agent="again")
        return session

    @pytest.mark.parametrize(
        "order",
        [
            [["root", "child", "grandchild"]],
            [["root"], ["child"], ["grandchild"]],
            [["grandchild"], ["child"], ["root"]],
            [["child"], ["root", "grandchild"]],
            [["grandchild"], ["root"], ["child"]],
        ],
    )
    def test_in_whichever_order_they_come_they_end_up_the_same(
        self, source, destination, tree, order
    ):
        for names in order:
            source.sync_to(destination, runs=names)
        assert productions(destination) == productions(source)
        source.sync_to(destination)  # links from forks to parents that arrived later
        assert histories(destination) == histories(source)
        with destination.context.database.reading() as connection:
            dangling = connection.scalar(
                text(
                    "SELECT count(*) FROM cas_files AS c WHERE origin_id IS NOT NULL AND NOT EXISTS"
                    " (SELECT 1 FROM cas_files AS o WHERE o.id = c.origin_id)"
                )
            )
        assert dangling == 0

    def test_copies_of_what_was_deleted_stay_one_family(self, source, destination, tree):
        tree.run("root").delete()
        source.sync_to(destination, runs=["child"])
        source.sync_to(destination, runs=["grandchild"])
        assert productions(destination) == productions(source)

    def test_a_third_store_hears_the_same_from_the_second(
        self, source, destination, tree, tmp_path
    ):
        source.sync_to(destination, runs=["grandchild"])
        source.sync_to(destination, runs=["root"])
        source.sync_to(destination)
        with ArtifactStore.open(tmp_path / "third") as third:
            destination.sync_to(third)
            assert productions(third) == productions(source)
            assert {key: told for key, (_, told) in histories(third).items()} == {
                key: told for key, (_, told) in histories(source).items()
            }
            assert {s.run: s.forked_from for s in third.runs()} == {
                "root": None,
                "child": "root",
                "grandchild": "child",
            }
            assert outcomes(source.sync_to(third)) == dict.fromkeys(
                ("root", "child", "grandchild"), "unchanged"
            )

    def test_a_plan_tells_of_a_fork_whose_parent_arrives(self, source, destination, run):
        run.put("a", b"1")
        run.fork("child")
        source.sync_to(destination, runs=["child"])
        plan = source.plan_sync(destination)
        assert outcomes(plan.report) == {"r": "copied", "child": "updated"}
        assert outcomes(plan.execute()) == outcomes(plan.report)
        assert outcomes(source.plan_sync(destination).report) == {
            "r": "unchanged",
            "child": "unchanged",
        }

    def test_a_fork_is_not_linked_to_a_stranger_of_its_parents_name(
        self, source, destination, tree
    ):
        destination.session("s").run("root").put("x", b"stranger")
        report = source.sync_to(destination)
        assert outcomes(report) == {
            "root": "conflict",
            "child": "copied",
            "grandchild": "copied",
        }
        assert [s.forked_from for s in destination.runs() if s.run == "child"] == [None]
        made = destination.session("s").producers(Digest.of(b"1"))
        assert {(v.run, v.agent) for v in made} == {("child", "first"), ("grandchild", "again")}

    def test_sessions_stay_apart(self, source, destination, tree):
        source.session("t").run("root").put("a", b"1")
        source.sync_to(destination, sessions=["t"])
        assert [s.session for s in destination.runs()] == ["t"]
        source.sync_to(destination)
        assert productions(destination) == productions(source)


class TestFaults:
    """Damaged and missing bytes, and obstacles."""

    def test_damage_fails_the_run_it_is_in_and_no_other(self, source, destination, run, places):
        run.put("good", b"good")
        bad = os.urandom(3000)  # it does not compress, so it is stored unchanged
        run.put("bad", bad)
        source.session("s").run("fine").put("a", b"fine")
        for pack in packs_in(_blobs(places[0])):
            pack.write_bytes(pack.read_bytes().replace(bad[:100], b"!" * 100))
        report = source.sync_to(destination)
        assert outcomes(report) == {"r": "damaged", "fine": "copied"}
        (told,) = report.of(SyncOutcome.DAMAGED)
        assert told.reason.startswith(f"'bad': blob {Digest.of(bad)} is damaged")
        assert [s.run for s in destination.runs()] == ["fine"]

    def test_a_missing_pack_is_told_with_the_file_it_held(self, source, destination, run, places):
        run.put("bad", b"bad")
        for pack in packs_in(_blobs(places[0])):
            pack.unlink()
        (told,) = source.sync_to(destination).runs
        assert told.outcome is SyncOutcome.DAMAGED
        assert told.reason.startswith(f"'bad': blob {Digest.of(b'bad')} is missing from storage")
        assert rows(destination)["cas_runs"] == 0

    @pytest.mark.usefixtures("equal_chunks")
    def test_a_damaged_list_of_chunks_does_not_spread(self, source, destination, run, work):
        draw = random.Random(7)
        first, second = (draw.randbytes(MIB) for _ in range(2))
        run.put("log", first + second)
        whole = Digest.of(first + second)
        with source.context.database.writing() as connection:
            connection.execute(
                text("UPDATE cas_blob_chunks SET chunk = :chunk WHERE position = 1"),
                {"chunk": Digest.of(first)},
            )
        # The chunks are already there, so the list could be trusted without reading.
        for number, data in enumerate((first, second)):
            destination.session("t").run("t").put(str(number), data)
        (told,) = source.sync_to(destination).runs
        assert told.outcome is SyncOutcome.DAMAGED
        assert f"'log': blob {whole} is damaged" in told.reason
        destination.session("t").run("t").put("log", first + second)
        assert destination.session("t").run("t").read_bytes("log") == first + second

    def test_damage_at_the_destination_is_told_as_such(self, source, destination, run, places):
        draw = random.Random(8)
        first, second = (draw.randbytes(MIB) for _ in range(2))
        destination.session("t").run("t").put("first", first)
        (pack,) = packs_in(_blobs(places[1]))
        pack.write_bytes(pack.read_bytes().replace(first[:100], b"x" * 100))
        run.put("log", first + second)
        (told,) = source.sync_to(destination).runs
        assert told.outcome is SyncOutcome.DAMAGED
        assert f"of {_blobs(places[1])}" in told.reason

    def test_records_without_bytes_come_along(self, source, destination, run, work):
        run.put("a", b"1")
        with source.context.database.writing() as connection:
            connection.execute(
                text("UPDATE cas_files SET digest = NULL, end_snapshot = 2, size = 77")
            )
            count_again(connection, connection.scalar(text("SELECT id FROM cas_runs")))
        run.put("b", b"2")
        source.sync_to(destination)
        assert histories(destination) == histories(source)
        assert destination.session("s").run("r").history("a")[0].digest is None

    def test_what_was_condemned_is_taken_back(self, source, destination, run):
        run.put("a", b"1")
        destination.session("t").run("t").put("a", b"1")
        with destination.context.database.writing() as connection:
            connection.execute(
                text("UPDATE cas_blobs SET condemned_at = :now"),
                {"now": datetime.now(UTC).replace(tzinfo=None)},
            )
        source.sync_to(destination)
        with destination.context.database.reading() as connection:
            query = text("SELECT count(condemned_at) FROM cas_blobs WHERE size = 1")
            assert connection.scalar(query) == 0

    def test_what_is_swept_before_the_rows_come_is_sent_again(self, source, destination, run):
        run.put("a", b"1")
        destination.session("t").run("t").put("a", b"1")
        destination.session("t").run("t").delete()
        database = destination.context.database
        swept = []

        def sweep(_connection, _cursor, statement, *_):
            if statement.startswith("SELECT digest FROM cas_blobs") and not swept:
                swept.append(statement)
                with database.writing() as connection:
                    connection.execute(text("DELETE FROM cas_blobs WHERE size = 1"))

        event.listen(database.engine, "after_cursor_execute", sweep)
        plan = source.plan_sync(destination)
        event.remove(database.engine, "after_cursor_execute", sweep)
        assert plan.execute().blobs == 1
        swept.clear()
        destination.session("s").run("r").delete()
        event.listen(database.engine, "after_cursor_execute", sweep)
        assert outcomes(plan.execute()) == {"r": "copied"}
        event.remove(database.engine, "after_cursor_execute", sweep)
        assert swept
        assert destination.session("s").run("r").read_bytes("a") == b"1"


class TestOthers:
    """Another writer works in one of the stores."""

    def during(self, store, word, action):
        """Do something once, after a statement that contains `word`."""
        done = []
        engine = store.context.database.engine

        def act(_connection, _cursor, statement, *_):
            if word in statement and not done:
                done.append(statement)
                thread = threading.Thread(target=action)
                thread.start()
                thread.join()

        event.listen(engine, "after_cursor_execute", act)
        return done

    def test_a_source_that_grows_meanwhile_is_copied_as_it_was_at_one_moment(
        self, source, destination, run
    ):
        run.put("a", b"1")
        plan = source.plan_sync(destination)
        done = self.during(source, "FROM cas_snapshots", lambda: run.put("a", b"2"))
        plan.execute()
        assert done
        copy = destination.session("s").run("r")
        assert copy.read_bytes("a") == b"1"
        assert [v.end_snapshot for v in copy.history("a")] == [None]
        assert outcomes(source.sync_to(destination)) == {"r": "updated"}
        assert histories(destination) == histories(source)

    def test_a_destination_that_is_recorded_into_meanwhile_becomes_a_conflict(
        self, source, destination, run
    ):
        run.put("a", b"1")
        source.sync_to(destination)
        run.put("a", b"2")
        plan = source.plan_sync(destination)
        copy = destination.session("s").run("r")
        # After comparing the rows, the sync looks up bytes.
        done = self.during(destination, "FROM cas_blobs", lambda: copy.put("z", b"theirs"))
        report = plan.execute()
        assert done
        assert outcomes(report) == {"r": "conflict"}
        assert [v.path for v in copy.files()] == ["a", "z"]

    def test_a_destination_whose_notes_change_meanwhile_is_compared_again(
        self, source, destination, run, work
    ):
        write(work, {"a": b"1"})
        run.track(work, node_id="n")
        source.sync_to(destination)
        run.put("b", b"2")
        plan = source.plan_sync(destination)
        copy = destination.session("s").run("r")
        done = self.during(
            destination, "FROM cas_blobs", lambda: copy.track(work, node_id="n", agent="x")
        )
        assert outcomes(plan.execute()) == {"r": "updated"}
        assert done
        assert copy.file("a").agent == "x"
        assert copy.read_bytes("b") == b"2"

    def test_two_syncs_at_once_copy_once(self, source, destination, places, grown):
        reports, errors = [], []

        def sync():
            try:
                with (
                    ArtifactStore.open(**places[0]) as ours,
                    ArtifactStore.open(**places[1]) as theirs,
                ):
                    reports.append(ours.sync_to(theirs))
            except Exception as error:  # noqa: BLE001 - raised below
                errors.append(error)

        grown.fork("f", at=2)
        threads = [threading.Thread(target=sync) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors
        assert not [run for report in reports for run in report.unsynced]
        assert histories(destination) == histories(source)
        assert productions(destination) == productions(source)
        assert rows(destination) == rows(source)

    def test_a_run_that_is_deleted_at_the_source_meanwhile(self, source, destination, run):
        run.put("a", b"1")
        source.session("s").run("b").put("a", b"1")
        plan = source.plan_sync(destination)
        run.delete()
        report = plan.execute()
        assert outcomes(report) == {"r": "failed", "b": "copied"}
        assert report.unsynced[0].reason == "it was deleted meanwhile"

    def test_a_state_that_a_tracker_remembers_is_not_taken_for_the_new_one(
        self, source, destination, run, work, tmp_path
    ):
        write(work, {"a": b"1"})
        run.track(work)
        source.sync_to(destination)
        copy = destination.session("s").run("r")
        copy.restore(tmp_path / "there")
        copy.track(tmp_path / "there")  # signatures are recorded from here on
        write(work, {"a": b"2"})
        run.track(work)
        source.sync_to(destination)
        copy.restore(tmp_path / "there", overwrite=True)
        assert not copy.track(tmp_path / "there").changed
        assert copy.snapshots() == run.snapshots()


class TestRequests:
    """Options and selections."""

    def test_a_plan_writes_nothing_and_says_what_would_be_done(
        self, source, destination, grown, places
    ):
        grown.fork("f", at=1)
        plan = source.plan_sync(destination).report
        assert rows(destination) == dict.fromkeys(rows(destination), 0)
        assert packs_in(_blobs(places[1])) == []
        done = source.sync_to(destination)
        assert plan.runs == done.runs
        assert (plan.blobs, plan.bytes_read) == (done.blobs, done.bytes_read)
        assert (plan.bytes_stored, done.bytes_stored > 0) == (0, True)

    def test_progress_ends_at_what_was_planned(self, source, destination, grown):
        seen = []
        report = source.sync_to(destination, progress=seen.append)
        assert (seen[-1].files, seen[-1].files_total) == (report.versions, report.versions)
        assert (seen[-1].bytes, seen[-1].bytes_total) == (report.bytes_read, report.bytes_read)
        assert [p.bytes for p in seen] == sorted(p.bytes for p in seen)

    def test_only_what_was_asked_for_is_copied(self, source, destination):
        for session in ("s", "t"):
            for name in ("one", "two"):
                source.session(session).run(name).put("a", b"1")
        source.sync_to(destination, runs=["one"])
        assert {(s.session, s.run) for s in destination.runs()} == {("s", "one"), ("t", "one")}
        source.sync_to(destination, sessions=["t"])
        assert len(destination.runs()) == 3

    def test_what_is_not_there_is_told_before_anything_is_done(self, source, destination, run):
        run.put("a", b"1")
        with pytest.raises(UnknownSessionError):
            source.sync_to(destination, sessions=["s", "nobody"])
        with pytest.raises(UnknownRunError):
            source.sync_to(destination, sessions=["s"], runs=["r", "nobody"])
        with pytest.raises(UnknownRunNameError, match="none of the sessions has a run 'nobody'"):
            source.sync_to(destination, runs=["r", "nobody"])
        with pytest.raises(TypeError, match="not one: give"):
            source.sync_to(destination, runs="r")
        assert destination.runs() == []

    def test_an_empty_store_has_nothing_to_copy(self, source, destination):
        assert source.sync_to(destination).runs == ()

    def test_a_store_is_not_synced_with_itself(self, source, places):
        with (
            ArtifactStore.open(**places[0]) as again,
            pytest.raises(SameStoreError, match="are one store"),
        ):
            source.sync_to(again)

    def test_runs_without_snapshots(self, source, destination, run):
        run.put("a", b"1")
        run.fork("empty", at=0)
        source.sync_to(destination)
        source.session("s").run("empty").put("b", b"2")
        assert outcomes(source.sync_to(destination))["empty"] == "updated"
        assert histories(destination) == histories(source)

    def test_integers_are_ids_here_too(self, source, destination):
        source.session(7).run(8).put("a", b"1")
        source.session("s").run("r").put("a", b"1")
        assert outcomes(source.sync_to(destination, sessions=[7], runs=[8])) == {"8": "copied"}

    def test_a_closed_destination_is_refused_in_a_sentence(self, source, destination, run):
        run.put("a", b"1")
        destination.close()
        with pytest.raises(StoreClosedError, match="was closed"):
            source.sync_to(destination)

    def test_the_event_loop_is_not_held_up(self, source, destination, run):
        run.put("a", b"1")
        assert outcomes(asyncio.run(source.sync_to_async(destination))) == {"r": "copied"}


def test_a_copy_of_a_stores_directory_is_another_store(empty_store, tmp_path):
    for name in ("ours", "theirs"):
        shutil.copytree(empty_store, tmp_path / name)
    with (
        ArtifactStore.open(tmp_path / "ours") as ours,
        ArtifactStore.open(tmp_path / "theirs") as theirs,
    ):
        assert ours.stats().store_id == theirs.stats().store_id
        ours.session("s").run("r").put("a", b"1")
        assert outcomes(ours.sync_to(theirs)) == {"r": "copied"}
        assert theirs.session("s").run("r").read_bytes("a") == b"1"


def test_a_store_that_was_recovered_goes_on_syncing(source, destination, grown, places):
    fork = grown.fork("fork", at=2)
    fork.put("a", b"of the fork")
    source.sync_to(destination)
    source.close()
    lose_index(places[0])
    recover(**places[0])
    with ArtifactStore.open(**places[0]) as again:
        run = again.session("s").run("r")
        assert run.snapshots()[0].bytes_stored == 0
        assert destination.session("s").run("r").snapshots()[0].bytes_stored > 0
        assert {*outcomes(again.sync_to(destination)).values()} == {"unchanged"}
        run.put("more", b"more")
        assert outcomes(again.sync_to(destination)) == {"r": "updated", "fork": "unchanged"}
        assert {*outcomes(destination.sync_to(again)).values()} == {"unchanged"}
        again.session("s").run("r").fork("later", at=1)
        again.sync_to(destination)
        assert destination.session("s").run("later").summary().forked_from == "r"


@pytest.mark.parametrize("planned", [False, True])
@pytest.mark.parametrize("is_known", [False, True])
def test_a_run_whose_sync_died_before_its_records_has_them_after_the_next_one(
    source, destination, grown, places, monkeypatch, planned, is_known
):
    if is_known:
        source.sync_to(destination)
        grown.put("more", b"more")

    def die(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(index.transfer.sync, "write_history", die)
    with pytest.raises(KeyboardInterrupt):
        source.sync_to(destination)
    monkeypatch.undo()
    progress = (lambda _: None) if planned else None
    assert outcomes(source.sync_to(destination, progress=progress)) == {"r": "unchanged"}
    before = everything_of(destination)
    destination.close()
    lose_index(places[1])
    recover(**places[1])
    with ArtifactStore.open(**places[1]) as again:
        assert everything_of(again) == before


def test_statements_do_not_grow_with_the_files(source, destination, work):
    counts = []
    for name, number in (("few", 300), ("many", 900)):
        write(work / name, {str(n): os.urandom(20) for n in range(number)})
        source.session("s").run(name).track(work / name)
        with statements(source) as read, statements(destination) as written:
            source.sync_to(destination, runs=[name])
        counts.append((len(read), len(written)))
    assert counts[0] == counts[1]


def test_a_run_of_many_batches(source, destination, grown, monkeypatch):
    monkeypatch.setattr(index.transfer.delta, "_BATCH", 2)
    monkeypatch.setattr(index.transfer.delta, "_IN_MEMORY", 1)
    monkeypatch.setattr(index.db.queries.transfer, "_PAGE", 3)
    monkeypatch.setattr(cas.shared_chunks, "_CHUNKS_AT_ONCE", 2)
    grown.fork("f")
    source.sync_to(destination)
    assert histories(destination) == histories(source)
    assert productions(destination) == productions(source)


def test_what_was_touched_lately_costs_no_write(source, destination, run):
    """A touch, once an hour, keeps the destination's bytes from garbage collection."""
    now = [datetime(2030, 1, 1, tzinfo=UTC)]
    with ArtifactStore.open(
        index=destination.context.database.engine.url,
        blobs=destination.stats().blobs_at,
        clock=lambda: now[0],
    ) as clocked:
        clocked.session("t").run("t").put("a", b"1")
        now[0] += timedelta(days=3)
        run.put("a", b"1")
        source.sync_to(clocked)
        with clocked.context.database.reading() as connection:
            query = text("SELECT count(*) FROM cas_blobs WHERE touched_at IS NOT NULL")
            assert connection.scalar(query) == 1
