"""Forged packs and locations: errors of ours, bounded memory, nothing unverified."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import random
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import zstandard
from blake3 import blake3
from forged import (
    BLOB,
    HEADER,
    RAW,
    RECORD,
    ZSTD,
    frame_claiming,
    pack_of,
    signed_again,
    sound_pack,
)
from hypothesis import example, given
from hypothesis import strategies as st

from cas.backends.memory import MemoryBackend
from cas.catalog import Location, MemoryCatalog
from cas.digest import Digest
from cas.errors import (
    CasError,
    CorruptPackError,
    DigestMismatchError,
    ObjectNotFoundError,
    UnsupportedFormatError,
)
from cas.packs.codec import decode_all
from cas.packs.pack import MAX_ENTRY_SIZE, MAX_PACK_SIZE, pack_object_name, read_footer
from cas.reader import BlobReader
from cas.store import open_settings

ROOT = Path(__file__).parents[2]
NAME = Digest(b"p" * 32)
TAIL = 64 << 10
BLOBS = [b"", b"one", b"text " * 200, bytes(range(256)), random.Random(1).randbytes(400)]
SOUND = sound_pack(BLOBS)

numbers = st.one_of(
    st.integers(0, 300),
    st.sampled_from([HEADER.size, MAX_ENTRY_SIZE, MAX_ENTRY_SIZE + 1, 2**31, 2**32 - 1]),
)


class Object:
    """Bytes in storage that count how many of them were requested."""

    def __init__(self, data):
        self.data = data
        self.asked = 0

    def read(self, start, size):
        assert start >= 0
        assert 0 <= size <= len(self.data) - start, "more was asked for than there is"
        self.asked += size
        return self.data[start : start + size]


def entries_of(data):
    """Return the entries of the footer, or none; only errors of ours may be raised."""
    stored = Object(data)
    entries = []
    with contextlib.suppress(CasError):
        entries = read_footer("p", len(data), stored.read)
    assert stored.asked <= len(data)
    return entries


def check_reading(data):
    """Read every entry that the pack claims to have. Each is right or raises an error."""
    backend, catalog = MemoryBackend(), MemoryCatalog()
    backend.objects[pack_object_name(NAME)] = data
    found = []
    for entry in entries_of(data):
        place = Location(NAME, entry.offset, entry.stored_size, entry.size, entry.codec)
        catalog.placements[entry.digest] = place
        found.append((entry.digest, place))
    reader = BlobReader(backend, catalog)
    for digest, _ in found:
        with contextlib.suppress(CasError):
            assert blake3(reader.read(digest)).digest() == digest
    with contextlib.suppress(CasError):
        for digest, blob in reader.read_located(found):
            assert blake3(blob).digest() == digest
    return len(found)


@st.composite
def edits(draw):
    """Draw a sound pack with bytes replaced, inserted, removed or repeated, in any region."""
    data = bytearray(SOUND)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(data)))
        some = draw(st.binary(min_size=1, max_size=8))
        kind = draw(st.sampled_from(["replace", "insert", "remove", "cut", "double"]))
        if kind == "replace":
            data[place : place + len(some)] = some
        elif kind == "insert":
            data[place:place] = some
        elif kind == "remove":
            del data[place : place + len(some)]
        elif kind == "cut":
            del data[place:]
        else:
            data[place:place] = data[place : place + RECORD.size]
    return signed_again(bytes(data)) if draw(st.booleans()) else bytes(data)


@given(edits())
def test_a_pack_with_changed_bytes_yields_right_blobs_or_errors(data):
    check_reading(data)


def test_every_changed_byte_of_a_signed_pack_yields_right_blobs_or_errors():
    for place in range(len(SOUND)):
        for flip in (0x01, 0x80):
            data = bytearray(SOUND)
            data[place] ^= flip
            check_reading(signed_again(bytes(data)))
    assert check_reading(SOUND) == len(BLOBS)


records = st.tuples(
    st.sampled_from([BLOB, BLOB, BLOB, 0, 2, 255]),
    st.sampled_from([RAW, ZSTD, 2, 255]),
    st.sampled_from([blake3(b"one").digest(), b"d" * 32, b"e" * 32]),
    numbers,
    numbers,
    numbers,
)


@given(st.lists(records, max_size=5), st.binary(max_size=300), st.one_of(st.none(), numbers))
def test_made_up_records_yield_right_blobs_or_errors(made_up, body, count):
    check_reading(pack_of(made_up, body=body, count=count))


@given(st.lists(records, min_size=1, max_size=5), st.data())
def test_records_that_lie_in_order_yield_right_blobs_or_errors(made_up, data):
    """Entries in order pass the check of the order, and reach the checks after it."""
    ordered, position = [], HEADER.size
    for kind, codec, digest, *_ in made_up:
        stored = data.draw(st.integers(0, 60))
        ordered.append((kind, codec, digest, position, stored, data.draw(numbers)))
        position += stored
    body = data.draw(st.binary(min_size=position, max_size=position))[HEADER.size :]
    check_reading(pack_of(ordered, body=body))


@given(st.integers(0, len(SOUND) + 100), st.integers(0, 3), st.sampled_from(["end", "gone"]))
def test_a_pack_that_changes_between_two_reads_is_an_error_of_ours(size, after, how):
    reads = []

    def read(start, wanted):
        reads.append(wanted)
        if len(reads) <= after:
            return SOUND[start : start + wanted]
        if how == "gone":
            raise ObjectNotFoundError("p")
        return SOUND[:size][start : start + wanted]

    with contextlib.suppress(CasError):
        assert len(read_footer("p", len(SOUND), read)) == len(BLOBS)
    with contextlib.suppress(CasError):
        assert len(read_footer("p", size, read)) == len(BLOBS)
        assert size == len(SOUND)


@pytest.mark.parametrize("size", [MAX_PACK_SIZE, 1 << 40, 1 << 62])
def test_what_is_larger_than_any_pack_is_refused_unread(size):
    def read(_start, _size):
        raise AssertionError("it was read")

    with pytest.raises(CorruptPackError, match="too many for a pack"):
        read_footer("p", size, read)


def test_a_footer_that_claims_billions_of_records_is_refused_by_its_tail():
    stored = Object(pack_of([], body=bytes(200_000), count=2**32 - 1))
    with pytest.raises(CorruptPackError, match="more than it can hold"):
        read_footer("p", len(stored.data), stored.read)
    assert stored.asked <= HEADER.size + TAIL


@pytest.mark.parametrize("codec", [RAW, ZSTD])
def test_an_entry_larger_than_any_is_refused(codec):
    size = MAX_ENTRY_SIZE + 1
    data = pack_of([(BLOB, codec, b"d" * 32, HEADER.size, size, 5)], body=bytes(size))
    with pytest.raises(CorruptPackError, match="cannot be decoded"):
        read_footer("p", len(data), lambda start, wanted: data[start : start + wanted])


@pytest.mark.parametrize(
    "place",
    [
        Location(NAME, HEADER.size, 2**40, 5, RAW),
        Location(NAME, HEADER.size, 5, 2**40, ZSTD),
        Location(NAME, HEADER.size, 2**63 - 1, 2**63 - 1, RAW),
        Location(NAME, 2**63 - 1, 5, 5, RAW),
        Location(NAME, -1, 5, 5, RAW),
        Location(NAME, HEADER.size, -5, 5, RAW),
        Location(NAME, HEADER.size, 5, -5, ZSTD),
    ],
)
def test_a_location_that_none_can_be_is_refused_unread(place):
    class Unread(MemoryBackend):
        def read(self, name, start=0, size=None):
            raise AssertionError("it was read")

    digest, catalog = Digest.of(b"hello"), MemoryCatalog()
    catalog.placements[digest] = place
    reader = BlobReader(Unread(), catalog)
    for read in (
        lambda: reader.read(digest),
        lambda: reader.read_range(digest, 0, 3),
        lambda: reader.open(digest).read(),
        lambda: list(reader.read_many([digest])),
        lambda: list(reader.read_in_order([(digest, place)])),
        lambda: list(reader.read_ahead([(digest, place)])),
    ):
        with pytest.raises(DigestMismatchError, match="damaged"):
            read()


locations = st.builds(Location, st.just(NAME), *[numbers] * 3, st.integers(0, 3))


@given(st.lists(locations, min_size=1, max_size=6))
def test_wrong_locations_yield_right_blobs_or_errors(places):
    backend, catalog = MemoryBackend(), MemoryCatalog()
    backend.objects[pack_object_name(NAME)] = SOUND
    wanted = [Digest.of(blob) for blob in BLOBS]
    placed = list(zip(wanted, places, strict=False))
    catalog.placements.update(placed)
    reader = BlobReader(backend, catalog)
    for read in (reader.read_located, reader.read_in_order, reader.read_ahead):
        with contextlib.suppress(CasError):
            assert all(Digest.of(blob) == digest for digest, blob in read(placed))


small = zstandard.ZstdCompressor().compress(b"x" * 100)

BOMBS = {
    "tells the truth": (frame_claiming(b"x" * 100, 100), 100),
    "yields more than it claims": (frame_claiming(bytes(1 << 20), 100), 100),
    "yields less than it claims": (frame_claiming(b"x" * 50, 100), 100),
    "claims what no frame may": (frame_claiming(b"x" * 100, 2**32 - 1), 100),
    "several frames": (small * 3, 100),
    "more behind the frame": (small + b"more", 100),
    "a frame to skip first": (b"\x50\x2a\x4d\x18\x04\0\0\0abcd" + small, 100),
    "cut short": (small[:-1], 100),
    "without blocks": (small[: zstandard.frame_header_size(small)], 100),
    "of nothing": (zstandard.ZstdCompressor().compress(b""), 100),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_frame_that_lies_is_never_more_than_it_should_be(name):
    stored, size = BOMBS[name]
    try:
        (decoded,) = decode_all([(ZSTD, stored, size)])
    except ValueError:
        assert name != "tells the truth"
        return
    assert len(decoded) == size


@given(st.binary(max_size=60), st.integers(0, 60), st.integers(0, 400))
def test_frames_with_changed_bytes_are_value_errors_or_of_their_size(some, place, size):
    frame = zstandard.ZstdCompressor().compress(b"some text " * 40)
    changed = frame[:place] + some + frame[place + len(some) :]
    for claimed in (size, 400):
        with contextlib.suppress(ValueError):
            (decoded,) = decode_all([(ZSTD, changed, claimed)])
            assert len(decoded) == claimed


def test_hostile_packs_and_locations_are_refused_in_little_memory():
    """The process may use 300 MB more than it has; bombs hold, claim or are gigabytes."""
    code = """
        import io, os, resource, sys, tempfile
        from pathlib import Path
        import zstandard
        sys.path[:0] = sys.argv[1:]
        from forged import *
        from cas.catalog import Location, MemoryCatalog
        from cas.digest import Digest
        from cas.errors import CasError
        from cas.backends.local import LocalBackend
        from cas.packs.pack import pack_object_name, read_footer
        from cas.reader import BlobReader

        huge = 1 << 31
        maker = zstandard.ZstdCompressor().compressobj(size=huge)
        zeros = bytes(1 << 20)
        bomb = b"".join(maker.compress(zeros) for _ in range(huge >> 20)) + maker.flush()
        lying = frame_claiming(bytes(32 << 20), 1000)
        body = bomb + lying
        name = Digest(b"p" * 32)
        with tempfile.TemporaryDirectory() as folder:
            backend = LocalBackend(folder)
            path = Path(folder, pack_object_name(name))
            path.parent.mkdir(parents=True)
            path.write_bytes(pack_of([], body=body))
            os.truncate(path, 1 << 40)  # sparse
            with open("/proc/self/statm") as file:
                has = int(file.read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (has + (300 << 20),) * 2)
            places = [
                Location(name, 32, len(bomb), huge, ZSTD),
                Location(name, 32, len(bomb), 1000, ZSTD),
                Location(name, 32 + len(bomb), len(lying), 1000, ZSTD),
                Location(name, 32, huge, huge, RAW),
                Location(name, 0, 1 << 40, 1 << 40, RAW),
            ]
            catalog = MemoryCatalog()
            digests = [Digest(bytes([n]) * 32) for n in range(len(places))]
            catalog.placements.update(zip(digests, places))
            reader = BlobReader(backend, catalog)
            refused = 0
            for digest, place in zip(digests, places):
                for read in (reader.read, lambda d: list(reader.read_located([(d, place)]))):
                    try:
                        read(digest)
                    except CasError:
                        refused += 1
            try:
                size = backend.size(pack_object_name(name))
                read = lambda start, size: backend.read(pack_object_name(name), start, size)
                read_footer("p", size, read)
            except CasError:
                refused += 1
        print(refused)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(ROOT / "tests" / "support"), str(ROOT)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout == "11\n"


