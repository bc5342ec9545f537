"""Copying entries from pack to pack: right ones unchanged, damaged ones never."""

from __future__ import annotations

import os
import tracemalloc

import pytest

from cas.backends.local import LocalBackend
from cas.backends.memory import MemoryBackend
from cas.catalog import Location, MemoryCatalog
from cas.digest import Digest
from cas.errors import CorruptPackError, UnsupportedFormatError
from cas.packs import rewriter as rewriter_module
from cas.packs.codec import Codec, decode, encode_all
from cas.packs.pack import (
    EntryKind,
    PackWriter,
    pack_object_name,
    pack_size,
    parse_pack_name,
    read_footer,
)
from cas.packs.rewriter import PackRewriter

KINDS = (EntryKind.BLOB, EntryKind.RECORD, EntryKind.CHUNK_LIST)


@pytest.fixture(params=["memory", "local"])
def backend(request, tmp_path):
    return MemoryBackend() if request.param == "memory" else LocalBackend(tmp_path / "store")


def pack(backend, contents):
    """Publish a pack with these contents, its kinds in turn; return name, size and entries."""
    staged = backend.stage()
    writer = PackWriter(staged)
    for number, (data, (codec, stored)) in enumerate(
        zip(contents, encode_all(contents), strict=True)
    ):
        writer.append(KINDS[number % 3], codec, stored, [(Digest.of(data), len(data))])
    sealed = writer.seal()
    staged.publish(pack_object_name(sealed.name))
    places = [(Digest(digest), Location(sealed.name, *at)) for digest, *at in writer.places()]
    return sealed.name, sealed.size, places


def damage(backend, name, change):
    """Change the bytes of an object below the API."""
    if isinstance(backend, MemoryBackend):
        backend.objects[name] = change(backend.objects[name])
    else:
        path = backend.root / name
        path.write_bytes(change(path.read_bytes()))


class Listener:
    """The events of a rewriter, in order."""

    def __init__(self, backend):
        self.backend = backend
        self.events = []
        self.packs = []
        self.moved = []

    def register(self, sealed):
        assert pack_object_name(sealed.name) not in names(self.backend)
        self.events.append("register")

    def published(self, sealed, moved):
        assert pack_object_name(sealed.name) in names(self.backend)
        self.events.append("published")
        self.packs.append(sealed)
        self.moved += moved

    def rewriter(self):
        return PackRewriter(self.backend, register=self.register, on_published=self.published)


def names(backend):
    return {found.name for found in backend.iter_objects("packs/")}


def entries_of(backend, sealed):
    name = pack_object_name(sealed.name)
    return read_footer(
        name, backend.size(name), lambda start, size: backend.read(name, start, size)
    )


@pytest.fixture
def listener(backend):
    return Listener(backend)


def test_entries_of_several_packs_become_one_with_the_same_stored_bytes_and_kinds(
    backend, listener
):
    one = pack(backend, [b"first" * 9, os.urandom(300), b""])
    other = pack(backend, [b"0123456789" * 1000, b"a", b"bb"])
    with listener.rewriter() as rewriter:
        assert rewriter.copy(one[0], one[1], one[2][:2]) == []
        assert rewriter.copy(other[0], other[1], other[2]) == []
        rewriter.finish()
    (sealed,) = listener.packs
    assert listener.events == ["register", "published"]
    old = {e.digest: e for name in (one[0], other[0]) for e in entries_of_name(backend, name)}
    for entry in entries_of(backend, sealed):
        assert (entry.kind, entry.codec, entry.size) == (
            old[entry.digest].kind,
            old[entry.digest].codec,
            old[entry.digest].size,
        )
    for moved in listener.moved:
        before, after = stored(backend, moved.source), stored(backend, moved.target)
        assert before == after
        assert moved.target.pack == sealed.name
    assert len(listener.moved) == 5
    assert rewriter.bytes_copied == sum(moved.source.stored_size for moved in listener.moved)
    assert sealed.size == pack_size(5, rewriter.bytes_copied)


