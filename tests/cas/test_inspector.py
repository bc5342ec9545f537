"""Inspecting whole packs: which entries are right or damaged, in little memory."""

from __future__ import annotations

import random
import tracemalloc

import pytest
from forged import frame_of

from cas import BlobStore
from cas.backends.memory import MemoryBackend
from cas.catalog import MemoryCatalog
from cas.digest import Digest
from cas.errors import BackendError, UnsupportedFormatError
from cas.packs.inspector import Defect, PackInspector
from cas.packs.pack import TRAILER_SIZE
from cas.store import open_settings

TEXT = b"text " * 500
RANDOM = random.Random(1).randbytes(700_000)
BLOBS = [b"", RANDOM, TEXT, *(b"%d" % n for n in range(50))]


@pytest.fixture
def backend():
    return MemoryBackend()


@pytest.fixture
def pack(backend):
    """Return the name of a pack, and its blobs by digest."""
    catalog = MemoryCatalog()
    with BlobStore(backend, catalog, open_settings(backend, create=True)).batch() as batch:
        for data in BLOBS:
            batch.add(data)
        written = batch.finish()
    (sealed,) = written.packs
    return sealed.name, dict(written.blobs)


@pytest.fixture
def inspector(backend):
    with PackInspector(backend) as opened:
        yield opened


def damage(backend, change):
    (name,) = [name for name in backend.objects if name.startswith("packs/")]
    backend.objects[name] = change(bytearray(backend.objects[name]))


def test_a_pack_that_is_right(inspector, pack):
    name, located = pack
    for verdict in (inspector.look(name, located), inspector.read(name, located)):
        assert verdict.is_whole
        assert len(verdict.entries) == len(BLOBS)
    assert verdict.actual == name


def test_what_is_wanted_is_kept(inspector, pack):
    name, located = pack
    digest = Digest.of(TEXT)
    assert inspector.read(name, located, keep={digest}).kept == {digest: TEXT}


def test_an_object_that_is_gone(inspector, backend, pack):
    name, located = pack
    backend.objects.clear()
    for verdict in (inspector.look(name, located), inspector.read(name, located)):
        assert verdict.size is None
        assert not verdict.is_whole
        assert set(verdict.damaged.values()) == {Defect.MISSING}
        assert verdict.damaged.keys() == located.keys()


def test_one_entry_that_is_damaged_is_told_from_its_neighbours(inspector, backend, pack):
    name, located = pack
    digest = Digest.of(RANDOM)
    at = located[digest].offset

    def change(data):
        data[at] ^= 1
        return bytes(data)

    damage(backend, change)
    assert inspector.look(name, located).is_whole
    verdict = inspector.read(name, located)
    assert verdict.damaged == {digest: Defect.DAMAGED}
    assert not verdict.is_whole