@pytest.fixture(scope="module")
def unpack():
    spec = importlib.util.spec_from_file_location("unpack", ROOT / "docs" / "unpack.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@given(edits())
def test_the_script_without_the_library_fails_as_it_says_it_does(unpack, data):
    _check_script(unpack, data)


@given(st.lists(records, max_size=5), st.binary(max_size=300), st.one_of(st.none(), numbers))
def test_the_script_refuses_made_up_records(unpack, made_up, body, count):
    _check_script(unpack, pack_of(made_up, body=body, count=count))


def _check_script(unpack, data):
    file = io.BytesIO(data)
    try:
        found = list(unpack.iter_records(file))
    except ValueError:
        return
    for record in found:
        with contextlib.suppress(ValueError):
            assert blake3(unpack.read_blob(file, record)).digest() == record[2]


def test_the_script_writes_nothing_but_digests_into_its_directory(unpack, tmp_path, capsys):
    outside = tmp_path / "outside"
    outside.mkdir()
    out = tmp_path / "out"
    out.mkdir()
    (out / blake3(b"one").hexdigest()).symlink_to(outside / "planted")
    data = sound_pack(BLOBS)
    assert unpack.extract(io.BytesIO(data), out)
    assert {path.name for path in out.iterdir()} == {blake3(blob).hexdigest() for blob in BLOBS}
    assert not (out / blake3(b"one").hexdigest()).is_symlink()
    assert list(outside.iterdir()) == []


SETTINGS = {
    "format_version": 1, "hash": "blake3-256", "chunker": "fixed", "chunk_size": 1 << 20,
    "store_id": "3a1c2f60-0000-4000-8000-000000000000", "created": "2026-01-01T00:00:00+00:00",
}  # fmt: skip

anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner)),
    max_leaves=5,
)


def settings_of(text):
    backend = MemoryBackend()
    backend.objects["cas.json"] = text
    return open_settings(backend, create=True)


@given(st.sampled_from(sorted(SETTINGS)), anything)
@example("chunk_size", 1.5)
@example("chunk_size", True)  # noqa: FBT003 - what the field holds
@example("store_id", {})
def test_settings_with_another_value_are_refused_or_of_the_right_types(name, value):
    with contextlib.suppress(UnsupportedFormatError):
        found = settings_of(json.dumps(SETTINGS | {name: value}).encode())
        assert {type(getattr(found, field)) for field in ("hash", "store_id", "created")} == {str}
        assert type(found.chunk_size) is type(found.format_version) is int


@given(st.one_of(st.binary(max_size=200), anything.map(lambda value: json.dumps(value).encode())))
@example(b"[" * 60_000)
def test_what_are_no_settings_is_refused(text):
    with pytest.raises(UnsupportedFormatError):
        settings_of(text)
