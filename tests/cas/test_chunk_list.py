from __future__ import annotations

import pytest

from cas.catalog import ChunkedBlob
from cas.digest import Digest
from cas.packs.chunk_list import decode_chunk_list, encode_chunk_list

BLOB = ChunkedBlob(Digest.of(b"ab"), 2, (Digest.of(b"a"), Digest.of(b"b")))
SIZES = (1, 1)


def test_a_list_comes_back():
    assert decode_chunk_list(encode_chunk_list(BLOB, SIZES)) == (BLOB, SIZES)


def test_no_two_lists_are_the_same_bytes():
    assert encode_chunk_list(BLOB, SIZES) != encode_chunk_list(BLOB, SIZES)


@pytest.mark.parametrize("cut", [0, 63, 64, 65, 135])
def test_what_is_cut_short_is_no_list(cut):
    with pytest.raises(ValueError, match="no list of chunks"):
        decode_chunk_list(encode_chunk_list(BLOB, SIZES)[:cut])


def test_other_bytes_are_no_list():
    with pytest.raises(ValueError, match="does not begin"):
        decode_chunk_list(b"x" * 100)


def test_more_chunks_than_one_entry_holds_are_refused(monkeypatch):
    monkeypatch.setattr("cas.packs.chunk_list._MOST_CHUNKS", 1)
    with pytest.raises(ValueError, match="store it in several files"):
        encode_chunk_list(BLOB, SIZES)


def test_sizes_that_do_not_make_up_the_blob_are_refused():
    with pytest.raises(ValueError, match="3 bytes together"):
        decode_chunk_list(encode_chunk_list(BLOB, (1, 2)))
