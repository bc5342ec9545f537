"""Arrays of NumPy. Their headers are read without NumPy, and nothing is unpickled."""

from __future__ import annotations

import ast
import math
import re
import struct
import zipfile
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from index.web.previews.content import UnreadableError
from index.web.previews.preview import Preview

if TYPE_CHECKING:
    from index.web.previews.content import Content

__all__ = ["show"]

_MAGIC: Final = b"\x93NUMPY"

_LONGEST_HEADER: Final = 10_000
"""Bytes. Source: `numpy.lib.format._MAX_HEADER_SIZE`, the most that is safe to parse."""

_VALUES: Final = 20
_MEMBERS: Final = 100

_CODES: Final = {
    "b1": "?", "i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "u2": "H", "u4": "I",
    "u8": "Q", "f2": "e", "f4": "f", "f8": "d",
}  # fmt: skip
"""Codes of `struct` for types of NumPy."""

_HAS_OBJECTS: Final = re.compile(r"(?:^|, ')\|O")
"""In the type of an array, or among the fields of a record."""

_PICKLED: Final = "Objects in arrays are pickles. They are not read."


def show(content: Content, head: bytes) -> Preview:
    """Return shape, type and first values of an array, or of each array of an archive."""
    with content.open() as file:
        if not head.startswith(b"PK"):
            array = _array(file, None)
            return Preview("array", note=_note([array]), content={"arrays": [array]})
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            arrays = [_member(archive, member) for member in members[:_MEMBERS]]
    is_cut = len(members) > _MEMBERS
    note = f"The first {_MEMBERS} of {len(members):,} arrays." if is_cut else _note(arrays)
    return Preview("array", is_cut, note, {"arrays": arrays})


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> dict[str, Any]:
    name = member.filename.removesuffix(".npy")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UnreadableError("This archive is compressed in a way that NumPy does not use.")
    with archive.open(member) as file:
        try:
            return _array(file, name)
        except UnreadableError:
            return {"name": name, "shape": None, "dtype": "not an array", "values": None}


def _array(file: BinaryIO | Any, name: str | None) -> dict[str, Any]:  # noqa: ANN401
    header = _header(file)
    shape, kind = header["shape"], header["descr"]
    return {
        "name": name,
        "shape": [*shape],
        "dtype": kind if isinstance(kind, str) else str(kind)[:200],
        "values": _values(file, kind, math.prod(shape)),
    }


def _header(file: BinaryIO) -> dict[str, Any]:
    """Return the header of an array. Source: NEP 1, and version 3.0 of the format."""
    start = file.read(8)
    if len(start) < 8 or not start.startswith(_MAGIC) or start[6] not in (1, 2, 3):
        raise UnreadableError("This is not an array of NumPy.")
    size = 2 if start[6] == 1 else 4
    length = int.from_bytes(file.read(size), "little")
    if length > _LONGEST_HEADER:
        raise UnreadableError("The header of this array is too long.")
    try:
        header = ast.literal_eval(file.read(length).decode("utf-8" if start[6] == 3 else "latin-1"))
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise UnreadableError("The header of this array can't be read.") from error
    if not isinstance(header, dict) or header.keys() != {"descr", "fortran_order", "shape"}:
        raise UnreadableError("The header of this array can't be read.")
    shape = header["shape"]
    if not isinstance(shape, tuple) or len(shape) > 64:
        raise UnreadableError("The shape of this array can't be read.")
    if not all(type(length) is int and 0 <= length < 1 << 63 for length in shape):
        raise UnreadableError("The shape of this array can't be read.")
    return header


def _values(file: BinaryIO, kind: object, count: int) -> list[str] | None:
    """Return the first values in the order of the file; None if they are not plain numbers."""
    code = _CODES.get(kind[1:]) if isinstance(kind, str) else None
    if code is None or not isinstance(kind, str):
        return None
    item = struct.Struct(("<" if kind[0] in "<|" else ">") + code)
    data = file.read(item.size * min(count, _VALUES))
    whole = len(data) // item.size * item.size
    return [str(value) for (value,) in item.iter_unpack(data[:whole])]


def _note(arrays: list[dict[str, Any]]) -> str | None:
    return _PICKLED if any(_HAS_OBJECTS.search(each["dtype"]) for each in arrays) else None
