"""Small blobs that share a frame: stored together, read and verified one by one."""

from __future__ import annotations

import random
import tracemalloc

import pytest
import zstandard
from forged import BLOB, HEADER, RAW, ZSTD, pack_of
from hypothesis import example, given
from hypothesis import strategies as st

from cas import BlobStore
from cas.backends.memory import MemoryBackend
from cas.cache.cache import PackCache
from cas.catalog import Location, MemoryCatalog
from cas.digest import Digest
from cas.errors import CorruptPackError, DigestMismatchError
from cas.packs import frames as frames_module
from cas.packs.codec import Codec, decode
from cas.packs.frames import SHARED_BELOW, SHARED_SIZE, decode_blobs, encode_blobs
from cas.packs.pack import MAX_FRAME_SIZE, EntryKind, PackWriter, pack_object_name, read_footer
from cas.packs.rewriter import PackRewriter
from cas.reader import BlobReader
from cas.store import open_settings

WORDS = [b"amplitude", b"frequency", b"residual", b"converged", b"0.0173", b"step"]


def texts(count, size=2000):
    """Return different texts, which compress."""
    source = random.Random(7)
    return [b" ".join(source.choices(WORDS, k=size // 8))[:size] + b"%d" % n for n in range(count)]


FRAMES = 4
"""Shared frames of a hundred texts of 2 kB."""


class Stored:
    """Blobs in a store in memory, and the requests that reads of them make."""

    def __init__(self, blobs):
        self.backend, self.catalog = MemoryBackend(), MemoryCatalog()
        settings = open_settings(self.backend, create=True)
        with BlobStore(self.backend, self.catalog, settings).batch() as batch:
            self.digests = [batch.add(data) for data in blobs]
            self.written = batch.finish()
        self.catalog.record(self.written)
        self.requests = []
        read = self.backend.read

        def counting(name, start=0, size=None):
            self.requests.append((start, size))
            return read(name, start, size)

        self.backend.read = counting
        self.backend.window_size = 0  # frames are counted here, as they are read from a local disk
        self.reader = BlobReader(self.backend, self.catalog)

    @property
    def places(self):
        return [self.catalog.placements[digest] for digest in self.digests]

    @property
    def pack(self):
        (sealed,) = self.written.packs
        return sealed

    def change(self, at):
        name = pack_object_name(self.pack.name)
        data = bytearray(self.backend.objects[name])
        data[at] ^= 1
        self.backend.objects[name] = bytes(data)


@pytest.fixture
def stored():
    return Stored(texts(100))


def test_small_blobs_take_less_together_than_each_alone(stored):
    blobs = dict(zip(stored.digests, texts(100), strict=True)).items()
    alone = sum(len(frame.stored) for frame in encode_blobs(blobs, share=False))
    together = sum(len(frame.stored) for frame in encode_blobs(blobs))
    assert together < 0.8 * alone
    assert stored.pack.size == together + 48 * 100 + 76


def test_a_frame_has_an_upper_size_and_only_small_blobs(stored):
    by_offset = {}
    for place in stored.places:
        by_offset.setdefault(place.offset, []).append(place)
    assert len(by_offset) == FRAMES
    for places in by_offset.values():
        assert sum(place.size for place in places) == places[0].frame_size <= SHARED_SIZE
    larger = Stored([*texts(3), b"large " * (SHARED_BELOW // 6 + 1)])
    assert [bool(place.frame_size) for place in larger.places] == [True, True, True, False]


def test_blobs_that_do_not_compress_share_nothing():
    source = random.Random(1)
    stored = Stored([source.randbytes(1000) for _ in range(10)])
    assert {(place.codec, place.frame_size) for place in stored.places} == {(Codec.RAW, 0)}


def test_blobs_lie_in_the_order_in_which_they_came():
    source = random.Random(5)
    sizes = source.choices((0, 100, 5000, 40_000, SHARED_BELOW, SHARED_BELOW + 1, 200_000), k=200)
    blobs = [b"%d " % n + b"word " * (size // 5) for n, size in enumerate(sizes)]
    places = Stored(blobs).places
    assert any(place.frame_size for place in places)
    order = [(place.offset, place.frame_start) for place in places]
    assert order == sorted(order)


def test_journal_records_share_no_frame():
    stored = Stored([])
    settings = open_settings(stored.backend, create=False)
    with BlobStore(stored.backend, stored.catalog, settings).batch() as batch:
        records = [batch.add_record(data) for data in texts(3)]
        written = batch.finish()
    assert [written.blobs[record].frame_size for record in records] == [0, 0, 0]


def test_each_blob_is_read_alone_and_with_others(stored):
    for data, digest in zip(texts(100), stored.digests, strict=True):
        assert stored.reader.read(digest) == data
        assert stored.reader.read_range(digest, 5, 7) == data[5:12]
        with stored.reader.open(digest) as stream:
            assert stream.read() == data
    found = {digest: bytes(data) for digest, data in stored.reader.read_many(stored.digests)}
    assert found == dict(zip(stored.digests, texts(100), strict=True))


def test_neighbours_are_read_with_one_request_a_frame_in_any_order(stored):
    for digest in random.Random(8).sample(stored.digests, 100):
        stored.reader.read(digest)
    assert len(stored.requests) == FRAMES


def test_the_decoded_frames_that_a_reader_keeps_have_a_bound(stored, monkeypatch):
    monkeypatch.setattr(frames_module, "_MOST_RECENT", 2 * SHARED_SIZE)
    kept = stored.reader._frames
    for number in random.Random(9).choices(range(100), k=200):
        assert stored.reader.read(stored.digests[number]) == texts(100)[number]
        assert kept._size == sum(map(len, kept._frames.values())) <= 2 * SHARED_SIZE
    first, *_, last = stored.digests
    for digest in (first, last, first, last):
        stored.reader.read(digest)
    stored.requests.clear()
    stored.reader.read(stored.digests[50])  # forgets the frame of the first
    for digest in (last, first):
        stored.reader.read(digest)
    assert len(stored.requests) == 2


def test_a_frame_is_decoded_once_for_all_blobs_in_it(stored, monkeypatch):
    decoded = []
    real = frames_module.decode_all
    monkeypatch.setattr(
        frames_module, "decode_all", lambda entries: decoded.extend(entries) or real(entries)
    )
    assert len(list(stored.reader.read_many(stored.digests))) == 100
    assert len(decoded) == FRAMES


def test_a_frame_that_was_read_before_does_not_hide_another_blob_in_the_same_place(stored):
    """A row may name a wrong place in a frame: the digest decides, also of bytes in memory."""
    first, second = stored.digests[:2]
    stored.reader.read(first)
    place = stored.catalog.placements[first]
    stored.catalog.placements[second] = place
    with pytest.raises(DigestMismatchError):
        stored.reader.read(second)


def test_a_damaged_frame_costs_all_blobs_in_it_and_no_other(stored):
    place = stored.places[0]
    stored.change(place.offset)
    for data, digest, at in zip(texts(100), stored.digests, stored.places, strict=True):
        if at.offset == place.offset:
            with pytest.raises(DigestMismatchError):
                stored.reader.read(digest)
        else:
            assert stored.reader.read(digest) == data


def test_parts_are_verified_by_the_whole_that_they_make_up(stored):
    located = list(zip(stored.digests, stored.places, strict=True))
    assert b"".join(stored.reader.read_parts(located)) == b"".join(texts(100))


def test_of_parts_only_those_that_can_not_be_decoded_are_refused():
    stored = Stored([bytes([n]) * 3 for n in range(9)])
    assert not stored.places[0].stored_size > 3  # as they are
    located = list(zip(stored.digests, stored.places, strict=True))
    stored.change(stored.places[4].offset)
    parts = [bytes(part) for part in stored.reader.read_parts(located)]
    assert len(parts) == 9
    assert parts[4] != bytes([4]) * 3
    shared = Stored(texts(100))
    shared.change(shared.places[0].offset)  # where a frame says that it is one
    with pytest.raises(DigestMismatchError):
        list(shared.reader.read_parts(zip(shared.digests, shared.places, strict=True)))


class TestFramesToStoreAgain:
    def read(self, stored, digests, reader=None):
        places = [(digest, stored.catalog.placements[digest]) for digest in digests]
        (found,) = (reader or stored.reader).read_frames(places)
        assert [digest for digest, _ in found.blobs] == list(digests)
        data = dict(found.blobs)
        for frame in found.frames:
            members = b"".join(data[digest] for digest, _ in frame.blobs)
            assert decode(frame.codec, frame.stored, len(members)) == members
        named = [digest for frame in found.frames for digest, _ in frame.blobs]
        assert sorted(named) == sorted(set(digests))
        return found.frames

    def test_whole_frames_are_as_they_are_stored(self, stored):
        frames = self.read(stored, stored.digests)
        pack = stored.backend.objects[pack_object_name(stored.pack.name)]
        offsets = sorted({(place.offset, place.stored_size) for place in stored.places})
        assert [frame.stored for frame in frames] == [pack[at : at + size] for at, size in offsets]

    def test_a_part_of_a_frame_is_encoded_anew(self, stored):
        frames = self.read(stored, stored.digests[:10])
        assert len(frames[0].stored) < stored.places[0].stored_size / 2

    def test_a_blob_that_is_asked_for_twice_is_stored_once(self, stored):
        self.read(stored, [*stored.digests[:3], stored.digests[0]])

    def test_bytes_that_are_damaged_in_the_cache_are_not_stored_again(self, stored, tmp_path):
        cache = PackCache(tmp_path / "cache")
        reader = BlobReader(stored.backend, stored.catalog, cache)
        self.read(stored, stored.digests, reader)
        kept = [
            path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size > 999
        ]
        assert kept
        for path in kept:
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.write_bytes(data)
        self.read(stored, stored.digests, reader)

    def test_damaged_bytes_are_not_stored_again(self, stored):
        place = stored.places[0]
        stored.change(place.offset)
        with pytest.raises(DigestMismatchError):
            self.read(stored, stored.digests)


@given(
    blobs=st.lists(
        st.binary(max_size=300) | st.integers(1, 9).map(lambda n: b"%d " % n * 20_000), max_size=40
    ),
    share=st.booleans(),
)
@example(blobs=[b"", b"a", b""], share=True)
def test_any_blobs_come_back(blobs, share):
    named = {Digest.of(data): data for data in blobs}
    backend = MemoryBackend()
    staged = backend.stage()
    writer = PackWriter(staged)
    for frame in encode_blobs(named.items(), share=share):
        writer.append(EntryKind.BLOB, *frame)
    sealed = writer.seal()
    staged.publish("packs/it")
    data = backend.objects["packs/it"]
    entries = read_footer("it", len(data), lambda start, size: data[start : start + size])
    places = [Location.of(sealed.name, entry) for entry in entries]
    assert [(e.digest, *at[1:]) for e, at in zip(entries, places, strict=True)] == [
        *writer.places()
    ]
    decoded = decode_blobs(places, memoryview(data), 0)
    assert {e.digest: bytes(blob) for e, blob in zip(entries, decoded, strict=True)} == named
    assert share or not any(entry.frame_size for entry in entries)
    shares = {}
    for entry in entries:
        shares.setdefault((entry.offset, entry.stored_size), []).append(entry.share)
    assert all(sum(parts) == size for (_, size), parts in shares.items())


def two_in_a_frame(kinds=(BLOB, BLOB), codecs=(ZSTD, ZSTD), sizes=(5, 6), frame=None):
    frame = frame or zstandard.ZstdCompressor().compress(b"hello world")
    rows = [
        (kind, codec, bytes([number]) * 32, HEADER.size, len(frame), size)
        for number, (kind, codec, size) in enumerate(zip(kinds, codecs, sizes, strict=True))
    ]
    return pack_of(rows, body=frame)


def parsed(data):
    return read_footer("p", len(data), lambda start, size: data[start : start + size])


def test_a_frame_made_by_hand_is_read():
    first, second = parsed(two_in_a_frame())
    assert (first.frame_start, first.frame_size, second.frame_start) == (0, 11, 5)
    places = [Location.of(Digest.of(b""), entry) for entry in (first, second)]
    assert decode_blobs(places, memoryview(two_in_a_frame()), 0) == [b"hello", b" world"]


@pytest.mark.parametrize(
    "data",
    [
        two_in_a_frame(kinds=(2, 2)),
        two_in_a_frame(kinds=(1, 2)),
        two_in_a_frame(kinds=(3, 1)),
        two_in_a_frame(kinds=(9, 1)),
        two_in_a_frame(kinds=(1, 9)),
        two_in_a_frame(codecs=(RAW, RAW)),
        two_in_a_frame(codecs=(RAW, ZSTD)),
        two_in_a_frame(sizes=(MAX_FRAME_SIZE, 1)),
        two_in_a_frame(sizes=(0, 0)),
        two_in_a_frame(kinds=(9, 9), sizes=(0, 0)),
        two_in_a_frame(kinds=(9, 9)),
        two_in_a_frame(sizes=(2**32 - 1, 2**32 - 1)),
    ],
)
def test_entries_that_cannot_share_a_frame_are_refused(data):
    with pytest.raises(CorruptPackError, match="cannot be decoded"):
        parsed(data)


def test_a_frame_of_another_size_than_its_blobs_is_damage():
    data = two_in_a_frame(sizes=(5, 5))
    places = [Location.of(Digest.of(b""), entry) for entry in parsed(data)]
    assert decode_blobs(places, memoryview(data), 0) == [None, None]


def test_many_small_frames_that_claim_much_cost_little_memory():
    """A span is bounded by what its frames decode to, not by the blobs that are asked for."""
    frame = zstandard.ZstdCompressor(write_checksum=False).compress(bytes(MAX_FRAME_SIZE))
    backend, catalog = MemoryBackend(), MemoryCatalog()
    backend.objects[pack_object_name(Digest.of(b"p"))] = b"h" * 32 + frame * 200
    digest = Digest.of(b"\0")
    blobs = [
        (digest, Location(Digest.of(b"p"), 32 + n * len(frame), len(frame), 1, 1, n, 1 << 20))
        for n in range(200)
    ]
    reader = BlobReader(backend, catalog)
    tracemalloc.start()
    assert sum(len(data) for _, data in reader.read_located(blobs)) == 200
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40 << 20


class TestCopies:
    @pytest.fixture
    def moved(self):
        return []

    def copied(self, stored, moved, digests):
        def published(sealed, entries):
            moved.extend(entries)

        with PackRewriter(
            stored.backend, register=lambda _: None, on_published=published
        ) as rewriter:
            faults = rewriter.copy(
                stored.pack.name,
                stored.pack.size,
                [(digest, stored.catalog.placements[digest]) for digest in digests],
            )
            rewriter.finish()
        stored.catalog.placements.update({entry.digest: entry.target for entry in moved})
        return faults

    def test_a_whole_frame_is_copied_as_it_is_stored(self, stored, moved):
        assert not self.copied(stored, moved, reversed(stored.digests))
        assert {e.target[2:] for e in moved} == {e.source[2:] for e in moved}
        data = stored.backend.objects
        for entry in moved:
            old, new = (
                data[pack_object_name(at.pack)][at.offset : at.offset + at.stored_size]
                for at in (entry.source, entry.target)
            )
            assert old == new

    def test_of_a_part_of_a_frame_only_that_part_is_stored(self, stored, moved):
        chosen = stored.digests[::10]
        assert not self.copied(stored, moved, chosen)
        assert {entry.digest for entry in moved} == set(chosen)
        assert sum({e.target.offset: e.target.stored_size for e in moved}.values()) < sum(
            {e.source.offset: e.source.stored_size for e in moved}.values()
        )
        for digest, data in list(zip(stored.digests, texts(100), strict=True))[::10]:
            assert stored.reader.read(digest) == data
        listed = stored.backend.objects[pack_object_name(moved[0].target.pack)]
        assert {entry.digest for entry in parsed(listed)} == set(chosen)

    def test_of_a_damaged_frame_every_blob_is_a_fault(self, stored, moved):
        place = stored.places[0]
        stored.change(place.offset)
        places = zip(stored.digests, stored.places, strict=True)
        lost = {digest for digest, at in places if at.offset == place.offset}
        faults = self.copied(stored, moved, stored.digests)
        assert {fault.digest for fault in faults} == lost
        assert all(fault.is_damage for fault in faults)
        assert {entry.digest for entry in moved} == set(stored.digests) - lost

    def test_places_in_a_frame_that_overlap_are_not_copied_as_they_are(self, stored, moved):
        """Rows that contradict the footer must not make a pack whose footer is wrong."""
        first = stored.places[0]
        half = Digest.of(texts(1)[0][:100])
        stored.catalog.placements[half] = first._replace(size=100)
        faults = self.copied(stored, moved, [*stored.digests, half])
        assert [fault.digest for fault in faults] == [half]  # the footer does not list it
        for digest, data in zip(stored.digests, texts(100), strict=True):
            assert stored.reader.read(digest) == data

    @pytest.mark.parametrize("backwards", [False, True])
    def test_what_is_no_content_keeps_its_kind_beside_an_empty_blob(self, moved, backwards):
        """An empty blob has the same offset as the entry after it, whatever its kind."""
        for blobs in ([b""], [*texts(3), b""]):
            stored = Stored([])
            settings = open_settings(stored.backend, create=False)
            with BlobStore(stored.backend, stored.catalog, settings).batch() as batch:
                digests = [batch.add(data) for data in blobs]
                digests += [batch.add_record(data) for data in (b"a record", b"another")]
                stored.written = batch.finish()
            stored.catalog.record(stored.written)
            moved.clear()
            assert not self.copied(stored, moved, digests[::-1] if backwards else digests)
            name = pack_object_name(moved[0].target.pack)
            kinds = {entry.digest: entry.kind for entry in parsed(stored.backend.objects[name])}
            expected = [EntryKind.BLOB] * len(blobs) + [EntryKind.RECORD] * 2
            assert kinds == dict(zip(digests, expected, strict=True))


@pytest.mark.parametrize(
    ("kind", "codec", "sizes"),
    [
        (EntryKind.RECORD, Codec.ZSTD, (5, 6)),
        (EntryKind.CHUNK_LIST, Codec.ZSTD, (5, 6)),
        (EntryKind.BLOB, Codec.RAW, (5, 6)),
        (EntryKind.BLOB, Codec.ZSTD, (MAX_FRAME_SIZE, 1)),
    ],
)
def test_what_no_reader_accepts_is_not_written(kind, codec, sizes):
    writer = PackWriter(MemoryBackend().stage())
    with pytest.raises(ValueError, match="can't share"):
        writer.append(kind, codec, b"x", [(Digest.of(b"%d" % size), size) for size in sizes])


def test_rows_that_let_raw_bytes_be_shared_are_not_believed():
    backend, catalog = MemoryBackend(), MemoryCatalog()
    stored = Stored([b"one", b"two"])
    backend, first = stored.backend, stored.places[0]
    wrong = first._replace(stored_size=6, frame_size=6)
    with pytest.raises(DigestMismatchError):
        BlobReader(backend, catalog).read(stored.digests[0], wrong)
