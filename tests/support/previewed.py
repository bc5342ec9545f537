"""What tests of previews share: contents that count, and a check that a page is harmless."""

from __future__ import annotations

import io
import json
from html.parser import HTMLParser
from pathlib import Path

import h5py
import numpy as np
import PIL.Image
import pyarrow as pa
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pyarrow import parquet

from cas.digest import Digest
from index import FileVersion
from index.web.previews import Preview
from index.web.previews.visible import visible

__all__ = [
    "MIB",
    "Sparse",
    "Stream",
    "assert_harmless",
    "hdf5_of",
    "npy",
    "picture",
    "rendered",
    "table_of",
    "version_of",
]

TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parents[2] / "index/web/templates"),
    autoescape=True,
    undefined=StrictUndefined,
    lstrip_blocks=True,
    trim_blocks=True,
)
MIB = 1 << 20


class Stream(io.BytesIO):
    """A content that counts the bytes that are read, and may do something at the first read."""

    def __init__(self, data=b"", at_first=lambda: None):
        super().__init__(data)
        self.count = 0
        self.at_first = at_first

    def read(self, size=-1):
        if not self.count:
            self.at_first()
        data = super().read(size)
        self.count += len(data)
        return data


class Sparse(io.RawIOBase):
    """A content of any size: some pieces, and zeros between them."""

    def __init__(self, size, pieces):
        self.size = size
        self.pieces = pieces
        self.position = 0
        self.count = 0

    def seek(self, offset, whence=0):
        self.position = offset
        return offset

    def read(self, size=-1):
        size = min(size, self.size - self.position)
        data = bytearray(size)
        for start, piece in self.pieces.items():
            low = max(start, self.position)
            high = min(start + len(piece), self.position + size)
            if low < high:
                data[low - self.position : high - self.position] = piece[low - start : high - start]
        self.position += size
        self.count += size
        return bytes(data)


def version_of(name, data=b"", *, size=None, mode=0o100644, digest=True):
    content = Digest.of(data + str(size).encode()) if digest else None
    return FileVersion(
        id=1, session="s", run="r", path=name, version=1, digest=content,
        size=len(data) if size is None else size,
        mode=mode, mtime_ns=0, file_type="other", priority="normal", is_final_output=False,
        phase=None, agent=None, code_hash=None, node_id=None, step_id=None, event_id=None,
        created_at=None, first_snapshot=1, end_snapshot=None, meta=None,
    )  # fmt: skip


def rendered(shown):
    template = TEMPLATES.get_template("preview.html")
    return template.render(preview=shown.to_dict(), content_url="/content?a=1&b=2")


class Checked(HTMLParser):
    """Fails on all that could run, load, or leave its place in the page."""

    TAGS = frozenset(
        {
            "a", "abbr", "b", "blockquote", "br", "code", "col", "colgroup", "dd", "del", "details",
            "div", "dl", "dt", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "img", "li",
            "ol", "p", "pre", "s", "span", "strong", "sub", "summary", "sup", "table", "tbody",
            "td", "tfoot", "th", "thead", "tr", "u", "ul",
        }
    )  # fmt: skip
    ATTRIBUTES = frozenset(
        {
            "alt", "aria-label", "class", "colspan", "height", "href", "open", "rel", "role",
            "rowspan", "scope", "src", "start", "tabindex", "target", "width",
        }
    )  # fmt: skip
    EMPTY = frozenset({"br", "col", "hr", "img"})

    def __init__(self):
        super().__init__()
        self.opened = []
        self.text = []

    def handle_starttag(self, tag, attrs):
        assert tag in self.TAGS, tag
        for name, value in attrs:
            assert name in self.ATTRIBUTES, (tag, name)
            if name == "href":
                assert tag == "a"
                assert value.startswith(("/content?", "http://", "https://", "mailto:")), value
            if name == "src":
                assert tag == "img"
                assert value.startswith(
                    ("/content?", "data:image/png;base64,", "data:image/jpeg;base64,",
                     "data:image/gif;base64,", "data:image/svg+xml;base64,")
                ), value  # fmt: skip
        if tag not in self.EMPTY:
            self.opened.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.EMPTY:
            assert self.opened.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def handle_comment(self, data):
        raise AssertionError(data)

    handle_decl = handle_pi = unknown_decl = handle_comment


def assert_harmless(shown):
    """Check the page of a preview, and return its text."""
    assert isinstance(shown, Preview)
    html = rendered(shown)
    page = Checked()
    page.feed(html)
    page.close()
    assert page.opened == []
    text = "".join(page.text)
    assert visible(text) == text
    assert visible(html) == html
    as_json = json.dumps(shown.to_dict())
    assert json.loads(as_json) == shown.to_dict()
    assert len(as_json) < 9 * MIB
    return text


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def picture(kind, size=(7, 5)):
    file = io.BytesIO()
    PIL.Image.new("RGB", size, "red").save(file, kind)
    return file.getvalue()


def table_of(columns, **options):
    file = io.BytesIO()
    parquet.write_table(pa.table(columns), file, **options)
    return file.getvalue()


def hdf5_of(write, **options):
    file = io.BytesIO()
    with h5py.File(file, "w", **options) as opened:
        write(opened)
    return file.getvalue()
