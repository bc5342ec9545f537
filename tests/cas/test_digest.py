from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cas.digest import Digest, Hasher
from cas.errors import InvalidDigestError

# Source: BLAKE3's test_vectors.json: input byte i is i mod 251; first 32 bytes of "hash".
VECTORS = {
    0: "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
    1: "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213",
    1023: "10108970eeda3eb932baac1428c7a2163b0e924c9a9e25b35bba72b28f70bd11",
    1024: "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7",
    1025: "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444",
    2048: "e776b6028c7cd22a4d0ba182a8bf62205d2ef576467e838ed6f2529b85fba24a",
    102400: "bc3e3d41a1146b069abffad3c0d44860cf664390afce4d9661f7902e7943e085",
}


@pytest.mark.parametrize(("size", "expected"), VECTORS.items())
def test_digests_are_blake3(size, expected):
    data = bytes(i % 251 for i in range(size))
    assert str(Digest.of(data)) == expected
    hasher = Hasher()
    for start in range(0, size, 1000):
        hasher.update(data[start : start + 1000])
    assert str(hasher.digest()) == expected
    assert hasher.size == size


@given(st.binary(min_size=32, max_size=32))
def test_the_text_form_reads_back(raw):
    digest = Digest(raw)
    assert Digest.parse(str(digest)) == digest
    assert len(str(digest)) == 64
    assert pickle.loads(pickle.dumps(digest)) == digest
    assert eval(repr(digest)) == digest  # noqa: S307


@pytest.mark.parametrize(
    "text", ["", "ab", "g" * 64, "A" * 64, "a" * 63, "a" * 65, "a" * 64 + "\n", "٣" * 64]
)
def test_other_text_is_refused(text):
    with pytest.raises(InvalidDigestError, match="64 lowercase hexadecimal"):
        Digest.parse(text)


@pytest.mark.parametrize("raw", [b"", b"x" * 31, b"x" * 33])
def test_other_lengths_are_refused(raw):
    with pytest.raises(InvalidDigestError):
        Digest(raw)


def test_digests_are_values():
    one, again = Digest.of(b"1"), Digest.of(b"1")
    assert one == again
    assert {one: "x"}[again] == "x"
    assert sorted([Digest(b"b" * 32), Digest(b"a" * 32)]) == [b"a" * 32, b"b" * 32]
    assert f"{one}" == str(one)
