"""Packs are rewritten, deleted or kept, and other objects in storage are reported."""

from __future__ import annotations

import os
import random
from datetime import timedelta

import pytest
from garbage import (
    HOUR,
    NOW,
    Clock,
    check_sound,
    collect,
    content_packs,
    entries_of,
    rows,
    scalar,
    tables_of,
)
from places import on, packs_of
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from trees import contents, write

from cas.digest import Digest
from cas.packs.pack import EntryKind, pack_object_name
from index import ArtifactStore, FileRepository
from index.db.queries.packs import PackUsage
from index.maintenance.gc.compact import choose
from index.maintenance.gc.plan import plan_gc
from index.maintenance.gc.report import Kind
from index.maintenance.gc.settings import GcOptions, GcSettings

pytestmark = pytest.mark.usefixtures("equal_chunks")

MIB = 1 << 20


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(place, clock):
    with ArtifactStore.open(**place, clock=clock) as opened:
        yield opened


@pytest.fixture
def shared(store, work):
    """A run that needs a small file, and chunks and list of a large one, from a large pack."""
    live = {"live": os.urandom(9000), "big": os.urandom(MIB + 99)}
    write(work, live | {"dead": os.urandom(500_000) * 6})
    deleted = store.session("s").run("deleted")
    deleted.track(work)
    kept = store.session("s").run("kept")
    for path, content in live.items():
        kept.put(path, content)
    deleted.delete()
    return kept, live


def test_a_pack_that_is_mostly_dead_is_rewritten(store, shared, objects, place):
    kept, live = shared
    (old,) = content_packs(objects)
    before = len(objects.read(old))
    others = {name for name in packs_of(objects) if name != old}
    plan = store.plan_gc(grace=NOW)
    (planned,) = plan.compacted
    assert (pack_object_name(planned.name), planned.size) == (old, before)
    assert planned.reason == "mostly dead"
    report = plan.execute()
    (new,) = content_packs(objects)
    assert new != old
    assert set(packs_of(objects)) == others | {new}
    assert report.packs_compacted == report.packs_deleted == 1
    assert plan.bytes_freed == report.bytes_freed == before - len(objects.read(new))
    assert {path: kept.read_bytes(path) for path in live} == live
    kinds = sorted(entry.kind for entry in entries_of(objects, new))
    assert kinds == [EntryKind.BLOB] * 3 + [EntryKind.CHUNK_LIST]
    check_sound(store, place)
    assert collect(store).packs_compacted == 0


def test_nothing_is_rewritten_if_that_is_not_wanted_or_over_budget(store, shared, objects):
    before = packs_of(objects)
    assert collect(store, compact=False).packs_compacted == 0
    assert store.plan_gc(grace=NOW, max_bytes=MIB).compacted == ()
    assert collect(store, max_bytes=MIB).packs_compacted == 0
    assert packs_of(objects) == before
    assert collect(store, max_bytes=2 * MIB).packs_compacted == 1


def test_many_small_packs_become_one(store, run, objects, place):
    for number in range(GcSettings().small_packs - 1):
        run.put(f"f{number}", os.urandom(1000 + number))
    assert collect(store).packs_compacted == 0
    run.put("last", b"last")
    plan = store.plan_gc(grace=NOW)
    assert {pack.reason for pack in plan.compacted} == {"small"}
    report = plan.execute()
    assert report.packs_compacted == report.packs_deleted == 16
    assert len(packs_of(objects)) == 1
    check_sound(store, place)


@pytest.mark.parametrize("how", ["flipped", "missing", "footer", "cut"])
def test_damage_is_told_and_left_where_it_is(store, shared, objects, how):
    kept, live = shared
    (old,) = content_packs(objects)
    data = bytearray(objects.read(old))
    at = bytes(data).index(live["live"])
    if how == "missing":
        objects.remove(old)
    else:
        if how == "flipped":
            data[at] ^= 1
        elif how == "footer":
            data[-50] ^= 1
        else:
            del data[at + 100 :]
        objects.write(old, bytes(data))
    report = collect(store)
    named = {fault.digest for fault in report.damaged}
    if how == "flipped":
        assert named == {Digest.of(live["live"])}
        assert kept.read_bytes("big") == live["big"]
    elif how == "missing":
        assert len(named) == 4
    else:
        assert named == {None}
    marked = scalar(store, "SELECT count(*) FROM cas_blobs WHERE damaged_at IS NOT NULL")
    assert marked == {"flipped": 1, "missing": 4}.get(how, 0)
    assert (old in packs_of(objects)) == (how != "missing")
    if how == "flipped":
        assert bytes(data) == objects.read(old)
    again = collect(store)  # a blob that is marked as damaged is not tried again
    assert again.packs_compacted == (0 if marked else 1)
    if marked:  # storing the same bytes again repairs it
        store.session("s").run("again").put("live", live["live"])
        assert kept.read_bytes("live") == live["live"]


