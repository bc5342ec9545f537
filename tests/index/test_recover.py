"""A lost index is rebuilt from storage: names, history and provenance."""

from __future__ import annotations

import random
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from damage import inside, largest_pack, records_of
from forged import name_of
from histories import everything_of
from lost import lose_index
from places import on, on_one, packs_of
from trees import write

import index.commit.committer
from cas.digest import Digest
from cas.errors import BackendError, CasError, UnsupportedFormatError
from cas.packs.pack import EntryKind
from cas.packs.packer import _Publisher
from index import ArtifactStore, provenance, recover
from index.context import utc_now
from index.errors import (
    ArtifactIndexError,
    IndexLostError,
    IndexPresentError,
    StoreNotFoundError,
)
from index.journal.entries import CommitEntry, DeletionEntry
from index.maintenance.recover.chains import arrange
from index.maintenance.recover.held import effective

MIB = 1 << 20


def after_loss(place, **options):
    """Lose the index and recover it; return the report and the recovered histories."""
    lose_index(place)
    report = recover(**place, **options)
    with ArtifactStore.open(**place, create=False) as store:
        return report, everything_of(store)


def fill(store, work):
    """Record some of everything."""
    run = store.session("s").run("r")
    draw = random.Random(3)
    log = draw.randbytes(2 * MIB + 5)
    name = b"\xff\\x".decode("utf-8", "surrogateescape")
    write(work, {"a": b"1", "data/b": b"2" * 500, "big": log, "gone": b"3", name: b"n"})
    (work / "link").symlink_to("a")
    run.track(work, phase="planning", agent="planner", node_id="n1")
    (work / "gone").unlink()
    write(work, {"a": b"11", "big": log + b"more" * MIB})
    run.track(work, node_id="n2")
    run.track(work, node_id="n2", phase="control", agent="engineer", step_id="1", event_id="e")
    (work / "data/b").chmod(0o755)
    run.track(work, notes={"rows": [1, None, "\x00é"], "n": 2**70 + 1}, status="running")
    run.put("final.json", b"{}", meta={"rows": [1, None]}, is_final_output=True, agent="w")
    run.put("final.json", b"{}", meta=2**70 + 1)
    fork = run.fork("f", at=1)
    fork.put("a", b"other", agent="forker")
    with provenance(agent="boss"):
        run.rewind(1)
    run.fork("f2")
    write(work, {"z": b"z"})
    run.track(work, scope=("data", "z"), agent="late")
    gone = store.session("s").run("gone")
    gone.put("x", b"nobody needs this")
    gone.fork("heir").put("y", b"but this")
    gone.delete()
    run.set_status("failed", reason="no space is left")
    run.tag("best", at=1, agent="w")
    run.tag("best", path=name)
    run.tag("late")
    run.untag(run.tag("removed").name)
    run.describe(parent="sweep", notes={"rate": [0.5, None, 2**70 + 1]})
    store.session("s").tag_run("best", "f")
    store.session("s").tag_run("best", "r", agent="w")
    store.session("t").run("said").set_status("cancelled")
    store.session("t").run("r").put("secret", b"s")
    store.session("u").run("r").put("u", b"u")
    store.session("u").delete()


def test_a_backup_tells_how_far_it_is(store, monkeypatch):
    store.session("s").run("r").put_many([(f"f{n:04}", b"%d" % n) for n in range(3_000)])
    seen = []
    report = store.back_up(progress=seen.append)
    assert seen
    assert [each.bytes for each in seen] == sorted({each.bytes for each in seen})
    assert (seen[-1].bytes, seen[-1].bytes_total) == (report.size, report.size)


def test_everything_comes_back(place, work):
    with ArtifactStore.open(**place) as store:
        fill(store, work)
        before = everything_of(store)
    report, after = after_loss(place)
    assert after == before
    assert report.is_whole
    assert not report.never_arrived
    assert set(report.deleted) == {("s", "gone"), ("u", "r")}
    assert report.from_backup is None


