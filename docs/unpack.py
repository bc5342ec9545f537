"""List or extract a pack of runcas with nothing of runcas. The format is in docs/format.md.

    python unpack.py PACK             list what is in it
    python unpack.py PACK --to DIR    write each blob to DIR/<digest>, and nothing anywhere else

Compressed entries need Python 3.14 or the zstandard package; digests are checked if the blake3
package is there. A damaged entry is reported and the others are extracted; the exit code is then 1.
The chunks of a large blob come out one by one: the list that puts them in order is in the index.
"""

import argparse
import os
import struct
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

try:
    from blake3 import blake3
except ImportError:
    blake3 = None
try:
    import zstandard
except ImportError:
    zstandard = None

HEADER = struct.Struct("<8sI16s4x")  # magic, version, nonce
RECORD = struct.Struct("<BBxx32sIII")  # kind, codec, digest, offset, stored size, size
TRAILER = struct.Struct("<I32s8s")  # number of records, BLAKE3 of the footer, magic
BLOB, RAW, ZSTD = 1, 0, 1
MAX_ENTRY = 64 << 20
SLICE = 1024 * RECORD.size  # of the footer, at a time: it may be large, memory stays small


def read_exactly(file: BinaryIO, offset: int, size: int) -> bytes:
    """Return that many bytes from that offset."""
    file.seek(offset)
    data = file.read(size)
    if len(data) != size:
        raise ValueError("the file ends too early")
    return data


def find_footer(file: BinaryIO) -> tuple[int, int, bytes]:
    """Return where the footer begins and ends, and what it should hash to."""
    size = file.seek(0, os.SEEK_END)
    if size < HEADER.size + TRAILER.size:
        raise ValueError(f"{size} bytes are too few for a pack")
    magic, version, _nonce = HEADER.unpack(read_exactly(file, 0, HEADER.size))
    if magic != b"RUNCASPK":
        raise ValueError("it does not begin as a pack")
    if version != 1:
        raise ValueError(f"it has format version {version}, and this script reads version 1")
    end = size - TRAILER.size
    count, digest, magic = TRAILER.unpack(read_exactly(file, end, TRAILER.size))
    if magic != b"RUNCASPE":
        raise ValueError("it does not end as a pack; it may have been cut short")
    if end - count * RECORD.size < HEADER.size:
        raise ValueError(f"its footer claims {count} entries, more than it can hold")
    return end - count * RECORD.size, end, digest


def iter_records(file: BinaryIO) -> Iterator[tuple]:
    """Yield the fields of each entry; all is checked once the last one was asked for."""
    start, end, digest = find_footer(file)
    hasher = blake3() if blake3 else None
    position = HEADER.size
    for place in range(start, end, SLICE):
        records = read_exactly(file, place, min(SLICE, end - place))
        if hasher:
            hasher.update(records)
        for record in RECORD.iter_unpack(records):
            _kind, _codec, _digest, offset, stored_size, _size = record
            if offset != position or offset + stored_size > start:
                raise ValueError(f"its entry at offset {offset} is out of place")
            position += stored_size
            yield record
    if position != start:
        raise ValueError("there are bytes between its last entry and its footer")
    if hasher and hasher.digest() != digest:
        raise ValueError("its footer does not match its digest")


def decompress(stored: bytes, size: int) -> bytes:
    """Return the content of a zstd frame, or at most a byte more than `size` of it."""
    if zstandard is not None:
        try:
            if zstandard.frame_content_size(stored) != size:
                raise ValueError("its zstd frame has another size than its record")
            return zstandard.ZstdDecompressor().decompress(stored, max_output_size=size)
        except zstandard.ZstdError as error:
            raise ValueError(f"it can't be decompressed: {error}") from error
    try:
        from compression import zstd  # Python 3.14
    except ImportError:
        raise ValueError("it needs Python 3.14 or the zstandard package") from None
    try:
        return zstd.ZstdDecompressor().decompress(stored, max_length=size + 1)
    except zstd.ZstdError as error:
        raise ValueError(f"it can't be decompressed: {error}") from error


def read_blob(file: BinaryIO, record: tuple) -> bytes:
    """Return what an entry holds, checked against its size and, if possible, its digest."""
    _kind, codec, digest, offset, stored_size, size = record
    if codec not in (RAW, ZSTD) or max(stored_size, size) > MAX_ENTRY:
        raise ValueError("its codec is not known, or it is larger than 64 MiB")
    data = read_exactly(file, offset, stored_size)
    if codec == ZSTD:
        data = decompress(data, size)
    if len(data) != size:
        raise ValueError(f"it does not hold the {size} bytes recorded for it")
    if blake3 and blake3(data).digest() != digest:
        raise ValueError("its bytes do not match its digest")
    return data


def extract(file: BinaryIO, folder: Path) -> bool:
    """Write every blob, whole or not at all; return whether all could be read."""
    complete = True
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unpack-", dir=folder) as staging:
        for record in iter_records(file):
            kind, name, offset = record[0], record[2].hex(), record[3]
            if kind != BLOB:
                continue  # what a later version of the format may add
            try:
                staged = Path(staging, name)
                staged.write_bytes(read_blob(file, record))
                staged.replace(folder / name)  # replaces a link of that name, never follows it
            except ValueError as error:
                print(f"entry at offset {offset}, {name}: {error}", file=sys.stderr)
                complete = False
    return complete


def main() -> None:
    """List or extract the pack named on the command line."""
    parser = argparse.ArgumentParser(description="List or extract a pack of runcas.")
    parser.add_argument("pack", type=Path)
    parser.add_argument("--to", type=Path, metavar="DIR", help="write each blob to DIR/<digest>")
    options = parser.parse_args()
    if blake3 is None:
        print("the blake3 package is missing: digests are not checked", file=sys.stderr)
    try:
        with options.pack.open("rb") as file:
            for _ in iter_records(file):
                pass  # nothing is made of a pack whose footer is not sound
            if options.to is not None:
                sys.exit(0 if extract(file, options.to) else 1)
            print("kind  codec      offset      stored        size  digest")
            for kind, codec, digest, *sizes in iter_records(file):
                columns = "  ".join(f"{number:10}" for number in sizes)
                print(f"{kind:4}  {codec:5}  {columns}  {digest.hex()}")
    except (OSError, ValueError) as error:
        sys.exit(f"cannot unpack {options.pack}: {error}")


if __name__ == "__main__":
    main()
