from __future__ import annotations

import pytest

from cas.catalog import ChunkedBlob
from cas.digest import Digest
from cas.packs.chunk_list import decode_chunk_list, encode_chunk_list

BLOB = ChunkedBlob(Digest.of(b"ab"), 2, (Digest.of(b"a"), Digest.of(b"b")))


def test_a_list_comes_back():
    assert decode_chunk_list(encode_chunk_list(BLOB)) == BLOB


def test_no_two_lists_are_the_same_bytes():
    assert encode_chunk_list(BLOB) != encode_chunk_list(BLOB)


@pytest.mark.parametrize("cut", [0, 63, 64, 65, 127])
def test_what_is_cut_short_is_no_list(cut):
    with pytest.raises(ValueError, match="no list of chunks"):
        decode_chunk_list(encode_chunk_list(BLOB)[:cut])


def test_other_bytes_are_no_list():
    with pytest.raises(ValueError, match="does not begin"):
        decode_chunk_list(b"x" * 96)


def test_more_chunks_than_one_entry_holds_are_refused(monkeypatch):
    monkeypatch.setattr("cas.packs.chunk_list._MOST_CHUNKS", 1)
    with pytest.raises(ValueError, match="store it in several files"):
        encode_chunk_list(BLOB)
