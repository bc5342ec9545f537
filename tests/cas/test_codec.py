from __future__ import annotations

import os

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from cas.packs.codec import Codec, decode, decode_all, encode_all


@given(st.lists(st.one_of(st.binary(max_size=300), st.binary(max_size=40).map(lambda b: b * 99))))
def test_what_is_encoded_decodes(blobs):
    for data, (codec, stored) in zip(blobs, encode_all(blobs), strict=True):
        assert bytes(decode(codec, stored, len(data))) == data


def test_compression_is_kept_where_it_saves_a_tenth():
    (codec, stored), (raw, same) = encode_all([b"text " * 100, os.urandom(500)])
    assert codec is Codec.ZSTD
    assert len(stored) < 450
    assert raw is Codec.RAW
    assert len(same) == 500


def test_what_does_not_compress_is_told_from_a_sample(monkeypatch):
    compressed = []
    original = zstandard.ZstdCompressor

    class Counting:
        def __init__(self):
            self._real = original(level=3)

        def compress(self, data):
            compressed.append(len(data))
            return self._real.compress(data)

        def multi_compress_to_buffer(self, blobs):
            raise AssertionError("compressed whole")

    monkeypatch.setattr(
        "cas.packs.codec._contexts",
        type("C", (), {"compressor": Counting(), "quick": Counting()})(),
    )
    data = os.urandom(1 << 20)
    assert encode_all([data]) == [(Codec.RAW, data)]
    assert sum(compressed) < 20_000


def test_a_frame_that_claims_another_size_is_refused_without_allocating():
    bomb = zstandard.ZstdCompressor().compress(b"\0" * (200 << 20))
    with pytest.raises(ValueError, match="size recorded"):
        decode(Codec.ZSTD, bomb, 1000)


def test_a_frame_without_a_size_is_refused():
    frame = zstandard.ZstdCompressor(write_content_size=False).compress(b"x" * 100)
    with pytest.raises(ValueError, match="size"):
        decode(Codec.ZSTD, frame, 100)


def test_a_frame_of_no_bytes_is_read_though_none_is_written():
    """zstandard 0.25 corrupts its memory when it decompresses such frames together."""
    empty = zstandard.ZstdCompressor().compress(b"")
    some = zstandard.ZstdCompressor().compress(b"some")
    for _ in range(100):
        entries = [(Codec.ZSTD, empty, 0), (Codec.ZSTD, some, 4), (Codec.ZSTD, empty, 0)]
        assert [bytes(data) for data in decode_all(entries)] == [b"", b"some", b""]
    with pytest.raises(ValueError, match="size"):
        decode(Codec.ZSTD, some, 0)


@pytest.mark.parametrize("stored", [b"", b"not zstd", b"\x28\xb5\x2f\xfd"])
def test_garbage_is_refused(stored):
    with pytest.raises(ValueError, match=r"zstd|size"):
        decode(Codec.ZSTD, stored, 10)


def test_raw_bytes_of_another_length_are_refused():
    with pytest.raises(ValueError, match="3 bytes are stored where 4"):
        decode(Codec.RAW, b"abc", 4)