def test_a_store_that_was_recovered_goes_on_and_is_recovered_again(place, work):
    with ArtifactStore.open(**place) as store:
        fill(store, work)
    after_loss(place)
    with ArtifactStore.open(**place) as store:
        run = store.session("s").run("r")
        write(work, {"a": b"new", "q": b"q"})
        assert run.track(work, agent="next").number == len(run.snapshots())
        assert not run.track(work).recorded
        before = everything_of(store)
    report, after = after_loss(place)
    assert after == before
    assert report.is_whole


@pytest.mark.parametrize("written", ["before the backup", "after it", "never"])
def test_a_run_that_a_sync_brought_back_before_the_backup_is_there(place, tmp_path, written):
    """Though it was deleted before that, and has the age that it had."""
    with ArtifactStore.open(**place) as store, ArtifactStore.open(tmp_path / "other") as other:
        run = store.session("s").run("r")
        run.put("a", b"1")
        store.sync_to(other)
        run.delete()
        other.sync_to(store)
        if written == "before the backup":
            run.put("a", b"2")
        store.back_up()
        if written == "after it":
            run.put("a", b"2")
        before = everything_of(store)
    report, after = after_loss(place)
    assert after == before
    assert report.deleted == ()


@pytest.mark.parametrize("is_synced_before", [False, True])
def test_a_run_that_a_sync_brought_back_is_there_though_the_clock_went_back(
    place, tmp_path, is_synced_before
):
    """The deletion is from a host whose clock is ahead."""

    def clock():
        return utc_now() + timedelta(hours=1)

    with ArtifactStore.open(**place) as store, ArtifactStore.open(tmp_path / "other") as other:
        run = store.session("s").run("r")
        run.put("a", b"1")
        store.sync_to(other)
        if is_synced_before:
            other.session("s").run("r").put("a", b"2")
            other.sync_to(store)
        with ArtifactStore.open(**place, clock=clock) as elsewhere:
            elsewhere.session("s").run("r").delete()
        other.sync_to(store)
        before = everything_of(store)
    report, after = after_loss(place)
    assert after == before
    assert report.deleted == ()


@pytest.mark.parametrize("backed_up", [False, True])
def test_a_fork_is_one_of_its_run_though_a_sync_has_changed_that_since(place, tmp_path, backed_up):
    """The run that the sync has changed has another chain of records than the fork."""
    with ArtifactStore.open(**place) as store, ArtifactStore.open(tmp_path / "other") as other:
        run = store.session("s").run("r")
        run.put("a", b"1")
        store.sync_to(other)
        run.fork("fork").put("a", b"of the fork")
        if backed_up:
            store.back_up()
        other.session("s").run("r").put("a", b"2")
        other.sync_to(store)
    lose_index(place)
    recover(**place)
    with ArtifactStore.open(**place, create=False) as store:
        fork = store.session("s").run("fork")
        assert fork.summary().forked_from == "r"
        assert fork.read_bytes("a") == b"of the fork"
        assert store.session("s").run("r").read_bytes("a") == b"2"
        assert len(store.runs()) == 2


def test_a_fork_of_a_run_that_was_deleted_and_brought_back_has_no_link_as_before(place, tmp_path):
    with ArtifactStore.open(**place) as store, ArtifactStore.open(tmp_path / "other") as other:
        run = store.session("s").run("r")
        run.put("a", b"1")
        store.sync_to(other)
        run.fork("fork").put("a", b"of the fork")
        run.delete()
        other.sync_to(store)
        before = store.session("s").runs()
        assert [each.forked_from for each in before] == [None, None]
    lose_index(place)
    recover(**place)
    with ArtifactStore.open(**place, create=False) as store:
        assert store.session("s").runs() == before


def test_a_scan_after_a_recovery_finds_nothing_new(place, work, tmp_path):
    with ArtifactStore.open(**place) as store:
        run = store.session("s").run("r")
        write(work, {"a": b"1", "d/b": b"2" * MIB * 2})
        run.track(work)
    after_loss(place)
    with ArtifactStore.open(**place) as store:
        run = store.session("s").run("r")
        snapshot = run.track(work)
        assert (snapshot.recorded, snapshot.unchanged, snapshot.bytes_stored) == (False, 2, 0)
        run.restore(tmp_path / "out")
        assert (tmp_path / "out/d/b").read_bytes() == b"2" * MIB * 2


