"""List, check or extract packs of runcas with nothing of runcas. The format is in docs/format.md.

    python unpack.py PACK...            list what is in them
    python unpack.py --check PACK...    read every byte: entries against their digests, and the
                                        name of each file against what is in it
    python unpack.py PACK... --to DIR   write each blob to DIR/<digest>, each record of a commit to
                                        DIR/records/<digest>.json, and nothing anywhere else

A large blob is put together where its list of chunks and all of them are in the packs or in DIR.
Records say which paths of which runs have which digests; digests of new files are joined, base64.

Neighbouring entries with the same stored bytes share a frame: it decodes to their bytes, in order.
Compressed entries need Python 3.14 or the zstandard package; digests are checked if the blake3
package is there, without which nothing can be checked. A damaged entry is reported and the others
are extracted; the exit code is then 1, as it is where chunks are missing.
"""

import argparse
import os
import struct
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
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
LIST = struct.Struct("<8s16s32sQ")  # magic, nonce, digest and size of the blob; then its chunks
CHUNK = struct.Struct("<32sI")  # digest and size
BLOB, RECORD_OF_COMMIT, CHUNK_LIST = KINDS = (1, 2, 3)
RAW, ZSTD = 0, 1
VERSION = 1
MAX_ENTRY = 64 << 20
MAX_FRAME = 1 << 20  # of a frame that entries share, decoded
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
    if size >= 1 << 32:
        raise ValueError(f"{size} bytes are too many for a pack")
    magic, version, _nonce = HEADER.unpack(read_exactly(file, 0, HEADER.size))
    if magic != b"RUNCASPK":
        raise ValueError("it does not begin as a pack")
    if version != VERSION:
        raise ValueError(f"it has pack version {version}, and this script reads {VERSION}")
    end = size - TRAILER.size
    count, digest, magic = TRAILER.unpack(read_exactly(file, end, TRAILER.size))
    if magic != b"RUNCASPE":
        raise ValueError("it does not end as a pack; it may have been cut short")
    if end - count * RECORD.size < HEADER.size:
        raise ValueError(f"its footer claims {count} entries, more than it can hold")
    return end - count * RECORD.size, end, digest


def iter_records(file: BinaryIO) -> Iterator[tuple]:
    """Yield the fields of each entry, and where it lies in a frame that it shares, of what size.

    All is checked once the last one was asked for.
    """
    position = HEADER.size
    shared: list[tuple] = []  # the records with the same stored bytes
    start, records = rows_of(file)
    for record in records:
        _kind, _codec, _digest, offset, stored_size, _size = record
        if shared and stored_size and shared[0][3:5] == (offset, stored_size):
            shared.append(record)
            continue
        yield from in_frame(shared)
        if offset != position or offset + stored_size > start:
            raise ValueError(f"its entry at offset {offset} is out of place")
        position += stored_size
        shared = [record]
    yield from in_frame(shared)
    if position != start:
        raise ValueError("there are bytes between its last entry and its footer")


def rows_of(file: BinaryIO) -> tuple[int, Iterator[tuple]]:
    """Return where the footer begins, and its rows; they are checked once the last was taken."""
    start, end, digest = find_footer(file)

    def rows() -> Iterator[tuple]:
        hasher = blake3() if blake3 else None
        for place in range(start, end, SLICE):
            records = read_exactly(file, place, min(SLICE, end - place))
            if hasher:
                hasher.update(records)
            yield from RECORD.iter_unpack(records)
        if hasher and hasher.digest() != digest:
            raise ValueError("its footer does not match its digest")

    return start, rows()


def in_frame(records: list[tuple]) -> Iterator[tuple]:
    """Yield records with the same stored bytes, each with where it lies in them and their size."""
    whole = sum(record[5] for record in records)
    start = 0
    for record in records:
        if len(records) > 1 and (record[:2] != (BLOB, ZSTD) or not 0 < whole <= MAX_FRAME):
            raise ValueError(f"its entry at offset {record[3]} can't share a frame")
        yield *record, start, whole
        start += record[5]


def name_of(file: BinaryIO) -> str:
    """Return the name that a pack must have: the BLAKE3 of header, footer and trailer."""
    start, _, _ = find_footer(file)
    hasher = blake3(read_exactly(file, 0, HEADER.size))
    file.seek(start)
    while data := file.read(1 << 20):
        hasher.update(data)
    return hasher.hexdigest()


def check(pack: Path) -> None:
    """Read every entry, and compare the file's name; ValueError if anything is wrong."""
    with pack.open("rb") as file:
        digests: set[bytes] = set()
        damaged = 0
        for record in iter_records(file):
            if record[0] not in KINDS:
                continue
            if record[2] in digests:
                raise ValueError(f"it holds {record[2].hex()} twice")
            digests.add(record[2])
            damaged += read_or_report(file, record) is None
        if damaged:
            raise ValueError(f"{damaged} of its {len(digests)} entries are damaged")
        name = f"{name_of(file)}.pack"
    if pack.name != name:
        raise ValueError(f"by what is in it, its name is {name}")


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
    _kind, codec, digest, offset, stored_size, size, start, whole = record
    if codec not in (RAW, ZSTD) or max(stored_size, size) > MAX_ENTRY:
        raise ValueError("its codec is not known, or it is larger than 64 MiB")
    data = read_exactly(file, offset, stored_size)
    if codec == ZSTD:
        data = decompress(data, whole)
    if len(data) != whole:
        raise ValueError(f"it does not hold the {whole} bytes recorded for it")
    data = data[start : start + size]
    if blake3 and blake3(data).digest() != digest:
        raise ValueError("its bytes do not match its digest")
    return data