def usage(id_, *, size, entries=1, stored=0, damaged=0):
    return PackUsage(id_, Digest.of(bytes([id_])), size, entries, stored, damaged)


def test_what_is_worth_rewriting():
    settings = GcSettings()
    tight = usage(1, size=10 * MIB, stored=10 * MIB - 124)
    half = usage(2, size=10 * MIB, stored=5 * MIB - 124)
    nearly = usage(3, size=10 * MIB, stored=5 * MIB)
    tiny = usage(4, size=4000, stored=10)
    empty = usage(5, size=10 * MIB, entries=0)
    damaged = usage(6, size=10 * MIB, stored=10, damaged=1)
    full = usage(7, size=60 * MIB, stored=MIB)
    chosen = choose([tight, half, nearly, tiny, empty, damaged, full], settings, None)
    assert [(pack.id, reason) for pack, reason in chosen] == [
        (7, "mostly dead"), (2, "mostly dead"),
    ]  # fmt: skip
    assert [pack.id for pack, _ in choose([half, full], settings, MIB)] == [7]


def test_a_pending_pack_is_left_for_the_grace_period(store, run, objects, clock):
    """A writer died after it published its pack, and before it recorded it."""
    with store.context.blobs.batch() as batch:
        batch.add(b"lost" * 100)
        batch.finish()
    assert scalar(store, "SELECT state FROM cas_packs") == "pending"
    clock.go(23 * HOUR)
    assert collect(store, grace=None).packs_deleted == 0
    clock.go(2 * HOUR)
    assert [pack.reason for pack in store.plan_gc().packs] == ["never recorded"]
    assert collect(store, grace=None).packs_deleted == 1
    assert packs_of(objects) == []
    assert tables_of(store)["packs"] == 0


def test_a_dead_pack_of_a_collection_that_was_cut_off_is_deleted(store, run, objects, clock):
    run.put("f", b"1" * 300)
    run.put("g", b"2" * 300)
    with store.context.database.writing() as connection:
        connection.exec_driver_sql("DELETE FROM cas_files")
        connection.exec_driver_sql("DELETE FROM cas_records")
        connection.exec_driver_sql("DELETE FROM cas_blobs")
        connection.exec_driver_sql("UPDATE cas_packs SET state = 'dead'")
    objects.remove(packs_of(objects)[0])
    assert {pack.reason for pack in store.plan_gc().packs} == {"dead"}
    assert collect(store, grace=None).packs_deleted == 1
    assert packs_of(objects) == []
    assert tables_of(store)["packs"] == 1  # the row of the pack without an object
    clock.go(25 * HOUR)
    collect(store, grace=None)
    assert tables_of(store)["packs"] == 0


def lost_pack(store, content):
    """Publish a pack without a row."""
    with store.context.blobs.batch(Forgetful()) as batch:
        digest = batch.add(content)
        written = batch.finish()
    return digest, written.packs[0]


class Forgetful:
    """A catalog without memory, as for files that an application's transaction registers."""

    def find_known(self, digests):
        return set()

    def register_pack(self, pack):
        pass


def test_orphans_are_told_and_removed_only_on_request(store, run, objects, place):
    run.put("f", b"1" * 300)
    _, pack = lost_pack(store, b"lost" * 100)
    objects.write("packs/readme", b"foreign")
    told = [
        (pack_object_name(pack.name), pack.size, "found"), ("packs/readme", 7, "foreign")
    ]  # fmt: skip
    assert sorted(listed(store.plan_gc(grace=NOW))) == sorted(told)
    assert sorted(listed(collect(store))) == sorted(told)
    assert len(packs_of(objects)) == 3
    plan = store.plan_gc(grace=NOW, remove_orphans=True)
    assert plan.bytes_freed == pack.size + 7
    report = plan.execute()
    assert sorted(orphan.outcome for orphan in report.orphans) == ["foreign", "removed"]
    assert report.bytes_freed == pack.size
    assert len(packs_of(objects)) == 2
    check_sound(store, place)
    assert len(collect(store, remove_orphans=True).orphans) == 1


def listed(told):
    return [(orphan.name, orphan.size, orphan.outcome) for orphan in told.orphans]


@pytest.fixture
def application(place):
    """An application's own engine on the index."""
    url = place.get("index") or f"sqlite:///{place['root'] / 'index.db'}"
    engine = create_engine(url)
    yield engine
    engine.dispose()


