"""What is shown of each kind of content."""

from __future__ import annotations

import io
import json
import struct

import corpus
import h5py
import matplotlib.figure
import numpy as np
import PIL.Image
import pyarrow as pa
import pytest
from previewed import (
    MIB,
    assert_harmless,
    hdf5_of,
    npy,
    picture,
    rendered,
    table_of,
    version_of,
)

from index.web.previews import Previewer


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


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "webp", "avif", "bmp"])
def test_an_image_is_shown_with_its_type_and_dimensions(show, kind):
    shown = show("wrong-ending.txt", picture(kind))
    assert (shown["kind"], shown["media_type"]) == ("image", f"image/{kind}")
    assert (shown["width"], shown["height"]) == (7, 5)


def test_the_dimensions_of_a_jpeg_stand_behind_its_colour_profile(show):
    file = io.BytesIO()
    PIL.Image.new("RGB", (7, 5)).save(file, "jpeg", icc_profile=bytes(600_000))
    assert show("print.jpg", file.getvalue())["width"] == 7


def test_the_dimensions_of_a_jpeg_stand_behind_its_meta_data(show):
    exif = PIL.Image.Exif()
    exif[0x010E] = "a description " * 4000
    file = io.BytesIO()
    PIL.Image.new("RGB", (7, 5)).save(file, "jpeg", exif=exif)
    assert show("a.jpg", file.getvalue())["width"] == 7


def test_lossless_and_animated_webp_have_dimensions(show):
    for options in ({"lossless": True}, {"save_all": True, "append_images": [frame()]}):
        file = io.BytesIO()
        frame().save(file, "webp", **options)
        assert show("a.webp", file.getvalue())["height"] == 5


def frame():
    return PIL.Image.effect_noise((7, 5), 50).convert("RGBA")


def test_a_gif_counts_with_its_first_frame_if_that_is_larger_than_the_screen(show):
    gif = bytearray(picture("gif"))
    start = gif.index(b"\x2c\0\0\0\0")
    gif[start + 5 : start + 9] = struct.pack("<HH", 60_000, 60_000)
    assert show("a.gif", bytes(gif))["kind"] == "refused"


def test_an_image_with_too_many_pixels_or_bytes_is_refused(show):
    shown = show("huge.png", corpus.files()["huge.png"])
    assert shown["kind"] == "refused"
    assert "30,000 by 30,000 pixels" in shown["note"]
    data = picture("png") + bytes(21 * MIB)
    assert show("large.png", data)["kind"] == "refused"


def test_a_drawing_is_only_ever_an_image(show, previewer):
    figure = matplotlib.figure.Figure()
    figure.subplots().plot([1, 2])
    file = io.BytesIO()
    figure.savefig(file, format="svg")
    assert show("plot.svg", file.getvalue())["kind"] == "svg"
    hostile = corpus.files()["drawing.svg"]
    shown = previewer.preview(version_of("a.svg", hostile), lambda: io.BytesIO(hostile))
    assert [*shown.content] == ["media_type"]
    assert '<img src="/content?a=1&amp;b=2"' in rendered(shown)


def test_a_drawing_with_entities_is_shown_as_its_source(show):
    shown = show("laughs.svg", corpus.files()["laughs.svg"])
    assert shown["kind"] == "code"
    assert "entities" in shown["note"]


def bomb(levels):
    """A drawing of ten shapes in ten shapes, and so on."""
    groups = "".join(
        f'<g id="g{level}">' + f'<use x:href="#g{level - 1}"/>' * 10 + "</g>"
        for level in range(1, levels)
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:x="http://www.w3.org/1999/xlink">'
        f'<g id="g0"><path/></g>{groups}</svg>'
    ).encode()


def test_a_drawing_whose_references_multiply_is_shown_as_its_source(show):
    assert show("few.svg", bomb(4))["kind"] == "svg"
    shown = show("many.svg", bomb(8))
    assert (shown["kind"], shown["language"]) == ("code", "XML")
    assert "too many shapes" in shown["note"]
    circle = b'<svg><pattern id="a"><g fill="url(#b)"/></pattern><g id="b" fill="url( #a)"/></svg>'
    assert "too many shapes" in show("circle.svg", circle)["note"]
    output = {"output_type": "display_data", "data": {"image/svg+xml": bomb(8).decode()}}
    cells = [{"cell_type": "code", "source": "1", "outputs": [output]}]
    notebook = show("a.ipynb", json.dumps({"cells": cells, "nbformat": 4}).encode())
    assert notebook["cells"][0]["outputs"][0]["type"] == "dropped"


