"""Sources of repair: directories, other stores, the cache, and the store itself."""

from __future__ import annotations

import os
import random
from datetime import timedelta

import pytest
from damage import (
    FIRST,
    HARMFUL,
    HARMLESS,
    SECOND,
    assert_pristine,
    execute,
    fill,
    flip,
    held,
    largest_pack,
    marked,
    mutate,
    records_of,
)
from places import objects_of, on, packs_of

from cas.digest import Digest
from index import ArtifactStore

pytestmark = pytest.mark.usefixtures("equal_chunks")

MIB = 1 << 20
LARGE = FIRST["large"]

local = on(index="sqlite", blobs="local", because="which bytes are found is the same anywhere")


@pytest.fixture
def filled(place, tmp_path):
    return fill(place, tmp_path)


@pytest.fixture
def lost(place, objects, filled):
    """A store without its largest pack, whose blobs are marked as damaged."""
    mutate(objects, HARMFUL["dropped"])
    with ArtifactStore.open(**place) as store:
        store.verify(depth="index")
        yield store


@local
def test_files_are_known_by_their_content_whatever_their_names(lost, place, tmp_path, filled):
    attic = tmp_path / "attic" / "deep" / "er"
    attic.mkdir(parents=True)
    for number, data in enumerate(FIRST.values()):
        (attic / f"{number}").write_bytes(data)
    assert lost.repair(tmp_path / "attic").is_complete
    assert_pristine(place, filled)


@local
def test_a_chunk_is_taken_from_any_file_that_has_it_at_its_place(lost, tmp_path, filled):
    """A file that has grown since still has all old chunks except the last."""
    grown = tmp_path / "grown"
    grown.mkdir()
    (grown / "log").write_bytes(LARGE + b"more")
    report = lost.repair(grown)
    assert not report.is_complete
    with lost.session("s").run("r").open("large") as stream:
        assert stream.read(2 * MIB) == LARGE[: 2 * MIB]
    (grown / "log").write_bytes(random.Random(5).randbytes(MIB) + LARGE[2 * MIB :])
    lost.repair(grown)
    assert lost.session("s").run("r").read_bytes("large") == LARGE
    assert lost.session("s").run("r").read_bytes("empty") == b""


@local
def test_links_and_what_cannot_be_read_in_a_directory(lost, place, tmp_path, filled):
    odd = tmp_path / "odd"
    odd.mkdir()
    os.mkfifo(odd / "pipe")
    os.symlink("/etc/passwd", odd / "elsewhere")
    os.symlink(".", odd / "again")
    (odd / "closed").write_bytes(FIRST["text"])
    (odd / "gone").write_bytes(FIRST["raw"])
    os.chmod(odd / "gone", 0)
    assert lost.repair(odd, tmp_path / "then").is_complete
    assert_pristine(place, filled)


@local
def test_a_link_is_had_again_from_a_link(place, objects, tmp_path, filled):
    digest = Digest.of(b"raw")
    with ArtifactStore.open(**place) as store:
        execute(store, "UPDATE cas_blobs SET damaged_at = '2026-01-01' WHERE digest = :d", d=digest)
        name = next(n for n in packs_of(objects) if digest in objects.read(n))
        data = objects.read(name)
        objects.write(name, data.replace(b"raw", b"war", 1))
        store.verify(depth="bytes")
        assert marked(store) == 1
        assert store.repair(tmp_path / "now").is_complete
    assert_pristine(place, filled)


@local
def test_bytes_that_do_not_hash_to_the_digest_are_not_taken(lost, tmp_path):
    false = tmp_path / "false"
    false.mkdir()
    for name, data in FIRST.items():
        (false / name).write_bytes(flip(data, 0) if data else data)
    report = lost.repair(false)
    # The empty file needs no source, and two chunks of the large one are unchanged.
    assert (report.repaired, report.lost_count) == (3, 4)
    assert report.bytes_stored < 1000 + 2 * MIB
    assert lost.session("s").run("r").read_bytes("empty") == b""
    with pytest.raises(Exception, match=r"store\.repair"):
        lost.session("s").run("r").read_bytes("text")


def test_another_store_has_them(place, stores, objects, tmp_path, filled):
    with (
        ArtifactStore.open(**stores.make("sqlite-local", tmp_path / "copy")) as copy,
        ArtifactStore.open(**place) as store,
    ):
        store.sync_to(copy)
        mutate(objects, HARMFUL["dropped"])
        store.verify(depth="index")
        dry = store.repair(copy, dry_run=True)
        assert (dry.repaired, dry.lost_count, dry.bytes_stored) == (dry.damaged, 0, 0)
        assert marked(store) == dry.damaged
        assert store.repair(copy).is_complete
    assert_pristine(place, filled)