def registering(application, store, work):
    db_session = Session(application)
    return db_session, FileRepository(db_session, "s", store=store, work_dir=work)


def test_a_pack_that_is_removed_before_an_application_records_it_is_stored_again(
    store, application, work, place, objects
):
    """It was published, not recorded, and taken for an orphan: a dead row reserves its name."""
    write(work, {"f": b"1" * 300})
    db_session, repository = registering(application, store, work)
    done = after_publishing(store, lambda: collect(store, remove_orphans=True))
    with db_session:
        repository.register_file("r", "f")
        db_session.commit()
    assert [orphan.outcome for orphan in done[0].orphans] == ["removed"]
    assert store.session("s").run("r").read_bytes("f") == b"1" * 300
    check_sound(store, place)
    assert rows(store, "SELECT size FROM cas_packs WHERE state = 'dead'") == [(0,)]
    collect(store, remove_orphans=True)
    assert rows(store, "SELECT size FROM cas_packs WHERE state = 'dead'") == [(0,)]


def after_publishing(store, action):
    """Do something once, just after a pack was published."""
    done = []
    backend = store.context.blobs.backend
    stage = backend.stage

    def staging():
        staged = stage()
        publish = staged.publish

        def publishing(name):
            publish(name)
            if not done:
                done.append(None)
                done[0] = action()

        staged.publish = publishing
        return staged

    backend.stage = staging
    return done


@on(index="postgresql", because="on SQLite nobody else can write then")
def test_a_pack_that_an_application_records_right_now_is_not_taken(
    store, application, work, place, objects
):
    write(work, {"f": b"1" * 300})
    db_session, repository = registering(application, store, work)
    with db_session:
        repository.register_file("r", "f")
        report = collect(store, remove_orphans=True)
        db_session.commit()
    assert [orphan.outcome for orphan in report.orphans] == ["in use"]
    assert store.session("s").run("r").read_bytes("f") == b"1" * 300
    check_sound(store, place)


def test_what_an_application_rolled_back_is_an_orphan(store, application, work, objects):
    write(work, {"f": b"1" * 300})
    db_session, repository = registering(application, store, work)
    with db_session:
        repository.register_file("r", "f")
        db_session.rollback()
    assert [o.outcome for o in collect(store, remove_orphans=True).orphans] == ["removed"]
    assert packs_of(objects) == []


def test_a_buried_object_that_comes_back_is_an_orphan_again(store, objects):
    _, pack = lost_pack(store, b"lost" * 100)
    name = pack_object_name(pack.name)
    data = objects.read(name)
    collect(store, remove_orphans=True)
    objects.write(name, data)
    assert [o.outcome for o in collect(store).orphans] == ["found"]
    collect(store, remove_orphans=True)
    assert packs_of(objects) == []


def test_bytes_that_a_scan_lost_are_collected(store, run, objects, place):
    """An interrupted transfer recorded blobs that nothing refers to."""
    content = os.urandom(2 * MIB)
    run.put("f", content)
    with store.context.database.writing() as connection:
        connection.exec_driver_sql("DELETE FROM cas_files")
        connection.exec_driver_sql("DELETE FROM cas_records")
    plan = plan_gc(store.context, GcOptions(GcSettings(grace=timedelta(0))))
    assert {blob.kind for blob in plan.iter_blobs()} == {Kind.UNNAMED}
    plan.execute()
    assert packs_of(objects) == []


def test_blobs_of_a_shared_frame_count_with_their_part_of_it(store, work, place):
    """Their parts add up to the frame, so nothing of it is counted twice."""
    source = random.Random(4)
    files = {f"log-{n}": source.randbytes(1500).hex().encode() for n in range(20)}
    write(work, files)
    whole = store.session("whole").run("r")
    whole.track(work)
    half = store.session("half").run("r")
    for path in sorted(files)[::2]:
        half.put(path, files[path])
    assert store.stats().dead_bytes == 0
    frame = scalar(store, "SELECT max(stored_size) FROM cas_blobs WHERE frame_size > 0")
    assert len(rows(store, "SELECT digest FROM cas_blobs WHERE frame_size > 0")) == 20
    store.session("whole").delete()
    plan = store.plan_gc(grace=NOW)
    garbage = [blob.stored_size for blob in plan.iter_blobs() if blob.path is not None]
    assert len(garbage) == 10
    assert 0.4 * frame < sum(garbage) < 0.6 * frame
    plan.execute()
    assert store.stats().dead_bytes == 0
    assert contents(half) == {path: files[path] for path in sorted(files)[::2]}
    check_sound(store, place)