def test_a_drawing_that_is_cut_off_or_blank_is_shown_as_its_source(show):
    assert show("cut.svg", bomb(4)[:-1])["kind"] == "code"
    assert show("blank.svg", b" " * (4 << 20))["kind"] in ("text", "code")
    deep = b"".join(b'<g id="%d">' % number for number in range(50_000))
    assert show("deep.svg", b"<svg>" + deep + b"</g>" * 50_000 + b"</svg>")["kind"] == "text"


def test_a_page_that_is_named_as_a_drawing_is_shown_as_its_source(show):
    assert show("not.svg", b"<html><svg/></html>")["kind"] == "code"


def test_code_is_highlighted_by_classes(show):
    shown = show("a.py", b"import os\n")
    assert (shown["kind"], shown["language"]) == ("code", "Python")
    assert '<span class="kn">import</span>' in shown["html"]
    assert show("Makefile", b"all:\n\ttrue\n")["language"] == "Makefile"


def test_text_keeps_its_lines_and_its_accents(show):
    shown = show("a.txt", "eins\r\nzwö\n\t三\u3000四\n".encode())
    assert (shown["kind"], shown["text"]) == ("text", "eins\nzwö\n\t三\u3000四\n")
    assert not shown["truncated"]


def test_text_in_other_encodings_is_shown(show):
    assert show("a.txt", "Größe".encode("utf-16"))["text"] == "Größe"
    assert show("a.txt", "\ufeffGröße".encode())["text"] == "Größe"
    latin = show("a.txt", "Die Größe in µm".encode("latin-1"))
    assert latin["text"] == "Die Größe in µm"
    assert "Latin-1" in latin["note"]


def test_a_broken_byte_leaves_the_other_characters(show):
    shown = show("a.txt", "température\n".encode() * 9 + b"\xff\n")
    assert shown["text"] == "température\n" * 9 + "\\xff\n"
    assert "not UTF-8" in shown["note"]
    assert show("b.txt", b"\xff" + "температура".encode())["kind"] == "text"


def test_spaces_with_a_width_stay(show):
    text = "3\u202f000\xa0€, 三\u3000四"
    assert show("a.txt", text.encode())["text"] == text


def test_long_text_is_cut_between_characters(show):
    data = ("a" + "ö" * 200_000).encode()
    shown = show("a.txt", data)
    assert shown["truncated"]
    assert set(shown["text"]) == {"a", "ö"}


def test_markdown_is_rendered_without_html_images_and_strange_links(show):
    shown = show("a.md", corpus.files()["notes.md"])
    assert "<h1>Title</h1>" in shown["html"]
    assert "<table>" in shown["html"]
    assert (
        '<a href="https://example.org" rel="noopener noreferrer nofollow">web</a>' in shown["html"]
    )
    assert "evil.example/a.png" not in shown["html"]


def test_a_small_image_within_markdown_is_shown_and_a_bomb_is_not(show):
    import base64

    def link(data):
        return f"![alt](data:image/png;base64,{base64.b64encode(data).decode()})".encode()

    assert "<img src=" in show("a.md", link(picture("png")))["html"]
    assert "src=" not in show("a.md", link(corpus.files()["huge.png"]))["html"]


def test_json_is_a_tree_that_keeps_numbers_as_they_are_written(show):
    tree = show("a.json", b'{"a": [1.10, 123456789012345678901234567890], "a": null}')["tree"]
    assert (tree["type"], tree["count"]) == ("object", 2)
    first, second = (item["value"] for item in tree["items"])
    assert [item["value"]["text"] for item in first["items"]] == [
        "1.10",
        "123456789012345678901234567890",
    ]
    assert second == {"type": "constant", "text": "null"}