class TestBackups:
    def test_recovery_begins_with_the_newest_copy(self, place, work):
        with ArtifactStore.open(**place) as store:
            fill(store, work)
            store.back_up()
            run = store.session("s").run("r")
            run.put("since", b"then", agent="later")
            run.fork("since", at=2)
            store.session("s").run("f").delete()
            store.session("new").run("n").put("n", b"n")
            before = everything_of(store)
        report, after = after_loss(place)
        assert after == before
        assert report.from_backup is not None
        assert report.is_whole
        assert ("s", "f") in report.deleted

    def test_a_copy_brings_what_left_no_records(self, place):
        with ArtifactStore.open(**place) as store:
            run = store.session("s").run("r")
            run.put("a", b"1", agent="x")
            with store.context.database.writing() as connection:
                connection.exec_driver_sql("DELETE FROM cas_records")
                connection.exec_driver_sql("UPDATE cas_runs SET newest_record = NULL")
            store.back_up()
            run.put("b", b"2")
            before = everything_of(store)
        report, after = after_loss(place)
        assert after == before
        assert not report.damaged_records

    def test_of_a_second_copy_only_what_differs_is_stored(self, store, work):
        write(work, {f"{n}": b"%d" % n for n in range(3000)})
        store.session("s").run("r").track(work)
        first = store.back_up()
        store.session("s").run("r").put("one", b"more")
        second = store.back_up()
        assert first.size > MIB
        assert second.digest != first.digest
        assert store.stats().versions == 3001

    def test_old_copies_are_let_go(self, store):
        store.session("s").run("r").put("a", b"1")
        assert [store.back_up(keep=2).kept for _ in range(4)] == [1, 2, 2, 2]
        with pytest.raises(ValueError, match="at least one"):
            store.back_up(keep=0)

    def test_a_copy_is_of_one_state_while_others_write(self, place):
        with ArtifactStore.open(**place) as store:
            run = store.session("s").run("r")
            run.put("a", b"1")
            report = store.back_up()
            run.put("a", b"2")
            assert store.context.blobs.read(report.digest)[:15] == b"SQLite format 3"


class TestCommitsThatNeverArrived:
    @pytest.fixture
    def dies(self, monkeypatch):
        """Let the next commit die once its bytes are durable."""

        class Died(BaseException):
            pass

        def die(*_):
            raise Died

        def now():
            monkeypatch.setattr(index.commit.committer, "record", die)
            return pytest.raises(Died)

        yield now
        monkeypatch.undo()

    def test_what_others_took_the_place_of_is_left_out(self, place, dies, monkeypatch):
        with ArtifactStore.open(**place) as store:
            run = store.session("s").run("r")
            run.put("a", b"1")
            with dies():
                run.put("a", b"lost", agent="lost")
            monkeypatch.undo()
            run.put("a", b"2")
            run.put("a", b"3")
            before = everything_of(store)
        report, after = after_loss(place)
        assert after == before
        ((lost),) = report.never_arrived
        assert (lost.run, lost.snapshot, lost.agent, lost.files) == ("r", 2, "lost", 1)

    def test_of_two_last_ones_the_newer_is_taken(self, place, dies, monkeypatch):
        with ArtifactStore.open(**place) as store:
            run = store.session("s").run("r")
            run.put("a", b"1")
            with dies():
                run.put("a", b"lost", agent="lost")
            monkeypatch.undo()
            run.put("a", b"2")
            before = everything_of(store)
        report, after = after_loss(place)
        assert after == before
        assert [step.agent for step in report.never_arrived] == ["lost"]

    def test_a_run_whose_first_commit_died_is_begun_anew(self, place, dies, monkeypatch):
        with ArtifactStore.open(**place) as store:
            run = store.session("s").run("r")
            with dies():
                run.put("a", b"lost")
            monkeypatch.undo()
            run.put("b", b"2")
            run.put("c", b"3")
            before = everything_of(store)
        report, after = after_loss(place)
        assert after == before
        assert len(report.never_arrived) == 1

    def test_the_last_record_of_a_run_is_said_to_be_unconfirmed(self, place):
        with ArtifactStore.open(**place) as store:
            run = store.session("s").run("r")
            run.put("a", b"1")
            run.put("a", b"2", agent="x")
        report, _ = after_loss(place)
        ((step),) = report.unconfirmed
        assert (step.run, step.snapshot, step.agent) == ("r", 2, "x")

    def test_who_lost_a_race_is_not_taken_for_another_commit(self, place, monkeypatch):
        with ArtifactStore.open(**place) as store:
            run = store.session("s").run("r")
            run.put("a", b"1")
            real, raced = index.commit.committer.record, []

            def race(*args):
                if not raced:
                    raced.append(1)
                    run.put("b", b"2")
                return real(*args)

            monkeypatch.setattr(index.commit.committer, "record", race)
            run.put("c", b"3")
            before = everything_of(store)
        report, after = after_loss(place)
        assert after == before
        assert len(report.never_arrived) == 1


