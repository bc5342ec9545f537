"""Chunk lists: the chunks of a large blob, stored beside them to survive a loss of the index.

    magic, 16 random bytes, digest and size of the large blob, then the digests of its chunks

Because of the random bytes, no stored file is ever the same blob as a chunk list.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Final

from cas.catalog import ChunkedBlob
from cas.digest import DIGEST_SIZE, Digest
from cas.packs.pack import MAX_ENTRY_SIZE

if TYPE_CHECKING:
    from cas.digest import Buffer

__all__ = ["decode_chunk_list", "encode_chunk_list"]

_MAGIC: Final = b"RUNCASCL"
_HEAD: Final = struct.Struct("<8s16s32sQ")
_MOST_CHUNKS: Final = (MAX_ENTRY_SIZE - _HEAD.size) // DIGEST_SIZE
"""Largest number of chunks in one entry: 2 TiB in chunks of 1 MiB."""


def encode_chunk_list(blob: ChunkedBlob) -> bytes:
    """Return the encoded chunk list of a blob. Each call returns different bytes.

    Raises ValueError if there are more chunks than one entry holds: 2 TiB in chunks of 1 MiB.
    """
    if len(blob.chunks) > _MOST_CHUNKS:
        raise ValueError(
            f"{blob.size} bytes are {len(blob.chunks)} chunks, and a blob has at most "
            f"{_MOST_CHUNKS}; store it in several files"
        )
    head = _HEAD.pack(_MAGIC, os.urandom(16), blob.digest, blob.size)
    return b"".join((head, *blob.chunks))


def decode_chunk_list(data: Buffer) -> ChunkedBlob:
    """Return the blob that `encode_chunk_list` encoded.

    Raises
    ------
    ValueError
        When the bytes are no chunk list.
    """
    if len(data) <= _HEAD.size or (len(data) - _HEAD.size) % DIGEST_SIZE:
        raise ValueError(f"{len(data)} bytes are no list of chunks")
    magic, _nonce, digest, size = _HEAD.unpack_from(data)
    if magic != _MAGIC:
        raise ValueError("it does not begin as a list of chunks")
    rest = bytes(data[_HEAD.size :])
    chunks = (rest[at : at + DIGEST_SIZE] for at in range(0, len(rest), DIGEST_SIZE))
    return ChunkedBlob(Digest(digest), size, tuple(map(Digest, chunks)))
