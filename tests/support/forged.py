"""Packs made by hand, after docs/format.md, without the writer."""

from __future__ import annotations

import struct
from itertools import groupby
from operator import itemgetter

import zstandard
from blake3 import blake3

HEADER = struct.Struct("<8sI16s4x")
RECORD = struct.Struct("<BBxx32sIII")
TRAILER = struct.Struct("<I32s8s")
BLOB, RAW, ZSTD = 1, 0, 1


def pack_of(records, *, body=b"", version=1, count=None, digest=None, magic=b"RUNCASPE"):
    """Return a pack with these entries, with the right footer digest unless another is given."""
    table = b"".join(RECORD.pack(*record) for record in records)
    count = len(records) if count is None else count
    trailer = TRAILER.pack(count, digest or blake3(table).digest(), magic)
    return HEADER.pack(b"RUNCASPK", version, b"n" * 16) + body + table + trailer


def sound_pack(blobs):
    """Return a pack of these blobs. Each is a zstd frame where that is shorter."""
    records, body = [], b""
    for data in blobs:
        frame = zstandard.ZstdCompressor().compress(data)
        codec, stored = (ZSTD, frame) if len(frame) < len(data) else (RAW, data)
        digest = blake3(data).digest()
        records.append((BLOB, codec, digest, HEADER.size + len(body), len(stored), len(data)))
        body += stored
    return pack_of(records, body=body)


def frame_of(data):
    """Return header, footer and trailer of a pack together, and the entries of the footer."""
    count, _, _ = TRAILER.unpack(data[-TRAILER.size :])
    start = len(data) - TRAILER.size - count * RECORD.size
    records = list(RECORD.iter_unpack(data[start : -TRAILER.size]))
    return data[: HEADER.size] + data[start:], records


def name_of(data):
    """Return the name that a pack must have."""
    return blake3(frame_of(data)[0]).hexdigest()


def assert_sound(name, data):
    """Check that a pack has the right name, and that each decoded entry has its digest."""
    assert name == name_of(data)
    for (offset, stored), group in groupby(frame_of(data)[1], itemgetter(3, 4)):
        rows = list(group)
        content = data[offset : offset + stored]
        if rows[0][1] == ZSTD:
            whole = sum(row[5] for row in rows)
            content = zstandard.ZstdDecompressor().decompress(content, max_output_size=whole)
        start = 0
        for _, _, digest, _, _, size in rows:
            assert blake3(content[start : start + size]).digest() == digest
            start += size
        assert start == len(content)


def is_sound(name, data):
    """Return whether a pack passes this check. A flipped bit of a zstd frame may change nothing."""
    try:
        assert_sound(name, data)
    except (AssertionError, ValueError, struct.error, zstandard.ZstdError):
        return False
    return True


def signed_again(data):
    """Return a pack whose footer digest matches its footer, as a forger would make it."""
    if len(data) < HEADER.size + TRAILER.size:
        return data
    count, _, magic = TRAILER.unpack(data[-TRAILER.size :])
    end = len(data) - TRAILER.size
    start = end - count * RECORD.size
    if start < HEADER.size:
        return data
    return data[:end] + TRAILER.pack(count, blake3(data[start:end]).digest(), magic)


def frame_claiming(data, size):
    """Return a zstd frame of `data` whose header states another size."""
    assert size < 1 << 32
    whole = zstandard.ZstdCompressor(write_checksum=False).compress(data)
    bare = zstandard.ZstdCompressor(write_content_size=False, write_checksum=False).compress(data)
    assert whole[:4] == bare[:4] == b"\x28\xb5\x2f\xfd"
    # Magic, descriptor: content size of four bytes, and no window size (RFC 8878, 3.1.1.1).
    blocks = bare[zstandard.frame_header_size(bare) :]
    return whole[:4] + bytes([0b1010_0000]) + struct.pack("<I", size) + blocks