def read_or_report(file: BinaryIO, record: tuple) -> bytes | None:
    """Return what an entry holds, or None once it was said why not."""
    try:
        return read_blob(file, record)
    except ValueError as error:
        print(f"entry at offset {record[3]}, {record[2].hex()}: {error}", file=sys.stderr)
        return None


def read_list(data: bytes) -> tuple[bytes, int, list[bytes]]:
    """Return digest and size of a large blob, and the digests of its chunks."""
    if len(data) <= LIST.size or (len(data) - LIST.size) % CHUNK.size or data[:8] != b"RUNCASCL":
        raise ValueError("it is no list of chunks")
    _magic, _nonce, digest, size = LIST.unpack_from(data)
    return digest, size, [chunk for chunk, _ in CHUNK.iter_unpack(data[LIST.size :])]


def extract(file: BinaryIO, folder: Path, lists: list[bytes] | None = None) -> bool:
    """Write every blob and record, whole or not at all; return whether all could be read.

    Lists of chunks are appended to `lists`.
    """
    complete = True
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unpack-", dir=folder) as staging:
        for record in iter_records(file):
            kind, name = record[0], record[2].hex()
            if kind not in KINDS:
                continue  # what a later version of the format may add
            data = read_or_report(file, record)
            if data is None:
                complete = False
                continue
            if kind == CHUNK_LIST:
                if lists is not None:
                    lists.append(data)
                continue
            target = folder / name
            if kind == RECORD_OF_COMMIT:
                (folder / "records").mkdir(exist_ok=True)
                target = folder / "records" / f"{name}.json"
            staged = Path(staging, name)
            staged.write_bytes(data)
            staged.replace(target)  # replaces a link of that name, never follows it
    return complete


def put_together(data: bytes, folder: Path) -> None:
    """Write a large blob whose chunks were extracted; ValueError if it can't be had."""
    digest, size, chunks = read_list(data)
    missing = [chunk for chunk in chunks if not (folder / chunk.hex()).is_file()]
    if missing:
        raise ValueError(f"{len(missing)} of its {len(chunks)} chunks are in other packs")
    hasher = blake3() if blake3 else None
    with tempfile.TemporaryDirectory(prefix=".unpack-", dir=folder) as staging:
        staged = Path(staging, digest.hex())
        with staged.open("wb") as file:
            for chunk in chunks:
                piece = (folder / chunk.hex()).read_bytes()
                file.write(piece)
                if hasher:
                    hasher.update(piece)
        if staged.stat().st_size != size or (hasher and hasher.digest() != digest):
            raise ValueError("its chunks do not make it up")
        staged.replace(folder / digest.hex())


def extract_all(packs: list[Path], folder: Path) -> bool:
    """Extract packs, and then put large blobs together; return whether nothing was missing."""
    complete = True
    lists: list[bytes] = []
    for pack in packs:
        with pack.open("rb") as file:
            complete &= extract(file, folder, lists)
    for data in lists:
        try:
            put_together(data, folder)
        except ValueError as error:
            name = data[24:56].hex()
            print(f"large blob {name}: {error}", file=sys.stderr)
            complete = False
    return complete


def check_all(packs: list[Path]) -> bool:
    """Check packs and say what is wrong with each; return whether nothing is."""
    if blake3 is None:
        sys.exit("cannot check without the blake3 package: pip install blake3")
    if zstandard is None and find_spec("compression") is None:
        sys.exit("cannot check without Python 3.14 or the zstandard package: pip install zstandard")
    sound = True
    for pack in packs:
        try:
            check(pack)
        except (OSError, ValueError) as error:
            print(f"{pack}: {error}", file=sys.stderr)
            sound = False
    return sound


def main() -> None:
    """List, check or extract the packs named on the command line."""
    parser = argparse.ArgumentParser(description="List, check or extract packs of runcas.")
    parser.add_argument("packs", type=Path, nargs="+", metavar="PACK")
    parser.add_argument("--to", type=Path, metavar="DIR", help="write each blob to DIR/<digest>")
    parser.add_argument("--check", action="store_true", help="read every byte, and compare names")
    options = parser.parse_args()
    if options.check:
        sys.exit(0 if check_all(options.packs) else 1)
    if blake3 is None:
        print("the blake3 package is missing: digests are not checked", file=sys.stderr)
    for pack in options.packs:
        try:
            with pack.open("rb") as file:
                for _ in iter_records(file):
                    pass  # nothing is made of a pack whose footer is not sound
                if options.to is None:
                    show(file)
        except (OSError, ValueError) as error:
            sys.exit(f"cannot unpack {pack}: {error}")
    if options.to is not None:
        try:
            sys.exit(0 if extract_all(options.packs, options.to) else 1)
        except (OSError, ValueError) as error:
            sys.exit(f"cannot unpack to {options.to}: {error}")


def show(file: BinaryIO) -> None:
    """Print a line for each entry."""
    print("kind  codec      offset      stored        size  digest")
    for kind, codec, digest, *sizes, _, _ in iter_records(file):
        columns = "  ".join(f"{number:10}" for number in sizes)
        print(f"{kind:4}  {codec:5}  {columns}  {digest.hex()}")


if __name__ == "__main__":
    main()