def test_a_tree_has_a_limit_of_depth_nodes_and_characters(show):
    deep = show("a.json", b"[" * 100 + b"]" * 100)
    assert deep["kind"] == "json"
    assert deep["truncated"]
    many = show("a.json", json.dumps(list(range(5000))).encode())
    assert (len(many["tree"]["items"]), many["tree"]["count"]) == (2000, 5000)
    (item,) = show("a.json", json.dumps(["x" * 1000]).encode())["tree"]["items"]
    assert item["value"]["text"] == "x" * 500 + "…"


def test_a_long_list_hides_nothing_that_stands_beside_it(show):
    value = {"data": [{"x": [1, 2]}] * 5000, "meta": {"seed": {"first": 7}}}
    data, meta = show("a.json", json.dumps(value).encode())["tree"]["items"]
    (seed,) = meta["value"]["items"]
    assert [each["key"] for each in seed["value"]["items"]] == ["first"]
    assert data["value"]["count"] == 5000
    assert 900 < len(data["value"]["items"]) < 2000


@pytest.mark.parametrize("data", [b"{", b"[" * 100_000 + b"]" * 100_000, b"[1]" + b" " * 5 * MIB])
def test_json_that_makes_no_tree_is_shown_as_text(show, data):
    shown = show("a.json", data)
    assert shown["kind"] in ("text", "code")
    assert shown["note"]


def test_json_lines_are_a_list_of_trees(show):
    shown = show("a.jsonl", b'{"a": 1}\n' * 150)
    assert len(shown["tree"]["items"]) == 100
    assert shown["truncated"]


def test_a_table_has_names_types_and_rows(show):
    shown = show(
        "a.csv", b"i;n;b;d;t\n1;1.5;true;2026-01-02;x, y\n;-2e3;false;2026-01-02T03:04;z\n"
    )
    assert {column["name"]: column["type"] for column in shown["columns"]} == {
        "i": "integer", "n": "number", "b": "boolean", "d": "date", "t": "text",
    }  # fmt: skip
    assert shown["rows"][0] == ["1", "1.5", "true", "2026-01-02", "x, y"]
    assert shown["rows_total"] == 2


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_of_a_table_is_found(show, delimiter):
    data = f"a{delimiter}b\n1{delimiter}2,5 x\n3{delimiter}4\n".encode()
    if delimiter != ",":
        assert show("a.csv", data)["rows"][1] == ["3", "4"]
    assert len(show("a.csv", data)["columns"]) >= 2


def test_long_wide_and_ragged_tables_are_cut(show):
    long = show("a.csv", b"a,b\n" + b"1,2\n" * 500_000)
    assert (len(long["rows"]), long["rows_total"], long["truncated"]) == (100, None, True)
    wide = show("a.csv", "\n".join([",".join(["1"] * 10_000)] * 2).encode())
    assert len(wide["columns"]) == len(wide["rows"][0]) == 50
    ragged = show("a.csv", b"a\n1,2\n3\n")
    assert ragged["rows"] == [["1", "2"], ["3", None]]


def test_parquet_is_a_table_with_the_types_of_arrow(show):
    moment = np.datetime64("2026-01-02T03:04:05.123456789", "ns")
    data = table_of({"n": [1, None], "l": [[1, 2], []], "t": [moment, moment], "x": ["<b>", "y"]})
    shown = show("a.bin", data)
    assert [column["type"] for column in shown["columns"]][:2] == ["int64", "list<element: int64>"]
    assert shown["rows"][0][0] == "1"
    assert shown["rows"][1][:2] == [None, "[]"]
    assert shown["rows_total"] == 2
    assert not shown["truncated"]


def test_parquet_shows_as_many_columns_as_may_be_read(show):
    cells = ["x" * 1000] * 8000
    options = {"compression": "none", "use_dictionary": False, "data_page_size": 1 << 30}
    shown = show("a.parquet", table_of({f"c{n}": cells for n in range(6)}, **options))
    assert 1 <= len(shown["columns"]) < 6
    assert len(shown["rows"]) == 100
    assert all(len(row) == len(shown["columns"]) and None not in row for row in shown["rows"])
    assert shown["note"] == f"The first {len(shown['columns'])} of 6 columns."