class TestNames:
    def test_a_run_that_was_deleted_and_made_again(self, place):
        with ArtifactStore.open(**place) as store:
            run = store.session("s").run("r")
            for n in range(5):
                run.put("a", b"%d" % n)
            run.fork("f", at=3)
            run.delete()
            run.put("b", b"new")
            before = everything_of(store)
        report, after = after_loss(place)
        assert after == before
        assert report.is_whole
        assert report.deleted == ()

    def test_a_fork_of_a_fork_whose_ancestors_are_gone(self, place):
        with ArtifactStore.open(**place) as store:
            session = store.session("s")
            session.run("r").put("a", b"1", agent="x")
            session.run("r").fork("f").put("b", b"2")
            session.run("f").fork("g").put("c", b"3")
            session.run("r").delete()
            session.run("f").delete()
            before = everything_of(store)
        report, after = after_loss(place)
        assert after == before
        assert set(report.deleted) == {("s", "r"), ("s", "f")}

    def test_what_the_parent_did_after_the_fork_is_not_the_forks(self, place):
        with ArtifactStore.open(**place) as store:
            session = store.session("s")
            session.run("r").put("a", b"1", node_id="n")
            session.run("r").fork("f")
            session.run("r").put("a", b"1", node_id="n", agent="known later")
            before = everything_of(store)
        _, after = after_loss(place)
        assert after == before

    def test_runs_that_were_synced(self, place, tmp_path, work):
        with ArtifactStore.open(**place) as store, ArtifactStore.open(tmp_path / "o") as other:
            fill(other, work)
            other.sync_to(store)
            other.session("s").run("r").put("more", b"m")
            other.sync_to(store)
            before = everything_of(store)
        report, after = after_loss(place)
        assert after == before
        assert report.is_whole


@pytest.mark.parametrize("published", range(1, 5))
def test_a_commit_that_died_between_its_packs_left_no_record_of_bytes_that_are_not_there(
    place, work, monkeypatch, published
):
    monkeypatch.setattr("cas.packs.packer.PACK_SIZE", 2 * MIB)
    write(work, {"big": random.Random(6).randbytes(7 * MIB)})
    original = _Publisher._publish
    done = []

    def publish(publisher, staged, sealed):
        with lock:
            if len(done) >= published:
                staged.discard()
                raise BackendError(str(sealed.name), "gone with its host")
            original(publisher, staged, sealed)
            done.append(sealed)

    lock = threading.Lock()
    with ArtifactStore.open(**place) as store:
        run = store.session("s").run("r")
        run.put("first", b"1")
        monkeypatch.setattr(_Publisher, "_publish", publish)
        with suppress(BackendError):
            run.track(work)
        monkeypatch.undo()
    report, _ = after_loss(place)
    assert report.is_whole
    with ArtifactStore.open(**place) as store:
        assert not store.verify(depth="bytes").faults


