"""Chunk lists: the chunks of a large blob, stored beside them to survive a loss of the index.

    magic, 16 random bytes, digest and size of the large blob, then digest and size of each chunk

Because of the random bytes, no stored file is ever the same blob as a chunk list.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from cas.catalog import ChunkedBlob
from cas.digest import DIGEST_SIZE, Digest
from cas.packs.pack import MAX_ENTRY_SIZE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cas.digest import Buffer

__all__ = ["ChunkList", "decode_chunk_list", "encode_chunk_list"]

_MAGIC: Final = b"RUNCASCL"
_HEAD: Final = struct.Struct("<8s16s32sQ")
_CHUNK: Final = struct.Struct(f"<{DIGEST_SIZE}sI")
_MOST_CHUNKS: Final = (MAX_ENTRY_SIZE - _HEAD.size) // _CHUNK.size
"""Largest number of chunks in one entry: some TiB, as `cas.chunker` cuts."""


class ChunkList(NamedTuple):
    """What a chunk list says."""

    blob: ChunkedBlob
    sizes: tuple[int, ...]
    """The sizes of its chunks, in order."""


def encode_chunk_list(blob: ChunkedBlob, sizes: Sequence[int]) -> bytes:
    """Return the encoded chunk list of a blob. Each call returns different bytes.

    Raises ValueError if there are more chunks than one entry holds.

    Parameters
    ----------
    sizes
        The sizes of the blob's chunks, in order.
    """
    if len(blob.chunks) > _MOST_CHUNKS:
        raise ValueError(
            f"{blob.size} bytes are {len(blob.chunks)} chunks, and a blob has at most "
            f"{_MOST_CHUNKS}; store it in several files"
        )
    head = _HEAD.pack(_MAGIC, os.urandom(16), blob.digest, blob.size)
    return b"".join((head, *map(_CHUNK.pack, blob.chunks, sizes)))


def decode_chunk_list(data: Buffer) -> ChunkList:
    """Return what `encode_chunk_list` encoded.

    Raises
    ------
    ValueError
        When the bytes are no chunk list.
    """
    if len(data) <= _HEAD.size or (len(data) - _HEAD.size) % _CHUNK.size:
        raise ValueError(f"{len(data)} bytes are no list of chunks")
    magic, _nonce, digest, size = _HEAD.unpack_from(data)
    if magic != _MAGIC:
        raise ValueError("it does not begin as a list of chunks")
    chunks, sizes = zip(*_CHUNK.iter_unpack(data[_HEAD.size :]), strict=True)
    if sum(sizes) != size:
        raise ValueError(f"its chunks have {sum(sizes)} bytes together, and their blob {size}")
    return ChunkList(ChunkedBlob(Digest(digest), size, tuple(map(Digest, chunks))), sizes)
