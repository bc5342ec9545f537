"""Previews of hostile contents: nothing runs, hides, or takes too much."""

from __future__ import annotations

import io
import os
import struct

import corpus
import h5py
import numpy as np
import pytest
from previewed import (
    MIB,
    Sparse,
    Stream,
    assert_harmless,
    hdf5_of,
    npy,
    picture,
    table_of,
    version_of,
)

from index.web.previews import Previewer
from index.web.previews.visible import visible


@pytest.fixture(scope="module")
def previewer():
    with Previewer(timeout=30) as previewer:
        yield previewer


@pytest.fixture
def show(previewer):
    """Return the preview of a content as the API has it, after a check that it is safe."""

    def preview(name, data):
        shown = previewer.preview(version_of(name, data), lambda: io.BytesIO(data))
        assert_harmless(shown)
        return shown.to_dict()

    return preview


@pytest.mark.parametrize("name", [name for name in corpus.files() if name != "slow.rb"])
def test_nothing_hostile_gets_into_a_page(previewer, name):
    data = corpus.files()[name]
    shown = previewer.preview(version_of(name, data), lambda: io.BytesIO(data))
    assert_harmless(shown)


@pytest.mark.parametrize("ending", [".html", ".svg", ".md", ".ipynb", ".csv", ".h5"])
def test_hostile_content_is_harmless_under_any_ending(previewer, ending):
    for name, data in corpus.files().items():
        shown = previewer.preview(version_of(f"{name}{ending}", data), lambda d=data: io.BytesIO(d))
        assert_harmless(shown)


def test_names_can_be_shown_and_have_previews(previewer):
    for name in corpus.names():
        assert len(os.fsencode(name)) <= 255
        shown = visible(name)
        assert shown.encode()
        assert all(each.isprintable() or each in "\n\t" for each in shown)
        preview = previewer.preview(version_of(name, b"text"), lambda: io.BytesIO(b"text"))
        assert_harmless(preview)


