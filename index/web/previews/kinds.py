"""What kind of content a file has, by its first bytes, then by its name, then by its characters."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

from index.web.previews.content import Content, UnreadableError
from index.web.previews.dimensions import is_image
from index.web.previews.hexadecimal import SHOWN_BYTES, hex_lines
from index.web.previews.preview import Preview
from index.web.previews.texts import is_text, show_text

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["show"]

_HEAD: Final = 4096

_MAGIC: Final = (
    (b"%PDF-", "documents"),
    (b"\x93NUMPY", "arrays"),
    (b"PAR1", "parquet"),
    (b"\x89HDF\r\n\x1a\n", "hdf5"),
)
"""First bytes, and the module that shows such files."""

_ENDINGS: Final = {
    ".svg": "documents",
    ".md": "markup",
    ".markdown": "markup",
    ".json": "json_tree",
    ".geojson": "json_tree",
    ".jsonl": "json_tree",
    ".ndjson": "json_tree",
    ".ipynb": "notebooks",
    ".csv": "tables",
    ".tsv": "tables",
    ".tab": "tables",
    ".npz": "arrays",
}
"""Endings of names, and the module that shows such files."""

_HDF5_OFFSETS: Final = (512, 1024, 2048)
"""Where the signature of HDF5 is behind a user block. Source: its format specification, II.A."""

_PICKLE: Final = "A pickle can run code when it is loaded, so it is never loaded."
_PACKED: Final = "Compressed files are not unpacked."
_NOTES: Final = {
    ".pkl": _PICKLE,
    ".pickle": _PICKLE,
    ".joblib": _PICKLE,
    ".pt": _PICKLE,
    ".gz": _PACKED,
    ".bz2": _PACKED,
    ".xz": _PACKED,
    ".zst": _PACKED,
    ".zip": "The content of an archive is not listed.",
    ".tif": "Browsers can't show TIFF images.",
    ".tiff": "Browsers can't show TIFF images.",
}
"""Why files with these endings are shown as bytes."""


def show(content: Content) -> Preview:
    """Return a preview of a content. Any failure of a parser leaves text or bytes, with a note."""
    head = content.read(0, _HEAD)
    module = _module(content, head)
    note = None if is_text(head) else _NOTES.get(content.ending)
    if module is not None:
        try:
            return _shower(module)(content, head)
        except UnreadableError as error:
            note = str(error)
        except MemoryError:
            raise  # little may be left, so the process ends, and the previewer shows the rest
        except Exception:  # noqa: BLE001 - whatever a library raises for bytes that it can't parse
            note = "This file is damaged, or not what its name says."
        if content.is_spent:
            note = "A preview would read more of this file than it may."
    return _plain(content, head, note)


def _plain(content: Content, head: bytes, note: str | None) -> Preview:
    if is_text(head):
        try:
            return show_text(content, note)
        except (UnreadableError, OSError) as error:
            note = str(error) or note
    shown = head[:SHOWN_BYTES]
    return Preview("hex", len(shown) < content.size, note, {"lines": hex_lines(shown)})


def _module(content: Content, head: bytes) -> str | None:
    """Return the name of the module that shows a content; None for text and bytes."""
    for start, module in _MAGIC:
        if head.startswith(start):
            return module
    if is_image(head):
        return "images"
    if any(head.startswith(b"\x89HDF\r\n\x1a\n", offset) for offset in _HDF5_OFFSETS):
        return "hdf5"
    if is_text(head) or head.startswith(b"PK\x03\x04"):
        return _ENDINGS.get(content.ending)
    return None


def _shower(module: str) -> Callable[[Content, bytes], Preview]:
    """Return the function of a module. Most files need few of the modules and their libraries."""
    found: Callable[[Content, bytes], Preview]
    found = import_module(f"index.web.previews.{module}").show
    return found