def test_a_time_that_python_does_not_have_costs_its_own_cell_only(show):
    late = 10**18
    columns = {
        "flat": pa.array([late], pa.timestamp("us")),
        "inner": pa.array([[late]], pa.list_(pa.timestamp("us"))),
        "b": [1],
    }
    assert show("a.parquet", table_of(columns))["rows"] == [[str(late), "(can't be shown)", "1"]]


def test_a_wide_and_long_table_of_parquet_is_cut(show):
    shown = show("a.parquet", table_of({f"c{n}": range(1000) for n in range(80)}))
    assert (len(shown["columns"]), len(shown["rows"]), shown["rows_total"]) == (50, 100, 1000)
    assert shown["truncated"]


def test_an_empty_table_of_parquet_is_shown(show):
    assert show("a.parquet", table_of({"a": pa.array([], "int32")}))["rows"] == []


@pytest.mark.parametrize("dtype", ["<i2", ">f8", "?", "<u8", "<f2"])
def test_an_array_has_shape_type_and_first_values(show, dtype):
    array = np.arange(60).reshape(3, 20).astype(dtype)
    (shown,) = show("a.npy", npy(array))["arrays"]
    assert (shown["shape"], shown["dtype"]) == ([3, 20], array.dtype.str)
    assert shown["values"] == [str(value) for value in array[0].tolist()]


def test_arrays_of_records_and_of_text_have_no_values(show):
    for array in (np.zeros(2, "i4,U3"), np.array(["a"]), np.zeros(2, "c16")):
        assert show("a.npy", npy(array))["arrays"][0]["values"] is None
    oxygen = show("b.npy", npy(np.zeros(2, [("O2", "<f4"), ("T", "<f8")])))
    assert oxygen["note"] is None
    pickled = show("c.npy", npy(np.array([(1, {})], [("a", "<i4"), ("b", "O")])))
    assert "pickles" in pickled["note"]


def test_an_archive_of_arrays_lists_them(show):
    file = io.BytesIO()
    np.savez_compressed(file, first=np.ones((2, 3)), second=np.arange(4))
    shown = {each["name"]: each["shape"] for each in show("a.npz", file.getvalue())["arrays"]}
    assert shown == {"first": [2, 3], "second": [4]}


def test_hdf5_lists_objects_with_shapes_types_and_attributes(show):
    def write(file):
        file.attrs["title"] = "x"
        data = file.create_dataset("group/data", data=np.ones((2, 3), "<f4"))
        data.attrs["unit"] = "<b>"
        data.attrs["long"] = np.zeros(5000)
        file["soft"] = h5py.SoftLink("/group/data")

    objects = {each["path"]: each for each in show("a.dat", hdf5_of(write))["objects"]}
    assert [*objects] == ["/group", "/group/data", "/soft"]
    data = objects["/group/data"]
    assert (data["kind"], data["shape"], data["dtype"]) == ("dataset", [2, 3], "float32")
    assert {each["name"]: each["value"] for each in data["attrs"]} == {
        "unit": "<b>",
        "long": "(large)",
    }
    assert objects["/soft"]["kind"] == "link to /group/data"


def test_hdf5_behind_a_user_block_is_found(show):
    data = bytearray(hdf5_of(lambda file: file.create_group("a"), userblock_size=512))
    data[:4] = b"text"
    assert show("a.h5", bytes(data))["objects"][0]["path"] == "/a"


def test_what_hdf5_can_not_read_costs_nothing_else(show):
    def write(file):
        file["a"] = [1, 2]
        file["a"].attrs["empty"] = h5py.Empty("f4")
        file["a"].attrs["unit"] = "m"
        file.create_group(b"\xff\xfe")
        space, time = h5py.h5s.create_simple((1,)), h5py.h5t.UNIX_D32LE.copy()
        h5py.h5d.create(file.id, b"time", time, space)
        file["z"] = [1]

    objects = {each["path"]: each for each in show("a.h5", hdf5_of(write))["objects"]}
    assert objects.keys() == {"/a", "/time", "/z", "/ÿþ"}
    assert objects["/a"]["attrs"] == [
        {"name": "empty", "value": "(empty)"},
        {"name": "unit", "value": "m"},
    ]
    assert objects["/time"]["dtype"] == "unreadable"
    assert objects["/z"]["dtype"] == "int64"


