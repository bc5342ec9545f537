from __future__ import annotations

import pytest
from blake3 import blake3
from forged import assert_sound, frame_of, pack_of
from hypothesis import given
from hypothesis import strategies as st

from cas.backends.memory import MemoryBackend
from cas.digest import Digest
from cas.errors import CorruptPackError, UnsupportedFormatError
from cas.packs.codec import Codec
from cas.packs.pack import (
    HEADER_SIZE,
    EntryKind,
    PackWriter,
    pack_object_name,
    read_footer,
    read_structure,
)


def make(blobs):
    """Write a pack; return its bytes and the result of sealing."""
    backend = MemoryBackend()
    staged = backend.stage()
    writer = PackWriter(staged)
    for data in blobs:
        writer.append(EntryKind.BLOB, Codec.RAW, data, [(Digest.of(data), len(data))])
    sealed = writer.seal()
    staged.publish("packs/one")
    return backend.objects["packs/one"], sealed


def footer(data):
    return read_footer("p", len(data), lambda start, size: data[start : start + size])


@given(st.lists(st.binary(max_size=50), unique=True, max_size=20))
def test_the_footer_says_where_everything_is(blobs):
    data, sealed = make(blobs)
    entries = footer(data)
    assert [data[e.offset : e.offset + e.stored_size] for e in entries] == blobs
    assert [e.digest for e in entries] == [Digest.of(blob) for blob in blobs]
    assert sealed.size == len(data)
    assert sealed.entries == len(blobs)


def test_a_pack_is_named_by_the_hash_of_all_but_its_entries_of_which_it_has_the_digests():
    data, sealed = make([b"one", b"two"])
    assert_sound(str(sealed.name), data)
    assert sealed.name == Digest.of(data[:HEADER_SIZE] + data[HEADER_SIZE + 6 :])
    assert pack_object_name(sealed.name) == f"packs/{str(sealed.name)[:2]}/{sealed.name}.pack"


def test_the_same_blobs_never_make_the_same_pack_again():
    assert make([b"one"])[1].name != make([b"one"])[1].name


def test_a_long_footer_is_read_in_two_requests():
    blobs = [b"%d" % n for n in range(5000)]
    data, _ = make(blobs)
    reads = []

    def read(start, size):
        reads.append(size)
        return data[start : start + size]

    assert len(read_footer("p", len(data), read)) == 5000
    assert len(reads) == 3  # header, tail, the rest of the footer


def test_a_forged_pack_that_keeps_the_rules_is_read():
    body = b"hello"
    data = pack_of([(1, 0, blake3(body).digest(), HEADER_SIZE, 5, 5)], body=body)
    assert footer(data)[0].digest == Digest.of(body)


def test_an_entry_of_unknown_kind_is_passed_over():
    data = pack_of(
        [(77, 9, b"r" * 32, HEADER_SIZE, 3, 3), (1, 0, b"d" * 32, HEADER_SIZE + 3, 2, 2)],
        body=b"recbl",
    )
    assert [entry.digest for entry in footer(data)] == [b"d" * 32]


def test_a_newer_version_is_refused_with_the_way_out():
    with pytest.raises(UnsupportedFormatError, match="pip install --upgrade runcas"):
        footer(pack_of([], version=2))


def test_a_structure_says_what_names_the_pack():
    data, sealed = make([b"one", b"two"])
    newer = data[:8] + b"\xff" + data[9:]
    for known in (data, newer):
        found = read_structure(
            "p", len(known), lambda start, size, d=known: d[start : start + size]
        )
        assert found.version == known[8]
        assert found.name == Digest.of(frame_of(known)[0])
    assert sealed.name == Digest.of(frame_of(data)[0])


GOOD = (1, 0, b"d" * 32, HEADER_SIZE, 5, 5)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "too few"),
        (b"x" * 40, "too few"),
        (b"x" * 400, "does not begin"),
        (pack_of([GOOD], body=b"hello", magic=b"XXXXXXXX"), "does not end"),
        (pack_of([GOOD], body=b"hello", digest=b"0" * 32), "does not match its digest"),
        (pack_of([], count=2**32 - 1), "more than it can hold"),
        (pack_of([(1, 0, b"d" * 32, HEADER_SIZE, 6, 6)], body=b"hello"), "out of place"),
        (pack_of([(1, 0, b"d" * 32, 2**32 - 1, 5, 5)], body=b"hello"), "out of place"),
        (pack_of([(1, 0, b"d" * 32, HEADER_SIZE + 1, 4, 4)], body=b"hello"), "out of place"),
        (pack_of([GOOD, GOOD], body=b"hello"), "cannot be decoded"),
        (pack_of([GOOD, (1, 0, b"d" * 32, HEADER_SIZE + 5, 0, 0)], body=b"hello"), "twice"),
        (pack_of([(1, 7, b"d" * 32, HEADER_SIZE, 5, 5)], body=b"hello"), "cannot be decoded"),
        (pack_of([(1, 1, b"d" * 32, HEADER_SIZE, 5, 2**31)], body=b"hello"), "cannot be decoded"),
        (pack_of([GOOD], body=b"hello and more"), "between its last entry"),
    ],
)
def test_a_hostile_pack_is_refused(data, reason):
    with pytest.raises(CorruptPackError, match=reason):
        footer(data)


def test_every_truncation_is_noticed():
    data, _ = make([b"one", b"two" * 50])
    for size in range(len(data)):
        with pytest.raises(CorruptPackError):
            footer(data[:size])


def test_every_flipped_byte_of_the_structure_is_noticed():
    data, _ = make([b"one", b"two"])
    start = len(data) - 44 - 2 * 48
    for position in (*range(12), *range(start, len(data))):
        damaged = bytearray(data)
        damaged[position] ^= 0x40
        with pytest.raises((CorruptPackError, UnsupportedFormatError)):
            footer(bytes(damaged))


@given(st.binary(max_size=400))
def test_no_bytes_make_the_reader_fail_otherwise(data):
    with pytest.raises((CorruptPackError, UnsupportedFormatError)):
        footer(data)