def entries_of_name(backend, name):
    stored = pack_object_name(name)
    return read_footer(
        stored, backend.size(stored), lambda start, size: backend.read(stored, start, size)
    )


def stored(backend, at):
    return backend.read(pack_object_name(at.pack), at.offset, at.stored_size)


def decoded(backend, moved):
    at = moved.target
    return bytes(decode(at.codec, stored(backend, at), at.size))


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_damaged_entry_is_told_and_not_copied_and_the_others_are(backend, listener, which):
    contents = [os.urandom(100), b"compresses" * 500, os.urandom(50)]
    name, size, entries = pack(backend, contents)
    digest, place = entries[which]

    def flip(data):
        return data[: place.offset] + bytes([data[place.offset] ^ 1]) + data[place.offset + 1 :]

    damage(backend, pack_object_name(name), flip)
    with listener.rewriter() as rewriter:
        (fault,) = rewriter.copy(name, size, entries)
        rewriter.finish()
    assert (fault.digest, fault.source, fault.is_damage) == (digest, place, True)
    assert {m.digest for m in listener.moved} == {d for d, _ in entries} - {digest}


def test_any_flipped_bit_is_told_or_harmless(listener, backend):
    contents = [os.urandom(20), b"x" * 400, b"y"]
    name, size, entries = pack(backend, contents)
    for at in range(size):
        damage(backend, pack_object_name(name), lambda data, at=at: flipped(data, at))
        mine = Listener(backend)
        faults = []
        with mine.rewriter() as rewriter:
            try:
                faults = rewriter.copy(name, size, entries)
            except (CorruptPackError, UnsupportedFormatError):
                kinds = dict.fromkeys((digest for digest, _ in entries), KINDS[0])
                faults = rewriter.copy(name, size, entries, kinds=kinds)
            rewriter.finish()
        assert {m.digest for m in mine.moved}.isdisjoint(f.digest for f in faults)
        assert len(mine.moved) + len(faults) == 3
        for moved in mine.moved:
            assert decoded(backend, moved) in contents
        damage(backend, pack_object_name(name), lambda data, at=at: flipped(data, at))


def flipped(data, at):
    return data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1 :]


def test_a_pack_whose_footer_is_damaged_gives_its_entries_only_to_who_knows_their_kinds(
    backend, listener
):
    name, size, entries = pack(backend, [b"one", b"two" * 100, b"three"])
    damage(backend, pack_object_name(name), lambda data: data[:-30])
    with listener.rewriter() as rewriter:
        with pytest.raises(CorruptPackError):
            rewriter.copy(name, size, entries)
        kinds = {digest: KINDS[n] for n, (digest, _) in enumerate(entries)}
        assert rewriter.copy(name, size, entries, kinds=kinds) == []
        rewriter.finish()
    assert {e.digest: e.kind for e in entries_of(backend, listener.packs[0])} == kinds


def test_a_truncated_pack_gives_what_is_left_of_it(backend, listener):
    name, size, entries = pack(backend, [b"one" * 100, os.urandom(200), os.urandom(300)])
    damage(backend, pack_object_name(name), lambda data: data[: entries[2][1].offset + 10])
    kinds = dict.fromkeys((digest for digest, _ in entries), EntryKind.BLOB)
    with listener.rewriter() as rewriter:
        (fault,) = rewriter.copy(name, size, entries, kinds=kinds)
        rewriter.finish()
    assert fault.digest == entries[2][0]
    assert len(listener.moved) == 2


def test_all_of_a_pack_that_is_missing_is_told(backend, listener):
    name, size, entries = pack(backend, [b"one", b"two"])
    backend.delete(pack_object_name(name))
    with listener.rewriter() as rewriter:
        faults = rewriter.copy(name, size, entries)
        rewriter.finish()
    assert [fault.digest for fault in faults] == [digest for digest, _ in entries]
    assert all(fault.is_damage for fault in faults)
    assert listener.packs == []


