"""Objects that are missing, truncated, extended, flipped or swapped are found and repaired."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress

import pytest
from damage import (
    FIRST,
    HARMFUL,
    HARMLESS,
    ONLY_BYTES,
    RECORD,
    SECOND,
    assert_pristine,
    execute,
    fill,
    held,
    largest_pack,
    marked,
    mutate,
    read_what_can_be,
    records_of,
)
from forged import name_of, signed_again
from garbage import collect
from lost import lose_index
from places import on, packs_of
from trees import contents, write

from cas.digest import Digest
from cas.errors import BlobNotFoundError, CasError
from cas.packs.inspector import PackInspector
from cas.packs.pack import TRAILER_SIZE, EntryKind, pack_object_name
from index import ArtifactStore, recover
from index.db.queries import verification
from index.domain.faults import FaultKind
from index.errors import DamagedFileError, DanglingFileError

pytestmark = pytest.mark.usefixtures("equal_chunks")

locally = on(because="PostgreSQL beside S3 shows what differs", index="sqlite", blobs="local")


@pytest.fixture
def filled(place, tmp_path):
    """A store with an entry of every kind; return its contents."""
    return fill(place, tmp_path)


def check_damage(place, objects, tmp_path, filled, name, mutation, harms):
    """Check that damage is found, never returned, and repaired from the work directories."""
    mutate(objects, mutation)
    with ArtifactStore.open(**place) as store:
        shallow = store.verify(depth="packs")
        assert shallow.is_sound == (name in ONLY_BYTES)
        report = store.verify(depth="bytes")
        assert not report.is_sound
        assert bool(marked(store)) == harms
        assert store.verify(depth="bytes").counts == report.counts
        served = read_what_can_be(store)
        for (at, path), data in served.items():
            assert data == filled[at - 1][path]
        whole = {(at, path) for at in (1, 2) for path in filled[at - 1]}
        if not harms:
            assert served.keys() == whole
        repaired = store.repair(tmp_path / "then", tmp_path / "now")
        assert repaired.is_complete
        assert len(repaired.set_aside) == 1
    assert_pristine(place, filled)


@locally
@pytest.mark.parametrize("name", HARMLESS)
def test_damage_that_harms_no_blob_is_found_and_repaired(place, objects, tmp_path, filled, name):
    check_damage(place, objects, tmp_path, filled, name, HARMLESS[name], harms=False)


@locally
@pytest.mark.parametrize("name", HARMFUL)
def test_damage_of_blobs_is_found_never_served_and_repaired(place, objects, tmp_path, filled, name):
    check_damage(place, objects, tmp_path, filled, name, HARMFUL[name], harms=True)


@locally
def test_damage_of_what_nothing_refers_to_any_more_is_found_and_repaired(place, objects, work):
    with ArtifactStore.open(**place) as store:
        write(work, {"kept": b"kept" * 900, "gone": b"of no use" * 900})
        run = store.session("s").run("r")
        run.track(work)
        other = store.session("s").run("other")
        other.put("kept", b"kept" * 900)
        (used,) = {version.digest for version in other.files()}
        run.delete()
        assert collect(store, compact=False).swept.blobs == 2  # the file and the run's record
        (name,) = [n for n in packs_of(objects) if bytes(used) in objects.read(n)]
        data = bytearray(objects.read(name))
        (unused,) = [r for r in records_of(data) if r[2] == Digest.of(b"of no use" * 900)]
        data[unused[3] + unused[4] // 2] ^= 0x10
        objects.write(name, bytes(data))
        assert store.verify(depth="packs").is_sound
        report = store.verify(depth="bytes")
        assert report.counts == {FaultKind.BROKEN_PACK: 1}
        assert "1 of its entries that nothing refers to" in report.faults[0].detail
        assert marked(store) == 0
        assert len(store.repair().set_aside) == 1
        assert store.verify(depth="bytes").is_sound
        assert other.read_bytes("kept") == b"kept" * 900


@pytest.mark.parametrize("name", ["chunk", "dropped", "nonce"])
def test_damage_is_found_and_repaired_on_every_place(place, objects, tmp_path, filled, name):
    mutation = (HARMFUL | HARMLESS)[name]
    check_damage(place, objects, tmp_path, filled, name, mutation, harms=name in HARMFUL)


@locally
def test_two_packs_that_changed_places_are_found_and_repaired(place, objects, tmp_path, filled):
    one, other = packs_of(objects)
    first, second = objects.read(one), objects.read(other)
    objects.write(one, second)
    objects.write(other, first)
    with ArtifactStore.open(**place) as store:
        assert not store.verify(depth="index").is_sound
        assert (
            not read_what_can_be(store).items()
            - {(at, path): data for at in (1, 2) for path, data in filled[at - 1].items()}.items()
        )
        report = store.repair(tmp_path / "then", tmp_path / "now")
        assert report.is_complete
        assert len(report.set_aside) == 2
    assert_pristine(place, filled)


@locally
def test_records_and_lists_that_a_pack_calls_content_are_found_and_repaired(place, objects, filled):
    """Nothing that reads content notices, but a recovery would not find them."""
    for name in packs_of(objects):
        data = objects.read(name)
        first = len(data) - TRAILER_SIZE - len(records_of(data)) * RECORD.size
        forged = bytearray(data)
        for number in range(len(records_of(data))):
            forged[first + number * RECORD.size] = EntryKind.BLOB
        forged = signed_again(bytes(forged))
        pack = Digest.parse(name_of(forged))
        objects.remove(name)
        objects.write(pack_object_name(pack), forged)
        with ArtifactStore.open(**place) as store:
            old = Digest.parse(name.rpartition("/")[2].removesuffix(".pack"))
            update = "UPDATE cas_packs SET name = :new WHERE name = :old"
            assert execute(store, update, new=pack, old=old) == 1
    with ArtifactStore.open(**place) as store:
        for depth in ("packs", "bytes"):
            report = store.verify(depth=depth)
            assert report.counts == {FaultKind.MISPLACED_ENTRY: 3}  # two records and a list
        assert "of another kind" in report.faults[0].detail
        assert held(store) == filled
        assert store.repair().is_complete
        assert store.verify(depth="bytes").is_sound
        collect(store)
    lose_index(place)
    assert recover(**place).lost == ()
    assert_pristine(place, filled)


@locally
def test_every_region_of_a_pack_matters(place, objects, filled):
    """Reading every byte finds each of two hundred flips, spread evenly."""
    name = largest_pack(objects)
    data = objects.read(name)
    with ArtifactStore.open(**place) as store, PackInspector(store.context.blobs.backend) as eye:
        with store.context.database.reading() as connection:
            packs = verification.list_packs(connection)
            (pack,) = [pack for pack in packs if str(pack.name) in name]
            located = verification.locate_in_packs(connection, [pack])[pack.id]
        assert eye.read(pack.name, located).is_whole
        spots = {
            *range(80),
            *range(len(data) - 80, len(data)),
            *range(0, len(data), len(data) // 40),
        }
        for at in sorted(spots):
            objects.write(name, data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
            assert not eye.read(pack.name, located).is_whole, at


@locally
def test_a_store_without_its_settings_is_not_called_damaged(place, objects, filled):
    with ArtifactStore.open(**place) as store:
        settings = objects.read("cas.json")
        objects.remove("cas.json")
        with pytest.raises(CasError, match=r"cas\.json"):
            store.verify(depth="index")
        objects.write("cas.json", settings.replace(b"blake3", b"BLAKE3"))
        with pytest.raises(CasError):
            store.verify(depth="index")
        assert marked(store) == 0
        objects.write("cas.json", settings)
        assert store.verify(depth="bytes").is_sound


def test_what_is_lost_says_so_when_it_is_read(place, objects, tmp_path, filled):
    mutate(objects, HARMFUL["chunk"])
    with ArtifactStore.open(**place) as store:
        run = store.session("s").run("r")
        (fault,) = [f for f in store.verify(depth="bytes").faults if f.digest]
        report = store.repair()
        assert not report.is_complete
        (lost,) = report.lost
        assert lost.digest == fault.digest
        assert [(h.session, h.run, h.path, h.version, h.agent) for h in lost.touches] == [
            ("s", "r", "large", 1, "planner")
        ]
        with pytest.raises(DamagedFileError, match=rf"'large' .*{lost.digest}.*store.repair"):
            run.read_bytes("large")
        with pytest.raises(DamagedFileError, match="'large'"):
            run.restore(tmp_path / "out", paths=["large"])
        with run.open("large") as stream:
            stream.seek(2 << 20)
            assert stream.read() == FIRST["large"][2 << 20 :]
            stream.seek(0)
            with pytest.raises(DamagedFileError, match="'large'"):
                stream.read()
        assert run.read_bytes("text") == FIRST["text"]


@pytest.mark.parametrize("name", ["dropped", "raw", "chunk"])
@pytest.mark.parametrize("way", ["read_bytes", "open", "restore"])
def test_a_repair_finds_what_a_read_found(place, objects, tmp_path, filled, name, way):
    mutate(objects, HARMFUL[name])
    with ArtifactStore.open(**place) as store:
        run = store.session("s").run("r")
        for version in (*run.files(at=1), *run.files(at=2)):
            at = version.first_snapshot
            with suppress(DanglingFileError, DamagedFileError, BlobNotFoundError):
                if way == "restore":
                    run.restore(tmp_path / way, paths=[version.path], at=at, overwrite=True)
                elif way == "open":
                    with run.open(version.path, at=at) as stream:
                        stream.read()
                else:
                    run.read_bytes(version.path, at=at)
        assert store.repair(tmp_path / "now", tmp_path / "then").is_complete
    with ArtifactStore.open(**place) as store:
        for at in (1, 2):
            assert contents(store.session("s").run("r"), at=at) == filled[at - 1]


@on(index="sqlite", blobs="local", because="what a reader may write is the index's")
def test_a_reader_that_may_not_write_reports_damage_all_the_same(place, objects, filled):
    mutate(objects, HARMFUL["dropped"])
    with ArtifactStore.open(**place) as store:
        run = store.session("s").run("r")
        with closing(sqlite3.connect(place["root"] / "index.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("index.db.catalog._NOTE_WAIT_S", 0.1)
                with pytest.raises(DanglingFileError):
                    run.read_bytes("text")
        assert store.verify(depth="index").marked > 0


def test_what_is_gone_says_so_when_it_is_read(place, objects, tmp_path, filled):
    mutate(objects, HARMFUL["dropped"])
    with ArtifactStore.open(**place) as store:
        run = store.session("s").run("r")
        with pytest.raises(DanglingFileError, match=r"'text' .*store.repair"):
            run.read_bytes("text")
        with pytest.raises((DanglingFileError, BlobNotFoundError), match=r"store\.repair"):
            run.read_bytes("large")
        assert run.read_bytes("more") == SECOND["more"]
        report = store.verify(depth="index")
        assert {str(kind) for kind in report.counts} == {"missing-object", "missing-bytes"}
