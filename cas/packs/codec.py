"""Encoding of an entry's bytes: raw, or as one zstd frame.

Compression is used only if it saves at least a tenth. A sample shows whether a large blob
compresses, so that compressed data costs almost no time.
"""

from __future__ import annotations

import struct
import threading
from enum import IntEnum
from typing import TYPE_CHECKING, Final

import zstandard

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cas.digest import Buffer

__all__ = ["Codec", "decode", "decode_all", "encode_all", "encode_shared"]

ZSTD_LEVEL: Final = 3
"""On a tree of scientific packages, level 1 stores 3.2 times less than raw, and level 3 stores 3.45
times less, at nearly the same speed. Source: benchmarks/results/bench_levels.md."""

_QUICK_LEVEL: Final = 2
"""For frames of small blobs it takes a sixth less time than level 3, and stores 2 to 4 % more.
Source: benchmarks/results/bench_frames.md."""

_QUICK_BELOW: Final = 64 << 10
"""Blobs below this many bytes are compressed at the quick level."""

_KEEP_BELOW: Final = 0.9
"""Largest ratio of compressed size to size for which compression is used."""

_SAMPLE_SIZE: Final = 4 << 10
"""Bytes of each of the three pieces of the sample: beginning, middle and end. Blobs below the bound
of the quick level need no sample: they are compressed whole."""


class Codec(IntEnum):
    """The codec byte of a pack entry. Values are part of the storage format."""

    RAW = 0
    ZSTD = 1


class _Contexts(threading.local):
    """zstd contexts for each thread. Threads can't share them, and creating them is expensive."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_checksum=False)
        self.quick = zstandard.ZstdCompressor(level=_QUICK_LEVEL, write_checksum=False)
        self.decompressor = zstandard.ZstdDecompressor()


_contexts: Final = _Contexts()


def encode_all(blobs: Sequence[Buffer]) -> list[tuple[Codec, Buffer]]:
    """Return the codec and the stored bytes of each blob, in order.

    Blobs are encoded together: for small blobs, a separate call costs as much as the compression.
    """
    encoded: list[tuple[Codec, Buffer]] = [(Codec.RAW, data) for data in blobs]
    small = [n for n, data in enumerate(blobs) if 0 < len(data) < _QUICK_BELOW]
    large = [
        n for n, data in enumerate(blobs) if len(data) >= _QUICK_BELOW and _seems_compressible(data)
    ]
    for tried, compressor in ((small, _contexts.quick), (large, _contexts.compressor)):
        for number, each in zip(
            tried, _compressed([blobs[n] for n in tried], compressor), strict=True
        ):
            encoded[number] = each
    return encoded


def encode_shared(frames: Sequence[Buffer]) -> list[tuple[Codec, Buffer]]:
    """Return the codec and the stored bytes of each frame of small blobs, in order."""
    return list(_compressed(frames, _contexts.quick))


def _compressed(
    blobs: Sequence[Buffer], compressor: zstandard.ZstdCompressor
) -> Iterator[tuple[Codec, Buffer]]:
    if not blobs:
        return
    frames = compressor.multi_compress_to_buffer(list(blobs))
    for place, data in enumerate(blobs):
        frame = frames[place]
        worthwhile = len(frame) < len(data) * _KEEP_BELOW
        yield (Codec.ZSTD, frame.tobytes()) if worthwhile else (Codec.RAW, data)


def _seems_compressible(data: Buffer) -> bool:
    size = len(data)
    middle = size // 2
    sample = b"".join(
        data[start : start + _SAMPLE_SIZE] for start in (0, middle, size - _SAMPLE_SIZE)
    )
    return len(_contexts.compressor.compress(sample)) < len(sample) * _KEEP_BELOW


def decode(codec: int, stored: Buffer, size: int) -> Buffer:
    """Return the `size` bytes that `stored` encodes.

    Never allocates more than `size` bytes, whatever size the frame claims.

    Raises
    ------
    ValueError
        When `stored` is not the encoding of exactly that many bytes.
    """
    if codec != Codec.ZSTD or not size:
        return decode_all([(codec, stored, size)])[0]
    try:
        _check_claim(stored, size)
        # For one frame, the call for many takes five times as long.
        return _contexts.decompressor.decompress(stored)
    except zstandard.ZstdError as error:
        raise ValueError(f"not a zstd frame: {error}") from error


def _check_claim(frame: Buffer, size: int) -> None:
    """Raise ValueError unless a frame claims to hold that many bytes."""
    if zstandard.frame_content_size(frame) != size:
        raise ValueError("the zstd frame does not hold the size recorded for it")


def decode_all(entries: Sequence[tuple[int, Buffer, int]]) -> list[Buffer]:
    """Decode entries in order. An entry is a codec, the stored bytes and the decoded size.

    One call decodes all entries and releases the interpreter to other threads. Raises ValueError,
    as `decode` does, if any entry is damaged.
    """
    try:
        return _decode_all(entries)
    except zstandard.ZstdError as error:
        raise ValueError(f"not a zstd frame: {error}") from error


def _decode_all(entries: Sequence[tuple[int, Buffer, int]]) -> list[Buffer]:
    decoded: list[Buffer] = [stored for _, stored, _ in entries]
    frames = []
    for number, (codec, stored, size) in enumerate(entries):
        if codec == Codec.ZSTD:
            _check_claim(stored, size)
            if size == 0:
                decoded[number] = b""  # zstandard 0.25 frees its memory twice for such a frame
            else:
                frames.append(number)
        elif codec != Codec.RAW:
            raise ValueError(f"{codec} is no codec")
        elif len(stored) != size:
            raise ValueError(f"{len(stored)} bytes are stored where {size} were recorded")
    if frames:
        sizes = [entries[n][2] for n in frames]
        whole = _contexts.decompressor.multi_decompress_to_buffer(
            [entries[n][1] for n in frames],
            decompressed_sizes=struct.pack(f"={len(sizes)}Q", *sizes),
        )
        for place, number in enumerate(frames):
            decoded[number] = memoryview(whole[place])  # type: ignore[arg-type] # has no __buffer__ in its stub
    return decoded