def test_a_group_of_hdf5_that_holds_itself_is_shown_once(show):
    def write(file):
        group = file.create_group("a")
        group["self"] = group
        group["root"] = file["/"]
        file["z"] = [1]

    shown = show("a.h5", hdf5_of(write))
    assert [(each["path"], each["kind"]) for each in shown["objects"]] == [
        ("/a", "group"),
        ("/a/root", "the same group as /"),
        ("/a/self", "the same group as /a"),
        ("/z", "dataset"),
    ]
    assert not shown["truncated"]


def test_groups_of_hdf5_that_are_nested_too_deeply_hide_nothing_else(show):
    def write(file):
        file.create_group("/".join("a" * 70))
        file["z"] = [1]

    shown = show("a.h5", hdf5_of(write))
    assert shown["objects"][-1]["path"] == "/z"
    assert shown["truncated"]


def test_many_objects_of_hdf5_are_cut(show):
    shown = show("a.h5", hdf5_of(lambda file: [file.create_group(f"{n}") for n in range(1200)]))
    assert len(shown["objects"]) == 1000
    assert shown["truncated"]


def test_a_notebook_shows_cells_and_outputs(show):
    shown = show("a.ipynb", corpus.files()["notebook.ipynb"])
    assert len(shown["cells"]) == 200
    markdown, code, raw = shown["cells"][:3]
    assert "<h1>Title</h1>" in markdown["html"]
    assert raw["type"] == "raw"
    outputs = code["outputs"]
    assert outputs[0]["text"] == "<script>x</script>red\n"
    assert "<td>cell</td>" in outputs[3]["html"]
    assert outputs[4]["type"] == "dropped"
    assert outputs[6]["source"].startswith("data:image/svg+xml;base64,")
    assert outputs[7]["type"] == outputs[8]["type"] == "dropped"
    assert "left out" in shown["note"]


def test_other_content_is_shown_as_bytes(show):
    shown = show("a.bin", bytes(range(256)) * 40)
    assert shown["kind"] == "hex"
    assert shown["lines"][2] == {
        "offset": "00000020",
        "hex": " ".join(f"{byte:02x}" for byte in range(32, 48)),
        "ascii": " !\"#$%&'()*+,-./",
    }
    assert shown["truncated"]


def test_a_pickle_is_bytes_and_the_note_says_why(show):
    shown = show("model.pkl", corpus.files()["model.pkl"])
    assert shown["kind"] == "hex"
    assert "never loaded" in shown["note"]


def test_links_empty_files_and_lost_bytes_need_no_worker(previewer):
    target = "../\u202etarget\n".encode() + b"\xff"
    link = previewer.preview(version_of("a", target, mode=0o120777), lambda: io.BytesIO(target))
    assert link.to_dict()["target"] == "../\\u202etarget\n\\udcff"
    assert_harmless(link)
    empty = previewer.preview(version_of("a.png"), pytest.fail)
    gone = previewer.preview(version_of("a.png", b"x", digest=False), pytest.fail)
    assert (empty.kind, gone.kind) == ("empty", "gone")
    assert "never stored" in assert_harmless(gone)
    assert "empty" in assert_harmless(empty)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.png", picture("png")),
        ("a.jpg", picture("jpeg")),
        ("a.webp", picture("webp")),
        ("a.parquet", table_of({"a": range(1000)})),
        ("a.h5", hdf5_of(lambda file: file.create_dataset("a", data=range(100)))),
        ("a.npy", npy(np.arange(100))),
        ("a.json", json.dumps({"a": [1, 2, 3]}).encode()),
        ("a.csv", "a,b\nä,2\n".encode()),
        ("a.ipynb", corpus.files()["notebook.ipynb"][:3000]),
    ],
)
def test_a_truncated_file_has_a_preview_too(show, name, data):
    for length in {1, 5, 9, 13, 20, 30, len(data) // 2, len(data) - 5, len(data) - 1}:
        shown = show(name, data[:length])
        assert shown["kind"] not in ("refused", "empty")