class TestDamage:
    def test_bytes_that_are_gone_are_named_and_the_rest_comes_back(self, place, objects):
        with ArtifactStore.open(**place) as store:
            run = store.session("s").run("r")
            run.put("a", b"1", agent="x")
            (pack,) = packs_of(objects)
            run.put("b", b"2")
            store.back_up()
        objects.remove(pack)
        lose_index(place)
        report = recover(**place)
        assert not report.is_whole
        ((lost),) = report.lost
        assert (lost.path, lost.version, lost.agent) == ("a", 1, "x")
        assert lost.digest == Digest.of(b"1")
        with ArtifactStore.open(**place) as store:
            run = store.session("s").run("r")
            assert run.read_bytes("b") == b"2"
            with pytest.raises((ArtifactIndexError, CasError)):
                run.read_bytes("a")
            run.put("again", b"1")
            assert run.read_bytes("a") == b"1"

    def test_a_large_file_that_lacks_a_chunk_is_named_and_repaired(
        self, place, objects, work, tmp_path, monkeypatch
    ):
        monkeypatch.setattr("cas.packs.packer.PACK_SIZE", 2 * MIB)
        write(work, {"big": random.Random(5).randbytes(9 * MIB + 70)})
        with ArtifactStore.open(**place) as store:
            run = store.session("s").run("r")
            run.track(work, agent="x")
        objects.remove(largest_pack(objects))  # the last pack, with the record, is not the largest
        lose_index(place)
        report = recover(**place)
        assert [(lost.path, lost.agent) for lost in report.lost] == [("big", "x")]
        assert not report.is_whole
        with ArtifactStore.open(**place) as store:
            found = store.verify()
            assert {fault.kind for fault in found.faults} == {"not-repaired", "broken-chunks"}
            assert found.counts["broken-chunks"] == 1  # big; its missing chunks are not large blobs
            assert found.without_list == 0
            store.repair(work)
            assert not store.verify(depth="bytes").faults
            store.session("s").run("r").restore(tmp_path / "out")
        assert (tmp_path / "out/big").read_bytes() == (work / "big").read_bytes()

    def test_behind_a_record_that_is_lost_the_run_goes_on(self, place, objects):
        with ArtifactStore.open(**place) as store:
            run = store.session("s").run("r")
            run.put("a", b"1")
            before = set(objects.names())
            run.put("b", b"2")
            (pack,) = set(objects.names()) - before
            run.put("c", b"3", agent="x")
            run.put("d", b"4")
        objects.remove(pack)
        report, _ = after_loss(place)
        ((gap),) = report.gaps
        assert (gap.run, gap.snapshot, gap.agent) == ("r", 3, "x")
        with ArtifactStore.open(**place) as store:
            run = store.session("s").run("r")
            assert [v.path for v in run.files()] == ["a", "c", "d"]
            assert run.put("e", b"5").first_snapshot == 5

    def test_a_rewind_of_what_is_lost_is_left_out(self, place, objects):
        with ArtifactStore.open(**place) as store:
            run = store.session("s").run("r")
            run.put("a", b"1")
            (pack,) = packs_of(objects)
            run.rewind(0)
            run.put("b", b"2")
        objects.remove(pack)
        lose_index(place)
        assert len(recover(**place).gaps) == 1
        with ArtifactStore.open(**place) as store:
            run = store.session("s").run("r")
            assert [version.path for version in run.files()] == ["b"]

    def test_a_pack_that_is_none_is_told(self, place, objects):
        with ArtifactStore.open(**place) as store:
            run = store.session("s").run("r")
            run.put("a", b"1")
            (pack,) = packs_of(objects)
            run.put("b", b"2")
        objects.write(pack, b"nonsense" * 20)
        report, _ = after_loss(place)
        ((damaged),) = report.damaged_packs
        assert damaged.name == pack
        assert "does not begin as a pack" in damaged.reason

    def test_a_record_that_only_a_copy_of_the_index_knows_is_told_and_its_run_begins_anew(
        self, place, objects
    ):
        with ArtifactStore.open(**place) as store:
            store.session("s").run("other").put("a", b"1")
            before = set(packs_of(objects))
            store.session("s").run("r").put("a", b"1")
            (pack,) = set(packs_of(objects)) - before  # it has only the journal record
            store.back_up()
        objects.remove(pack)
        report, _ = after_loss(place)
        assert (report.lost, report.gaps, report.is_whole) == ((), (), False)
        ((reason),) = report.damaged_records
        assert "only a backup of the index names it" in reason
        with ArtifactStore.open(**place) as store:
            assert store.session("s").run("r").read_bytes("a") == b"1"
            assert not store.verify(depth="index").is_sound
            store.repair()
            assert store.verify(depth="bytes").is_sound
            store.session("s").run("r").put("b", b"2")
        assert after_loss(place)[0].is_whole
        with ArtifactStore.open(**place) as store:
            run = store.session("s").run("r")
            assert (run.read_bytes("a"), run.read_bytes("b")) == (b"1", b"2")

    @on_one(because="the same bytes are read from every storage")
    @pytest.mark.parametrize(("at", "value"), [(8, 3), (8, 0), (11, 255), (15, 9), (30, 1)])
    def test_a_pack_with_a_damaged_header_is_told_and_what_is_right_in_it_is_used(
        self, place, objects, at, value
    ):
        """Version, random bytes, reserved bytes: reading the entries needs none of them."""
        with ArtifactStore.open(**place) as store:
            store.session("s").run("r").put("a", b"1" * 3_000)
        (pack,) = packs_of(objects)
        data = bytearray(objects.read(pack))
        data[at] = value if data[at] != value else 77
        objects.write(pack, bytes(data))
        report, _ = after_loss(place)
        ((damaged),) = report.damaged_packs
        assert damaged.name == pack
        assert "its content has the name" in damaged.reason
        assert not report.lost
        with ArtifactStore.open(**place) as store:
            assert store.session("s").run("r").read_bytes("a") == b"1" * 3_000
            assert not store.verify(depth="packs").is_sound
            store.repair()
            assert store.verify(depth="bytes").is_sound

    def test_a_pack_of_a_newer_release_is_not_interpreted(self, place, objects):
        with ArtifactStore.open(**place) as store:
            store.session("s").run("r").put("a", b"1")
        (pack,) = packs_of(objects)
        data = bytearray(objects.read(pack))
        data[8] = 3
        objects.write(f"packs/{name_of(data)[:2]}/{name_of(data)}.pack", bytes(data))
        objects.remove(pack)
        lose_index(place)
        with pytest.raises(UnsupportedFormatError, match="upgrade with"):
            recover(**place)