@pytest.mark.parametrize(
    ("hidden", "shown"),
    [
        ("\u202e", "\\u202e"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\x00\x08\x9b", "\\x00\\x08\\x9b"),
        ("\ufe01\ufe0d\u180f", "\\ufe01\\ufe0d\\u180f"),
        ("\u200b\ufeff\u2066", "\\u200b\\ufeff\\u2066"),
        ("\udcff", "\\udcff"),
        ("\u3164\u2800\u00ad", "\\u3164\\u2800\\xad"),
        ("\U000e0041", "\\U000e0041"),
        ("\r", "\\r"),
        ("é 三 🎉 \n\t", "é 三 🎉 \n\t"),
    ],
)
def test_characters_that_hide_or_reorder_text_are_escaped(hidden, shown):
    assert visible(hidden) == shown
    assert visible(shown) == shown


def test_escapes_of_html_do_not_bring_hidden_characters_back(show):
    assert "\\u202etxt.exe" in show("a.md", b"&#x202e;txt.exe &#8238;")["html"]


def test_links_of_hdf5_to_other_files_are_not_followed(show, tmp_path):
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file.create_dataset("secret_name", data=np.ones((3, 5)), maxshape=(None, 5))

    def write(file):
        file["out"] = h5py.ExternalLink(str(secret), "/")
        layout = h5py.VirtualLayout(shape=(1, 5), maxshape=(None, 5), dtype="f8")
        with h5py.File(secret) as source:
            space = h5py.VirtualSource(source["secret_name"])
        layout[0 : h5py.h5s.UNLIMITED] = space[0 : h5py.h5s.UNLIMITED]
        file.create_virtual_dataset("virtual", layout)

    data = hdf5_of(write)
    (tmp_path / "a.h5").write_bytes(data)
    with h5py.File(tmp_path / "a.h5") as followed:
        assert followed["virtual"].shape == (3, 5)
    objects = {each["path"]: each for each in show("a.h5", data)["objects"]}
    assert objects["/out"]["kind"] == f"link to {secret}:/, not followed"
    assert "/out/secret_name" not in objects
    assert objects["/virtual"]["shape"] == [0, 5]


def test_no_pickle_is_loaded(show):
    (shown,) = show("a.npy", corpus.files()["pickled.npy"])["arrays"]
    assert shown["values"] is None
    assert "O" in shown["dtype"]


@pytest.mark.parametrize(
    ("name", "head", "most"),
    [
        ("a.txt", b"text\n" * 100_000, MIB),
        ("a.py", b"pass\n" * 100_000, MIB),
        ("a.csv", b"a,b\n" * 100_000, MIB),
        ("a.json", b"[1,\n" * 100_000, MIB),
        ("a.jsonl", b"[1]\n" * 100_000, MIB),
        ("a.ipynb", b"{ \n" * 100_000, MIB),
        ("a.md", b"# a\n" * 100_000, MIB),
        ("a.svg", b"<svg>\n" * 100_000, MIB),
        ("a.png", picture("png"), MIB),
        ("a.npy", npy(np.arange(1000)), MIB),
        ("a.bin", bytes(1000), MIB),
        ("a.pdf", b"%PDF-1.7\n", MIB),
    ],
)
def test_of_a_giant_file_only_the_beginning_is_read(previewer, name, head, most):
    stream = Sparse(10 << 40, {0: head})
    shown = previewer.preview(version_of(name, head, size=stream.size), lambda: stream)
    assert stream.count <= most
    assert_harmless(shown)


def test_of_giant_parquet_the_footer_and_first_pages_are_read(previewer):
    rows = 200_000
    columns = {f"c{n}": np.random.default_rng(n).random(rows) for n in range(10)}
    data = table_of(columns, use_dictionary=False, data_page_size=64 << 10)
    (footer,) = struct.unpack("<I", data[-8:-4])
    cut = len(data) - footer - 8
    size = 10 << 30
    stream = Sparse(size, {0: data[:cut], size - footer - 8: data[cut:]})
    shown = previewer.preview(version_of("a.parquet", data, size=size), lambda: stream).to_dict()
    assert (shown["kind"], len(shown["rows"]), shown["rows_total"]) == ("table", 100, rows)
    assert stream.count < len(data) // 3


def test_of_giant_hdf5_no_data_is_read(previewer):
    data = hdf5_of(lambda file: file.create_dataset("a", (1 << 40,), "f8", chunks=(1 << 20,)))
    stream = Sparse(10 << 40, {0: data})
    shown = previewer.preview(version_of("a.h5", data, size=stream.size), lambda: stream).to_dict()
    assert shown["objects"][0]["shape"] == [1 << 40]
    assert stream.count < MIB


def test_a_table_whose_first_column_is_too_much_has_columns_without_rows(previewer):
    pages = table_of({"a": [os.urandom(40 << 20)]}, compression="none", use_dictionary=False)
    stream = Stream(pages)
    shown = previewer.preview(version_of("a.parquet", pages), lambda: stream).to_dict()
    assert (shown["columns"], shown["rows"]) == ([{"name": "a", "type": "binary"}], [])
    assert "too many bytes" in shown["note"]
    assert stream.count <= 33 * MIB


def test_a_preview_that_reads_too_much_shows_bytes(previewer):
    names = b"".join(b"PK\1\2" + bytes(24) + b"\0\x10" + bytes(16 + 4096) for _ in range(9000))
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 9000, 9000, len(names), 4, 0)
    stream = Stream(b"PK\3\4" + names + end)
    size = len(stream.getvalue())
    shown = previewer.preview(version_of("a.npz", size=size), lambda: stream).to_dict()
    assert shown["kind"] == "hex"
    assert "more of this file than it may" in shown["note"]
    assert stream.count <= 33 * MIB


def test_a_preview_is_kept_for_the_same_bytes_and_ending(previewer):
    data = b"kept for later"
    first = previewer.preview(version_of("one.txt", data), lambda: io.BytesIO(data))
    assert previewer.preview(version_of("other.txt", data), pytest.fail) is first
    streams = []
    previewer.preview(version_of("one.py", data), lambda: streams.append(1) or io.BytesIO(data))
    assert streams == [1]