def test_an_entry_of_an_unknown_kind_stays_and_is_no_damage(backend, listener):
    staged = backend.stage()
    writer = PackWriter(staged)
    data = b"of a later release"
    writer.append(9, Codec.RAW, data, [(Digest.of(data), len(data))])
    sealed = writer.seal()
    staged.publish(pack_object_name(sealed.name))
    ((_, *place),) = writer.places()
    at = Location(sealed.name, *place)
    with listener.rewriter() as rewriter:
        (fault,) = rewriter.copy(sealed.name, sealed.size, [(Digest.of(data), at)])
    assert not fault.is_damage


def test_a_digest_is_copied_once_however_many_packs_have_it(backend, listener):
    one, other = pack(backend, [b"same", b"x"]), pack(backend, [b"same", b"y"])
    with listener.rewriter() as rewriter:
        for name, size, entries in (one, other):
            rewriter.copy(name, size, entries)
        rewriter.finish()
    assert len(listener.moved) == 3
    entries_of(backend, listener.packs[0])  # reading fails if a digest is listed twice


@pytest.mark.parametrize("bound", ["PACK_SIZE", "MOST_ENTRIES"])
def test_packs_end_at_either_bound_and_each_is_told_when_it_is_durable(
    backend, listener, monkeypatch, bound
):
    monkeypatch.setattr(rewriter_module, bound, {"PACK_SIZE": 1000, "MOST_ENTRIES": 4}[bound])
    name, size, entries = pack(backend, [os.urandom(250) for _ in range(12)])
    with listener.rewriter() as rewriter:
        rewriter.copy(name, size, entries)
        assert listener.events[:2] == ["register", "published"]
        rewriter.finish()
    assert [sealed.entries for sealed in listener.packs] == [4, 4, 4]
    assert listener.events == ["register", "published"] * 3


def test_leaving_without_finish_publishes_nothing_more(backend, listener):
    name, size, entries = pack(backend, [b"one"])
    with listener.rewriter() as rewriter:
        rewriter.copy(name, size, entries)
    assert names(backend) == {pack_object_name(name)}
    if isinstance(backend, LocalBackend):
        assert list((backend.root / "tmp").iterdir()) == []


def test_a_pack_is_not_held_in_memory(tmp_path):
    backend = LocalBackend(tmp_path / "store")
    name, size, entries = pack(backend, [os.urandom(1 << 20) for _ in range(48)])
    listener = Listener(backend)
    tracemalloc.start()
    with listener.rewriter() as rewriter:
        rewriter.copy(name, size, entries)
        rewriter.finish()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(listener.moved) == 48
    assert peak < 32 << 20


def test_what_batches_wrote_is_rewritten_and_read(backend):
    """With the store's own writer and reader, including large blobs and compression."""
    from cas.store import BlobStore, open_settings

    catalog = MemoryCatalog()
    store = BlobStore(backend, catalog, open_settings(backend, create=True))
    contents = [os.urandom(3 << 20), b"text " * 10_000, b"", os.urandom(5000)]
    with store.batch() as batch:
        digests = [
            batch.add_pieces(
                data[at : at + (1 << 20)] for at in range(0, max(len(data), 1), 1 << 20)
            )[0]
            for data in contents
        ]
        written = batch.finish()
    catalog.record(written)
    listener = Listener(backend)
    with listener.rewriter() as rewriter:
        (sealed,) = written.packs
        assert rewriter.copy(sealed.name, sealed.size, written.blobs.items()) == []
        rewriter.finish()
    catalog.placements.update((moved.digest, moved.target) for moved in listener.moved)
    backend.delete(pack_object_name(sealed.name))
    assert [store.read(digest) for digest in digests] == contents


@pytest.mark.parametrize(
    "name", ["packs/ab/x.pack", "cas.json", f"packs/00/{'a' * 64}.pack", f"packs/{'a' * 64}.pack"]
)
def test_what_is_no_pack_has_no_pack_name(name):
    assert parse_pack_name(name) is None
    digest = Digest.of(b"x")
    assert parse_pack_name(pack_object_name(digest)) == digest