class TestRefusals:
    def test_an_index_that_is_there_is_never_written_over(self, place):
        with ArtifactStore.open(**place) as store:
            store.session("s").run("r").put("a", b"1")
        with pytest.raises(IndexPresentError, match="move it away first"):
            recover(**place)

    def test_a_lost_index_is_told_with_what_mends_it(self, place):
        with ArtifactStore.open(**place) as store:
            store.session("s").run("r").put("a", b"1")
        lose_index(place)
        with pytest.raises(IndexLostError, match=r"index\.recover"):
            ArtifactStore.open(**place)

    def test_an_empty_place_is_no_store(self, tmp_path):
        with pytest.raises(StoreNotFoundError):
            recover(tmp_path / "nothing")
        assert not (tmp_path / "nothing").exists()

    @on(index="sqlite", blobs="local", because="a file can be left half made there alone")
    def test_a_recovery_that_fails_leaves_nothing(self, place, monkeypatch):
        with ArtifactStore.open(**place) as store:
            store.session("s").run("r").put("a", b"1")
        lose_index(place)
        before = sorted(p.name for p in place["root"].iterdir())

        def fail(*_):
            raise BackendError("disk", "on fire")

        monkeypatch.setattr("index.maintenance.recover.replay.Replay.apply", fail)
        with pytest.raises(BackendError):
            recover(**place)
        assert sorted(p.name for p in place["root"].iterdir()) == before
        monkeypatch.undo()
        assert recover(**place).versions == 1

    @on(index="sqlite", blobs="local", because="SQLite's log lies beside its file")
    def test_a_log_that_the_lost_index_left_is_not_taken_for_the_new_ones(self, place):
        with ArtifactStore.open(**place) as store:
            store.session("s").run("r").put("a", b"1")
        lose_index(place)
        (place["root"] / "index.db-wal").write_bytes(b"old log" * 1000)
        assert recover(**place).versions == 1
        with ArtifactStore.open(**place) as store:
            assert store.session("s").run("r").read_bytes("a") == b"1"