def test_every_blob_of_a_damaged_frame_is_named(inspector, backend, pack):
    name, located = pack
    shared = located[Digest.of(b"7")]

    def change(data):
        data[shared.offset + shared.stored_size // 2] ^= 1
        return bytes(data)

    damage(backend, change)
    del located[Digest.of(b"8")]
    verdict = inspector.read(name, located)
    small = {Digest.of(data) for data in BLOBS if 0 < len(data) < 10_000} - {Digest.of(b"8")}
    assert verdict.damaged == dict.fromkeys(small, Defect.DAMAGED)
    assert verdict.unused_damaged == 1


def test_an_entry_that_the_index_does_not_have_is_looked_at_too(inspector, backend, pack):
    name, located = pack
    place = located.pop(Digest.of(RANDOM))

    def change(data):
        data[place.offset] ^= 1
        return bytes(data)

    assert inspector.read(name, located).is_whole
    damage(backend, change)
    verdict = inspector.read(name, located)
    assert (verdict.damaged, verdict.unused_damaged) == ({}, 1)
    assert not verdict.is_whole


@pytest.mark.parametrize("at", [20, 30])
def test_an_object_that_is_no_longer_what_it_is_named_is_seen_at_a_look(
    inspector, backend, pack, at
):
    name, located = pack

    def change(data):
        data[at] ^= 1
        return bytes(data)

    damage(backend, change)
    for verdict in (inspector.look(name, located), inspector.read(name, located)):
        assert verdict.actual not in (None, name)
        assert not verdict.is_whole
        assert verdict.reason is None
        assert not verdict.damaged


@pytest.mark.parametrize(
    ("change", "defect"),
    [
        ({"offset": 33}, Defect.MISPLACED),
        ({"stored_size": 1}, Defect.MISMATCHED),
        ({"frame_start": 1}, Defect.MISMATCHED),
        ({"frame_size": 2600}, Defect.MISMATCHED),
    ],
)
def test_an_index_that_has_an_entry_elsewhere(inspector, pack, change, defect):
    name, located = pack
    digest = Digest.of(TEXT)
    located[digest] = located[digest]._replace(**change)
    assert inspector.look(name, located).misfiled == {digest: defect}
    verdict = inspector.read(name, located)
    assert verdict.damaged == {digest: Defect.DAMAGED}
    assert verdict.misfiled == {digest: defect}


@pytest.mark.parametrize(
    "change",
    [
        {"offset": -1},
        {"offset": 10**12},
        {"stored_size": 10**12},
        {"size": 10**12},
        {"stored_size": -5},
        {"frame_start": 10**12},
        {"frame_start": -1},
        {"frame_size": 10**12},
        {"frame_size": -1},
        {"frame_size": 5},
        {"codec": 0},
    ],
)
def test_numbers_that_cannot_be_cost_no_memory(inspector, pack, change):
    name, located = pack
    digest = Digest.of(TEXT)
    located[digest] = located[digest]._replace(**change)
    tracemalloc.start()
    verdict = inspector.read(name, located)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert verdict.damaged == {digest: Defect.MISSING}
    assert peak < 16 << 20


def test_what_the_index_does_not_know_of_is_in_the_footer_only(inspector, pack):
    name, located = pack
    assert inspector.read(name, {}).is_whole
    unknown = Digest.of(b"unknown")
    located[unknown] = next(iter(located.values()))
    verdict = inspector.read(name, located)
    assert verdict.misfiled == {unknown: Defect.UNLISTED}
    assert verdict.damaged == {unknown: Defect.DAMAGED}


def test_a_version_that_was_flipped_is_damage_and_one_that_was_written_is_not(
    inspector, backend, pack
):
    name, located = pack
    (stored,) = [n for n in backend.objects if n.startswith("packs/")]
    newer = bytearray(backend.objects[stored])
    newer[8] = 2
    backend.objects[stored] = bytes(newer)
    assert not inspector.look(name, located).is_whole
    verdict = inspector.read(name, located)
    assert "format 2" in (verdict.reason or "")
    assert not verdict.damaged
    true = Digest.of(frame_of(bytes(newer))[0])
    backend.objects[f"packs/{str(true)[:2]}/{true}.pack"] = bytes(newer)
    with pytest.raises(UnsupportedFormatError):
        inspector.read(true, {})


def test_a_pack_is_streamed(inspector, backend):
    """Of 60 MiB that do not compress, only a few spans are in memory."""
    catalog = MemoryCatalog()
    rng = random.Random(9)
    with BlobStore(backend, catalog, open_settings(backend, create=True)).batch() as batch:
        for _ in range(60):
            batch.add(rng.randbytes(1 << 20))
        written = batch.finish()
    (sealed,) = written.packs
    tracemalloc.start()
    assert inspector.read(sealed.name, written.blobs).is_whole
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40 << 20


def test_no_request_is_longer_than_the_backend_reads_well(inspector, backend, pack, monkeypatch):
    asked = []
    original = backend.read
    monkeypatch.setattr(MemoryBackend, "span_size", 100_000)
    monkeypatch.setattr(backend, "read", lambda *at: asked.append(at) or original(*at))
    name, located = pack
    assert inspector.read(name, located).is_whole
    assert max(size for _, _, size in asked) == 100_000  # of an entry of 700,000 bytes, too


def test_storage_that_fails_is_no_verdict(inspector, backend, pack, monkeypatch):
    name, located = pack

    def fail(*_):
        raise BackendError("packs", "Input/output error")

    monkeypatch.setattr(backend, "read", fail)
    for inspect in (inspector.look, inspector.read):
        with pytest.raises(BackendError, match="Input/output"):
            inspect(name, located)


def test_a_footer_that_is_cut_short(inspector, backend, pack):
    name, located = pack
    damage(backend, lambda data: bytes(data[: -TRAILER_SIZE // 2]))
    verdict = inspector.read(name, located)
    assert "cut short" in (verdict.reason or "")
    assert not verdict.damaged