@local
def test_a_store_that_is_damaged_in_other_places_mends_what_it_can(
    place, objects, stores, tmp_path, filled
):
    copy_place = stores.make("sqlite-local", tmp_path / "copy")
    with ArtifactStore.open(**copy_place) as copy, ArtifactStore.open(**place) as store:
        store.sync_to(copy)
        for theirs in (copy_place["root"] / "packs").glob("*/*.pack"):
            data = theirs.read_bytes()
            for _, _, digest, offset, size, _ in records_of(data):
                if digest == Digest.of(FIRST["text"]):
                    theirs.write_bytes(flip(data, offset + size // 2))
        mutate(objects, HARMFUL["dropped"])
        store.verify(depth="index")
        assert store.repair(copy).lost_count == 1
        assert store.repair(copy, tmp_path / "then").is_complete
    assert_pristine(place, filled)


@on(index="sqlite", blobs="s3", because="blobs in a local directory are not cached")
def test_the_cache_has_what_was_read_of_them(place, objects, tmp_path, filled):
    with ArtifactStore.open(**place, cache=tmp_path / "cache") as store:
        held(store)
        mutate(objects, HARMFUL["dropped"])
        store.verify(depth="index")
        assert marked(store) > 3
        assert store.repair().is_complete
    assert_pristine(place, filled)


@local
def test_what_a_directory_has_is_read_only_where_its_size_fits(lost, tmp_path):
    huge = tmp_path / "huge"
    huge.mkdir()
    (huge / "other").write_bytes(bytes(12345))
    (huge / "fits").write_bytes(FIRST["text"])
    assert lost.repair(huge).bytes_read == len(FIRST["text"])


@local
def test_a_damaged_pack_stays_while_a_row_leads_into_it(place, objects, tmp_path, filled):
    name = mutate(objects, HARMFUL["zstd"])
    with ArtifactStore.open(**place) as store:
        store.verify(depth="bytes")
        report = store.repair()
        assert (report.lost_count, report.set_aside) == (1, ())
        assert report.salvaged > 3
        assert objects.read(name)
        damaged = objects.read(name)
        report = store.repair(tmp_path / "now")
        assert report.set_aside == (name,)
        assert objects.read(f"damaged/{name.rpartition('/')[2]}") == damaged
        assert objects.read(name) == damaged
        for _ in range(3):
            store.plan_gc(grace=timedelta(0)).execute()
        assert name not in packs_of(objects)
        assert objects.read(f"damaged/{name.rpartition('/')[2]}") == damaged
    assert_pristine(place, filled)


@local
def test_tracking_a_directory_mends_as_well(place, objects, tmp_path, filled):
    mutate(objects, HARMFUL["chunk"])
    with ArtifactStore.open(**place) as store:
        store.verify(depth="bytes")
        store.session("s").run("again").track(tmp_path / "now")
        assert marked(store) == 0
        assert store.repair().set_aside
    assert_pristine(place, filled)


@local
def test_nothing_to_repair_writes_nothing(place, objects, filled):
    before = objects.names()
    with ArtifactStore.open(**place) as store:
        assert store.verify(depth="bytes").is_sound
        report = store.repair()
        assert (report.damaged, report.repaired, report.salvaged) == (0, 0, 0)
    assert objects.names() == before


@local
@pytest.mark.parametrize("name", ["nonce", "trailer-magic"])
def test_a_repair_after_a_repair_finds_nothing_left(place, objects, filled, name):
    mutate(objects, HARMLESS[name])
    with ArtifactStore.open(**place) as store:
        store.verify(depth="bytes")
        assert len(store.repair().set_aside) == 1
        again = store.repair()
        assert (again.set_aside, again.salvaged) == ((), 0)
        assert largest_pack(objects)
        assert held(store)[1] == SECOND | {"link": b"raw"}


def test_a_source_that_is_no_directory_is_refused(tmp_path, store_root):
    with ArtifactStore.open(store_root) as store, pytest.raises(NotADirectoryError):
        store.repair(tmp_path / "nowhere")


@pytest.mark.parametrize("named", ["copy", "copy.toml", "elsewhere/work"])
def test_the_command_takes_stores_configurations_and_directories(cas, store_root, tmp_path, named):
    place = {"root": store_root}
    expected = fill(place, tmp_path)
    assert cas("sync", store_root, tmp_path / "copy")[0] == 0
    (tmp_path / "copy.toml").write_text('index = "sqlite:///copy/index.db"\nblobs = "copy"\n')
    # A work directory that contains a store is not a store.
    assert cas("sync", store_root, tmp_path / "elsewhere" / "work" / ".cas")[0] == 0
    for name in ("now", "then"):
        os.rename(tmp_path / name, tmp_path / "elsewhere" / "work" / name)
    mutate(objects_of(place), HARMFUL["dropped"])
    assert cas("--store", store_root, "verify", "--depth", "index")[0] == 3
    code, out, err = cas("--store", store_root, "repair", "--from", tmp_path / named)
    assert (code, err) == (0, "")
    assert "0 lost" in out
    assert_pristine(place, expected)