def test_a_missing_cas_json_is_made_again(place, objects):
    with ArtifactStore.open(**place) as store:
        store.session("s").run("r").put("a", b"1")
        before = everything_of(store)
    objects.remove("cas.json")
    _, after = after_loss(place)
    assert after == before


class TestWhatLiesTwice:
    """Damaged bytes that were repaired stay in storage until they are collected."""

    TIMES = 8
    """Which copy is found first is random; with this many, both cases happen."""

    @pytest.fixture
    def repaired(self, place, objects, tmp_path):
        """Return a function that damages and repairs blobs or records; it returns all contents."""

        def mend(kind):
            with ArtifactStore.open(**place) as store:
                run = store.session("s").run("r")
                for number in range(self.TIMES):
                    known = set(packs_of(objects))
                    run.put(f"{number}", random.Random(number).randbytes(3000), agent="a")
                    source = tmp_path / f"source-{number}"
                    source.mkdir()
                    (name,) = set(packs_of(objects)) - known
                    data = objects.read(name)
                    for _, _, digest, *_ in records_of(data):
                        content = store.context.blobs.read(Digest(digest))
                        (source / digest.hex()).write_bytes(content)
                    objects.write(name, inside(kind)(data))
                    assert not store.verify(depth="bytes").is_sound
                    assert store.repair(source).is_complete
                assert store.verify(depth="bytes").is_sound
                return everything_of(store), [run.read_bytes(f"{n}") for n in range(self.TIMES)]

        return mend

    @pytest.mark.parametrize("kind", [EntryKind.BLOB, EntryKind.RECORD])
    def test_the_copy_that_is_right_is_taken(self, place, repaired, kind):
        before, contents = repaired(kind)
        report, after = after_loss(place)
        assert after == before
        assert report.is_whole
        with ArtifactStore.open(**place) as store:
            run = store.session("s").run("r")
            assert [run.read_bytes(f"{n}") for n in range(self.TIMES)] == contents


def commit_of(previous, revision, *, replaces=(), day=None):
    return CommitEntry(
        created_at=datetime(2026, 1, day or revision, tzinfo=UTC),
        session="s",
        run="r",
        previous=previous,
        revision=revision,
        provenance={},
        snapshot=revision,
        replaces=replaces,
    )


FIRST, OTHER, SECOND, THIRD = (Digest.of(b"%d" % number) for number in range(4))


def test_an_attempt_that_was_given_up_is_left_out_though_what_came_before_is_missing():
    third = commit_of(SECOND, 3, replaces=[OTHER])
    chains = arrange({FIRST: commit_of(None, 1), OTHER: commit_of(FIRST, 2), THIRD: third}, {})
    assert [(step.digest, step.has_gap) for step in chains.steps] == [(FIRST, False), (THIRD, True)]
    assert chains.never_arrived == [OTHER]


def test_what_a_later_commit_goes_on_with_has_arrived_whatever_the_clocks_say():
    entries = {
        FIRST: commit_of(None, 1),
        OTHER: commit_of(FIRST, 2, day=30),
        SECOND: commit_of(FIRST, 2),
        THIRD: commit_of(SECOND, 3),
    }
    chains = arrange(entries, {})
    assert [step.digest for step in chains.steps] == [FIRST, SECOND, THIRD]
    assert chains.never_arrived == [OTHER]


@pytest.mark.parametrize("made_again", [False, True])
def test_a_deletion_took_effect_if_its_run_was_made_again_though_a_record_goes_on(made_again):
    """The record is of a commit that failed because the run was deleted."""
    deletion = DeletionEntry(
        created_at=datetime(2026, 1, 2, tzinfo=UTC),
        session="s",
        runs=[("r", str(FIRST), "2026-01-01T00:00:00+00:00")],
        is_session=True,
    )
    entries = {FIRST: commit_of(None, 1), OTHER: commit_of(FIRST, 2, day=3)}
    if made_again:
        entries[SECOND] = commit_of(None, 1, day=4)
    assert bool(effective({THIRD: deletion}, [], entries, ())) == made_again
